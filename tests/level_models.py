"""A small model on levels of tiny encoders with random weights, and its processor, which takes inputs whole."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from data_builders.storage.vocabulary import word_level_tokenizer
from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.inputs.processing_msmaml import whole_processor
from modeling_msmaml.inputs.reading import read
from modeling_msmaml.model.level_encoder import save_level_encoder

from .model.level_encoders import tiny
from .own_data import MAKERS, SAMPLING_RATE, WORDS

MODALITIES = ("audio", "text", "image")
_CHANGES = {"audio": {"sampling_rate": SAMPLING_RATE}}


def words_of_tiny_encoder() -> PreTrainedTokenizerFast:
    """A tokenizer that knows the texts of `own_data`, with the special tokens of the tiny encoder of text."""
    return word_level_tokenizer([*WORDS[:2], "[CLS]", "[SEP]", *WORDS[2:]], max_length=9)


def save_level_model(folder: Path) -> Path:
    """Its statistics and weights are as after training on the inputs of `own_data`."""
    encoders = {}
    for modality in MODALITIES:
        encoders[modality] = str(folder / "encoders" / modality)
        save_level_encoder(tiny(modality, **_CHANGES.get(modality, {})), encoders[modality])
    torch.manual_seed(0)
    model = MSMAMLModel(MSMAMLConfig(task_network="levels", modalities=list(MODALITIES), level_encoders=encoders))
    processor = whole_processor(MODALITIES, words_of_tiny_encoder(), SAMPLING_RATE)
    for modality in MODALITIES:
        items = [MAKERS[modality](kind, 900 + number) for kind in range(6) for number in range(4)]
        rows = read(items, modality, processor, SAMPLING_RATE)
        model.fit_front_ends({modality: rows}, groups={modality: torch.arange(24) // 4})
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder / "model"
