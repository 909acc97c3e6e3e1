"""`EpisodeDataset`, a map-style PyTorch data set of episodes drawn from one or more splits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from modeling_msmaml.model.options import any_seed, at_least, checked

from ..storage.few_shot_split import FewShotSplit
from ..storage.padded_rows import check_alike, of_one_length
from .augmentation import augment, check_names
from .episode_order import EpisodeOrder, checked_weights
from .episode_sampler import EpisodeRows, EpisodeSampler
from .episode_shape import ShapeRange, shape_ranges
from .random_bits import RandomBits
from .reserved_names import check_data_set_name
from .task_augmentation import mix

_STEPS = 10_000  # number of values that a random fraction can take


class EpisodeDataset(torch.utils.data.Dataset):
    """N-way K-shot episodes. Episode i is a pure function of `(seed, i)`.

    An episode depends neither on the worker or process that draws it, nor on the order of access, nor on a resume. The
    splits take turns: episode i comes from `splits[i % len(splits)]`; with `weights`, each split has its share.

    Args:
        splits: any number of splits of each modality. Those of one modality have the same row shape, except that
            shorter rows of token ids are padded, and the same vocabulary. None has the name of a modality.
        n_way: number of classes per episode, at least 2. Like `k_shot`, it is an integer, a range `[low, high]` from
            which each episode draws its own (both ends included), or a dictionary of these by modality or by name of
            the data set, which has an entry for each of `splits`.
        k_shot: number of support samples per class, at least 1.
        n_query: number of query samples per class, at least 1: an integer, or a dictionary of them.
        num_episodes: number of episodes in the data set, at least 1.
        seed: non-negative seed; different seeds give different episodes.
        source_disjoint: whether support and query of an episode come from different recordings or documents. It has no
            effect under the protocol `original` (see `EpisodeSampler`), whose splits carry a warning that says so.
        augment: whether every row is changed at random, for training; or names of changes (see `augmentation.augment`).
        mix_classes: fraction, from 0 to 1, of the episodes in which every class is mixed from two classes (see
            `task_augmentation.mix`), for training; or a dictionary `{modality: fraction}`, in which modalities without
            an entry are not mixed. It needs 2 * n_way classes.
        shots: how support samples are distributed over the classes of an episode, `"equal"`, `"unequal"` or
            `"meta_dataset"` (see `ShapeRange`).
        weights: how often each data set is drawn, by its name; see `EpisodeOrder` and `default_weights`.
        num_unlabelled: number of samples per class that an episode has besides, without labels, for semi-supervised
            learning (Ren et al. 2018, arXiv 1803.00676). None of them is a sample or from a source of the query set.
        num_distractors: number of further classes of which an episode has unlabelled samples only, as many as of its
            own classes.

    Raises:
        ValueError: an argument is out of range, a dictionary lacks an entry, `mix_classes` is used with an evaluation
            split, a data set has the name of a modality, arguments exclude each other, or the data cannot fill an
            episode. In the last case the message names the class, its number of samples and the nearest feasible
            setting.

    Warns:
        UserWarning: a class is left out because it cannot fill an episode (see `EpisodeSampler`).
    """

    def __init__(
        self,
        splits: Sequence[FewShotSplit],
        n_way: int | Sequence[int] | Mapping[str, Any],
        k_shot: int | Sequence[int] | Mapping[str, Any],
        n_query: int | Mapping[str, int],
        num_episodes: int,
        seed: int = 0,
        source_disjoint: bool = True,
        augment: bool | Sequence[str] = False,
        mix_classes: float | Mapping[str, float] = 0.0,
        shots: str = "equal",
        weights: Mapping[str, float] | None = None,
        num_unlabelled: int = 0,
        num_distractors: int = 0,
    ):
        self.splits = _checked_splits(splits)
        self.shapes = shape_ranges([(split.name, split.modality) for split in splits], n_way, k_shot, n_query, shots)
        self.num_episodes = int(checked("num_episodes", num_episodes, at_least(1)))
        self.seed = int(checked("seed", seed, any_seed))
        self.source_disjoint = source_disjoint
        self.augment = augment
        self._changes = (("basic",) if augment else ()) if isinstance(augment, bool) else tuple(augment)
        if not isinstance(augment, bool):
            check_names(self._changes, [split.modality for split in self.splits])
        self.mix_classes = _shares(mix_classes, self.splits)
        self.num_unlabelled = int(checked("num_unlabelled", num_unlabelled, at_least(0)))
        self.num_distractors = int(checked("num_distractors", num_distractors, at_least(0)))
        self._check_combinations(shots)
        self._weights = checked_weights(weights, self.splits)
        self._order = EpisodeOrder(len(self.splits), self._weights, self.seed)
        self._samplers = [self._sampler(split, shape) for split, shape in zip(self.splits, self.shapes, strict=True)]
        self._pair_samplers = {
            which: self._pair_sampler(split, self.shapes[which])
            for which, split in enumerate(self.splits)
            if self.mix_classes[split.modality]
        }

    def _check_combinations(self, shots: str) -> None:
        """Refuses arguments of which one would have no effect or make no sense beside another."""
        if self.num_distractors and not self.num_unlabelled:
            raise ValueError(f"num_distractors={self.num_distractors} has no effect without num_unlabelled")
        if self.num_unlabelled and any(self.mix_classes.values()):
            raise ValueError(
                f"mix_classes={self.mix_classes} and num_unlabelled={self.num_unlabelled} exclude each other"
            )
        if shots != "equal" and any(self.mix_classes.values()):
            raise ValueError(f"mix_classes={self.mix_classes} mixes classes of equal size: it needs shots='equal'")
        if shots == "meta_dataset" and self.num_unlabelled:
            raise ValueError(
                f"num_unlabelled={self.num_unlabelled} is a number per class, but shots='meta_dataset' follows the "
                "sizes of the classes: choose shots='equal' or 'unequal'"
            )

    def _sampler(self, split: FewShotSplit, shape: ShapeRange, times: int = 1) -> EpisodeSampler:
        """Returns a sampler of `times` n_way classes and the distractors, with the unlabelled samples."""
        low, high = (times * number + self.num_distractors for number in shape.n_way)
        least, most = (number + self.num_unlabelled for number in shape.k_shot)
        return EpisodeSampler(split, (low, high), (least, most), shape.n_query, self.source_disjoint, shape.shots)

    def _pair_sampler(self, split: FewShotSplit, shape: ShapeRange) -> EpisodeSampler:
        """Returns a sampler of episodes with twice as many classes, without repeating the warnings of the first."""
        if shape.n_way[0] != shape.n_way[1]:
            raise ValueError(f"mix_classes={self.mix_classes} needs one n_way, not the range {list(shape.n_way)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                return self._sampler(split, shape, times=2)
            except ValueError as error:
                raise ValueError(
                    f"mix_classes draws twice n_way[{split.modality}]={shape.n_way[0]} classes: {error}"
                ) from error

    def __len__(self) -> int:
        return self.num_episodes

    def __repr__(self) -> str:
        parts = "".join(
            f"\n  {_counts(shape.n_way)} classes, with {_counts(shape.k_shot)} support and {shape.n_query} query "
            f"samples each, of {split!r}"
            for split, shape in zip(self.splits, self.shapes, strict=True)
        )
        return f"EpisodeDataset({self.num_episodes} episodes, seed {self.seed}:{parts})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the episode with this index.

        Returns:
            A dictionary with the following entries, for an episode of N classes with S support, Q query and U
            unlabelled samples. With mixed classes, the ids are those of the first class of each pair, and
            `second_class_ids`, `second_support_ids` and `second_query_ids` are those of the second.

            - `modality`, `data_set`: strings, the modality and the name of the data set;
            - `index`: the index, from 0 to num_episodes - 1;
            - `support` (S, ...) and `query` (Q, ...): raw rows, ordered by label;
            - `support_labels`, `query_labels`: int64 labels from 0 to N - 1;
            - `class_ids` (N,): int64, the class of the split that each label stands for;
            - `support_ids`, `query_ids`: int64, indices of the rows in the split;
            - `unlabelled` (U, ...) and `unlabelled_ids`, with `num_unlabelled` only: raw rows in random order.

        Raises:
            IndexError: the index is not in the range -num_episodes to num_episodes - 1.
        """
        if not -self.num_episodes <= index < self.num_episodes:
            raise IndexError(f"index={index} does not fit a data set of {self.num_episodes} episodes")
        index = int(index) % self.num_episodes
        which = self._order(index)
        split, bits = self.splits[which], RandomBits(self.seed, index)
        share = self.mix_classes[split.modality]
        is_mixed = share > 0 and bits.below(_STEPS) < share * _STEPS
        drawn = (self._pair_samplers if is_mixed else self._samplers)[which].draw(bits)
        n_way = (len(drawn.class_ids) - self.num_distractors) // (2 if is_mixed else 1)
        unlabelled = None
        if self.num_unlabelled:
            unlabelled = self._without_labels(drawn, bits)
            drawn = drawn._replace(support=[rows[: -self.num_unlabelled] for rows in drawn.support])
        first = drawn.of(slice(n_way)) if len(drawn.class_ids) > n_way else drawn
        ids = _ids(first)
        raw = self._raw(split, ids, unlabelled)
        more = {}
        if is_mixed:
            second = _ids(drawn.of(slice(n_way, 2 * n_way)))
            raw = mix(raw, self._raw(split, second), split.modality)
            more = {f"second_{name}": torch.from_numpy(numbers) for name, numbers in second.items()}
        if self._changes:
            raw = augment(split.modality, raw, bits, self._changes)
        if unlabelled is not None:
            more |= {"unlabelled": raw[-len(unlabelled) :], "unlabelled_ids": torch.from_numpy(unlabelled)}
        labels = _labels(tuple(map(len, first.support)), len(first.query[0]))
        n_support, n_query = map(len, labels)
        return {
            "modality": split.modality,
            "data_set": split.name,
            "index": index,
            "support": raw[:n_support],
            "support_labels": labels[0].clone(),
            "query": raw[n_support : n_support + n_query],
            "query_labels": labels[1].clone(),
            **{name: torch.from_numpy(numbers) for name, numbers in ids.items()},
            **more,
        }

    def _without_labels(self, drawn: EpisodeRows, bits: RandomBits) -> np.ndarray:
        """Returns the rows that are to have no label, in random order."""
        rows = np.concatenate([own[-self.num_unlabelled :] for own in drawn.support])
        return rows[bits.permutation(len(rows))]

    def splits_read_again(self) -> dict[str, list[FewShotSplit]]:
        """Maps modalities to their splits, if the episodes contain rows of them unchanged and on average repeatedly."""
        if self._changes or self.num_unlabelled:
            return {}
        found: dict[str, list[FewShotSplit]] = {}
        samples: dict[str, int] = {}
        for split, shape, episodes in zip(self.splits, self.shapes, self._order.counts(self.num_episodes), strict=True):
            found.setdefault(split.modality, []).append(split)
            size = shape.n_way[0] * (shape.k_shot[0] + shape.n_query)
            samples[split.modality] = samples.get(split.modality, 0) + size * episodes
        return {
            modality: splits
            for modality, splits in found.items()
            if samples[modality] > sum(map(len, splits)) and not self.mix_classes[modality]
        }

    def description(self) -> dict[str, Any]:
        """Returns what decides the episodes, as JSON holds it, so that a resumed run can tell whether it is the same.

        The number of episodes is no part of it, since a run may be prolonged.

        Returns:
            `data_sets`, a list with a dictionary for each split in their order (`name`, `modality`, `split`,
            `protocol`, `rows`, `classes`, `n_way`, `k_shot`, `n_query`, `shots` and `weight`), and `seed`,
            `source_disjoint`, `augment`, `mix_classes`, `num_unlabelled` and `num_distractors`.
        """
        weights = self._weights or [None] * len(self.splits)
        return {
            "data_sets": [
                {
                    **{name: getattr(split, name) for name in ("name", "modality", "split", "protocol")},
                    "rows": len(split),
                    "classes": len(split.class_names),
                    "n_way": list(shape.n_way),
                    "k_shot": list(shape.k_shot),
                    "n_query": shape.n_query,
                    "shots": shape.shots,
                    "weight": weight,
                }
                for split, shape, weight in zip(self.splits, self.shapes, weights, strict=True)
            ],
            "seed": self.seed,
            "source_disjoint": bool(self.source_disjoint),
            "augment": list(self._changes),
            "mix_classes": self.mix_classes,
            "num_unlabelled": self.num_unlabelled,
            "num_distractors": self.num_distractors,
        }

    @staticmethod
    def _raw(split: FewShotSplit, ids: dict[str, np.ndarray], more: np.ndarray | None = None) -> torch.Tensor:
        """The raw rows of the support set, of the query set, and more rows after them."""
        numbers = [ids["support_ids"], ids["query_ids"], *([] if more is None else [more])]
        return torch.from_numpy(split.rows(np.concatenate(numbers)))


