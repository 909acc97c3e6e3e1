"""Few-shot data: the builders of data sets, the protocols that split them, and the episodes drawn from the splits.

Data flow in one direction: an archive is built once into memory-mapped Arrow files, a protocol selects the rows of a
split, episodes are drawn from the split, and episodes are collated into a meta-batch. The package exports the names
below; each of them is imported only when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeling_msmaml.hub.model_card import DataSetFacts
    from modeling_msmaml.training.collator import collate_episodes

    from .audit import audit_episodes, check_class_disjoint, shared_with_test
    from .episodes.encoded import encode_episodes, encode_split
    from .episodes.episode_dataset import EpisodeDataset
    from .episodes.episode_order import default_weights
    from .episodes.episode_sampler import EpisodeSampler
    from .episodes.level_encoder import RowEncoder, weights_fingerprint
    from .episodes.task_augmentation import NEW_CLASSES, add_new_classes, plain_rows
    from .load import load_few_shot, register_data_set, shared_vocabulary, training_texts
    from .splits.protocols import PROTOCOLS, NoSuchSplit, read_protocols
    from .storage.archives import Official
    from .storage.builder import ArchiveBuilder, FewShotBuilder, row_features
    from .storage.few_shot_split import FewShotSplit, split_of_builder
    from .storage.padded_rows import check_alike, of_one_length

_PLACES = {
    "ArchiveBuilder": "data_builders.storage.builder",
    "DataSetFacts": "modeling_msmaml.hub.model_card",
    "EpisodeDataset": "data_builders.episodes.episode_dataset",
    "EpisodeSampler": "data_builders.episodes.episode_sampler",
    "FewShotBuilder": "data_builders.storage.builder",
    "FewShotSplit": "data_builders.storage.few_shot_split",
    "NEW_CLASSES": "data_builders.episodes.task_augmentation",
    "NoSuchSplit": "data_builders.splits.protocols",
    "Official": "data_builders.storage.archives",
    "PROTOCOLS": "data_builders.splits.protocols",
    "RowEncoder": "data_builders.episodes.level_encoder",
    "add_new_classes": "data_builders.episodes.task_augmentation",
    "audit_episodes": "data_builders.audit",
    "check_alike": "data_builders.storage.padded_rows",
    "check_class_disjoint": "data_builders.audit",
    "collate_episodes": "modeling_msmaml.training.collator",
    "default_weights": "data_builders.episodes.episode_order",
    "encode_episodes": "data_builders.episodes.encoded",
    "encode_split": "data_builders.episodes.encoded",
    "load_few_shot": "data_builders.load",
    "of_one_length": "data_builders.storage.padded_rows",
    "plain_rows": "data_builders.episodes.task_augmentation",
    "read_protocols": "data_builders.splits.protocols",
    "register_data_set": "data_builders.load",
    "row_features": "data_builders.storage.builder",
    "shared_vocabulary": "data_builders.load",
    "shared_with_test": "data_builders.audit",
    "split_of_builder": "data_builders.storage.few_shot_split",
    "training_texts": "data_builders.load",
    "weights_fingerprint": "data_builders.episodes.level_encoder",
}

__all__ = [
    "ArchiveBuilder",
    "DataSetFacts",
    "EpisodeDataset",
    "EpisodeSampler",
    "FewShotBuilder",
    "FewShotSplit",
    "NEW_CLASSES",
    "NoSuchSplit",
    "Official",
    "PROTOCOLS",
    "RowEncoder",
    "add_new_classes",
    "audit_episodes",
    "check_alike",
    "check_class_disjoint",
    "collate_episodes",
    "default_weights",
    "encode_episodes",
    "encode_split",
    "load_few_shot",
    "of_one_length",
    "plain_rows",
    "read_protocols",
    "register_data_set",
    "row_features",
    "shared_vocabulary",
    "shared_with_test",
    "split_of_builder",
    "training_texts",
    "weights_fingerprint",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        from modeling_msmaml.extras import with_extra

        raise with_extra(error) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
