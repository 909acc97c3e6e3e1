"""Few-shot data: builders, protocols and episodes.

Data go one way: archive -> builder (once, Arrow, memory-mapped) -> split of a protocol -> episode -> meta-batch.
"""

from .episodes import EpisodeDataset, collate_episodes
from .few_shot import FewShotSplit, load_few_shot

__all__ = ["EpisodeDataset", "FewShotSplit", "collate_episodes", "load_few_shot"]
