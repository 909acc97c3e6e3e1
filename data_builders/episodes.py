"""Episodes as a map-style data set, and meta-batches made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from .augmentation import augment
from .episode_sampler import EpisodeSampler
from .few_shot import FewShotSplit
from .source_partition import RandomBits

_MODEL_KEYS = ("support", "support_labels", "query", "query_labels")


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

        augment: change every row at random (see `augmentation.py`); for training.

    Raises:
        ValueError: an argument out of range, a modality missing from `n_query`, or a setting that the data cannot
            fill; the message names the class, its count and the nearest feasible setting.
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
        augment: bool = False,
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

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> dict[str, str | torch.Tensor]:
        """Episode number `index`.

        Returns:
            `modality`; `support` (n_way * k_shot, ...) and `query` (n_way * n_query, ...) raw integers, ordered by
            label; `support_labels`, `query_labels` int64 in 0..n_way-1; `class_ids` int64 (n_way,), the split's class
            behind each label; `support_ids`, `query_ids` int64, row numbers in the split.

        Raises:
            IndexError: `index` is not in -num_episodes..num_episodes-1.
        """
        if not -self.num_episodes <= index < self.num_episodes:
            raise IndexError(f"episode {index} of {self.num_episodes}")
        index = int(index) % self.num_episodes
        which = index % len(self.splits)
        split, sampler = self.splits[which], self._samplers[which]
        bits = RandomBits(self.seed, index)
        episode = sampler.draw(bits)
        support_ids, query_ids = episode.support.reshape(-1), episode.query.reshape(-1)
        raw = torch.from_numpy(split.rows(np.concatenate([support_ids, query_ids])))
        if self.augment:
            raw = augment(split.modality, raw, bits)
        labels = torch.arange(sampler.n_way)
        return {
            "modality": split.modality,
            "support": raw[: len(support_ids)],
            "support_labels": labels.repeat_interleave(sampler.k_shot),
            "query": raw[len(support_ids) :],
            "query_labels": labels.repeat_interleave(sampler.n_query),
            "class_ids": torch.from_numpy(episode.class_ids),
            "support_ids": torch.from_numpy(support_ids),
            "query_ids": torch.from_numpy(query_ids),
        }


def collate_episodes(
    episodes: Sequence[dict], class_ids: bool = False
) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """Groups episodes by modality into one meta-batch, as `MSMAMLModel.forward` takes it.

    Args:
        episodes: items of an `EpisodeDataset`; at least one.
        class_ids: also keep which classes the labels stand for, `"class_ids"` (T, N); a model with
            `auxiliary_classes` needs it.

    Returns:
        `{"episodes": {modality: {"support" (T, S, ...), "support_labels" (T, S), "query" (T, Q, ...),
        "query_labels" (T, Q)}}}`; modalities in order of first appearance, integer types kept.

    Raises:
        ValueError: no episodes, or episodes of one modality that differ in shape.
    """
    if not episodes:
        raise ValueError("collate_episodes got no episodes")
    keys = (*_MODEL_KEYS, "class_ids") if class_ids else _MODEL_KEYS
    by_modality: dict[str, list[dict]] = {}
    for episode in episodes:
        by_modality.setdefault(episode["modality"], []).append(episode)
    return {
        "episodes": {
            modality: {key: _stacked([episode[key] for episode in group], modality, key) for key in keys}
            for modality, group in by_modality.items()
        }
    }


def _stacked(tensors: list[torch.Tensor], modality: str, key: str) -> torch.Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(f"episodes of modality {modality!r} differ in the shape of {key!r}: {sorted(shapes)}")
    return torch.stack(tensors)


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


def _at_least(name: str, value: int, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ValueError(f"{name}={value!r} is not possible; it must be an integer of at least {minimum}")
    return int(value)
