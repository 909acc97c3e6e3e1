"""The shape of an episode: its number of classes, of support samples of each class and of query samples per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from modeling_msmaml.model.options import at_least, checked

from .random_bits import RandomBits

SHOTS = ("equal", "log_equal", "unequal", "meta_dataset")
MOST_SUPPORT = 500  # support samples of an episode with shots="meta_dataset"
_STEPS = 1 << 32  # number of values that a random fraction can take


class Shape(NamedTuple):
    """The support samples of each class of one episode, and its query samples per class."""

    shots: Int64[np.ndarray, " n_way"]
    n_query: int


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that the episodes of a split may have.

    Args:
        n_way: least and greatest number of classes.
        k_shot: least and greatest number of support samples per class.
        n_query: number of query samples per class.
        shots: how the support samples are distributed:

            - `"equal"`: one number for all classes of an episode, uniform in `k_shot`;
            - `"log_equal"`: the same, with few samples as often as many: its logarithm is uniform;
            - `"unequal"`: a number for every class, uniform in `k_shot`;
            - `"meta_dataset"`: the numbers follow the sizes of the classes, as in Meta-Dataset (Triantafillou et al.
              2020, arXiv 1903.03096, section 3 and appendix on episodes); see `meta_dataset_shape`. Then `n_query` is
              the greatest number of query samples, and `k_shot` limits the support samples of a class.
    """

    n_way: tuple[int, int]
    k_shot: tuple[int, int]
    n_query: int
    shots: str = "equal"

    @property
    def is_fixed(self) -> bool:
        """Whether all episodes have the same shape."""
        return self.n_way[0] == self.n_way[1] and self.k_shot[0] == self.k_shot[1] and self.shots != "meta_dataset"

    @property
    def needed(self) -> tuple[int, int]:
        """The `k_shot` and `n_query` that a class must be able to fill to be drawn at all."""
        return (self.k_shot[0], 1) if self.shots == "meta_dataset" else (self.k_shot[1], self.n_query)

    def draw_n_way(self, bits: RandomBits, available: int) -> int:
        """Draws the number of classes, which is at most the number of classes that are available."""
        low, high = self.n_way[0], min(self.n_way[1], available)
        return _between(low, high, bits)

    def draw(self, sizes: Int64[np.ndarray, " n_way"], bits: RandomBits) -> Shape:
        """Draws the rest of the shape.

        Args:
            sizes: number of samples of each class that was drawn.
            bits: random numbers, of which a fixed shape takes none.
        """
        low, high = self.k_shot
        if self.shots == "meta_dataset":
            return meta_dataset_shape(sizes, self.k_shot, self.n_query, bits)
        if self.shots == "log_equal":
            return Shape(np.full(len(sizes), _between_logarithms(low, high, bits)), self.n_query)
        if low == high or self.shots == "equal":
            return Shape(np.full(len(sizes), _between(low, high, bits)), self.n_query)
        return Shape(np.asarray([_between(low, high, bits) for _ in sizes]), self.n_query)


def meta_dataset_shape(
    sizes: Int64[np.ndarray, " n_way"], k_shot: tuple[int, int], most_queries: int, bits: RandomBits
) -> Shape:
    """Draws numbers of samples that follow the sizes of classes (Triantafillou et al. 2020, arXiv 1903.03096).

    With q query samples per class, at most half of the smallest class, the support set has

        min(MOST_SUPPORT, sum over classes c of ceil(beta * min(k_max, size_c - q)))

    samples, beta uniform in (0, 1]. Their shares are proportional to exp(alpha_c) * size_c, alpha_c uniform in
    [log 0.5, log 2), and a class has at least one sample and at most size_c - q of them. In the paper k_max is 100 and
    q at most 10.

    Args:
        sizes: number of samples of each class, at least 2.
        k_shot: least and greatest number of support samples of a class.
        most_queries: greatest number of query samples per class.
        bits: random numbers.
    """
    low, high = k_shot
    n_query = max(1, min(most_queries, int(sizes.min()) // 2))
    room = np.minimum(sizes - n_query, high)
    beta = (bits.below(_STEPS) + 1) / _STEPS
    total = min(MOST_SUPPORT, int(np.ceil(beta * room).sum()))
    alpha = np.log(0.5) + np.asarray([bits.below(_STEPS) / _STEPS for _ in sizes]) * np.log(4)
    shares = np.exp(alpha) * sizes
    shots = np.floor(shares / shares.sum() * (total - len(sizes))).astype(np.int64) + 1
    return Shape(np.clip(shots, low, np.maximum(room, low)), n_query)


def shape_ranges(
    splits: Sequence[tuple[str, str]],
    n_way: int | Sequence[int] | Mapping[str, Any],
    k_shot: int | Sequence[int] | Mapping[str, Any],
    n_query: int | Mapping[str, int],
    shots: str,
) -> list[ShapeRange]:
    """The shapes of each split's episodes, from arguments as `EpisodeDataset` takes them.

    Args:
        splits: (name, modality) of each split.
        n_way, k_shot, n_query, shots: arguments of `EpisodeDataset`.

    Raises:
        ValueError: a value is out of range, a mapping has no entry for a split, or `shots` has no effect since
            `k_shot` is a single number.
    """
    if shots not in SHOTS:
        raise ValueError(f"shots={shots!r} does not exist; choose one of {', '.join(SHOTS)}")
    ranges = []
    for name, modality in splits:
        ways = _range("n_way", _value_for("n_way", n_way, name, modality), 2)
        support = _range("k_shot", _value_for("k_shot", k_shot, name, modality), 1)
        label, queries = _value_for("n_query", n_query, name, modality)
        ranges.append(ShapeRange(ways, support, int(checked(label, queries, at_least(1))), shots))
        if shots != "equal" and support[0] == support[1]:
            raise ValueError(f"shots={shots!r} has no effect on {name} with k_shot={support[0]}: give a range [1, 5]")
    return ranges


def _value_for(argument: str, value: Any, name: str, modality: str) -> tuple[str, Any]:
    """The value for one split and how messages name it; an entry for the data set goes before one for its modality."""
    if not isinstance(value, Mapping):
        return argument, value
    for key in (name, modality):
        if key in value:
            return f"{argument}[{key}]", value[key]
    raise ValueError(f"{argument}={dict(value)} has no entry for modality {modality} or data set {name}")


def _range(argument: str, named: tuple[str, Any], minimum: int) -> tuple[int, int]:
    """The least and greatest value of a number or a pair of numbers."""
    label, value = named
    if not isinstance(value, (list, tuple)):
        number = int(checked(label, value, at_least(minimum)))
        return number, number
    if len(value) != 2:
        raise ValueError(f"{label}={value} must be an integer or a range of two, such as [{minimum}, {minimum + 4}]")
    low, high = (int(checked(label, end, at_least(minimum))) for end in value)
    if low > high:
        raise ValueError(f"{label}={value} must begin with the smaller number: [{high}, {low}]")
    return low, high


def _between(low: int, high: int, bits: RandomBits) -> int:
    """A random integer from low to high, both inclusive; no random number is taken if there is no choice."""
    return low if low == high else low + bits.below(high - low + 1)


def _between_logarithms(low: int, high: int, bits: RandomBits) -> int:
    """A random integer from low to high, of which n is as likely as log(n + 1) - log(n)."""
    return min(high, int(low * ((high + 1) / low) ** (bits.below(_STEPS) / _STEPS)))
