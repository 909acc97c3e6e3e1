"""Pictures: a file, its content, a PIL image, an array or what `datasets` makes of one -> one raw row."""

import io
import os
import warnings
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from .kinds import as_array, name_of, stored_file
from .notes import UnreadableInput

MOST_PIXELS = 64_000_000  # that are decoded; about 0.2 GB of RGB
_DRAFT_PIXELS = 16_000_000  # beyond which a JPEG is decoded at half, a quarter or an eighth of its size


def read_image(image: Any, size: int, name: str | None = None) -> UInt8[np.ndarray, "3 size size"]:
    """The raw row of one picture: upright, RGB, resized (bilinear, anti-aliased, its aspect ratio is not kept).

    The orientation in its metadata is applied, transparent parts are laid on white, and more than 8 bits per value are
    scaled to 8.

    Args:
        image: a path, the content of a file, a PIL image, a dict of `datasets` (`bytes` or `path`), or an array:
            (height, width), (height, width, 3 or 4) or (3 or 4, height, width); uint8, uint16, boolean or float in
            [0, 1].
        size: height and width of the row, pixels. A picture of this size is not resized.
        name: of the picture, for errors; by default its path.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: it cannot be decoded, has too many pixels, or is an array of another shape, type or range; the
            message names it.
    """
    if isinstance(image, dict):
        image = stored_file(image)
    if isinstance(image, (str, os.PathLike, bytes)):
        upright = _decode(image, name or name_of(image), size)
    elif isinstance(image, Image.Image):
        upright = _upright_rgb(image)
    else:
        upright = _from_array(as_array(image))
    if upright.size != (size, size):
        upright = upright.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(upright).transpose(2, 0, 1))


def is_picture(source: str | os.PathLike | bytes) -> bool:
    """Whether a file, or the content of one, begins like a picture of a kind that Pillow knows."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source):
                return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # whatever a decoder stumbles over, it is none
        return False


def _decode(source: str | os.PathLike | bytes, name: str, size: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is our own
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                if image.format == "JPEG" and image.width * image.height > _DRAFT_PIXELS:
                    image.draft("RGB", (4 * size, 4 * size))
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(
                        f"it has {image.width} x {image.height} pixels, more than {MOST_PIXELS // 10**6} million: "
                        "scale it down"
                    )
                return _upright_rgb(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {name}") from None
    except Exception as error:  # decoders fail in many ways: zlib.error, struct.error, SyntaxError, IndexError, ...
        raise UnreadableInput(f"cannot decode the image in {name}: {error}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    """RGB, as a viewer shows it."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # one value per pixel, of more than 8 bits
        return _from_array(_scaled_grey(np.asarray(image), image.mode))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled_grey(values: Shaped[np.ndarray, "height width"], mode: str) -> UInt8[np.ndarray, "height width"]:
    """
    8 bits of 16-bit (I;16), 32-bit (I) or float (F) values.

    Pillow reads pictures of 8 and 16 bits of some kinds as 32-bit ones, and floats are in [0, 1], [0, 255] or
    [0, 65535]: the smallest of the usual scales that holds the values is theirs.
    """
    scales = {"F": (1.0, 255.0, 65_535.0), "I": (255, 65_535, 2**31 - 1)}.get(mode, (65_535,))
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > scales[-1]:
        raise UnreadableInput(f"values of a picture are from 0 to {scales[-1]}, not {values.min()} to {values.max()}")
    scale = next(scale for scale in scales if values.max() <= scale)
    return np.round(values.astype(np.float64) * (255 / scale)).astype(np.uint8)


def _from_array(pixels: np.ndarray) -> Image.Image:
    """RGB of an array of either order of dimensions."""
    if pixels.ndim == 3:
        first, _, last = pixels.shape
        if last != 3 and (first == 3 or (first in (1, 4) and last > 4)):  # colours first, as far as the sizes tell
            pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or pixels.ndim == 3 and pixels.shape[2] not in (3, 4) or pixels.size == 0:
        raise UnreadableInput(
            "an image has shape (height, width), (height, width, 3) or (3, height, width), with 4 in place of 3 where "
            f"it has transparency, not {pixels.shape}"
        )
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise UnreadableInput(
                f"float pixels are in [0, 1]; these are in [{pixels.min()}, {pixels.max()}]: divide them by the "
                "largest value of their scale, such as 255"
            )
        pixels = np.round(pixels * 255).astype(np.uint8)
    elif pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype == np.uint16:
        pixels = np.round(pixels / 257).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise UnreadableInput(f"pixels are uint8, uint16, boolean or float in [0, 1], not {pixels.dtype}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _upright_rgb(image)
