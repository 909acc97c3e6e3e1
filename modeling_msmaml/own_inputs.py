"""What a person hands in: which modality it is, and the raw integers that the model takes in its place."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Audio
from jaxtyping import Shaped
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from transformers import ProcessorMixin

# Modality -> file names that it has.
SUFFIXES = {
    "audio": (".wav", ".flac", ".ogg", ".mp3"),
    "text": (".txt",),
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"),
}
# Modality -> part of the processor, its keyword, and the key of what it returns.
PARTS = {
    "audio": ("feature_extractor", "audio", "input_values"),
    "text": ("tokenizer", "text", "input_ids"),
    "image": ("image_processor", "images", "pixel_values"),
}
_MODALITY_OF_SUFFIX = {suffix: modality for modality, suffixes in SUFFIXES.items() for suffix in suffixes}
_LONGEST_PATH = 4096


def modality_of_file(path: str | os.PathLike) -> str | None:
    """The modality that the name of a file says; `None` if none."""
    return _MODALITY_OF_SUFFIX.get(Path(path).suffix.lower())


def as_list(inputs: Any, name: str = "inputs") -> list:
    """
    The inputs one by one.

    Args:
        inputs: a list, tuple, iterator, array (one input a row), pandas or `datasets` column. A column of sounds is
            taken as stored and decoded here, which needs no torchcodec.
        name: of the argument, for errors.

    Raises:
        `ValueError`: one input instead of several, or none at all.
    """
    if not hasattr(inputs, "__iter__") and hasattr(inputs, "__array__") and not isinstance(inputs, Image.Image):
        inputs = np.asarray(inputs)
    if isinstance(inputs, (str, bytes, os.PathLike, dict, Image.Image)) or not hasattr(inputs, "__iter__"):
        raise ValueError(f"{name} is one {type(inputs).__name__}: give a list, also of a single input")
    if isinstance(getattr(inputs, "features", None), Audio) and hasattr(inputs, "column_name"):
        stored = inputs.source.cast_column(inputs.column_name, Audio(decode=False))
        inputs = stored[inputs.column_name]
    items = list(inputs)
    if not items:
        raise ValueError(f"{name} is empty: give at least one input")
    return items


def infer_modality(
    items: Sequence[Any], modalities: Sequence[str], sampling_rate: int | None = None, name: str = "inputs"
) -> str:
    """
    The modality of some inputs, by their types and the names of files.

    A string that ends like a sound or picture file is the path of one, any other string is a text; a text file is given
    as `pathlib.Path`. Arrays of one dimension are sounds, of three pictures, of two sounds if there is a sampling rate.

    Args:
        modalities: those of the model.
        sampling_rate: of the arrays, Hz.

    Raises:
        `ValueError`: it cannot be told, inputs of several modalities, or of one that the model lacks.
    """
    found = {}
    for number, item in enumerate(items):
        found.setdefault(_modality_of(item, sampling_rate, f"{name}[{number}]"), number)
    if len(found) > 1:
        described = " and ".join(f"{modality} ({name}[{number}])" for modality, number in found.items())
        raise ValueError(f"{name} are of several modalities: {described}; a classifier takes one, see modality=")
    modality = next(iter(found))
    if modality not in modalities:
        raise ValueError(f"{name} look like {modality}, but this model has {', '.join(modalities)}")
    return modality


def _modality_of(item: Any, sampling_rate: int | None, name: str) -> str:
    if isinstance(item, dict):
        if "array" in item:
            return "audio"
        if item.get("path") and modality_of_file(item["path"]):
            return modality_of_file(item["path"])
        item = item.get("bytes")
    if isinstance(item, bytes):
        return "image" if _is_picture(item) else "audio"
    if isinstance(item, str):
        is_path = len(item) <= _LONGEST_PATH and "\n" not in item
        modality = modality_of_file(item) if is_path else None
        if modality == "text" and os.path.isfile(item):
            raise ValueError(
                f"{name}={item!r} is the name of a text file: give pathlib.Path({item!r}) to read it, or "
                "modality='text' to take the string itself as the text"
            )
        return modality or "text"
    if isinstance(item, os.PathLike):
        if (modality := modality_of_file(item)) is None:
            kinds = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
            raise ValueError(f"{name}={str(item)!r} is no file of these kinds: {kinds}; or name the modality=")
        return modality
    if isinstance(item, Image.Image):
        return "image"
    if hasattr(item, "get_all_samples"):  # a decoded sound of `datasets`
        return "audio"
    if isinstance(item, (np.ndarray, Tensor, list, tuple)):
        dimensions = np.ndim(item)
        if dimensions in (1, 3):
            return "audio" if dimensions == 1 else "image"
        if dimensions == 2 and sampling_rate is not None:
            return "audio"
        raise ValueError(f"{name} is an array of {dimensions} dimensions: name its modality=")
    raise ValueError(
        f"{name} is a {type(item).__name__}: give paths, strings, PIL images, arrays, or the dicts of `datasets`"
    )


def _is_picture(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)):
            return True
    except (UnidentifiedImageError, OSError):
        return False


def encode_inputs(
    items: Sequence[Any],
    modality: str,
    processor: ProcessorMixin | None,
    sampling_rate: int | None = None,
    name: str = "inputs",
) -> Shaped[Tensor, "inputs ..."]:
    """
    Raw inputs of the model, as the processor that was saved with it makes them.

    Args:
        items: see [`infer_modality`]. For a registered modality that no processor knows, arrays of one shape.
        modality: of all of them.
        processor: of the model.
        sampling_rate: of waveforms in Hz; files and dicts know their own.

    Raises:
        `FileNotFoundError`, `ValueError`: what cannot be read, by its number and name.
    """
    if modality not in PARTS:
        return torch.from_numpy(np.stack([_array(item) for item in items]))
    part, keyword, key = PARTS[modality]
    if getattr(processor, part, None) is None:
        raise ValueError(
            f"modality={modality!r} needs a processor with a {part}, which this model was not saved with: give "
            "processor="
        )
    if modality == "text":
        texts = [_numbered(f"{name}[{number}]", _text, item) for number, item in enumerate(items)]
        return torch.from_numpy(np.asarray(processor(text=texts)[key]))

    def encode(item):
        item, rate = _sound(item, sampling_rate) if modality == "audio" else (_picture(item), None)
        options = {"sampling_rate": rate} if modality == "audio" else {}
        return processor(**{keyword: [item]}, **options)[key][0]

    rows = [_numbered(f"{name}[{number}]", encode, item) for number, item in enumerate(items)]
    return torch.from_numpy(np.stack(rows))


def _numbered(name: str, function, item: Any):
    """The result; an error says which input it is about."""
    try:
        return function(item)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: {error}") from error
    except (ValueError, TypeError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {error}") from error


def _text(item: Any) -> str:
    if isinstance(item, os.PathLike):
        if not Path(item).is_file():
            raise FileNotFoundError(f"no text file at {item}")
        if (other := modality_of_file(item)) not in ("text", None):
            raise ValueError(f"{item} is named like a file of {other}, not of text")
        text = Path(item).read_text(encoding="utf-8-sig")
    else:
        text = item
    if not isinstance(text, str):
        raise ValueError(f"a text is a string, or a pathlib.Path of a .txt file, not a {type(text).__name__}")
    if not text.strip():
        raise ValueError("the text is empty" if text is item else f"the text in {item} is empty")
    return str(text)


def _sound(item: Any, sampling_rate: int | None) -> tuple[Any, int | None]:
    """What the feature extractor takes, and the sampling rate of a waveform."""
    if isinstance(item, dict):
        if item.get("array") is not None:
            return _array(item["array"]), item.get("sampling_rate", sampling_rate)
        return _stored(item), sampling_rate
    if hasattr(item, "get_all_samples"):
        samples = item.get_all_samples()
        return _array(samples.data), samples.sample_rate
    if isinstance(item, (str, os.PathLike, bytes)):
        return item, None
    return _array(item), sampling_rate


def _picture(item: Any) -> Any:
    if isinstance(item, dict):
        return _stored(item)
    return item if isinstance(item, (str, os.PathLike, bytes, Image.Image)) else _array(item)


def _stored(item: dict) -> bytes | str:
    """Content or path of a file, as `datasets` stores it without decoding."""
    for key in ("bytes", "path"):
        if item.get(key) is not None:
            return item[key]
    raise ValueError(f"a dict has 'array' and 'sampling_rate', 'bytes', or 'path'; this one has {sorted(item)}")


def _array(item: Any) -> np.ndarray:
    array = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    return array.astype(np.float32) if array.dtype == np.float64 else array
