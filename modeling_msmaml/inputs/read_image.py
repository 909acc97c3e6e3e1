"""Pictures: a file, its content, a PIL image, an array or what `datasets` makes of one -> one raw row."""

import contextlib
import io
import os
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from .image_modes import Picture, boxes, picture_of_array, picture_of_image, stored_transparency
from .kinds import name_of, stored_file
from .notes import Notes, UnreadableInput
from .png_texts import is_about_texts, without_texts

MOST_PIXELS = 64_000_000  # of a picture, after a JPEG was decoded at a part of its size
MOST_BYTES = 440_000_000  # that decoding a picture takes
_DRAFT_PIXELS = 16_000_000  # beyond which a JPEG is decoded at half, a quarter or an eighth of its size
_WHOLE_PIXELS = 4_000_000  # beyond which a picture is scaled down box by box before it is resized
MOST_SIDE, MOST_LONG_SIDE = 512, 4096  # pixels of the shorter and the longer side of a row of a picture's own aspect
_REDUCED_SIDE = 4  # sides of a row, to which it is scaled down at least
_DARK = 15  # of 255, the largest value of a picture that is noted: a mask of classes, or 12 bits in the place of 16
# Bytes per pixel that decoders take besides the decoded image: they hold copies of the whole. Measured.
_DECODER_BYTES = {"WEBP": 12, "AVIF": 16, "JPEG2000": 20}
_BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}  # per pixel of the decoded image; of the others 4
_UPRIGHT = {  # orientation in EXIF -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    image: Any, size: int | None, name: str | None = None, notes: Notes | None = None
) -> UInt8[np.ndarray, "3 height width"]:
    """The raw row of one picture: upright, RGB, resized (bilinear, anti-aliased) to a square or in its own aspect.

    The orientation in its metadata is applied, and transparent parts are laid on white. More than 8 bits per value are
    scaled to 8 by the smallest of the usual scales that holds the largest value of the picture: 255, 4,095, 65,535 or
    2^31 - 1 for integers; 1, 255, 4,095 or 65,535 for PIL images of floats. Pictures of 8 bits are never scaled. Of
    several frames the first counts, or the one that a PIL image has been set to.

    Args:
        image: a path, the content of a file, a PIL image, a dict of `datasets` (`bytes` or `path`), or an array:
            (height, width), (height, width, 1, 3 or 4) or (1, 3 or 4, height, width); uint8, uint16, boolean or float
            in [0, 1].
        size: height and width of the row, pixels, whatever the aspect of the picture. A picture of this size is not
            resized. With `None` the row has the aspect of the picture, which is scaled down if its shorter side is
            beyond `MOST_SIDE` or its longer beyond `MOST_LONG_SIDE`, and is never enlarged.
        name: of the picture, for messages; by default its path.
        notes: where it is noted that further frames do not count, that a scale was guessed, or that a picture is
            almost black.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: it cannot be decoded, is no regular file, has no pixels, more than `MOST_PIXELS` or needs more
            than `MOST_BYTES`, has masked values, or is an array of another or an ambiguous shape, of another type or
            range; the message names it.
    """
    if isinstance(image, dict):
        path = image.get("path")
        image, name = stored_file(image), name or (str(path) if path else None)
    if isinstance(image, (bytearray, memoryview)):
        image = bytes(image)
    if isinstance(image, (str, os.PathLike, bytes)):
        name = name or name_of(image)
        upright = _decode(image, name, size, notes)
    elif isinstance(image, Image.Image):
        name = name or str(getattr(image, "filename", "") or "a PIL image")
        upright = _convert(image, name, size, notes)
    else:
        upright = _from_array(image, name, size, notes)
        name = name or "an array"
    full, wanted = upright, _size_in_own_aspect(*upright.size) if size is None else (size, size)
    if upright.size != wanted:
        upright = upright.resize(wanted, Image.Resampling.BILINEAR)
    row = np.ascontiguousarray(np.asarray(upright).transpose(2, 0, 1))
    if notes is not None and row.max() <= _DARK:
        largest = np.asarray(full).max()
        if 0 < largest <= _DARK:
            notes.add(
                "a picture is almost black; if it is a mask or fills a part of its bits only, scale its values to 255",
                f"{name} (up to {largest})",
            )
    return row


