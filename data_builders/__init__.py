"""Few-shot data: builders, protocols and episodes.

Data go one way: archive -> builder (once, Arrow, memory-mapped) -> split of a protocol -> episode -> meta-batch.
"""

from .episodes import EpisodeDataset, collate_episodes
from .few_shot import FewShotSplit, load_few_shot
from .new_classes import add_new_classes

__all__ = ["EpisodeDataset", "FewShotSplit", "add_new_classes", "collate_episodes", "load_few_shot"]
