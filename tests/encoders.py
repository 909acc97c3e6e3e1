"""Tiny random encoders in folders, as the Hub would give them, and inputs that they read."""

from pathlib import Path

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    BertConfig,
    BertModel,
    BertTokenizer,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from data_builders import FewShotSplit
from modeling_msmaml import MSMAMLConfig

N_WAY, K_SHOT, N_QUERY = 3, 2, 2
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijk"]
CLS, SEP = 2, 3
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT_SHAPE, AUDIO_SHAPE, IMAGE_SHAPE = (25,), (800,), (3, 32, 32)


def save_bert(folder: Path, **changes) -> str:
    """At most 12 tokens at once, with its tokenizer."""
    config = BertConfig(**{"vocab_size": len(WORDS), "max_position_embeddings": 12, **TINY, **changes})
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    return str(folder)


def save_wav2vec2(folder: Path, sampling_rate: int = 16_000) -> str:
    """20 positions for 800 samples."""
    convolutions = {"conv_dim": (8, 8), "conv_stride": (10, 4), "conv_kernel": (10, 4)}
    position = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**TINY, **convolutions, **position)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=sampling_rate).save_pretrained(folder)
    return str(folder)


def save_ast(folder: Path) -> str:
    """Reads a spectrogram of 32 frames."""
    torch.manual_seed(0)
    ASTModel(ASTConfig(**TINY, max_length=32, num_mel_bins=32)).save_pretrained(folder)
    ASTFeatureExtractor(max_length=32, num_mel_bins=32).save_pretrained(folder)
    return str(folder)


def tiny_embeddings(folder: Path) -> dict[str, dict]:
    return {
        "image": {"timm": "test_resnet", "pretrained": False, "input_size": 64},
        "text": {"transformers": save_bert(folder / "bert"), "adapter_size": 4},
        "audio": {"transformers": save_wav2vec2(folder / "wav2vec2"), "pool": 2},
    }


def encoder_config(embeddings: dict[str, dict], **changes) -> MSMAMLConfig:
    """A small network with everything that stands beside it: descriptors and prototypes."""
    options = {
        "modalities": list(embeddings),
        "n_way": N_WAY,
        "num_channels": 8,
        "num_layers": 2,
        "kernel_size": 3,
        "padding": 2,
        "task_encoder_hidden_size": 6,
        "num_inner_steps": 2,
        "inner_lr": 0.1,
        "descriptor_size": 8,
        "norm": "group",
        "head": "prototype",
        "adapted_parameters": "head",
        "share_embeddings": True,
    }
    return MSMAMLConfig(embeddings=embeddings, **{**options, **changes})


def raw_rows(modality: str, number: int, seed: int = 0) -> torch.Tensor:
    """Raw integers; texts of 4 to 25 words, zeros after them."""
    generator = torch.Generator().manual_seed(seed)
    if modality == "audio":
        return torch.randint(-30_000, 30_000, (number, *AUDIO_SHAPE), generator=generator, dtype=torch.int16)
    if modality == "image":
        return torch.randint(0, 256, (number, *IMAGE_SHAPE), generator=generator, dtype=torch.uint8)
    ids = torch.randint(5, len(WORDS), (number, *TEXT_SHAPE), generator=generator, dtype=torch.int32)
    lengths = torch.randint(4, TEXT_SHAPE[0] + 1, (number, 1), generator=generator)
    return torch.where(torch.arange(TEXT_SHAPE[0]) < lengths, ids, 0).int()


def raw_split(modality: str, split: str = "train", seed: int = 0) -> FewShotSplit:
    """Four classes of eight samples."""
    labels = [label for label in range(4) for _ in range(8)]
    return FewShotSplit.from_arrays(raw_rows(modality, 32, seed).numpy(), labels, modality=modality, split=split)


def meta_batch(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two tasks of the first rows, support and query."""
    support, query = N_WAY * K_SHOT, N_WAY * N_QUERY
    both = rows[: 2 * (support + query)].unflatten(0, (2, support + query))
    labels = torch.arange(N_WAY)
    return {
        "support": both[:, :support],
        "support_labels": labels.repeat_interleave(K_SHOT).repeat(2, 1),
        "query": both[:, support:],
        "query_labels": labels.repeat_interleave(N_QUERY).repeat(2, 1),
    }
