"""The one door for inputs that are handed in one by one: as a list, and as the model's raw rows."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Shaped
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from .kinds import KINDS, as_array, only_column, plain
from .notes import Notes, UnreadableInput, listing, named
from .path_strings import ends_like_file, named_place, shown
from .read_text import name_of_text, read_string, texts_one_by_one

PADDED = ("audio", "text")  # modalities whose rows may have zeros at their end


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
    inputs = only_column(plain(inputs), name)
    if not hasattr(inputs, "__iter__") and hasattr(inputs, "__array__") and not isinstance(inputs, Image.Image):
        inputs = np.asarray(inputs)
    if isinstance(inputs, (str, bytes, os.PathLike, dict, Image.Image)) or not hasattr(inputs, "__iter__"):
        raise ValueError(f"{name} is one {type(inputs).__name__}: give a list, also of a single input")
    if isinstance(inputs, (set, frozenset)):
        raise ValueError(f"{name} is a set, which has no order: give a list")
    if hasattr(inputs, "read"):
        raise ValueError(f"{name} is an open file, a {type(inputs).__name__}: give its path, or file.read(), in a list")
    if getattr(inputs, "shape", None) == ():
        raise ValueError(f"{name} is one value of shape (): give a list, also of a single input")
    if hasattr(inputs, "column_name"):
        # A column of `datasets`, which is thus loaded already. An import would have all who load the code of a saved
        # processor install it.
        audio: Any = sys.modules["datasets"].Audio
        if isinstance(inputs.features, audio):
            stored = inputs.source.cast_column(inputs.column_name, audio(decode=False))
            inputs = stored[inputs.column_name]
    items = [item.as_py() if hasattr(item, "as_py") else item for item in inputs]  # scalars of pyarrow
    if not items:
        raise ValueError(f"{name} is empty: give at least one input")
    return items


def as_inputs(inputs: Any, name: str, told_apart: Callable[[tuple[int, ...]], bool]) -> tuple[list, bool]:
    """
    One or several inputs of a processor, as a list, and whether they are several.

    Args:
        inputs: one input, or several as [`as_list`] takes them.
        name: of the argument, for errors.
        told_apart: whether an array of numbers of this shape is several inputs, one in each row. It raises `ValueError`
            for a shape that may be either.

    Raises:
        `ValueError`: see [`as_list`] and `told_apart`.
    """
    inputs = only_column(plain(inputs), name)
    is_one = isinstance(inputs, (str, bytes, os.PathLike, dict, Image.Image)) or hasattr(inputs, "get_all_samples")
    if is_one or inputs is None or isinstance(inputs, (int, float)):
        return [inputs], False
    if isinstance(inputs, Tensor):
        is_dense = not inputs.is_nested  # a nested one has no shape
        return (list(inputs), True) if is_dense and told_apart(tuple(inputs.shape)) else ([inputs], False)
    if hasattr(inputs, "__array__") and not hasattr(inputs, "column_name"):  # a column of `datasets` would be decoded
        array = inputs if isinstance(inputs, np.ndarray) else np.asarray(inputs)
        if array.dtype.kind in "biufc":
            return (list(array), True) if told_apart(array.shape) else ([array], False)
    return as_list(inputs, name), True


def read(
    items: Sequence[Any],
    modality: str,
    processor: ProcessorMixin | None,
    sampling_rate: int | None = None,
    name: str = "inputs",
    unreadable: dict[int, str] | None = None,
    named_as_text: bool = False,
) -> Shaped[Tensor, "inputs ..."]:
    """
    The model's raw rows of some inputs, as the processor that was saved with it makes them, in one tensor. Sounds and
    texts of several lengths have zeros at their end.

    What is noticed of single inputs (longer than the model reads, silent, unknown words) is said in one warning per
    kind, which names them.

    Args:
        items, modality, processor, sampling_rate, name, unreadable, named_as_text: see [`rows_one_by_one`].

    Raises:
        As [`rows_one_by_one`]; `ValueError`: rows of several shapes that no zeros make one.
    """
    notes = Notes()
    rows = list(rows_one_by_one(items, modality, processor, notes, sampling_rate, name, unreadable, named_as_text))
    notes.warn(stacklevel=5)
    return torch.from_numpy(stacked(rows, modality, name))


def rows_one_by_one(
    items: Sequence[Any],
    modality: str,
    processor: ProcessorMixin | None,
    notes: Notes,
    sampling_rate: int | None = None,
    name: str = "inputs",
    unreadable: dict[int, str] | None = None,
    named_as_text: bool = False,
    known: Callable[[Any], Any] | None = None,
) -> Iterator[Any]:
    """
    Yields the raw row of each input, an array, in their order. Where the processor takes inputs whole, each has a
    shape of its own. Files are decoded when their row is asked for, so that not all rows need be in memory.

    Args:
        items: see `infer_modality`. For a registered modality that no processor knows, arrays of one shape.
        modality: of all of them.
        processor: of the model.
        notes: where it is noted what is odd about single inputs; the caller says it when all rows are there.
        sampling_rate: of waveforms in Hz; files and dicts know their own.
        name: of the argument, for errors.
        unreadable: where given, inputs that cannot be read are left out, and it is told the number of each and why;
            those that it has already are left out unread.
        named_as_text: whether the person named the modality text, so that strings which name files are texts, with a
            warning; otherwise they are unreadable.
        known: asked about each sound or picture before it is read; what it returns is yielded in place of the row,
            unless it is `None`.

    Raises:
        `FileNotFoundError`, `UnreadableInput`: an input that cannot be read, by its number and name.
        `ValueError`: no processor, or no input that can be read.
    """
    read_one = _reader(modality, processor, sampling_rate, named_as_text)
    count, texts = 0, {}
    for number, item in enumerate(items):
        if unreadable is not None and number in unreadable:
            continue
        if known is not None and modality != "text" and (found := known(item)) is not None:
            count += 1
            yield found
            continue
        own = f"{name}[{number}]"
        notes.prefix = f"{own}: "
        try:
            row = named(own, read_one, plain(item), notes)
        except (ValueError, OSError) as error:
            if unreadable is None:
                raise
            unreadable[number] = str(error)
            continue
        if modality == "text":
            texts[number] = (name_of_text(own, item), row)
        else:
            count += 1
            yield row
    notes.prefix = ""
    if texts:
        if not named_as_text and len(texts) > 1 and all(ends_like_file(text) for _, text in texts.values()):
            notes.add("texts of which each ends like the name of a file; no files have these names", name)
        for row in _rows_of_texts(texts, cast(Any, processor), notes, unreadable):
            count += 1
            yield row
    if not count:
        raise ValueError(f"none of {len(items)} {name} can be read: {next(iter((unreadable or {'': ''}).values()))}")


def _rows_of_texts(
    texts: dict[int, tuple[str, str]], processor: Any, notes: Notes, unreadable: dict[int, str] | None
) -> Iterator[Shaped[np.ndarray, " tokens"]]:
    """Rows of texts, given as number -> (name, string)."""
    names, strings = zip(*texts.values(), strict=True)
    tokenizer, pads = processor.tokenizer, getattr(processor, "text_padding", "max_length") == "max_length"
    length = tokenizer.model_max_length
    for number, row in zip(texts, texts_one_by_one(tokenizer, strings, length, names, notes), strict=True):
        if isinstance(row, UnreadableInput):
            if unreadable is None:
                raise row
            unreadable[number] = str(row)
        else:
            yield np.pad(row, (0, length - len(row))) if pads else row


def _reader(
    modality: str, processor: ProcessorMixin | None, sampling_rate: int | None, named_as_text: bool
) -> Callable[[Any, Notes], Any]:
    """Of (input, notes): its row, or with text its string, since a tokenizer takes many at once."""
    if modality not in KINDS:
        return lambda item, notes: _numbers(item)
    part = getattr(processor, KINDS[modality].part, None)
    if part is None:
        raise ValueError(
            f"modality={modality!r} needs a processor with a {KINDS[modality].part}, which this model was not saved "
            "with: give processor="
        )
    if modality == "text":
        return lambda item, notes: read_string(item, notes, named_as_text)
    if modality == "audio":
        return lambda item, notes: part.row(_checked_path(item), sampling_rate, notes=notes)
    return lambda item, notes: part.row(_checked_path(item), notes=notes)


def _checked_path(item: Any) -> Any:
    """A sound or a picture as it is; a string that is no path, though it contains one, is refused with the remedy."""
    if isinstance(item, str) and (place := named_place(item)) is not None and place.why and not place.is_missing:
        raise UnreadableInput(f"{shown(item)} {place.why}")
    return item


def _numbers(item: Any) -> np.ndarray:
    """The row of a registered modality, whose values nobody else checks."""
    array = as_array(item)
    if array.dtype.kind not in "biufc":
        raise UnreadableInput(f"it is no array of numbers, but a {type(item).__name__}")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise UnreadableInput("it has values that are not finite")
    return array


def stacked(rows: Sequence[np.ndarray], modality: str, name: str) -> Shaped[np.ndarray, "inputs ..."]:
    """
    Rows of one modality as one array. Zeros are appended to sounds and texts that are shorter than others, which all
    models take for padding.

    Raises:
        `ValueError`: rows of several shapes, of another modality.
    """
    shapes = {row.shape for row in rows}
    if len(shapes) == 1:
        return np.stack(rows)
    if modality not in PADDED:
        raise ValueError(
            f"{name} have several shapes, {listing([str(shape) for shape in shapes])}: give arrays of one shape"
        )
    longest = max(len(row) for row in rows)
    return np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