def _ids(rows: EpisodeRows) -> dict[str, np.ndarray]:
    """Returns the classes and rows that were drawn, under the names that they have in an episode."""
    support, query = np.concatenate(rows.support), np.concatenate(rows.query)
    return {"class_ids": rows.class_ids, "support_ids": support, "query_ids": query}


@lru_cache(maxsize=256)
def _labels(shots: tuple[int, ...], n_query: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the labels of the support and query samples, which are ordered by label."""
    labels = torch.arange(len(shots))
    return labels.repeat_interleave(torch.tensor(shots)), labels.repeat_interleave(n_query)


def _checked_splits(splits: Sequence[FewShotSplit]) -> list[FewShotSplit]:
    if isinstance(splits, FewShotSplit) or not all(isinstance(split, FewShotSplit) for split in splits):
        raise ValueError(f"splits={splits!r} must be a list of FewShotSplit, which load_few_shot returns")
    if not splits:
        raise ValueError("splits is empty; at least one FewShotSplit is needed")
    splits = of_one_length(splits)
    names = [(split.modality, split.name) for split in splits]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"several {repeated[0]} splits have the name {repeated[1]!r}, by which results are told apart: give each "
            "its own, for instance with dataclasses.replace(split, name=...)"
        )
    for split in splits:
        check_data_set_name("name", split.name, *(modality for modality, _ in names))
    check_alike(splits)
    return splits


def _shares(value: float | Mapping[str, float], splits: Sequence[FewShotSplit]) -> dict[str, float]:
    """Returns the fraction of mixed episodes for each modality, after checking `mix_classes`."""
    modalities = [split.modality for split in splits]
    given = value if isinstance(value, Mapping) else dict.fromkeys(modalities, value)
    if unknown := sorted(given.keys() - set(modalities)):
        raise ValueError(
            f"mix_classes={value} is for {', '.join(unknown)}, but the episodes are of {', '.join(modalities)}"
        )
    for share in given.values():
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"mix_classes={value} must be a share from 0 to 1, or {{modality: share}}")
    for split in splits:
        if given.get(split.modality) and split.split != "train":
            raise ValueError(f"mix_classes={value} is for training, but this is {split!r}: leave it out")
    return {modality: float(given.get(modality, 0)) for modality in modalities}


def _counts(ends: tuple[int, int]) -> str:
    low, high = ends
    return f"{low}" if low == high else f"{low} to {high}"
