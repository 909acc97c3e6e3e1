"""Labels of any type: as Python values, as numbers 0, 1, ... of their classes, and in JSON."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from ..inputs.reading import as_list

_JSON_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}


def labels_of(labels: Any) -> list[Hashable]:
    """
    Labels as Python values.

    Args:
        labels: a list, array, tensor or column of labels: strings, numbers, booleans, tuples, or other values that are
            hashable and equal to what has the same value.

    Raises:
        `ValueError`: a label is missing (`None`, NaN, NA, NaT), is an array of several values, is not hashable, or
            compares by identity. The message has its position.
    """
    return [_as_value(label, f"labels[{number}]") for number, label in enumerate(as_list(labels, "labels"))]


def _as_value(label: Any, name: str) -> Hashable:
    if isinstance(label, (np.generic, np.ndarray, Tensor)):
        if label.shape != ():
            raise ValueError(f"{name} is an array of shape {tuple(label.shape)}: give one value per input")
        label = label.item()
    if label is None or type(label).__name__ in ("NAType", "NaTType") or label != label or label == "":
        raise ValueError(f"{name} is missing ({label!r}): give every input a class")
    if not isinstance(label, Hashable):
        raise ValueError(f"{name} is a {type(label).__name__}, which is not hashable: give one value")
    if type(label).__eq__ is object.__eq__:
        raise ValueError(
            f"{name} is a {type(label).__name__}, which is equal to nothing but itself: give strings or numbers"
        )
    return label


def sorted_classes(labels: list[Hashable]) -> list[Hashable]:
    """Each class once, sorted, or in order of appearance where the labels cannot be sorted."""
    classes = list(dict.fromkeys(labels))
    try:
        return sorted(classes)  # pyright: ignore[reportArgumentType]  # whether they have an order is tried out
    except TypeError:
        return classes


def label_array(labels: list[Hashable]) -> Shaped[np.ndarray, " labels"]:
    """An array with one element per label, of a plain type where all labels have the same."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and kinds <= {str, int, float, bool}:
        return np.asarray(labels)
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
    """The label that [`label_to_json`] was given."""
    kind, value = entry
    return tuple(label_from_json(item) for item in value) if kind == "tuple" else value


def balanced(labels: Int[Tensor, " examples"]) -> Int[Tensor, " rows"]:
    """The row numbers of all examples, then again those of smaller classes, in turn, until all classes are as large."""
    members = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    largest = max(map(len, members))
    repeated = [own[torch.arange(len(own), largest) % len(own)] for own in members]
    return torch.cat([torch.arange(len(labels)), *repeated])
