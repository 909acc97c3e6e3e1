"""What a prediction rests on, where the model compares inputs with examples: levels and the nearest examples."""

import os
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float16, Shaped
from PIL import Image
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..inputs.kinds import plain
from ..inputs.notes import warn_of_unreadable
from ..model.adaptation import AdaptedTasks
from ..model.modeling_msmaml import MSMAMLModel
from .conventions import inputs_as_list


class Examples(NamedTuple):
    """
    The examples of a classifier whose model reads levels.

    Args:
        levels: of each, on the CPU.
        labels: of each, as Python values.
        positions: of each among all inputs that were given, those that could not be read included.
        names: the path or the text of each, as far as it is known.
        given: the number of inputs that were given.
    """

    levels: Float16[Tensor, "examples total"]
    labels: list[Hashable]
    positions: list[int]
    names: list[str | None]
    given: int

    def followed_by(self, others: "Examples") -> "Examples":
        """These examples, and then others."""
        return Examples(
            torch.cat([self.levels, others.levels]),
            self.labels + others.labels,
            self.positions + [self.given + position for position in others.positions],
            self.names + others.names,
            self.given + others.given,
        )


class Neighbour(NamedTuple):
    """
    An example that is like a query.

    Args:
        position: of the example among the inputs that were given to `fit` and `partial_fit`, from 0.
        label: its class.
        similarity: in [-1, 1], see [`MSMAMLModel.similarities`].
        name: its path or its text; `None` where it has neither, or the classifier was loaded.
    """

    position: int
    label: Hashable
    similarity: float
    name: str | None


def name_of_example(item: Any) -> str | None:
    """The path of an input, or its text; `None` if it is an array or the content of a file."""
    item = plain(item)
    if isinstance(item, dict):
        item = item.get("path")
    elif isinstance(item, Image.Image):
        item = getattr(item, "filename", None)
    return os.fsdecode(item) if isinstance(item, (str, os.PathLike)) and os.fspath(item) else None


def sorted_level_weights(model: MSMAMLModel, adapted: AdaptedTasks) -> dict[str, float]:
    """The weights of the levels in one adapted task, the largest first."""
    (weights,) = model.level_weights(adapted)
    return dict(sorted(weights.items(), key=lambda entry: -entry[1]))


def neighbours(
    model: MSMAMLModel, adapted: AdaptedTasks, examples: Examples, queries: Shaped[Tensor, "queries ..."], k: int
) -> Iterator[list[Neighbour]]:
    """Yields the k nearest examples of each encoded query, the nearest first."""
    support, queries = examples.levels.to(model.device)[None], queries.to(model.device)[None]
    similarities = model.similarities(adapted, support, queries)[0].cpu()
    values, numbers = similarities.topk(min(k, similarities.shape[1]), dim=1)
    for own_values, own_numbers in zip(values.tolist(), numbers.tolist(), strict=True):
        yield [
            Neighbour(examples.positions[number], examples.labels[number], value, examples.names[number])
            for value, number in zip(own_values, own_numbers, strict=True)
        ]


def checked_k(k: Any) -> int:
    """A number of neighbours. Raises `ValueError` for what is none."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k={k!r} must be an integer of at least 1")
    return k


def at_positions(found: Sequence[list[Neighbour]], unread: dict[int, str], number: int) -> list[list[Neighbour]]:
    """A list for each of `number` inputs, which is empty for those that could not be read."""
    others = iter(found)
    return [[] if position in unread else next(others) for position in range(number)]


class ExplainedClassifier:
    """The part of [`FewShotClassifier`] that says what predictions rest on."""

    @property
    def level_weights_(self) -> dict[str, float]:
        """See the class."""
        own: Any = self
        check_is_fitted(own, "adapted_")
        if not own._model.reads_levels:
            raise AttributeError(f"task_network={own._model.config.task_network!r} has no levels to weigh")
        return sorted_level_weights(own._model, own.adapted_)

    def nearest_examples(self, inputs: Any, k: int = 3, sampling_rate: int | None = None) -> list[list[Neighbour]]:
        """
        The examples that are most like each input in the eyes of the adapted model, the nearest first. An input that
        cannot be read has none, if `skip_unreadable` allows for it.

        Args:
            inputs: as for `predict`.
            k: number of examples, or all if there are fewer.
            sampling_rate: of waveforms, Hz.

        Raises:
            As [`FewShotClassifier.predict_proba`]; `ValueError`: a model that is not on levels, or a wrong `k`.
        """
        own: Any = self
        check_is_fitted(own, "adapted_")
        if own.examples_ is None:
            raise ValueError(f"task_network={own._model.config.task_network!r} keeps no examples to compare with")
        checked_k(k)
        items, unreadable = inputs_as_list(inputs, own.modality_), {} if own.skip_unreadable else None
        found = []
        with torch.no_grad():
            for batch in own._batches(items, own.modality_, own._model, own._processor, sampling_rate, unreadable):
                found += neighbours(own._model, own.adapted_, own.examples_, batch, k)
        if unreadable:
            warn_of_unreadable(unreadable, len(items))
        return at_positions(found, unreadable or {}, len(items))
