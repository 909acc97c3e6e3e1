"""Few-shot data: builders, protocols and episodes.

Data go one way: archive -> builder (once, Arrow, memory-mapped) -> split of a protocol -> episode -> meta-batch. The
names below are those that other packages use; each is imported when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .episodes.episode_dataset import EpisodeDataset, collate_episodes
    from .episodes.task_augmentation import add_new_classes
    from .load import load_few_shot, register_data_set
    from .storage.few_shot_split import FewShotSplit

_PLACES = {
    "EpisodeDataset": "episodes.episode_dataset",
    "FewShotSplit": "storage.few_shot_split",
    "add_new_classes": "episodes.task_augmentation",
    "collate_episodes": "episodes.episode_dataset",
    "load_few_shot": "load",
    "register_data_set": "load",
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
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
