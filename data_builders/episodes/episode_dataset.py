"""`EpisodeDataset`, a map-style PyTorch data set of episodes drawn from one or more splits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from modeling_msmaml.model.options import at_least, checked

from ..storage.few_shot_split import FewShotSplit
from .augmentation import augment, check_names
from .episode_sampler import EpisodeRows, EpisodeSampler
from .random_bits import RandomBits
from .task_augmentation import mix

_STEPS = 10_000  # number of values that a random fraction can take


class EpisodeDataset(torch.utils.data.Dataset):
    """N-way K-shot episodes. Episode i is a pure function of `(seed, i)`.

    An episode depends neither on the worker or process that draws it, nor on the order of access, nor on a resume. The
    splits take turns: episode i comes from `splits[i % len(splits)]`.

    Args:
        splits: one split per modality, or several splits of a modality if they have the same row shape and vocabulary.
        n_way: number of classes per episode, at least 2. Like `k_shot` and `n_query`, it is an int, or a dictionary
            `{modality: int}` with an entry for every modality of `splits`.
        k_shot: number of support samples per class, at least 1.
        n_query: number of query samples per class, at least 1.
        num_episodes: number of episodes in the data set, at least 1.
        seed: non-negative seed; different seeds give different episodes.
        source_disjoint: whether support and query of an episode come from different recordings or documents. It has no
            effect under the protocol `original` (see `EpisodeSampler`), whose splits carry a warning that says so.
        augment: whether every row is changed at random, for training; or names of changes (see `augmentation.augment`).
        mix_classes: fraction, from 0 to 1, of the episodes in which every class is mixed from two classes (see
            `task_augmentation.mix`), for training; or a dictionary `{modality: fraction}`, in which modalities without
            an entry are not mixed. It needs 2 * n_way classes.

    Raises:
        ValueError: an argument is out of range, a dictionary has no entry for a modality, `mix_classes` is used with an
            evaluation split, or the data cannot fill an episode. In the last case the message names the class, its
            number of samples and the nearest feasible setting.

    Warns:
        UserWarning: a class is left out because it cannot fill an episode (see `EpisodeSampler`).
    """

    def __init__(
        self,
        splits: Sequence[FewShotSplit],
        n_way: int | Mapping[str, int],
        k_shot: int | Mapping[str, int],
        n_query: int | Mapping[str, int],
        num_episodes: int,
        seed: int = 0,
        source_disjoint: bool = True,
        augment: bool | Sequence[str] = False,
        mix_classes: float | Mapping[str, float] = 0.0,
    ):
        self.splits = _checked_splits(splits)
        modalities = [split.modality for split in self.splits]
        self.n_way = _by_modality("n_way", n_way, modalities, 2)
        self.k_shot = _by_modality("k_shot", k_shot, modalities, 1)
        self.n_query = _by_modality("n_query", n_query, modalities, 1)
        self.num_episodes = int(checked("num_episodes", num_episodes, at_least(1)))
        self.seed = int(checked("seed", seed, at_least(0)))
        self.source_disjoint = source_disjoint
        self.augment = augment
        self._changes = (("basic",) if augment else ()) if isinstance(augment, bool) else tuple(augment)
        if not isinstance(augment, bool):
            check_names(self._changes, modalities)
        self.mix_classes = _shares(mix_classes, self.splits)
        self._samplers = [
            EpisodeSampler(
                split,
                self.n_way[split.modality],
                self.k_shot[split.modality],
                self.n_query[split.modality],
                source_disjoint,
            )
            for split in self.splits
        ]
        self._pair_samplers = {
            which: self._pair_sampler(split)
            for which, split in enumerate(self.splits)
            if self.mix_classes[split.modality]
        }

    def _pair_sampler(self, split: FewShotSplit) -> EpisodeSampler:
        """Returns a sampler of episodes with twice as many classes, without repeating the warnings of the first."""
        n_way, k_shot, n_query = (values[split.modality] for values in (self.n_way, self.k_shot, self.n_query))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                return EpisodeSampler(split, 2 * n_way, k_shot, n_query, self.source_disjoint)
            except ValueError as error:
                raise ValueError(f"mix_classes draws twice n_way[{split.modality}]={n_way} classes: {error}") from error

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the episode with this index.

        Returns:
            A dictionary with the following entries. With mixed classes, the ids are those of the first class of each
            pair, and `second_class_ids`, `second_support_ids` and `second_query_ids` are those of the second.

            - `modality`: a string;
            - `support` (n_way * k_shot, ...) and `query` (n_way * n_query, ...): raw rows, ordered by label;
            - `support_labels`, `query_labels`: int64 labels from 0 to n_way - 1;
            - `class_ids` (n_way,): int64, the class of the split that each label stands for;
            - `support_ids`, `query_ids`: int64, indices of the rows in the split.

        Raises:
            IndexError: the index is not in the range -num_episodes to num_episodes - 1.
        """
        if not -self.num_episodes <= index < self.num_episodes:
            raise IndexError(f"index={index} does not fit a data set of {self.num_episodes} episodes")
        index = int(index) % self.num_episodes
        which = index % len(self.splits)
        split, bits = self.splits[which], RandomBits(self.seed, index)
        share = self.mix_classes[split.modality]
        is_mixed = share > 0 and bits.below(_STEPS) < share * _STEPS
        drawn = (self._pair_samplers if is_mixed else self._samplers)[which].draw(bits)
        n_way, k_shot, n_query = (values[split.modality] for values in (self.n_way, self.k_shot, self.n_query))
        first, second = (EpisodeRows(*(ids[part] for ids in drawn)) for part in (slice(n_way), slice(n_way, None)))
        raw = self._raw(split, first)
        if is_mixed:
            raw = mix(raw, self._raw(split, second), split.modality)
        if self._changes:
            raw = augment(split.modality, raw, bits, self._changes)
        labels = torch.arange(n_way)
        return {
            "modality": split.modality,
            "support": raw[: n_way * k_shot],
            "support_labels": labels.repeat_interleave(k_shot),
            "query": raw[n_way * k_shot :],
            "query_labels": labels.repeat_interleave(n_query),
            **_provenance(first),
            **(_provenance(second, "second_") if is_mixed else {}),
        }

    def splits_read_again(self) -> dict[str, FewShotSplit]:
        """Maps modalities to splits whose rows the episodes contain unchanged and, on average, more than once each."""
        if self._changes:
            return {}
        found = {}
        for split in self.splits:
            n_way, k_shot, n_query = (values[split.modality] for values in (self.n_way, self.k_shot, self.n_query))
            samples = n_way * (k_shot + n_query) * (self.num_episodes // len(self.splits))
            if samples > len(split) and not self.mix_classes[split.modality]:
                found[split.modality] = split
        return found

    @staticmethod
    def _raw(split: FewShotSplit, rows: EpisodeRows) -> torch.Tensor:
        return torch.from_numpy(split.rows(np.concatenate([rows.support.reshape(-1), rows.query.reshape(-1)])))


def _provenance(rows: EpisodeRows, prefix: str = "") -> dict[str, torch.Tensor]:
    """Returns the ids of the classes and rows that were drawn, with a prefix to their names."""
    ids = {"class_ids": rows.class_ids, "support_ids": rows.support, "query_ids": rows.query}
    return {prefix + name: torch.from_numpy(numbers.reshape(-1)) for name, numbers in ids.items()}


def _checked_splits(splits: Sequence[FewShotSplit]) -> list[FewShotSplit]:
    if isinstance(splits, FewShotSplit) or not all(isinstance(split, FewShotSplit) for split in splits):
        raise ValueError(f"splits={splits!r} must be a list of FewShotSplit, which load_few_shot returns")
    if not splits:
        raise ValueError("splits is empty; at least one FewShotSplit is needed")
    first = {}
    for split in splits:
        other = first.setdefault(split.modality, split)
        if other.row_shape != split.row_shape:
            raise ValueError(
                f"splits of modality {split.modality!r} differ in row shape: {other.name} {other.row_shape}, "
                f"{split.name} {split.row_shape}; they cannot be in one meta-batch"
            )
        if other.tokenizer is not split.tokenizer and _vocabulary(other) != _vocabulary(split):
            raise ValueError(
                f"the text splits of {other.name} and {split.name} have different vocabularies, but must have the same"
            )
    return list(splits)


def _vocabulary(split: FewShotSplit) -> dict[str, int] | None:
    return None if split.tokenizer is None else split.tokenizer.get_vocab()


def _by_modality(name: str, value: int | Mapping[str, int], modalities: Sequence[str], minimum: int) -> dict[str, int]:
    values = value if isinstance(value, Mapping) else dict.fromkeys(modalities, value)
    missing = [modality for modality in dict.fromkeys(modalities) if modality not in values]
    if missing:
        raise ValueError(f"{name}={dict(values)} has no entry for modality {', '.join(missing)}")
    if not isinstance(value, Mapping):
        checked(name, value, at_least(minimum))
    return {
        modality: int(checked(f"{name}[{modality}]", values[modality], at_least(minimum))) for modality in modalities
    }


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
