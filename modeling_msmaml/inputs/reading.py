"""The one door for inputs that are handed in one by one: which modality they are, and the model's raw rows of them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Shaped
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from .kinds import KINDS, OTHER_MEDIA, as_array, listed_suffixes, modality_of_file
from .notes import Notes, UnreadableInput, listing
from .read_audio import is_sound
from .read_image import is_picture
from .read_text import encode_texts, read_text

_LONGEST_PATH = 4096


def as_list(inputs: Any, name: str = "inputs") -> list:
    """
    The inputs one by one.

    Args:
        inputs: a list, tuple, iterator, array (one input per row), or a column of pandas or `datasets`. A column of
            sounds is taken as it is stored, for `read_audio` to decode, which needs no torchcodec. A table of one
            column is that column.
        name: of the argument, for errors.

    Raises:
        `ValueError`: one input instead of several, a table of several columns, or no input at all.
    """
    if not hasattr(inputs, "__iter__") and hasattr(inputs, "__array__") and not isinstance(inputs, Image.Image):
        inputs = np.asarray(inputs)
    if isinstance(inputs, (str, bytes, os.PathLike, dict, Image.Image)) or not hasattr(inputs, "__iter__"):
        raise ValueError(f"{name} is one {type(inputs).__name__}: give a list, also of a single input")
    if isinstance(inputs, (set, frozenset)):
        raise ValueError(f"{name} is a set, which has no order: give a list")
    if getattr(inputs, "shape", None) == ():
        raise ValueError(f"{name} is one value of shape (): give a list, also of a single input")
    inputs = _only_column(inputs, name)
    if hasattr(inputs, "column_name"):
        from datasets import Audio  # a column of `datasets`, which is thus loaded already

        if isinstance(inputs.features, Audio):
            stored = inputs.source.cast_column(inputs.column_name, Audio(decode=False))
            inputs = stored[inputs.column_name]
    items = [item.as_py() if hasattr(item, "as_py") else item for item in inputs]  # scalars of pyarrow
    if not items:
        raise ValueError(f"{name} is empty: give at least one input")
    return items


def _only_column(inputs: Any, name: str) -> Any:
    """The column of a table that has one; everything that is no table as it is."""
    columns = getattr(inputs, "columns", getattr(inputs, "column_names", None))
    if columns is None or isinstance(inputs, np.ndarray) or not hasattr(inputs, "__getitem__"):
        return inputs
    if isinstance(columns, dict) or callable(columns) or hasattr(inputs, "column_name"):
        return inputs
    columns = list(columns)
    if len(columns) != 1:
        raise ValueError(f"{name} is a table with the columns {listing(columns)}: give one column")
    return inputs[columns[0]]


def infer_modality(
    items: Sequence[Any], modalities: Sequence[str], sampling_rate: int | None = None, name: str = "inputs"
) -> str:
    """
    The modality of some inputs, by their types, the names of files and, where these say nothing, their content.

    A string is the path of a sound or a picture if it names one that exists, or if it ends like one and has no white
    space; any other string is a text. A text file is given as `pathlib.Path`. Arrays of one dimension are sounds, of
    three pictures, of two sounds if there is a sampling rate.

    Args:
        modalities: those of the model.
        sampling_rate: of the arrays, Hz.
        name: of the argument, for errors.

    Raises:
        `ValueError`: it cannot be told, the inputs are of several modalities, or of one that the model lacks.
        `FileNotFoundError`: a string that is written like a path names no file.
    """
    found, notes = {}, Notes()
    for number, item in enumerate(items):
        found.setdefault(_modality_of(item, sampling_rate, f"{name}[{number}]", notes), number)
    if len(found) > 1:
        described = " and ".join(f"{modality} ({name}[{number}])" for modality, number in found.items())
        raise ValueError(f"{name} are of several modalities: {described}; a classifier takes one, see modality=")
    notes.warn(stacklevel=4)
    modality = next(iter(found))
    if modality not in modalities:
        raise ValueError(f"{name} look like {modality}, but this model has {', '.join(modalities)}")
    return modality


def _modality_of(item: Any, sampling_rate: int | None, name: str, notes: Notes) -> str:
    if isinstance(item, dict):
        if "array" in item:
            return "audio"
        if item.get("path") and (modality := modality_of_file(item["path"])):
            return modality
        item = item.get("bytes")
    if isinstance(item, bytes):
        return "image" if is_picture(item) else "audio"
    if isinstance(item, str):
        return _modality_of_string(item, name, notes)
    if isinstance(item, os.PathLike):
        return _modality_of_path(item, name)
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


def _modality_of_string(item: str, name: str, notes: Notes) -> str:
    path = item.strip()
    if path != item and is_line(path) and modality_of_file(path) is not None and os.path.isfile(path):
        raise ValueError(f"{name}={item!r} is the name of a file with white space around it: strip it")
    if not is_line(item):
        return "text"
    suffix, modality = Path(item).suffix.lower(), modality_of_file(item)
    if os.path.isfile(item) and suffix:
        if modality == "text":
            raise ValueError(
                f"{name}={item!r} is the name of a text file: give pathlib.Path({item!r}) to read it, or "
                "modality='text' to take the string itself as the text"
            )
        return _modality_of_path(item, name)
    if modality == "text" or (modality is None and suffix not in OTHER_MEDIA):
        return "text"
    folder = os.path.dirname(item)
    if any(character.isspace() for character in item) and not (folder and os.path.isdir(folder)):
        notes.add("a string that ends like the name of a file is taken as a text, since no file has this name", name)
        return "text"
    if modality is not None:
        return modality  # whoever reads it says that there is no such file
    raise FileNotFoundError(f"{name}: there is no file {item}; if it is a text, name the modality='text'")


def _modality_of_path(item: str | os.PathLike, name: str) -> str:
    """What the name of a file says or, where it says nothing, what the content of the file is."""
    if (modality := modality_of_file(item)) is not None:
        return modality
    if os.path.isfile(item):
        if is_sound(item):
            return "audio"
        if is_picture(item):
            return "image"
        raise UnreadableInput(
            f"{name}={str(item)!r} is neither a sound nor a picture that can be decoded here; convert it to one of "
            f"these kinds: {listed_suffixes()}, or name the modality="
        )
    raise ValueError(f"{name}={str(item)!r} is no file of these kinds: {listed_suffixes()}; or name the modality=")


def is_line(text: str) -> bool:
    """Whether a string could be a path as far as its characters go."""
    return len(text) <= _LONGEST_PATH and not {"\n", "\0"} & set(text)


def read(
    items: Sequence[Any],
    modality: str,
    processor: ProcessorMixin | None,
    sampling_rate: int | None = None,
    name: str = "inputs",
    unreadable: dict[int, str] | None = None,
) -> Shaped[Tensor, "inputs ..."]:
    """
    The model's raw rows of some inputs, as the processor that was saved with it makes them.

    What is noticed of single inputs (longer than the model reads, silent, unknown words) is said in one warning per
    kind, which names them.

    Args:
        items: see [`infer_modality`]. For a registered modality that no processor knows, arrays of one shape.
        modality: of all of them.
        processor: of the model.
        sampling_rate: of waveforms in Hz; files and dicts know their own.
        name: of the argument, for errors.
        unreadable: where given, inputs that cannot be read are left out, and it is told the number of each and why.

    Raises:
        `FileNotFoundError`, `UnreadableInput`: an input that cannot be read, by its number and name.
        `ValueError`: no processor, or no input that can be read.
    """
    read_one = _reader(modality, processor, sampling_rate)
    notes, names, read_items = Notes(), [], []
    for number, item in enumerate(items):
        own = f"{name}[{number}]"
        notes.prefix = f"{own}: "
        try:
            read_items.append(_named(own, read_one, item, notes))
            names.append(own)
        except (ValueError, OSError) as error:
            if unreadable is None:
                raise
            unreadable[number] = str(error)
    if not read_items:
        raise ValueError(f"none of {len(items)} {name} can be read: {next(iter((unreadable or {'': ''}).values()))}")
    notes.prefix = ""
    if modality == "text":
        tokenizer = cast(Any, processor).tokenizer
        rows = encode_texts(tokenizer, read_items, tokenizer.model_max_length, names, notes)
    else:
        rows = _stacked(read_items, name)
    notes.warn(stacklevel=5)
    return torch.from_numpy(rows)


def _reader(modality: str, processor: ProcessorMixin | None, sampling_rate: int | None) -> Callable[[Any, Notes], Any]:
    """Of (input, notes): its row, or with text its string, since a tokenizer takes many at once."""
    if modality not in KINDS:
        return lambda item, notes: as_array(item)
    part = getattr(processor, KINDS[modality].part, None)
    if part is None:
        raise ValueError(
            f"modality={modality!r} needs a processor with a {KINDS[modality].part}, which this model was not saved "
            "with: give processor="
        )
    if modality == "text":
        return lambda item, notes: read_text(item)
    if modality == "audio":
        return lambda item, notes: part.row(item, sampling_rate, notes=notes)
    return lambda item, notes: part.row(item, notes=notes)


def _stacked(rows: list[np.ndarray], name: str) -> Shaped[np.ndarray, "inputs ..."]:
    """Rows as one array; of a registered modality their shapes and values are first checked here."""
    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"{name} have several shapes, {listing([str(shape) for shape in shapes])}: give arrays of one shape"
        )
    stacked = np.stack(rows)
    if stacked.dtype == object:
        raise ValueError(f"{name} are arrays of objects: give arrays of numbers")
    if np.issubdtype(stacked.dtype, np.floating) and not np.isfinite(stacked).all():
        bad = [f"{name}[{number}]" for number, row in enumerate(rows) if not np.isfinite(row).all()]
        raise ValueError(f"values that are not finite in {listing(bad)}")
    return stacked


def _named(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of one input; an error says which input it is about."""
    try:
        return function(*arguments)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: {error}") from error
    except (ValueError, TypeError, OSError) as error:
        raise UnreadableInput(f"{name}: {error}") from error