def _size_in_own_aspect(width: int, height: int) -> tuple[int, int]:
    """Width and height of the row of a picture in its own aspect."""
    scale = min(1.0, MOST_SIDE / min(width, height), MOST_LONG_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def is_picture(source: str | os.PathLike | bytes) -> bool:
    """Whether a file, or the content of one, begins like a picture of a kind that Pillow knows."""
    if not isinstance(source, bytes) and not os.path.isfile(source):
        return False  # a pipe would be waited for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source):
                return True
    except Image.DecompressionBombError:
        return True
    except Exception as error:  # whatever else a decoder stumbles over, it is none
        return is_about_texts(error)


def _decode(source: str | os.PathLike | bytes, name: str, size: int | None, notes: Notes | None) -> Image.Image:
    if not isinstance(source, bytes) and not os.path.isfile(source):
        if os.path.exists(source):
            raise UnreadableInput(f"{name} is a folder, a pipe or a device, not a file: give the file of an image")
        raise FileNotFoundError(f"no image at {name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is our own
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                decoder_bytes = _decoder_bytes(image)
                if image.format in ("JPEG", "MPO") and image.width * image.height > _DRAFT_PIXELS:
                    image.draft("RGB", (_least_side(size), _least_side(size)))
                return _upright_rgb(image, decoder_bytes, name, size, notes)
    except UnidentifiedImageError as error:
        raise UnreadableInput(f"cannot decode the image in {name}: it is of no kind that Pillow knows") from error
    except Exception as error:  # decoders fail in many ways: zlib.error, struct.error, SyntaxError, IndexError, ...
        if is_about_texts(error) and (content := without_texts(source)) is not None:
            return _decode(content, name, size, notes)
        raise UnreadableInput(f"cannot decode the image in {name}: {_reason(error)}") from error


def _least_side(size: int | None) -> int:
    """The side of a picture, pixels, above which it may be scaled down in a coarser way before it is resized."""
    return 2 * MOST_SIDE if size is None else _REDUCED_SIDE * size


def _convert(image: Image.Image, name: str, size: int | None, notes: Notes | None) -> Image.Image:
    try:
        return _upright_rgb(image, _decoder_bytes(image), name, size, notes)
    except Exception as error:  # an image that was opened is decoded only now, and may be closed or damaged
        raise UnreadableInput(f"cannot read {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _upright_rgb(
    image: Image.Image, decoder_bytes: int, name: str, size: int | None, notes: Notes | None
) -> Image.Image:
    """RGB, as a viewer shows it, at least as large as the row needs it."""
    _check_pixels(image.width, image.height)
    needed = decoder_bytes + image.width * image.height * _BYTES_OF_MODE.get(image.mode, 4)
    if needed > MOST_BYTES:
        raise UnreadableInput(
            f"decoding {image.width} x {image.height} pixels of {image.format} takes {needed / 1e6:.0f} MB, more than "
            f"{MOST_BYTES // 10**6}: scale it down, or save it as PNG"
        )
    transparency = stored_transparency(image)
    image.load()
    upright = _scaled_down(picture_of_image(image, transparency, name, notes), size)
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    if notes is not None and (frames := _frames(image)) > 1:
        notes.add("the first frame of a picture counts, the others do not", f"{name} ({frames} frames)")
    return upright


def _check_pixels(width: int, height: int) -> None:
    if width * height == 0:
        raise UnreadableInput(f"it has {width} x {height} pixels: give an image that has some")
    if width * height > MOST_PIXELS:
        raise UnreadableInput(
            f"it has {width} x {height} pixels, more than {MOST_PIXELS // 10**6} million: scale it down"
        )


def _decoder_bytes(image: Image.Image) -> int:
    """What the decoder of a file takes at most, besides the decoded image."""
    per_pixel = _DECODER_BYTES.get(image.format or "", 0)
    if image.info.get("progressive"):  # the coefficients of all passes, of two bytes
        per_pixel = 2 * len(image.getbands())
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        if image.info.get("compression", "raw") != "raw":  # the file, and one strip that may be the whole
            per_pixel = 2 * max(1, sum(tags.get(ExifTags.Base.BitsPerSample, (8,))) // 8)
        if tags.get(ExifTags.Base.Orientation, 1) != 1:  # Pillow turns it when it is loaded
            per_pixel += 4
    return image.width * image.height * per_pixel


def _scaled_down(picture: Picture, size: int | None) -> Image.Image:
    """The whole picture, or a large one scaled down box by box by whole factors, averaged over their pixels."""
    width, height = picture.width, picture.height
    factors = [max(1, side // _least_side(size)) for side in (width, height)]
    if size is None:  # the aspect is kept
        factors = [min(factors)] * 2
    if width * height <= _WHOLE_PIXELS or factors == [1, 1]:
        return picture.part((0, 0, width, height))
    (step_x, step_y), small = factors, Image.new("RGB", (-(-width // factors[0]), -(-height // factors[1])))
    for box in boxes(width, height, step_x, step_y):
        small.paste(picture.part(box).reduce((step_x, step_y)), (box[0] // step_x, box[1] // step_y))
    return small


def _frames(image: Image.Image) -> int:
    """How many frames there are, as far as that can be told; 1 for an image that was set to a later one."""
    if image.format == "MPO":  # a photograph, and what the camera adds to it: a preview, the depth
        return 1
    try:
        return getattr(image, "n_frames", 1) if image.tell() == 0 else 1
    except Exception:  # later frames are damaged, or the file is closed
        with contextlib.suppress(Exception):
            image.seek(0)
        return 1


def _from_array(image: Any, name: str | None, size: int | None, notes: Notes | None) -> Image.Image:
    try:
        picture = picture_of_array(_as_pixels(image), name or "an array", notes)
        _check_pixels(picture.width, picture.height)
    except UnreadableInput as error:
        raise UnreadableInput(f"{name}: {error}" if name else str(error)) from error
    return _scaled_down(picture, size)


def _as_pixels(image: Any) -> np.ndarray:
    """An array, tensor or list as an array; float64 as it is, since a large picture would be copied."""
    parts = image if isinstance(image, (list, tuple)) else [image]
    if any(np.ma.is_masked(part) for part in parts):
        raise UnreadableInput("some pixels are masked: fill them, such as with pixels.filled(0)")
    try:
        if isinstance(image, Tensor):
            image = image.detach().cpu().resolve_neg()
            image = (image.float() if image.dtype == torch.bfloat16 else image).numpy()
        pixels = np.asarray(image)
    except Exception as error:  # tensors that are sparse, quantized or without values, lists of unequal length
        kind = (
            f"{image.dtype} tensor ({image.layout}, {image.device})"
            if isinstance(image, Tensor)
            else type(image).__name__
        )
        raise UnreadableInput(
            f"no pixels can be taken from a {kind}: give a dense array of one shape ({_reason(error)})"
        ) from error
    if pixels.dtype.hasobject:
        raise UnreadableInput(
            f"an image is a path, the content of a file, a PIL image or an array of numbers, not {type(image).__name__}"
        )
    return pixels
