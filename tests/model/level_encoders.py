"""Tiny level encoders with random weights, and inputs that they read."""

from typing import Any

import torch
from transformers import BertConfig

from modeling_msmaml.model.level_encoder import build_level_encoder

CLS, SEP, WORDS = 2, 3, 60
BERT = {"model_type": "bert", "vocab_size": WORDS, "max_position_embeddings": 16, "hidden_size": 16}
BERT |= {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "pad_token_id": 0}
DESCRIPTIONS = {
    "text": {"encoder": "transformers", "config": BERT, "window": 12, "special_tokens": [[CLS], [SEP]]},
    "image": {"encoder": "timm", "architecture": "test_efficientnet", "input_size": 32, "stages": [1, 2, 3, 4]}
    | {"grids": [[1, 4], [3, 2]]},
    "audio": {"encoder": "aisfx", "channels": [4, 6, 8, 10]},
}
SAMPLES = 80_000  # 5 s at 16 kHz


def tiny(modality: str, **changes) -> Any:
    """Weights, and batch norms' means, that leave no level constant."""
    torch.manual_seed(0)
    encoder = build_level_encoder({**DESCRIPTIONS[modality], **changes})
    for module in encoder.modules():
        if modality == "audio" and isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    for name, buffer in encoder.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    return encoder


def texts(lengths: list[int], width: int, seed: int = 0) -> torch.Tensor:
    """Token ids without special tokens, zeros after the end of a text."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, WORDS, (len(lengths), max([width, *lengths])), generator=generator, dtype=torch.int32)
    return torch.where(torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None], ids, 0)[:, :width].int()


def sounds(lengths: list[int], width: int = SAMPLES, seed: int = 0) -> torch.Tensor:
    """Noise that swells and fades, zeros after its end."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.zeros(len(lengths), width)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randn(length, generator=generator) * torch.hann_window(length + 2)[1:-1] * 4000
    return rows.round().short()


def raw_rows(modality: str) -> torch.Tensor:
    """Five samples; texts of 0 to 30 tokens, sounds of silence to 5 s."""
    if modality == "text":
        return texts([0, 1, 10, 11, 30], width=30)
    if modality == "audio":
        return sounds([0, 700, 9000, 40_000, SAMPLES])
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 40, 24), generator=generator, dtype=torch.uint8)


def bert_config() -> BertConfig:
    return BertConfig(**{name: value for name, value in BERT.items() if name != "model_type"})
