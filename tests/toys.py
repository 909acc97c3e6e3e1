"""Small models and meta-batches that tests share."""

import torch
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit
from modeling_msmaml import MSMAMLConfig, MSMAMLModel

N_WAY, K_SHOT, N_QUERY = 3, 2, 4
# 9 positions in each modality.
RAW_SHAPES = {"audio": (9 * 4,), "text": (9 * 2,), "image": (3, 6, 6)}


def tiny_config(**changes) -> MSMAMLConfig:
    """A network of two layers and few channels on sequences of nine positions."""
    options = {
        "n_way": N_WAY,
        "num_channels": 4,
        "num_layers": 2,
        "task_encoder_hidden_size": 6,
        "kernel_size": 3,
        "num_inner_steps": 3,
        "inner_lr": 0.1,
        "audio_patch_size": 4,
        "text_patch_size": 2,
        "image_patch_size": 2,
        "image_size": 6,
        "vocab_size": 11,
        "word_vector_size": 5,
    }
    return MSMAMLConfig(**{**options, **changes})


def tiny_model(dtype: torch.dtype = torch.float64, seed: int = 0, **changes) -> MSMAMLModel:
    torch.manual_seed(seed)
    return MSMAMLModel(tiny_config(**changes)).to(dtype)


def raw_inputs(modality: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Raw integers of a modality; text begins with no padding and ends with some."""
    if modality == "audio":
        return torch.randint(-32767, 32768, shape, generator=generator, dtype=torch.int16)
    if modality == "image":
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    ids = torch.randint(1, 11, shape, generator=generator, dtype=torch.int32)
    ids[..., -2:] = 0
    return ids


def tiny_episodes(modalities=("audio", "text", "image"), tasks: int = 2, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    episodes = {}
    for modality in modalities:
        support = raw_inputs(modality, (tasks, N_WAY * K_SHOT, *RAW_SHAPES[modality]), generator)
        query = raw_inputs(modality, (tasks, N_WAY * N_QUERY, *RAW_SHAPES[modality]), generator)
        episodes[modality] = {
            "support": support,
            "support_labels": torch.arange(N_WAY).repeat_interleave(K_SHOT).repeat(tasks, 1),
            "query": query,
            "query_labels": torch.arange(N_WAY).repeat_interleave(N_QUERY).repeat(tasks, 1),
        }
    return episodes


def tiny_splits(modalities=("audio", "text", "image"), classes: int = 6, samples: int = 12, seed: int = 0):
    """In-memory splits of random rows that fit the tiny models."""
    generator = torch.Generator().manual_seed(seed)
    labels = [label for label in range(classes) for _ in range(samples)]
    return [
        FewShotSplit.from_arrays(
            raw_inputs(modality, (len(labels), *RAW_SHAPES[modality]), generator).numpy(), labels, modality=modality
        )
        for modality in modalities
    ]


def tiny_dataset(num_episodes: int, modalities=("audio", "text", "image"), seed: int = 0) -> EpisodeDataset:
    return EpisodeDataset(tiny_splits(modalities), N_WAY, K_SHOT, N_QUERY, num_episodes, seed)
