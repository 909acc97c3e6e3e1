"""The data sets that the benchmarks use, and how their episodes and classes are taken."""

import dataclasses
from collections.abc import Collection, Iterator

import numpy as np
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit, collate_episodes

DATA_SETS = {"audio": "esc50", "text": "brown", "image": "cifar100"}
MODALITIES = tuple(DATA_SETS)
N_QUERY = {"audio": 3, "text": 15, "image": 15}


def batches(episodes: EpisodeDataset, size: int) -> Iterator[dict[str, dict[str, Tensor]]]:
    """All episodes in their order, as meta-batches of at most `size` tasks."""
    for start in range(0, len(episodes), size):
        drawn = [episodes[index] for index in range(start, min(start + size, len(episodes)))]
        yield collate_episodes(drawn)["episodes"]


def of_classes(split: FewShotSplit, names: Collection[str]) -> FewShotSplit:
    """The rows of some classes of a split."""
    kept = [number for number, name in enumerate(split.class_names) if name in names]
    rows = np.flatnonzero(np.isin(split.labels, kept))
    return dataclasses.replace(
        split,
        class_names=tuple(split.class_names[number] for number in kept),
        labels=np.searchsorted(kept, split.labels[rows]),
        source_ids=split.source_ids[rows],
        _row_numbers=split._row_numbers[rows],
    )
