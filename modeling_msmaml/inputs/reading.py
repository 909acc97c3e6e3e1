"""
The entry point for inputs that a person hands in one by one: takes them apart (`as_list`), infers their modality
(`infer_modality`), and reads them as the model's raw rows (`read`).
"""

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
    Returns the inputs as a list.

    Args:
        inputs: a list, tuple, iterator, array (one input per row), or a column of pandas or `datasets`. A column of
            sounds is not decoded by `datasets`, which would need torchcodec, but later by `read_audio`.
        name: name of the argument in error messages.

    Raises:
        `ValueError`: `inputs` is a single input, or empty.
    """
    if not hasattr(inputs, "__iter__") and hasattr(inputs, "__array__") and not isinstance(inputs, Image.Image):
        inputs = np.asarray(inputs)
    if isinstance(inputs, (str, bytes, os.PathLike, dict, Image.Image)) or not hasattr(inputs, "__iter__"):
        raise ValueError(f"{name} is one {type(inputs).__name__}: give a list, even for a single input")
    if hasattr(inputs, "column_name"):
        from datasets import Audio  # `inputs` is a column of `datasets`, so the library is loaded already

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
    Infers the modality of inputs from their types and from the names of files.

    A string with the suffix of a sound or image file is the path of such a file, and any other string is a text; a text
    file must be given as `pathlib.Path`. An array of one dimension is a sound, one of three dimensions an image, and
    one of two dimensions a sound if there is a sampling rate.

    Args:
        items: the inputs.
        modalities: the modalities of the model.
        sampling_rate: sampling rate of the arrays, Hz.
        name: name of the argument in error messages.

    Raises:
        `ValueError`: the modality cannot be inferred, the inputs have several modalities, or the model does not have
            their modality.
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
    """Infers the modality of one input, see `infer_modality`."""
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
    Reads inputs as the model's raw rows, with the processor that was saved with the model.

    Args:
        items: inputs, see [`infer_modality`]. For a registered modality without a part in the processor, arrays that
            have the same shape.
        modality: the modality of all inputs.
        processor: the processor of the model.
        sampling_rate: sampling rate of waveforms, Hz. Files and dicts have their own.
        name: name of the argument in error messages.

    Raises:
        `FileNotFoundError`: a file does not exist; the message gives the index of the input and the name of the file.
        `ValueError`: an input cannot be read (the message likewise), or the processor has no part for the modality.
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
        arguments: dict[str, Any] = {kind.keyword: [item], **options}
        return processor(**arguments)[kind.key][0]

    rows = [_numbered(f"{name}[{number}]", row, item) for number, item in enumerate(items)]
    return torch.from_numpy(np.stack(rows))


def _numbered(name: str, function: Callable[[Any], Any], item: Any) -> Any:
    """Returns `function(item)`. The message of an error begins with the name of the input."""
    try:
        return function(item)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: {error}") from error
    except (ValueError, TypeError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {error}") from error
