"""What scikit-learn expects of a classifier beside its methods: names of arguments, tags, lists of inputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import issparse
from torch import Tensor

from ..inputs.kinds import KINDS
from ..inputs.reading import as_list

_CHANNELS = (1, 3, 4)
_SAME = {"X": "inputs", "y": "labels"}
# Arguments that other classifiers take, and what to do here in their place.
_OTHERS = {
    "sample_weight": "classes count alike, however many examples they have: give an example several times, for it to "
    "count more within its class",
    "classes": "a class is known from its first example on: leave it out",
}
Method = TypeVar("Method", bound=Callable[..., Any])


def as_in_scikit_learn(method: Method) -> Method:
    """
    Lets a method be called with `X` for `inputs` and `y` for `labels`, and says why it takes no `sample_weight`.

    Raises:
        `TypeError`: both names of an argument, or an argument that the method does not take.
    """

    @wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        for theirs, ours in _SAME.items():
            if theirs in named and ours in named:
                raise TypeError(f"{method.__name__} got {theirs}= and {ours}=, which are the same: give one of them")
            if theirs in named:
                named[ours] = named.pop(theirs)
        for other, remedy in _OTHERS.items():
            is_taken = other in method.__code__.co_varnames
            if not is_taken and named.pop(other, None) is not None:
                raise TypeError(f"{method.__name__} takes no {other}: {remedy}")
        return method(self, *arguments, **named)

    return cast(Method, call)


def inputs_as_list(inputs: Any, modality: str | None, sampling_rate: int | None = None) -> list:
    """
    The inputs one by one, see `as_list`, of which an array is no single input. An array of strings with one column is
    that column.

    Args:
        modality: `None` if it is to be told from the inputs.
        sampling_rate: of waveforms, Hz, with which an array of three dimensions has sounds of several channels.

    Raises:
        `ValueError`: one sound or picture instead of several, or as [`as_list`].
    """
    if issparse(inputs):
        raise ValueError(
            f"inputs is a sparse matrix of shape {inputs.shape}, which is no list of inputs: sparse data "
            "are not supported, inputs.toarray() gives waveforms, one in each row"
        )
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "OUST" and inputs.shape[1:] == (1,):
        inputs = inputs[:, 0]
    is_strided = isinstance(inputs, Tensor) and not inputs.is_nested  # a nested tensor has no shape
    if is_strided or (isinstance(inputs, np.ndarray) and inputs.dtype.kind in "biuf"):
        refuse_single_input(tuple(inputs.shape), modality, sampling_rate)
    return as_list(inputs)


def refuse_single_input(shape: tuple[int, ...], modality: str | None, sampling_rate: int | None) -> None:
    """Raises `ValueError` for an array of numbers that is one sound or picture, or may be one."""
    if len(shape) == 1 and modality in ("audio", None):
        raise ValueError(f"inputs is one sound of shape {shape}: give a list, also of a single input: [sound]")
    may_be_picture = modality == "image" or (modality is None and sampling_rate is None)
    if len(shape) == 2 and modality == "image":
        raise ValueError(f"inputs is one grey picture of shape {shape}: give a list, also of a single input: [picture]")
    if len(shape) == 3 and may_be_picture and (shape[2] in _CHANNELS or shape[0] in _CHANNELS):
        raise ValueError(
            f"inputs is an array of shape {shape}, which is one picture, or {shape[0]} grey ones: give a list, also of "
            "a single input, [picture] or list(pictures)"
        )


@contextmanager
def rows_fit(modality: str, rows: Tensor) -> Iterator[None]:
    """
    Names the rows that the embedding of a registered modality fails at: only that embedding knows which it takes.

    Args:
        rows: of one task, (1, inputs, ...).

    Raises:
        `ValueError`: in the place of what the embedding raises.
    """
    try:
        yield
    except (RuntimeError, IndexError, TypeError) as error:
        if modality in KINDS or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"inputs of shape {tuple(rows.shape[2:])} do not fit the embedding of modality {modality!r}: give arrays "
            f"of the shape for which it was registered ({error})"
        ) from error


class Conventions:
    """The part of [`FewShotClassifier`] that scikit-learn asks for."""

    def __sklearn_tags__(self) -> Any:
        tags = cast(Any, super()).__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True  # what an input is, the processor knows
        return tags

    @as_in_scikit_learn
    def predict_log_proba(self, inputs: Any, sampling_rate: int | None = None) -> Float[np.ndarray, "inputs classes"]:
        """
        Natural logarithms of the probabilities of `predict_proba`, of which 0 becomes minus infinity.

        Raises:
            As [`FewShotClassifier.predict_proba`].
        """
        with np.errstate(divide="ignore"):
            return np.log(cast(Any, self).predict_proba(inputs, sampling_rate))
