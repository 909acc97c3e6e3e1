"""Episodes as a map-style data set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..storage.few_shot_split import FewShotSplit
from .augmentation import augment, check_names
from .episode_sampler import EpisodeRows, EpisodeSampler
from .random_bits import RandomBits
from .task_augmentation import mix

_STEPS = 10_000  # of a random fraction


class EpisodeDataset(torch.utils.data.Dataset):
    """N-way K-shot episodes; number i is a pure function of `(seed, i)`.

    Neither the worker, the process, the order of access nor a resume changes an episode. Modalities are interleaved
    evenly: episode i comes from `splits[i % len(splits)]`.

    Args:
        splits: one split a modality (or several of one modality with equal row shape and vocabulary).
        n_way: classes an episode, at least 2. Like `k_shot` and `n_query` an int, or `{modality: int}` naming every
            modality of `splits`.
        k_shot: support samples a class, at least 1.
        n_query: query samples a class, at least 1.
        num_episodes: length of the data set, at least 1.
        seed: non-negative; other seeds give other episodes.
        source_disjoint: keep support and query of an episode in different recordings or documents. Protocol `original`
            does not know this, see `EpisodeSampler`; its splits carry a warning that says so.
        augment: change every row at random: True, or names as `augmentation.augment` takes them; for training.
        mix_classes: share of the episodes in which every class is mixed of two (see `task_augmentation.py`), 0 to 1; or
            `{modality: share}`, without those that are not to be mixed. Needs 2 * n_way classes; for training.

    Raises:
        ValueError: an argument out of range, a modality missing from `n_query`, mixing in a split of evaluation, or a
            setting that the data cannot fill; the message names the class, its count and the nearest feasible setting.
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
        self.num_episodes = _at_least("num_episodes", num_episodes, 1)
        self.seed = _at_least("seed", seed, 0)
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
        self._pair_samplers = [
            self._pair_sampler(split) if self.mix_classes[split.modality] else None for split in self.splits
        ]

    def _pair_sampler(self, split: FewShotSplit) -> EpisodeSampler:
        """Of episodes with twice as many classes; what is left out was said already."""
        n_way, k_shot, n_query = (values[split.modality] for values in (self.n_way, self.k_shot, self.n_query))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                return EpisodeSampler(split, 2 * n_way, k_shot, n_query, self.source_disjoint)
            except ValueError as error:
                raise ValueError(f"mix_classes draws twice n_way[{split.modality}]={n_way} classes: {error}") from error

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> dict[str, str | torch.Tensor]:
        """Episode number `index`.

        Returns:
            `modality`; `support` (n_way * k_shot, ...) and `query` (n_way * n_query, ...) raw integers, ordered by
            label; `support_labels`, `query_labels` int64 in 0..n_way-1; `class_ids` int64 (n_way,), the split's class
            behind each label; `support_ids`, `query_ids` int64, row numbers in the split. Where the classes are mixed,
            these are of the first of two, and `second_class_ids`, `second_support_ids`, `second_query_ids` of the
            other.

        Raises:
            IndexError: `index` is not in -num_episodes..num_episodes-1.
        """
        if not -self.num_episodes <= index < self.num_episodes:
            raise IndexError(f"episode {index} of {self.num_episodes}")
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
        """Modality -> split, where these episodes hold each of its rows, unchanged, more than once on average."""
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
    """Which classes and rows of the split these are."""
    ids = {"class_ids": rows.class_ids, "support_ids": rows.support, "query_ids": rows.query}
    return {prefix + name: torch.from_numpy(numbers.reshape(-1)) for name, numbers in ids.items()}


def _checked_splits(splits: Sequence[FewShotSplit]) -> list[FewShotSplit]:
    if isinstance(splits, FewShotSplit) or not all(isinstance(split, FewShotSplit) for split in splits):
        raise ValueError("splits must be a list of FewShotSplit, as load_few_shot returns them")
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
        if other.tokenizer is not split.tokenizer and other.tokenizer.get_vocab() != split.tokenizer.get_vocab():
            raise ValueError(f"the text splits of {other.name} and {split.name} have different vocabularies")
    return list(splits)


def _by_modality(name: str, value: int | Mapping[str, int], modalities: Sequence[str], minimum: int) -> dict[str, int]:
    values = value if isinstance(value, Mapping) else dict.fromkeys(modalities, value)
    missing = [modality for modality in dict.fromkeys(modalities) if modality not in values]
    if missing:
        raise ValueError(f"{name}={dict(values)} has no entry for modality {', '.join(missing)}")
    if not isinstance(value, Mapping):
        _at_least(name, value, minimum)
    return {modality: _at_least(f"{name}[{modality}]", values[modality], minimum) for modality in modalities}


def _shares(value: float | Mapping[str, float], splits: Sequence[FewShotSplit]) -> dict[str, float]:
    """How many of each modality's episodes are mixed."""
    modalities = [split.modality for split in splits]
    given = value if isinstance(value, Mapping) else dict.fromkeys(modalities, value)
    if unknown := sorted(given.keys() - set(modalities)):
        raise ValueError(
            f"mix_classes={value} is for {', '.join(unknown)}, but the episodes are of {', '.join(modalities)}"
        )
    for share in given.values():
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"mix_classes={value} must be a share from 0 to 1, or one by modality")
    for split in splits:
        if given.get(split.modality) and split.split != "train":
            raise ValueError(f"mix_classes={value} is for training, but this is {split!r}")
    return {modality: float(given.get(modality, 0)) for modality in modalities}


def _at_least(name: str, value: int, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ValueError(f"{name}={value!r} is not possible; it must be an integer of at least {minimum}")
    return int(value)
