"""
The table of the modalities that people hand in as files (`KINDS`), and helpers that all readers of inputs share: what
the name of a file says about its modality, and how files and arrays are taken out of their containers.
"""

import io
import os
from collections import UserString
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .notes import UnreadableInput, listing


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
# Suffixes of files that people hand in though they are of no modality.
_OTHER_SOUNDS = ".m4a .m4b .aac .wma .amr .mp2 .mpga .mpa .mka .weba .wv .ape .ac3 .dts .mid .midi .ra"
_FILMS = ".mp4 .m4v .mov .avi .mkv .webm .3gp .3g2 .mpg .mpeg .wmv .flv .ogv .mts"
_OTHER_PICTURES = (
    ".heic .heif .raw .svg .svgz .psd .cr2 .cr3 .nef .arw .dng .tga .ico .icns .jp2 .j2k .jxl .pcx .dds .exr .hdr .eps "
    ".xcf .pbm .pnm"
)
_DOCUMENTS = ".pdf .ps .doc .docx .odt .rtf .pages .epub .djvu .ppt .pptx .odp .xls .xlsx .ods"
_ARCHIVES = ".zip .gz .tgz .bz2 .xz .7z .rar .tar .zst .lz4"
_ARRAYS = ".npy .npz .pt .pth .safetensors .mat .h5 .hdf5 .pkl .pickle .parquet .arrow .feather"
OTHER_FILES = frozenset(" ".join([_OTHER_SOUNDS, _FILMS, _OTHER_PICTURES, _DOCUMENTS, _ARCHIVES, _ARRAYS]).split())
# Suffixes of files that hold a text, which `pathlib.Path` with modality="text" reads.
TEXT_LIKE = (".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".html", ".htm", ".xml", ".yaml", ".yml", ".tex", ".srt")
_MODALITY_OF_SUFFIX = {suffix: modality for modality, kind in KINDS.items() for suffix in kind.suffixes}


def modality_of_file(path: str | os.PathLike) -> str | None:
    """Returns the modality of a file by the suffix of its name; `None` for an unknown suffix."""
    return _MODALITY_OF_SUFFIX.get(Path(path).suffix.lower())


def listed_suffixes(modality: str | None = None) -> str:
    """Returns the suffixes of a modality (by default of all modalities), separated by commas, for messages."""
    kinds = KINDS.values() if modality is None else [KINDS[modality]]
    return ", ".join(suffix for kind in kinds for suffix in kind.suffixes)


def plain(item: Any) -> Any:
    """
    Returns an input as the Python type that it stands for: `bytes` of what holds bytes, a `str` of what is a string, a
    `dict` of a mapping, the value of a scalar of pyarrow or of an array without dimensions; anything else as it is.
    """
    if hasattr(item, "as_py"):
        item = item.as_py()
    if isinstance(item, np.ndarray) and item.shape == () and item.dtype.kind in "USO":
        item = item.item()
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, io.BytesIO):
        return item.getvalue()
    if isinstance(item, (str, UserString)):
        return str(item)
    return dict(item) if isinstance(item, Mapping) and not isinstance(item, dict) else item


def only_column(inputs: Any, name: str) -> Any:
    """
    Returns the column of a table of pandas, pyarrow, polars or `datasets` that has one; anything else as it is.

    Args:
        name: of the argument, for errors.

    Raises:
        ValueError: the table has several columns, or none.
    """
    columns = getattr(inputs, "column_names", None)  # `columns` of pyarrow holds their values
    columns = getattr(inputs, "columns", None) if columns is None else columns
    if columns is None or isinstance(inputs, np.ndarray) or not hasattr(inputs, "__getitem__"):
        return inputs
    if isinstance(columns, dict) or callable(columns) or hasattr(inputs, "column_name"):
        return inputs
    columns = list(columns)
    if len(columns) != 1:
        raise ValueError(f"{name} is a table with the columns {listing(columns)}: give one column")
    return inputs[columns[0]]


def is_missing(value: Any) -> bool:
    """
    Returns whether a value stands for none: `None`, NaN, NaT, the NA of pandas, a masked element. What is
    blank or written out, such as `"nan"`, is no such value; `label_values.is_absent` tells it.
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, (float, np.generic)) and bool(value != value)


def stored_file(item: dict[str, Any]) -> bytes | str | os.PathLike:
    """
    Returns the content or the path of a file from the dict in which `datasets` stores it without decoding.

    Raises:
        UnreadableInput: the dict has neither `bytes` nor `path`, or they are of another type.
    """
    for key, types in (("bytes", bytes), ("path", (str, os.PathLike))):
        if not is_missing(value := plain(item.get(key))):
            if not isinstance(value, types):
                raise UnreadableInput(f"{key!r} of a dict is a {key}, not a {type(value).__name__}")
            return value
    raise UnreadableInput(f"a dict needs 'array' and 'sampling_rate', 'bytes', or 'path'; this one has {list(item)}")


def as_array(item: Any) -> np.ndarray:
    """Returns a tensor, list or array as an array. float64, the type that lists of floats get, becomes float32."""
    if isinstance(item, Tensor):
        item = item.detach().cpu().resolve_conj().resolve_neg()
        item = item.float() if item.dtype == torch.bfloat16 else item  # NumPy has no such type
    try:
        array = np.asarray(item)
    except ValueError as error:
        if not isinstance(item, (list, tuple)):
            raise
        raise UnreadableInput("it is a list whose parts have several lengths or types, which is no array") from error
    return array.astype(np.float32) if array.dtype == np.float64 else array


def name_of(source: str | os.PathLike | bytes) -> str:
    """Returns how messages name a file that is given by its path or by its content."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
