"""The one door for inputs that are handed in one by one: which modality they are, and the model's raw rows of them."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from .kinds import KINDS, as_array, listed_suffixes, modality_of_file
from .read_image import is_picture
from .read_text import read_text

_LONGEST_PATH = 4096


def as_list(inputs: Any, name: str = "inputs") -> list:
    """
    The inputs one by one.

    Args:
        inputs: a list, tuple, iterator, array (one input per row), or a column of pandas or `datasets`. A column of
            sounds is taken as it is stored, for `read_audio` to decode, which needs no torchcodec.
        name: of the argument, for errors.

    Raises:
        `ValueError`: one input instead of several, or none at all.
    """
    if not hasattr(inputs, "__iter__") and hasattr(inputs, "__array__") and not isinstance(inputs, Image.Image):
        inputs = np.asarray(inputs)
    if isinstance(inputs, (str, bytes, os.PathLike, dict, Image.Image)) or not hasattr(inputs, "__iter__"):
        raise ValueError(f"{name} is one {type(inputs).__name__}: give a list, also of a single input")
    if hasattr(inputs, "column_name"):
        from datasets import Audio  # a column of `datasets`, which is thus loaded already

        if isinstance(inputs.features, Audio):
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
        `ValueError`: it cannot be told, the inputs are of several modalities, or of one that the model lacks.
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
        if item.get("path") and (modality := modality_of_file(item["path"])):
            return modality
        item = item.get("bytes")
    if isinstance(item, bytes):
        return "image" if is_picture(item) else "audio"
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
            raise ValueError(
                f"{name}={str(item)!r} is no file of these kinds: {listed_suffixes()}; or name the modality="
            )
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


def read(
    items: Sequence[Any],
    modality: str,
    processor: ProcessorMixin | None,
    sampling_rate: int | None = None,
    name: str = "inputs",
) -> Shaped[Tensor, "inputs ..."]:
    """
    The model's raw rows of some inputs, as the processor that was saved with it makes them.

    Args:
        items: see [`infer_modality`]. For a registered modality that no processor knows, arrays of one shape.
        modality: of all of them.
        processor: of the model.
        sampling_rate: of waveforms in Hz; files and dicts know their own.
        name: of the argument, for errors.

    Raises:
        `FileNotFoundError`, `ValueError`: what cannot be read, by its number and name.
    """
    if modality not in KINDS:
        return torch.from_numpy(np.stack([as_array(item) for item in items]))
    kind = KINDS[modality]
    if processor is None or getattr(processor, kind.part, None) is None:
        raise ValueError(
            f"modality={modality!r} needs a processor with a {kind.part}, which this model was not saved with: give "
            "processor="
        )
    if modality == "text":
        texts = [_numbered(f"{name}[{number}]", read_text, item) for number, item in enumerate(items)]
        return torch.from_numpy(np.asarray(processor(text=texts)[kind.key]))
    options = {"sampling_rate": sampling_rate} if modality == "audio" else {}

    def row(item: Any) -> np.ndarray:
        return processor(**{kind.keyword: [item]}, **options)[kind.key][0]

    rows = [_numbered(f"{name}[{number}]", row, item) for number, item in enumerate(items)]
    return torch.from_numpy(np.stack(rows))


def _numbered(name: str, function: Callable[[Any], Any], item: Any) -> Any:
    """The result of one input; an error says which input it is about."""
    try:
        return function(item)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: {error}") from error
    except (ValueError, TypeError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {error}") from error
