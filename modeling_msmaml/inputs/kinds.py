"""The one table of the modalities that people hand in as files, and what their names and containers say."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .notes import UnreadableInput


class Kind(NamedTuple):
    """
    What is known of a modality whose inputs are files.

    Args:
        suffixes: of its files, in lower case.
        part: attribute of the processor that makes its rows.
        keyword: argument of the processor's call that takes its inputs.
        key: name of its rows in what that call returns.
        dtype: of its rows, as NumPy and `datasets` name it.
    """

    suffixes: tuple[str, ...]
    part: str
    keyword: str
    key: str
    dtype: str


KINDS = {
    "audio": Kind(
        (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64"),
        "feature_extractor",
        "audio",
        "input_values",
        "int16",
    ),
    "text": Kind((".txt",), "tokenizer", "text", "input_ids", "int32"),
    "image": Kind(
        (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"),
        "image_processor",
        "images",
        "pixel_values",
        "uint8",
    ),
}
# Of files that people take for sounds and pictures, and that neither libsndfile nor Pillow reads everywhere.
OTHER_MEDIA = (
    ".m4a",
    ".aac",
    ".wma",
    ".amr",
    ".mp4",
    ".mov",
    ".avi",
    ".mkv",
    ".webm",
    ".m4v",
    ".heic",
    ".heif",
    ".raw",
)
OTHER_MEDIA += (".svg", ".psd", ".cr2", ".nef", ".dng")
_MODALITY_OF_SUFFIX = {suffix: modality for modality, kind in KINDS.items() for suffix in kind.suffixes}


def modality_of_file(path: str | os.PathLike) -> str | None:
    """The modality that the name of a file says; `None` if it says none."""
    return _MODALITY_OF_SUFFIX.get(Path(path).suffix.lower())


def listed_suffixes(modality: str | None = None) -> str:
    """The suffixes of a modality, by default of all, as messages list them."""
    kinds = KINDS.values() if modality is None else [KINDS[modality]]
    return ", ".join(suffix for kind in kinds for suffix in kind.suffixes)


def stored_file(item: dict[str, Any]) -> bytes | str:
    """
    The content or the path of a file, as `datasets` stores it without decoding.

    Raises:
        UnreadableInput: the dict has neither.
    """
    for key in ("bytes", "path"):
        if item.get(key) is not None:
            return item[key]
    raise UnreadableInput(f"a dict has 'array' and 'sampling_rate', 'bytes', or 'path'; this one has {sorted(item)}")


def as_array(item: Any) -> np.ndarray:
    """A tensor, list or array as an array; float64, which is what lists of floats become, as float32."""
    array = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def name_of(source: str | os.PathLike | bytes) -> str:
    """How messages call a file that is given by its path or by its content."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
