"""Made-up sounds and pictures, drawn from a seed: varied enough to fit the statistics of pretrained encoders to.

Unlike `synthetic`, whose tasks ask for training, these look and sound like something: a pretrained encoder tells them
apart. No person, place or work is in them, and they are free of any licence.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor
from modeling_msmaml.model.options import any_seed, at_least, checked

from ..storage.few_shot_split import FewShotSplit, split_of_builder
from .generated import GeneratedBuilder, GeneratedConfig
from .procedural_scenes import SceneFamily
from .procedural_sounds import SAMPLING_RATE, SoundEventFamily

OPTION_IN_NAME = "modality"
OPTIONS = ("modality", "seed", "image_size")
PROTOCOLS = ("class_disjoint",)

CLASSES = {"train": 80, "validation": 10, "test": 10}
SAMPLES_PER_CLASS = 20
DURATION = 5.0  # s, of a row; the sounds are shorter
MODALITIES = ("audio", "image")


@dataclass
class ProceduralConfig(GeneratedConfig):
    """Says also the side of pictures in pixels."""

    image_size: int = 96


class Procedural(GeneratedBuilder):
    """Made-up sounds and pictures, drawn from a seed: varied enough to fit the statistics of encoders to."""

    BUILDER_CONFIG_CLASS = ProceduralConfig
    config: ProceduralConfig

    prefix, classes, samples_per_class, modalities = "procedural", CLASSES, SAMPLES_PER_CLASS, MODALITIES

    def make_family(self, rng: np.random.Generator, n_classes: int) -> SceneFamily | SoundEventFamily:
        if self.modality == "image":
            return SceneFamily(rng, n_classes, self.config.image_size)
        return SoundEventFamily(rng, n_classes, round(SAMPLING_RATE * DURATION))


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    modality: str = "image",
    seed: int = 0,
    image_size: int = 96,
) -> FewShotSplit:
    """Loads one split of a procedural family, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`. `data_dir` is accepted but not used, so that
            runs that mix data sets can pass the same value to all of them.
        modality: family of the samples: `"audio"` or `"image"`.
        seed: non-negative seed of all classes and samples.
        image_size: height and width of the pictures, pixels; at least 32.

    Raises:
        ValueError: the modality does not exist, or another argument is out of its range.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality={modality!r} does not exist; the procedural families are {', '.join(MODALITIES)}")
    checked("seed", seed, any_seed)
    checked("image_size", image_size, at_least(32))
    if modality == "audio" and image_size != 96:
        raise ValueError(f"image_size={image_size} has no effect on sounds: leave it out")
    builder = Procedural(cache_dir=cache_dir, modality=modality, seed=seed, image_size=image_size)
    preprocessor = (
        MSMAMLImageProcessor(image_size) if modality == "image" else MSMAMLFeatureExtractor(SAMPLING_RATE, DURATION)
    )
    return split_of_builder(builder, split, protocol, preprocessor=preprocessor)
