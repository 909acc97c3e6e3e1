"""Small models on levels whose encoders have random weights, with a processor that reads for them."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from data_builders.storage.vocabulary import word_level_tokenizer
from modeling_msmaml import MSMAMLConfig, MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.model.level_encoder import save_level_encoder

from .model.level_encoders import WORDS, raw_rows, tiny

MODALITIES = ("audio", "text", "image")


def word_tokenizer(max_length: int = 10) -> PreTrainedTokenizerFast:
    """The tokens of the tiny encoder of text: 0 pads, and ids 2 and 3 are its special tokens."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{i}" for i in range(WORDS - 4))]
    return word_level_tokenizer(names, max_length=max_length)


def save_encoders(folder: Path, modalities=MODALITIES) -> dict[str, str]:
    """Folders of tiny encoders by modality; the one of text has its tokenizer."""
    for modality in modalities:
        save_level_encoder(tiny(modality), folder / modality)
    if "text" in modalities:
        word_tokenizer().save_pretrained(folder / "text")
    return {modality: str(folder / modality) for modality in modalities}


def level_model(encoders, modalities=MODALITIES, **changes) -> MSMAMLModel:
    """A model with statistics and channel weights that are not those of the start."""
    config = MSMAMLConfig(task_network="levels", modalities=list(modalities), level_encoders=encoders, **changes)
    model = MSMAMLModel(config)
    generator = torch.Generator().manual_seed(0)
    for modality in modalities:
        total: Any = model.frontends[modality].total
        levels = torch.randn(30, total, generator=generator)
        model.fit_front_ends({modality: levels.half()}, groups={modality: torch.arange(30) % 5})
        for parameter in model.task_network.mixtures[modality].parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model.eval()


def level_processor() -> MSMAMLProcessor:
    """Reads half a second of sound, ten tokens and 24 x 24 pixels."""
    return MSMAMLProcessor(
        feature_extractor=MSMAMLFeatureExtractor(duration=0.5),
        image_processor=MSMAMLImageProcessor(24),
        tokenizer=word_tokenizer(),
    )


def save_level_model(folder: Path, encoders: Path) -> Path:
    """A model of three modalities and its processor, as a run leaves them."""
    level_model(save_encoders(encoders)).save_pretrained(folder)
    level_processor().save_pretrained(folder)
    return folder


def reads(model: MSMAMLModel, modality: str) -> list:
    """Logits of a task of raw inputs, which need the encoder."""
    raw = raw_rows(modality)[None]
    return model.classify(model.adapt(modality, raw, torch.tensor([[0, 1, 1, 0, 1]])), raw).tolist()


def fetched(cache: str | Path) -> list[str]:
    """The modalities whose encoders are in a cache of the Hub."""
    return sorted(path.parent.name for path in Path(cache).rglob("encoder.safetensors"))
