"""Reads an image (a file, its content, a PIL image, an array, or an entry of `datasets`) as one raw row of pixels."""

import io
import os
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from .kinds import as_array, name_of, stored_file


def read_image(image: Any, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """Reads one image as a raw row: RGB, resized (bilinear, anti-aliased, without its aspect ratio), channels first.

    Args:
        image: a path, the content of a file, a PIL image, a dict of `datasets` (with `bytes` or `path`), or an array of
            shape (height, width), (height, width, 3) or (3, height, width) and type uint8, or float in [0, 1].
        size: height and width of the row, pixels. An image of this size is not resized.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the image cannot be decoded (the message names the file), or the array has another shape, type or
            range.
    """
    if isinstance(image, dict):
        image = stored_file(image)
    if isinstance(image, (str, os.PathLike, bytes)):
        image = _open_image(image)
    pixels = _rgb_array(as_array(image.convert("RGB") if isinstance(image, Image.Image) else image))
    if pixels.shape[:2] != (size, size):
        pixels = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def is_picture(content: bytes) -> bool:
    """Returns whether the content of a file is an image in any format that Pillow knows."""
    try:
        with Image.open(io.BytesIO(content)):
            return True
    except (UnidentifiedImageError, OSError):
        return False


def _open_image(source: str | os.PathLike | bytes) -> Image.Image:
    """Decodes an image file, given by its path or content, as RGB."""
    name = name_of(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {name}") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"cannot decode the image in {name}: {error}") from error


def _rgb_array(pixels: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """Checks an array and returns it as RGB pixels, channels last. Values in grey are repeated for each colour."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    elif pixels.ndim == 3 and pixels.shape[2] != 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(
            f"an image must have shape (height, width), (height, width, 3) or (3, height, width), not {pixels.shape}"
        )
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(f"float pixels must be in [0, 1]; these are in [{pixels.min()}, {pixels.max()}]")
        pixels = np.round(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, or float in [0, 1], not {pixels.dtype}")
    return np.ascontiguousarray(pixels)
