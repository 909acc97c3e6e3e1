"""The base class of data sets that are drawn from a seed: one family of samples for each modality."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import datasets
import numpy as np

from ..storage.builder import FewShotBuilder, row_features


class Family(Protocol):
    """A generative model of the samples of one modality."""

    row_shape: tuple[int, ...]

    def sample(self, rng: np.random.Generator, class_id: int) -> np.ndarray:
        """Draws one sample of a class."""
        ...


@dataclass
class GeneratedConfig(datasets.BuilderConfig):
    """Says which family is built, and the seed of all its classes and samples."""

    modality: str = "audio"
    seed: int = 0


class GeneratedBuilder(FewShotBuilder):
    """
    Builds the rows of one family, one class after the other. Every sample is its own source.

    A subclass sets the attributes and implements `make_family`.

    Attributes:
        prefix: of the names of the classes.
        classes: number of classes of each split.
        samples_per_class: their number.
        modalities: of the families; a family's place among them is a part of its seed.
    """

    BUILDER_CONFIG_CLASS = GeneratedConfig
    config: GeneratedConfig

    prefix: ClassVar[str]
    classes: ClassVar[Mapping[str, int]]
    samples_per_class: ClassVar[int]
    modalities: ClassVar[Sequence[str]]

    def make_family(self, rng: np.random.Generator, n_classes: int) -> Any:
        """Draws the parameters of all classes of the [`Family`] of `self.config`."""
        raise NotImplementedError

    def _info(self) -> datasets.DatasetInfo:
        self.modality = self.config.modality
        self.family = self.make_family(self._rng(0), sum(self.classes.values()))
        self.row_shape = self.family.row_shape
        features = row_features(self.modality, int(np.prod(self.row_shape)), self._class_names())
        return datasets.DatasetInfo(description=(type(self).__doc__ or "").partition("\n")[0], features=features)

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, list(self.modalities).index(self.modality), *purpose])

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for class_id, class_name in enumerate(self._class_names()):
            rng = self._rng(1, class_id)
            for number in range(self.samples_per_class):
                row = self.flat(self.family.sample(rng, class_id))
                key = class_id * self.samples_per_class + number
                yield key, {self.modality: row, "label": class_name, "source_id": str(key)}

    def protocols(self) -> dict[str, dict[str, dict]]:
        """Returns the only protocol, in which the classes are numbered from train over validation to test."""
        names = iter(self._class_names())
        splits = {split: {"classes": list(itertools.islice(names, size))} for split, size in self.classes.items()}
        return {"class_disjoint": splits}

    def _class_names(self) -> list[str]:
        return [f"{self.prefix}_{class_id:03d}" for class_id in range(sum(self.classes.values()))]
