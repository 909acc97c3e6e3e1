"""Few-shot data: the builders of data sets, the protocols that split them, and the episodes drawn from the splits.

Data flow in one direction: an archive is built once into memory-mapped Arrow files, a protocol selects the rows of a
split, episodes are drawn from the split, and episodes are collated into a meta-batch. The package exports the names
below; each of them is imported only when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeling_msmaml.training.collator import collate_episodes

    from .episodes.episode_dataset import EpisodeDataset
    from .episodes.task_augmentation import add_new_classes
    from .load import load_few_shot, register_data_set
    from .storage.few_shot_split import FewShotSplit

_PLACES = {
    "EpisodeDataset": "data_builders.episodes.episode_dataset",
    "FewShotSplit": "data_builders.storage.few_shot_split",
    "add_new_classes": "data_builders.episodes.task_augmentation",
    "collate_episodes": "modeling_msmaml.training.collator",
    "load_few_shot": "data_builders.load",
    "register_data_set": "data_builders.load",
}

__all__ = [
    "EpisodeDataset",
    "FewShotSplit",
    "add_new_classes",
    "collate_episodes",
    "load_few_shot",
    "register_data_set",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
