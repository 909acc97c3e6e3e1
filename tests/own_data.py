"""Small files, texts and pictures of easy classes, and a small model with a processor that reads them."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from data_builders.storage.vocabulary import word_level_tokenizer
from modeling_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor

from .toys import tiny_model

SAMPLING_RATE, SAMPLES = 9_000, 36
WORDS = ["[PAD]", "[UNK]", *(f"word{i}" for i in range(9))]


def tiny_processor() -> MSMAMLProcessor:
    """What fits `tiny_model`: 36 samples, 18 tokens of 11 words, 6 x 6 pixels."""
    return MSMAMLProcessor(
        feature_extractor=MSMAMLFeatureExtractor(SAMPLING_RATE, SAMPLES / SAMPLING_RATE),
        image_processor=MSMAMLImageProcessor(6),
        tokenizer=word_level_tokenizer(WORDS, max_length=18),
    )


def save_tiny_model(folder: Path, **changes) -> Path:
    """A tiny model and its processor, as a run leaves them."""
    tiny_model(torch.float32, **changes).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def sound(kind: int, number: int) -> np.ndarray:
    """Float samples; the kind is the frequency."""
    rng = np.random.default_rng([kind, number])
    wave = np.sin(2 * np.pi * (kind + 1) * np.arange(SAMPLES) / 12 + rng.uniform(0, 6))
    return (0.5 * wave + rng.normal(0, 0.05, SAMPLES)).clip(-1, 1).astype(np.float32)


def text(kind: int, number: int) -> str:
    """Eighteen words; the kind decides most of them."""
    rng = np.random.default_rng([kind, number])
    ids = np.where(rng.random(18) < 0.8, kind % 9, rng.integers(9, size=18))
    return " ".join(f"word{i}" for i in ids)


def picture(kind: int, number: int) -> Image.Image:
    """6 x 6 pixels; the kind is the colour."""
    rng = np.random.default_rng([kind, number])
    colour = np.random.default_rng(kind).integers(0, 256, size=3)
    return Image.fromarray((colour + rng.integers(-20, 21, size=(6, 6, 3))).clip(0, 255).astype(np.uint8))


MAKERS = {"audio": sound, "text": text, "image": picture}


def write_file(modality: str, folder: Path, kind: int, number: int) -> Path:
    """One of them as a file, without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}_{number}{ {'audio': '.wav', 'text': '.txt', 'image': '.png'}[modality] }"
    made = MAKERS[modality](kind, number)
    if modality == "audio":
        soundfile.write(path, made, SAMPLING_RATE, subtype="FLOAT")
    elif modality == "text":
        path.write_text(made)
    else:
        made.save(path)
    return path
