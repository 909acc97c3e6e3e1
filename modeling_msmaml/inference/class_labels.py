"""Labels of any type: as Python values, as numbers 0, 1, ... of their classes, and in JSON."""

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from sklearn.exceptions import DataConversionWarning
from torch import Tensor

from ..inputs.label_values import clean, half_character, is_absent, refuse_look_alikes
from ..inputs.reading import as_list

_JSON_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}
_FINE_UNITS = ("ns", "ps", "fs", "as")  # of which the standard library has no type


def labels_of(labels: Any) -> list[Hashable]:
    """
    Labels as Python values.

    Args:
        labels: a list, array, tensor or column of labels: strings, numbers, booleans, dates, tuples, or other values
            that are hashable and equal to what has the same value. Strings lose white space and invisible marks at
            their ends, and their characters are composed (NFC). An array of shape (n, 1) is taken with a
            `DataConversionWarning`, as other classifiers of scikit-learn take it.

    Raises:
        `ValueError`: a label is missing (`None`, NaN, NA, NaT, masked, blank, `"nan"`, or -1 in a column of class
            labels), holds such a value, is an array of several values or a tensor without values, is not hashable, has
            half of a surrogate pair, or compares by identity; or two labels look the same. The message has the
            position.
    """
    if isinstance(labels, Tensor) and labels.layout is not torch.strided:
        labels = labels.to_dense()
    if isinstance(labels, (Tensor, np.ndarray)) and labels.ndim == 2 and labels.shape[1] == 1:
        message = f"labels is a column vector of shape {tuple(labels.shape)}: give labels.ravel()"
        warnings.warn(message, DataConversionWarning, stacklevel=5)
        labels = labels.reshape(-1)
    items = as_list(labels, "labels")
    is_class_label = hasattr(getattr(labels, "features", None), "int2str")  # a column of `datasets`
    found = [_as_value(item, f"labels[{number}]") for number, item in enumerate(items)]
    if is_class_label and (number := next((n for n, label in enumerate(found) if label == -1), None)) is not None:
        raise ValueError(f"labels[{number}] is missing (-1 in a column of class labels): give every input a class")
    refuse_look_alikes(found, "labels")
    return found


def _as_value(label: Any, name: str) -> Hashable:
    if isinstance(label, (np.generic, np.ndarray, Tensor)):
        if np.ma.is_masked(label):
            raise ValueError(f"{name} is masked: fill it with its class (labels.filled), or leave out its input")
        if label.shape != ():
            raise ValueError(f"{name} is an array of shape {tuple(label.shape)}: give one value per input")
        label = label[()] if isinstance(label, np.ndarray) else label
    if isinstance(label, (np.datetime64, np.timedelta64)):
        label = _moment(label)
    elif isinstance(label, (np.generic, Tensor)):
        try:
            label = label.item()
        except (RuntimeError, NotImplementedError) as error:  # such as a tensor on the device "meta"
            raise ValueError(f"{name} is a tensor without a value: give numbers or strings ({error})") from error
    if is_absent(label):
        raise ValueError(f"{name} is missing ({label!r}): give every input a class")
    if isinstance(label, (tuple, frozenset)):
        items = [_as_value(item, f"{name}[{number}]") for number, item in enumerate(label)]
        return type(label)(items) if type(label) in (tuple, frozenset) else label
    try:
        hash(label)
    except TypeError:
        raise ValueError(f"{name} is a {type(label).__name__}, which is not hashable: give one value") from None
    if type(label).__eq__ is object.__eq__:
        raise ValueError(
            f"{name} is a {type(label).__name__}, which is equal to nothing but itself: give strings or numbers"
        )
    if type(label) is str:
        if (position := half_character(label)) is not None:
            raise ValueError(
                f"{name} is {label!r}, which has half of a surrogate pair at position {position}: decode it anew from "
                "its source, or rename the class"
            )
        return clean(label)
    return label.strip() if type(label) is bytes else label


def _moment(label: np.datetime64 | np.timedelta64) -> Any:
    """The date, time or duration of the standard library, or the value itself where that is less exact."""
    exact = label.astype(f"{label.dtype.kind}8[us]") if np.datetime_data(label.dtype)[0] in _FINE_UNITS else label
    return exact.item() if exact == label or np.isnat(label) else label


def sorted_classes(labels: list[Hashable]) -> list[Hashable]:
    """Each class once, sorted, or in order of appearance where the labels cannot be sorted."""
    classes = list(dict.fromkeys(labels))
    try:
        return sorted(classes)  # pyright: ignore[reportArgumentType]  # whether they have an order is tried out
    except TypeError:
        return classes


def label_array(labels: list[Hashable]) -> Shaped[np.ndarray, " labels"]:
    """An array with one element per label, of a plain type where all labels have the same and NumPy keeps them so."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and kinds <= {str, int, float, bool}:
        array = np.asarray(labels)
        if {type(value) for value in array.tolist()} == kinds:  # integers beyond one type would become floats
            return array
    array = np.empty(len(labels), dtype=object)
    for number, label in enumerate(labels):  # in one assignment, tuples would become a second dimension
        array[number] = label
    return array


def label_to_json(label: Hashable) -> list:
    """
    [type, value], since JSON does not tell a tuple from a list.

    Raises:
        `ValueError`: the label is no string, number, boolean, `None`, or tuple of these.
    """
    if isinstance(label, tuple):
        return ["tuple", [label_to_json(item) for item in label]]
    for name, kind in _JSON_TYPES.items():
        if type(label) is kind:
            return [name, label]
    raise ValueError(
        f"the class {label!r} is a {type(label).__name__}, which cannot be saved: fit with strings, numbers or tuples"
    )


def label_from_json(entry: list) -> Hashable:
    """
    The label that [`label_to_json`] was given.

    Raises:
        `ValueError`: it can have given no such entry.
    """
    kind, value = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
    if kind == "tuple" and isinstance(value, list):
        return tuple(label_from_json(item) for item in value)
    if not isinstance(kind, str) or type(value) is not _JSON_TYPES.get(kind):
        raise ValueError(f"{str(entry)[:200]} is no class that was saved")
    return value


def balanced(labels: Int[Tensor, " examples"]) -> Int[Tensor, " rows"]:
    """The row numbers of all examples, then again those of smaller classes, in turn, until all classes are as large."""
    members = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    largest = max(map(len, members))
    repeated = [own[torch.arange(len(own), largest) % len(own)] for own in members]
    return torch.cat([torch.arange(len(labels)), *repeated])
