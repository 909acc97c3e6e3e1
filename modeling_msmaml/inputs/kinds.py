"""
The table of the modalities that people hand in as files (`KINDS`), and helpers that all readers of inputs share: what
the name of a file says about its modality, and how files and arrays are taken out of their containers.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .notes import UnreadableInput


class Kind(NamedTuple):
    """
    How a modality is read from files.

    Args:
        suffixes: suffixes of its files, in lower case.
        part: attribute of the processor that holds the part for this modality.
        keyword: argument of the processor's call for inputs of this modality.
        key: key of the rows in the result of that call.
        dtype: type of the rows, as NumPy and `datasets` name it.
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
# Suffixes of other files that people take for sounds and pictures.
OTHER_MEDIA = (
    *(".m4a", ".aac", ".wma", ".amr", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"),
    *(".heic", ".heif", ".raw", ".svg", ".psd", ".cr2", ".nef", ".dng"),
)
_MODALITY_OF_SUFFIX = {suffix: modality for modality, kind in KINDS.items() for suffix in kind.suffixes}


def modality_of_file(path: str | os.PathLike) -> str | None:
    """Returns the modality of a file by the suffix of its name; `None` for an unknown suffix."""
    return _MODALITY_OF_SUFFIX.get(Path(path).suffix.lower())


def listed_suffixes(modality: str | None = None) -> str:
    """Returns the suffixes of a modality (by default of all modalities), separated by commas, for messages."""
    kinds = KINDS.values() if modality is None else [KINDS[modality]]
    return ", ".join(suffix for kind in kinds for suffix in kind.suffixes)


def stored_file(item: dict[str, Any]) -> bytes | str:
    """
    Returns the content or the path of a file from the dict in which `datasets` stores it without decoding.

    Raises:
        UnreadableInput: the dict has neither `bytes` nor `path`.
    """
    for key in ("bytes", "path"):
        if item.get(key) is not None:
            return item[key]
    raise UnreadableInput(f"a dict needs 'array' and 'sampling_rate', 'bytes', or 'path'; this one has {sorted(item)}")


def as_array(item: Any) -> np.ndarray:
    """Returns a tensor, list or array as an array. float64, the type that lists of floats get, becomes float32."""
    if isinstance(item, Tensor):
        item = item.detach().cpu()
        item = item.float() if item.dtype == torch.bfloat16 else item  # NumPy has no such type
    array = np.asarray(item)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def name_of(source: str | os.PathLike | bytes) -> str:
    """Returns how messages name a file that is given by its path or by its content."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
