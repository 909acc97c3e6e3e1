"""Modes of Pillow and types of arrays -> RGB of 8 bits, box by box, so that no large picture is held twice."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from .notes import Notes, UnreadableInput

Box = tuple[int, int, int, int]  # left, upper, right, lower

# The largest values of 1 (floats), 8, 12, 16 and 31 bits. Files say how many bits a value takes, not how many it fills:
# cameras and microscopes store 12 bits in 16, and Pillow reads 8 and 16 bits of some kinds as 32.
_FLOAT_SCALES = (1, 255, 4_095, 65_535)
_INTEGER_SCALES = (255, 4_095, 65_535, 2**31 - 1)
_USUAL_SCALES = (1, 65_535)  # of floats and of integers; any other is a guess, which is noted
_BOX_SIDE = 1024  # pixels that are converted at once, in either direction
# What Pillow multiplies the values of grey PNGs of 2 and 4 bits by, but not the value that is said to be transparent.
_GREY_FACTORS = {"L;2": 85, "L;4": 17}
_WHITE_IS_ZERO = (262, 0)  # tag of TIFF and its value


class Picture(NamedTuple):
    """
    A picture whose parts are converted when they are asked for.

    Args:
        width: of the whole, pixels.
        height: of the whole, pixels.
        part: gives the RGB image of a box, with transparent parts laid on white.
    """

    width: int
    height: int
    part: Callable[[Box], Image.Image]


def boxes(width: int, height: int, step_x: int = 1, step_y: int = 1) -> Iterator[Box]:
    """Yields boxes that cover a picture, of about a million pixels at most; their edges are multiples of the steps."""
    wide, high = (step * max(1, _BOX_SIDE // step) for step in (step_x, step_y))
    for upper in range(0, height, high):
        for left in range(0, width, wide):
            yield left, upper, min(left + wide, width), min(upper + high, height)


def stored_transparency(image: Image.Image) -> Any:
    """
    The transparent value or colour, index or alphas of a palette, or `None`, on the scale of the pixels.

    Pillow leaves the value of a PNG on the scale of the file. What that is, is known until the image is loaded.
    """
    value, tile = image.info.get("transparency"), getattr(image, "tile", None)
    if image.format == "PNG" and tile and isinstance(raw_mode := tile[0][3], str):
        if isinstance(value, int):
            return value * _GREY_FACTORS.get(raw_mode, 1)
        if isinstance(value, tuple) and raw_mode == "RGB;16B":
            return tuple(colour >> 8 for colour in value)
    return value


def picture_of_image(image: Image.Image, transparency: Any, name: str, notes: Notes | None) -> Picture:
    """
    The picture in a loaded PIL image of any mode.

    Args:
        image: as it is stored; its orientation is not applied.
        transparency: see `stored_transparency`.
        name: of the image, for notes.
        notes: where it is noted that the scale of the values was guessed.

    Raises:
        UnreadableInput: the values are negative, too large or not finite.
    """
    width, height = image.size
    if not (image.mode.startswith("I") or image.mode == "F"):
        # A copy of each part, since a file that is asked for its further frames drops the image.
        return Picture(width, height, lambda box: _rgb(image.crop(box), transparency))
    found = [_extremes(np.asarray(image.crop(box))) for box in boxes(width, height)]
    lowest, highest = np.min(found), np.max(found)  # not a number where a value is not
    scales = {"F": _FLOAT_SCALES, "I": _INTEGER_SCALES}.get(image.mode, _INTEGER_SCALES[:-1])
    scale = _scale(lowest, highest, scales, name, notes)
    tag, value = _WHITE_IS_ZERO
    inverted = getattr(image, "tag_v2", {}).get(tag) == value  # Pillow inverts 8 bits and less itself

    def part(box: Box) -> Image.Image:
        values = np.asarray(image.crop(box))
        grey = _eight_bits(values, scale)
        grey = 255 - grey if inverted else grey
        if isinstance(transparency, int):
            grey[values == transparency] = 255
        return Image.fromarray(grey).convert("RGB")

    return Picture(width, height, part)


def picture_of_array(pixels: np.ndarray, name: str, notes: Notes | None) -> Picture:
    """
    The picture in an array, for whose shapes and types see `read_image`.

    Args:
        pixels: the array.
        name: of the array, for notes.
        notes: where it is noted that the scale of the values was guessed.

    Raises:
        UnreadableInput: another or an ambiguous shape, another type, or values out of range.
    """
    pixels = _channels_last(pixels)
    convert = _conversion(pixels, name, notes)

    def part(box: Box) -> Image.Image:
        left, upper, right, lower = box
        return _rgb(Image.fromarray(np.ascontiguousarray(convert(pixels[upper:lower, left:right]))), None)

    return Picture(pixels.shape[1], pixels.shape[0], part)


def _conversion(pixels: np.ndarray, name: str, notes: Notes | None) -> Callable[[np.ndarray], np.ndarray]:
    """What brings parts of an array to 8 bits."""
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize  # of either byte order
    if kind == "b" or (kind == "u" and size == 1):
        return np.asarray if kind == "u" else lambda part: part.astype(np.uint8) * 255
    if kind == "u" and size == 2:
        scale = _scale(*_extremes(pixels), _INTEGER_SCALES[:-1], name, notes)
        return lambda part: _eight_bits(part, scale)
    if kind != "f":
        raise UnreadableInput(
            f"pixels are uint8, uint16, boolean or float in [0, 1], not {pixels.dtype}: where they are from 0 to 255, "
            "convert them with pixels.astype('uint8')"
        )
    lowest, highest = (np.float32(value) for value in _extremes(pixels))
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise UnreadableInput("float pixels are in [0, 1]; some of these are not finite: replace them")
    if lowest < 0 or highest > 1:
        raise UnreadableInput(
            f"float pixels are in [0, 1]; these are in [{lowest}, {highest}]: divide them by the largest value of "
            "their scale, such as 255, or halve them and add 0.5 where they are in [-1, 1]"
        )
    dtype = np.dtype(np.float32) if size == 8 else pixels.dtype
    return lambda part: np.round(part.astype(dtype, copy=False) * 255).astype(np.uint8)


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """(height, width) or (height, width, 3 or 4), of either order of dimensions."""
    shape = pixels.shape
    if pixels.ndim == 3 and pixels.size:
        first, _, last = shape
        if first in (1, 3, 4) and last <= 4:
            raise UnreadableInput(
                f"an image of shape {shape} may be (height, width, colours) or (colours, height, width): give it as a "
                "PIL image"
            )
        if first in (1, 3, 4):
            pixels = pixels.transpose(1, 2, 0)
        if pixels.shape[2] == 1:
            pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or pixels.size == 0:
        raise UnreadableInput(
            "an image has shape (height, width), (height, width, 3) or (3, height, width), with 4 in place of 3 where "
            f"it has transparency, not {shape}"
        )
    return pixels


def _rgb(image: Image.Image, transparency: Any) -> Image.Image:
    """RGB of at most 8 bits per value, as a viewer shows it on white; a `transparency` is written into the image."""
    if transparency is not None:
        image.info["transparency"] = transparency
    if image.mode == "La":
        image = image.convert("LA")  # Pillow converts it to nothing else
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _extremes(values: np.ndarray) -> tuple[Any, Any]:
    return values.min(), values.max()


def _scale(lowest: Any, highest: Any, scales: tuple[int, ...], name: str, notes: Notes | None) -> int:
    """The smallest of some scales that holds all values."""
    if not (lowest >= 0 and highest <= scales[-1]):  # also where one is not a number
        raise UnreadableInput(
            f"values of a picture are from 0 to {scales[-1]}, not {lowest} to {highest}: shift and scale them"
        )
    scale = next(scale for scale in scales if highest <= scale)
    if notes is not None and highest > 0 and scale not in _USUAL_SCALES:
        notes.add(
            f"a picture of more than 8 bits has no value above {scale:,}, which is taken for white",
            f"{name} (up to {highest:g})",
        )
    return scale


def _eight_bits(values: Shaped[np.ndarray, "..."], scale: int) -> UInt8[np.ndarray, "..."]:
    return np.round(values.astype(np.float64) * (255 / scale)).astype(np.uint8)
