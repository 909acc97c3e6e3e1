"""Episodes -> a meta-batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.meta_batch import group_name

_MODEL_KEYS = ("support", "support_labels", "query", "query_labels")


class Episodes(dict):
    """The groups of a meta-batch; a dict that any trainer of transformers takes as a model's main input."""

    def numel(self) -> int:
        """0: `Trainer` counts 6 x inputs x parameters operations, which does not hold for an inner loop."""
        return 0


def collate_episodes(
    episodes: Sequence[dict], class_ids: bool = False, n_way: bool = False
) -> dict[str, dict[str, dict[str, Tensor | int]]]:
    """Groups episodes into one meta-batch, as `MSMAMLModel.forward` takes it.

    Episodes of one modality are in one group if they have the same shape: as many classes, support and query samples.
    The group of the first shape is named after its modality, and the others `"image#1"`, `"image#2"` and so on.

    Args:
        episodes: items of an `EpisodeDataset`; at least one.
        class_ids: whether to keep which classes the labels stand for, as `"class_ids"` (T, N); a model with
            `auxiliary_classes` needs it.
        n_way: whether to say how many classes the episodes of a group have, as `"n_way"`, an integer. Otherwise a
            model with prototypes must read it off the labels, for which an accelerator has to finish what it is doing.

    Returns:
        `{"episodes": {group: {"support" (T, S, ...), "support_labels" (T, S), "query" (T, Q, ...),
        "query_labels" (T, Q)}}}`, with what is asked for beside these, and `"unlabelled"` (T, U, ...) if the episodes
        have it. The groups are in order of first appearance, and integer types are kept.

    Raises:
        ValueError: there are no episodes, or samples of one modality differ in shape.
    """
    if not episodes:
        raise ValueError("collate_episodes got no episodes")
    keys = (*_MODEL_KEYS, "class_ids") if class_ids else _MODEL_KEYS
    batches: dict[str, dict[str, Tensor | int]] = {}
    for name, group in grouped(episodes).items():
        present = (*keys, "unlabelled") if "unlabelled" in group[0] else keys
        stacked = {key: torch.stack([episode[key] for episode in group]) for key in present}
        number = {"n_way": _n_way(group[0])} if n_way else {}
        batches[name] = {**stacked, **number}
    return {"episodes": Episodes(batches)}


def group_names(episodes: Sequence[dict]) -> list[str]:
    """
    The group of each episode of a meta-batch; see `collate_episodes`.

    Raises:
        ValueError: samples of one modality differ in shape.
    """
    names, found, sample_shapes = [], {}, {}
    for episode in episodes:
        modality = episode["modality"]
        sample = tuple(episode["support"].shape[1:])
        if sample_shapes.setdefault(modality, sample) != sample:
            raise ValueError(
                f"samples of modality {modality!r} differ in shape: {sorted({sample, sample_shapes[modality]})}; "
                "prepare its data sets alike"
            )
        tensors = {name: tuple(value.shape) for name, value in episode.items() if name in (*_MODEL_KEYS, "unlabelled")}
        shapes = found.setdefault(modality, {})
        number = shapes.setdefault((_n_way(episode), *sorted(tensors.items())), len(shapes))
        names.append(group_name(modality, number))
    return names


def grouped(episodes: Sequence[dict]) -> dict[str, list[dict]]:
    """The episodes of each group, in their order."""
    groups: dict[str, list[dict]] = {}
    for name, episode in zip(group_names(episodes), episodes, strict=True):
        groups.setdefault(name, []).append(episode)
    return groups


def _n_way(episode: dict) -> int:
    labels = episode["support_labels"]  # classes, or numbers (samples, outputs)
    return labels.shape[-1] if labels.is_floating_point() else int(labels.max()) + 1
