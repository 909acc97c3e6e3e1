"""What a meta-batch does not keep of its episodes: where each of them comes from, and what its classes are called."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .collator import group_names


@dataclass(frozen=True)
class TaskFacts:
    """
    Args:
        group: of the meta-batch, see `collate_episodes`.
        data_set: name of the data set; that of the modality where an episode does not say.
        split: which split of it the classes are from, such as `"test"`; `None` where the data set does not say.
        episode: number of the episode in its data set of episodes; `None` where it does not say.
        class_names: what the labels 0, 1 and so on stand for; empty where the labels are no classes.
    """

    group: str
    data_set: str
    split: str | None = None
    episode: int | None = None
    class_names: tuple[str, ...] = ()


@dataclass
class FactsCollator:
    """
    What `collate` makes of episodes, and under `"tasks"` the [`TaskFacts`] of each of them, in their order.

    Args:
        collate: makes a meta-batch.
        splits: modality and name of a data set -> its split and the names of all its classes, see [`named_splits`].
        read_once: modality -> its splits, whose rows are numbered through: in the meta-batch these numbers take the
            place of the raw inputs.
    """

    collate: Callable[[list[dict]], dict]
    splits: dict[tuple[str, str], tuple[str, tuple[str, ...]]]
    read_once: dict[str, list] = field(default_factory=dict)

    def __call__(self, episodes: list[dict]) -> dict:
        numbered = [
            self._numbered(episode) if episode["modality"] in self.read_once else episode for episode in episodes
        ]
        facts = map(self._facts, group_names(numbered), numbered)
        return {**self.collate(numbered), "tasks": list(facts)}

    def _numbered(self, episode: dict) -> dict:
        first = 0
        for split in self.read_once[episode["modality"]]:
            if split.name == episode["data_set"]:
                break
            first += len(split)
        return {**episode, "support": first + episode["support_ids"], "query": first + episode["query_ids"]}

    def _facts(self, group: str, episode: dict) -> TaskFacts:
        data_set = episode.get("data_set", episode["modality"])
        split, all_names = self.splits.get((episode["modality"], data_set), (None, ()))
        names = class_names(episode, all_names)
        return TaskFacts(group, data_set, split, episode.get("index"), names)


def class_names(episode: dict, all_names: tuple[str, ...]) -> tuple[str, ...]:
    """
    The names of the classes that an episode has, in the order of its labels.

    A class that is mixed of two has both names; without `all_names`, the names of all classes of the split, a class is
    called by the number that the episode gives for it, or by its label.
    """
    labels: Tensor = episode["support_labels"]
    if labels.is_floating_point():
        return ()
    numbers = range(int(labels.max()) + 1)
    ids = episode["class_ids"].tolist() if "class_ids" in episode else list(numbers)

    def name(number: int) -> str:
        return all_names[number] if all_names else str(number)

    if "second_class_ids" in episode:
        pairs = zip(ids, episode["second_class_ids"].tolist(), strict=True)
        return tuple(f"{name(first)} with {name(second)}" for first, second in pairs)
    return tuple(name(ids[number]) for number in numbers)


def named_splits(dataset: Any) -> dict[tuple[str, str], tuple[str, tuple[str, ...]]]:
    """
    Modality and name of each data set that episodes are drawn from -> its split and the names of its classes; empty if
    the episodes do not say.
    """
    splits = getattr(dataset, "splits", ())
    return {(split.modality, split.name): (split.split, split.class_names) for split in splits}
