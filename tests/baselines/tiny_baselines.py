"""Tiny models of every baseline, and their episodes, which several tests share."""

import torch
from torch import Tensor

from modeling_msmaml import MSMAMLConfig, MSMAMLModel

from ..toys import tiny_config, tiny_episodes

# What each needs besides `task_network`.
SUPERVISED = {"auxiliary_classes": {"image": 9}, "episode_weight": 0.0}
OPTIONS: dict[str, dict] = {
    "prototypical": {},
    "matching": {},
    "relation": {"task_network_kwargs": {"hidden_size": 6}},
    "baseline_plus_plus": {**SUPERVISED, "num_inner_steps": 3, "inner_lr": 0.2},
    "ridge": {},
    "simpleshot": SUPERVISED,
    "set_attention": {},
    "mahalanobis": {},
    "in_context": {"task_network_kwargs": {"size": 12, "num_heads": 2}},
}
# Options of `tiny_config` that baselines refuse.
_WITHOUT = {"task_encoder_hidden_size": 128, "num_inner_steps": 5, "inner_lr": 0.05}
METHODS = list(OPTIONS)


def config_of(name: str, **changes) -> MSMAMLConfig:
    options = {"modalities": ["image"], "norm": "group", "task_network": name, **OPTIONS[name]}
    return tiny_config(**{**_WITHOUT, **options, **changes})


def model_of(name: str, seed: int = 0, **changes) -> MSMAMLModel:
    """In float64, in evaluation mode; whatever starts at zero has some value."""
    torch.manual_seed(seed)
    model = MSMAMLModel(config_of(name, **changes)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for own in (*model.parameters(), *model.task_network.buffers()):
        if own.is_floating_point() and not own.count_nonzero():
            own.data += 0.1 * torch.randn(own.shape, generator=generator, dtype=own.dtype)
    return model


def episodes_of(name: str, tasks: int = 2, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Tasks of images, with the training classes that a supervised method wants to know of."""
    episodes = tiny_episodes(["image"], tasks, seed)
    if OPTIONS[name].get("auxiliary_classes"):
        rows = [torch.randperm(9, generator=torch.Generator().manual_seed(task))[:3] for task in range(tasks)]
        episodes["image"]["class_ids"] = torch.stack(rows)
    return episodes


def features_of(model: MSMAMLModel, raw: Tensor) -> Tensor:
    """The features (T, samples, d) of raw images."""
    features = model.task_network.features
    return features(features.read(model, "image", raw, 0.0), "image").detach()
