"""Made-up sounds and pictures, drawn from a seed: varied enough to fit the statistics of pretrained encoders to.

Unlike `synthetic`, whose tasks ask for training, these look and sound like something: a pretrained encoder tells them
apart. No person, place or work is in them, and they are free of any licence.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import numpy as np

from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor
from modeling_msmaml.model.options import at_least, checked

from ..storage.builder import FewShotBuilder, row_features
from ..storage.few_shot_split import FewShotSplit, split_of_builder
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
class ProceduralConfig(datasets.BuilderConfig):
    """Says which family is built, the seed of all its classes and samples, and the side of its pictures in pixels."""

    modality: str = "image"
    seed: int = 0
    image_size: int = 96


class Procedural(FewShotBuilder):
    """Builds the rows of one family, one class after the other. Every sample is its own source."""

    BUILDER_CONFIG_CLASS = ProceduralConfig
    config: ProceduralConfig

    def _info(self) -> datasets.DatasetInfo:
        self.modality = self.config.modality
        number, rng = sum(CLASSES.values()), self._rng(0)
        if self.modality == "image":
            self.family: SceneFamily | SoundEventFamily = SceneFamily(rng, number, self.config.image_size)
        else:
            self.family = SoundEventFamily(rng, number, round(SAMPLING_RATE * DURATION))
        self.row_shape = self.family.row_shape
        features = row_features(self.modality, int(np.prod(self.row_shape)), _class_names())
        return datasets.DatasetInfo(description=(__doc__ or "").partition("\n")[0], features=features)

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, MODALITIES.index(self.modality), *purpose])

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for class_id, class_name in enumerate(_class_names()):
            rng = self._rng(1, class_id)
            for number in range(SAMPLES_PER_CLASS):
                row = self.flat(self.family.sample(rng, class_id))
                key = class_id * SAMPLES_PER_CLASS + number
                yield key, {self.modality: row, "label": class_name, "source_id": str(key)}

    def protocols(self) -> dict[str, dict[str, dict]]:
        """Returns the only protocol, in which the classes are numbered from train over validation to test."""
        names = iter(_class_names())
        splits = {split: {"classes": list(itertools.islice(names, size))} for split, size in CLASSES.items()}
        return {"class_disjoint": splits}


def _class_names() -> list[str]:
    return [f"procedural_{class_id:03d}" for class_id in range(sum(CLASSES.values()))]


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
    checked("seed", seed, at_least(0))
    checked("image_size", image_size, at_least(32))
    if modality == "audio" and image_size != 96:
        raise ValueError(f"image_size={image_size} has no effect on sounds: leave it out")
    builder = Procedural(cache_dir=cache_dir, modality=modality, seed=seed, image_size=image_size)
    preprocessor = (
        MSMAMLImageProcessor(image_size) if modality == "image" else MSMAMLFeatureExtractor(SAMPLING_RATE, DURATION)
    )
    return split_of_builder(builder, split, protocol, preprocessor=preprocessor)
