"""`EpisodeSampler`, which draws the classes and the rows of episodes from one split."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int64

from ..storage.few_shot_split import FewShotSplit
from .episode_shape import Shape, ShapeRange
from .random_bits import RandomBits
from .source_partition import can_fill, divide_sources, nearest_settings

_QUICK_TRIES = 8
_QUICK_MARGIN = 8  # number of candidates per row that a class needs


# Support rows and query rows of each class.
_Sides = tuple[list[Int64[np.ndarray, " shots"]], list[Int64[np.ndarray, " n_query"]]]


class EpisodeRows(NamedTuple):
    """The classes of an episode, in the order of their labels, 0 to n_way - 1, and the rows of each of them."""

    class_ids: Int64[np.ndarray, " n_way"]
    support: list[Int64[np.ndarray, " shots"]]
    query: list[Int64[np.ndarray, " n_query"]]

    def of(self, classes: slice) -> EpisodeRows:
        """The same of some of the classes."""
        return EpisodeRows(self.class_ids[classes], self.support[classes], self.query[classes])


class EpisodeSampler:
    """Draws episodes in which no row occurs twice and, with `source_disjoint`, no source occurs on both sides.

    Rows are taken from random orders. If this fails repeatedly, because the sources can only be divided in a few ways,
    an exact search takes over. So every feasible setting yields episodes, and the constructor refuses all other ones.

    Under the protocol `original`, episodes are drawn as in the published experiments: sources play no role, and a class
    with too few rows is drawn with replacement, so that support and query overlap.

    Args:
        split: the split to draw from.
        n_way: number of classes per episode, at least 2, or a range of two numbers, both inclusive, from which it is
            drawn for every episode. Like `k_shot`, a range is a tuple.
        k_shot: number of support samples per class, at least 1, or a range.
        n_query: number of query samples per class, at least 1.
        source_disjoint: whether support and query of an episode come from different recordings or documents. It has no
            effect under the protocol `original`.
        shots: how support samples are distributed over the classes, see `ShapeRange`.

    Raises:
        ValueError: a test class of `class_disjoint` cannot fill an episode, fewer than `n_way` classes can fill one, or
            no `n_way` of them can fill one together. With ranges the largest episode counts, except with
            `shots="meta_dataset"`, where `n_way` is at most the number of classes and the smallest episode counts.

    Warns:
        UserWarning: another class cannot fill an episode and is left out. Under `original` this happens only to a class
            without rows.
    """

    def __init__(
        self,
        split: FewShotSplit,
        n_way: int | tuple[int, int],
        k_shot: int | tuple[int, int],
        n_query: int,
        source_disjoint: bool,
        shots: str = "equal",
    ):
        ways = (n_way, n_way) if isinstance(n_way, int) else n_way
        self.shape = ShapeRange(ways, (k_shot, k_shot) if isinstance(k_shot, int) else k_shot, n_query, shots)
        self.k_shot, self.n_query = self.shape.needed
        self._fixed = Shape(np.full(ways[0], self.k_shot), self.n_query) if self.shape.is_fixed else None
        n_way = self.n_way = ways[0] if shots == "meta_dataset" else ways[1]
        self._repeats = split.protocol == "original"
        self.source_disjoint = source_disjoint and not self._repeats
        if n_way > len(split.class_names):
            raise ValueError(
                f"n_way={n_way} asks for more classes than split {split.split!r} of {split.name} has: only "
                f"{len(split.class_names)} {split.split} categories exist ({', '.join(split.class_names)}) under "
                f"protocol {split.protocol!r}; n_way={len(split.class_names)} or fewer works"
            )
        self._rows, self._sources = _rows_and_sources_by_class(split, self.source_disjoint)
        self._usable = self._usable_classes(split)
        self._has_shared_sources = self._find_shared_sources()
        if self._has_shared_sources[self._usable].any() and self._compatible_classes(self._usable, n_way, None) is None:
            raise ValueError(
                f"no {n_way} classes of split {split.split!r} of {split.name} can fill an episode together with "
                f"k_shot={k_shot}, n_query={n_query}: they share sources that would be in support and query; a smaller "
                "n_way or n_query, or source_disjoint=False, helps"
            )

    def draw(self, bits: RandomBits) -> EpisodeRows:
        """Draws one episode, which is a function of the random numbers."""
        n_way = self.shape.draw_n_way(bits, len(self._usable))
        order = self._usable[bits.permutation(len(self._usable))]
        classes = order[:n_way]
        shape = self._fixed or self.shape.draw(np.asarray([len(self._rows[c]) for c in classes]), bits)
        if self._repeats:
            return EpisodeRows(classes, *self._draw_as_published(classes, shape, bits))
        while True:
            drawn = self._draw_quickly(classes, shape, bits) or self._draw_exactly(classes, shape, bits)
            if drawn is not None:
                return EpisodeRows(classes, *drawn)
            if self.shape.shots != "meta_dataset" or (shape.shots.max() == self.k_shot and shape.n_query == 1):
                break
            # The sources of these classes do not allow this many rows, which follow the sizes of the classes only.
            shape = Shape(np.maximum(shape.shots // 2, self.k_shot), max(shape.n_query // 2, 1))
        # These classes share sources that cannot be divided for all of them, so others are taken: with sizes that
        # follow the classes, perhaps fewer of them.
        for number in dict.fromkeys((n_way, min(n_way, self.n_way))):
            compatible = self._compatible_classes(order, number, bits)
            if compatible is not None:
                drawn = self._draw_exactly(compatible, Shape(shape.shots[:number], shape.n_query), bits)
                if drawn is not None:
                    return EpisodeRows(compatible, *drawn)
        raise RuntimeError(f"no {n_way} classes fit together, although the constructor found some")

    def _draw_as_published(self, classes: Int64[np.ndarray, " n_way"], shape: Shape, bits: RandomBits) -> _Sides:
        """Draws different rows of a class if it has enough of them; otherwise rows are drawn with replacement."""
        support, query = [], []
        for c, k_shot in zip(classes, shape.shots.tolist(), strict=True):
            n_rows, size = len(self._rows[c]), k_shot + shape.n_query
            places = bits.permutation(n_rows)[:size] if n_rows >= size else [bits.below(n_rows) for _ in range(size)]
            rows = self._rows[c][places]
            support.append(rows[:k_shot])
            query.append(rows[k_shot:])
        return support, query

    def _draw_quickly(self, classes: Int64[np.ndarray, " n_way"], shape: Shape, bits: RandomBits) -> _Sides | None:
        """Takes the first rows of a random order as support, and the next ones from other sources as query.

        It returns None if this fails for a class several times.
        """
        support, query, n_query = [], [], shape.n_query
        support_sources, query_sources = np.empty(0, np.int64), np.empty(0, np.int64)
        for c, k_shot in zip(classes, shape.shots.tolist(), strict=True):
            rows, sources = self._rows[c], self._sources[c]
            may_support = may_query = None
            if self._has_shared_sources[c]:
                may_support, may_query = ~np.isin(sources, query_sources), ~np.isin(sources, support_sources)
            for _ in range(_QUICK_TRIES):
                order = bits.prefix(len(rows), _QUICK_MARGIN * (k_shot + n_query))
                picked = (order if may_support is None else order[may_support[order]])[:k_shot]
                rest = order if may_query is None else order[may_query[order]]
                picked_sources = sources[picked]
                is_left = (sources[rest][:, None] != picked_sources).all(axis=1)
                asked = rest[is_left][:n_query]
                if len(picked) == k_shot and len(asked) == n_query:
                    break
            else:
                return None
            support.append(rows[picked])
            query.append(rows[asked])
            if self._has_shared_sources[c]:
                support_sources = np.concatenate([support_sources, picked_sources])
                query_sources = np.concatenate([query_sources, sources[asked]])
        return support, query

    def _draw_exactly(self, classes: Int64[np.ndarray, " n_way"], shape: Shape, bits: RandomBits) -> _Sides | None:
        """Divides the sources first and draws rows from each side; returns None if the classes do not fit together."""
        sides = self._divide(classes, int(shape.shots.max()), shape.n_query, bits)
        if sides is None:
            return None
        support, query = [], []
        for c, k_shot in zip(classes, shape.shots.tolist(), strict=True):
            rows, on_support_side = self._rows[c], np.isin(self._sources[c], sides)
            for target, candidates, size in (
                (support, rows[on_support_side], k_shot),
                (query, rows[~on_support_side], shape.n_query),
            ):
                target.append(candidates[bits.permutation(len(candidates))[:size]])
        return support, query

    def _divide(
        self, classes: Iterable[int], k_shot: int, n_query: int, bits: RandomBits
    ) -> Int64[np.ndarray, " support_sources"] | None:
        """Returns the sources on the support side of an episode, or None if no division serves all the classes."""
        present = np.unique(np.concatenate([self._sources[c] for c in classes]))
        counts = np.stack(
            [np.bincount(np.searchsorted(present, self._sources[c]), minlength=len(present)) for c in classes], axis=1
        )
        sides = divide_sources(counts, k_shot, n_query, bits)
        return None if sides is None else present[sides]

    def _compatible_classes(
        self, order: Int64[np.ndarray, " usable"], n_way: int, bits: RandomBits | None
    ) -> Int64[np.ndarray, " n_way"] | None:
        """Returns the first `n_way` classes in this order that fit together, or None if there are none.

        The search is depth-first and exact. It is pruned because classes that do not fit together do not fit together
        with further classes, either.
        """
        bits = bits or RandomBits(0)

        def extend(chosen: list[int], start: int) -> list[int] | None:
            if len(chosen) == n_way:
                return chosen
            for position in range(start, len(order) - (n_way - len(chosen)) + 1):
                candidate = [*chosen, order[position]]
                if self._divide(candidate, self.k_shot, self.n_query, bits) is not None:
                    found = extend(candidate, position + 1)
                    if found is not None:
                        return found
            return None

        found = extend([], 0)
        return None if found is None else np.asarray(found)

    def _usable_classes(self, split: FewShotSplit) -> np.ndarray:
        """Returns the ids of the classes that can fill an episode on their own."""
        usable, problems = [], []
        for c, class_name in enumerate(split.class_names):
            sizes = np.unique(self._sources[c], return_counts=True)[1]
            if len(sizes) and (self._repeats or can_fill(sizes, self.k_shot, self.n_query)):
                usable.append(c)
            else:
                problems.append(self._shortage(class_name, sizes))
        setting = f"k_shot={self.k_shot}, n_query={self.n_query}, source_disjoint={self.source_disjoint}"
        where = f"split {split.split!r} of {split.name} ({split.modality}, protocol {split.protocol!r})"
        if problems and split.split == "test" and split.protocol == "class_disjoint":
            raise ValueError(f"{where} cannot fill an episode with {setting}: " + _few(problems))
        if len(usable) < self.n_way:
            raise ValueError(
                f"n_way={self.n_way} is not possible: only {len(usable)} of {len(split.class_names)} classes of "
                f"{where} can fill an episode with {setting}. " + _few(problems)
            )
        if problems:
            warnings.warn(
                f"{where}: classes are left out with {setting}: " + "; ".join(problems), UserWarning, stacklevel=4
            )
        return np.asarray(usable)

    def _shortage(self, class_name: str, sizes: np.ndarray) -> str:
        """Returns a phrase that says what a class has and which settings it could fill."""
        nearest = nearest_settings(sizes, self.k_shot, self.n_query) if len(sizes) else []
        works = " or ".join(f"k_shot={k}, n_query={q}" for k, q in nearest)
        if not nearest:
            works = "nothing" + (", except source_disjoint=False" if sizes.sum() > 1 else "")
        sources = f" from {len(sizes)} sources" if self.source_disjoint else ""
        return f"class {class_name!r} has {sizes.sum()} samples{sources} (nearest that works: {works})"

    def _find_shared_sources(self) -> np.ndarray:
        """Returns, for every class, whether it shares a source with another usable class."""
        has_shared = np.zeros(len(self._rows), dtype=bool)
        if not self.source_disjoint:
            return has_shared
        present = [np.unique(self._sources[c]) for c in self._usable]
        sources, counts = np.unique(np.concatenate(present), return_counts=True)
        shared = sources[counts > 1]
        has_shared[self._usable] = [np.isin(own, shared).any() for own in present]
        return has_shared


def _few(problems: list[str], limit: int = 5) -> str:
    """Joins the first problems and says how many more there are."""
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(problems[:limit]) + more


def _rows_and_sources_by_class(split: FewShotSplit, source_disjoint: bool) -> tuple[list, list]:
    """Returns, for every class, the indices of its rows and the numbers of their sources."""
    if source_disjoint:
        source_numbers = pd.factorize(np.asarray(split.source_ids, dtype=object))[0].astype(np.int64)
    else:
        source_numbers = np.arange(len(split), dtype=np.int64)
    by_class = np.argsort(split.labels, kind="stable")
    ends = np.cumsum(np.bincount(split.labels, minlength=len(split.class_names)))
    rows = np.split(by_class, ends[:-1])
    return rows, [source_numbers[own] for own in rows]
