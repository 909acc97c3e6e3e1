"""Episodes -> a meta-batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

_MODEL_KEYS = ("support", "support_labels", "query", "query_labels")


def collate_episodes(
    episodes: Sequence[dict], class_ids: bool = False, n_way: bool = False
) -> dict[str, dict[str, dict[str, Tensor | int]]]:
    """Groups episodes by modality into one meta-batch, as `MSMAMLModel.forward` takes it.

    Args:
        episodes: items of an `EpisodeDataset`; at least one.
        class_ids: whether to keep which classes the labels stand for, as `"class_ids"` (T, N); a model with
            `auxiliary_classes` needs it.
        n_way: whether to say how many classes the episodes of a modality have, as `"n_way"`, an integer. Otherwise a
            model with prototypes must read it off the labels, for which an accelerator has to finish what it is doing.

    Returns:
        `{"episodes": {modality: {"support" (T, S, ...), "support_labels" (T, S), "query" (T, Q, ...),
        "query_labels" (T, Q)}}}`, with what is asked for beside these. The modalities are in order of first
        appearance, and integer types are kept.

    Raises:
        ValueError: there are no episodes, or episodes of one modality differ in shape.
    """
    if not episodes:
        raise ValueError("collate_episodes got no episodes")
    keys = (*_MODEL_KEYS, "class_ids") if class_ids else _MODEL_KEYS
    by_modality: dict[str, list[dict]] = {}
    for episode in episodes:
        by_modality.setdefault(episode["modality"], []).append(episode)
    batches: dict[str, dict[str, Tensor | int]] = {}
    for modality, group in by_modality.items():
        stacked = {key: _stacked([episode[key] for episode in group], modality, key) for key in keys}
        number = {"n_way": int(stacked["support_labels"].max()) + 1} if n_way else {}
        batches[modality] = {**stacked, **number}
    return {"episodes": batches}


def _stacked(tensors: list[Tensor], modality: str, key: str) -> Shaped[Tensor, "T ..."]:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(f"episodes of modality {modality!r} differ in the shape of {key!r}: {sorted(shapes)}")
    return torch.stack(tensors)
