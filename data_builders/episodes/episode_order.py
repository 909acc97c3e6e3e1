"""From which split each episode comes: the splits take turns, or each has its share of the episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from ..storage.few_shot_split import FewShotSplit
from .random_bits import RandomBits

# 2^64 divided by the golden ratio, rounded to an odd number: multiples of it, modulo 2^64, are spread evenly over the
# range, whatever section of them is looked at (Knuth, The Art of Computer Programming, volume 3, section 6.4).
_GOLDEN = 0x9E3779B97F4A7C15
_RANGE = 1 << 64


class EpisodeOrder:
    """Says from which split an episode comes; a pure function of the seed and of the number of the episode.

    Without weights the splits take turns: episode i comes from split i modulo their number. With weights the numbers
    0 to 2^64 - 1 are divided between the splits in proportion to their weights, and episode i comes from the split
    that has the number (offset + i * golden ratio) modulo 2^64, with an offset from the seed. So every section of the
    episodes, such as a meta-batch or what follows a resume, has nearly the shares that the weights ask for.

    Args:
        number: number of splits.
        weights: weight of each split, positive, or None.
        seed: non-negative integer.
    """

    def __init__(self, number: int, weights: Sequence[float] | None, seed: int):
        self._number = number
        self._ends: list[int] | None = None
        if weights is not None:
            shares = [Fraction(weight) for weight in weights]
            sums = [sum(shares[: place + 1]) for place in range(number)]
            self._ends = [math.floor(part / sums[-1] * _RANGE) for part in sums]
            self._offset = RandomBits(seed, number).below(_RANGE)

    def __call__(self, index: int) -> int:
        """Returns the number of the split from which the episode of this index comes."""
        if self._ends is None:
            return index % self._number
        place = (self._offset + index * _GOLDEN) % _RANGE
        return next(split for split, end in enumerate(self._ends) if place < end)

    def counts(self, episodes: int) -> list[int]:
        """Returns the number of episodes that come from each split, of the first `episodes` ones."""
        if self._ends is None:
            return [len(range(split, episodes, self._number)) for split in range(self._number)]
        return np.bincount([self(index) for index in range(episodes)], minlength=self._number).tolist()


def checked_weights(weights: Mapping[str, float] | None, splits: Sequence[FewShotSplit]) -> list[float] | None:
    """The weight of each split, from a mapping that has one for each data set by its name.

    Raises:
        ValueError: a data set lacks a weight, a weight is for none of them or not a positive number, or two splits
            have the same name.
    """
    if weights is None:
        return None
    names = [split.name for split in splits]
    if len(set(names)) < len(names):
        raise ValueError(f"weights are by the names of data sets, but these have the same name: {', '.join(names)}")
    if set(weights) != set(names):
        raise ValueError(f"weights={dict(weights)} must have one entry for each of the data sets {', '.join(names)}")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise ValueError(
                f"weights[{name}]={weight!r} must be a positive number; leave out a data set to never draw it"
            )
    return [weights[name] for name in names]


def default_weights(splits: Sequence[FewShotSplit]) -> dict[str, float] | None:
    """The weights of data sets in training: None if every modality has one set, whose episodes then take turns.

    Otherwise every modality has the same share of the episodes, which its data sets divide in proportion to the square
    roots of their numbers of classes: a set with more classes has more different episodes to offer, and no small set is
    drowned.
    """
    by_modality: dict[str, list[FewShotSplit]] = {}
    for split in splits:
        by_modality.setdefault(split.modality, []).append(split)
    if all(len(group) == 1 for group in by_modality.values()):
        return None
    weights = {}
    for group in by_modality.values():
        roots = [math.sqrt(len(split.class_names)) for split in group]
        weights |= {split.name: root / sum(roots) for split, root in zip(group, roots, strict=True)}
    return weights
