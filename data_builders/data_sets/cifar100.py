"""CIFAR-100: 32x32 colour images of 100 classes (Krizhevsky 2009), read from the binary version, without pickle.

`class_disjoint` is FC100 (Oreshkin et al. 2018), which divides the classes by their coarse labels. The official train
and test images are pooled. Every image is its own source.

`data_dir` holds `cifar-100-binary.tar.gz` or its extracted folder `cifar-100-binary`. Without `data_dir` the official
archive is downloaded. The option `image_size` (pixels) scales the images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import numpy as np
from jaxtyping import UInt8

from modeling_msmaml.inputs.labelled_inputs import few
from modeling_msmaml.inputs.processing_msmaml import MSMAMLImageProcessor
from modeling_msmaml.model.options import at_least, checked

from ..splits.protocols import read_protocols
from ..storage.archives import Official
from ..storage.builder import ArchiveBuilder, row_features
from ..storage.few_shot_split import FewShotSplit, split_of_builder

OPTIONS = ("image_size",)
PROTOCOLS = tuple(read_protocols("cifar100"))

IMAGE_SIZE = 32  # pixels
_RECORD = 2 + 3 * IMAGE_SIZE * IMAGE_SIZE  # bytes of the coarse label, the fine label and the pixels
_IMAGES = {"train": "train.bin", "test": "test.bin"}
_FINE_NAMES, _COARSE_NAMES = "fine_label_names.txt", "coarse_label_names.txt"


@dataclass
class Cifar100Config(datasets.BuilderConfig):
    """Says to which height and width (pixels) the images are scaled."""

    image_size: int = IMAGE_SIZE


class Cifar100(ArchiveBuilder):
    """Builds the images as uint8 (3, image_size, image_size), with the official train images first.

    Raises:
        ValueError: from `build`, a file is missing, or its size, labels or names do not fit the format. The message
            names the file.
    """

    OFFICIAL = Official(
        title="CIFAR-100",
        folders=("cifar-100-binary",),
        archives=("cifar-100-binary.tar.gz",),
        marker=_FINE_NAMES,
        source="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
    )
    BUILDER_CONFIG_CLASS = Cifar100Config
    config: Cifar100Config
    modality = "image"

    @property
    def preprocessor(self) -> MSMAMLImageProcessor:
        """The image processor that makes such rows."""
        return MSMAMLImageProcessor(self.config.image_size)

    def _info(self) -> datasets.DatasetInfo:
        size = checked("image_size", self.config.image_size, at_least(1))
        self.row_shape = (3, size, size)
        return datasets.DatasetInfo(features=row_features(self.modality, 3 * size * size, self.class_names()))

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        files = dict(self.store.read([*_IMAGES.values(), _FINE_NAMES, _COARSE_NAMES]))
        fine_names = self._names(files, _FINE_NAMES, 100)
        n_coarse = len(self._names(files, _COARSE_NAMES, 20))
        unknown = set(fine_names) - set(self.class_names())
        if unknown:
            raise ValueError(
                f"{_FINE_NAMES} in {self.store.path} names classes that CIFAR-100 lacks: {few(unknown)}. Fetch it again"
            )
        for part, file in _IMAGES.items():
            for number, record in enumerate(self._records(files[file], file, n_coarse, len(fine_names))):
                source = f"{part}/{number}"
                row = self.flat(self.preprocessor.row(record[2:].reshape(3, IMAGE_SIZE, IMAGE_SIZE), source))
                yield source, {self.modality: row, "label": fine_names[record[1]], "source_id": source}

    def _names(self, files: dict[str, bytes], file: str, expected: int) -> list[str]:
        """Returns the names of the labels in one file, after checking how many there are."""
        names = files[file].decode("utf-8", errors="replace").split()
        if len(set(names)) != expected or len(names) != expected:
            raise ValueError(
                f"{file} in {self.store.path} has {len(names)} names; {expected} different ones are expected. "
                "Fetch it again"
            )
        return names

    def _records(self, content: bytes, file: str, n_coarse: int, n_fine: int) -> UInt8[np.ndarray, "images 3074"]:
        """Returns the records of one file. A record has a coarse label, a fine label and 3072 pixels."""
        if not content or len(content) % _RECORD:
            raise ValueError(
                f"{file} in {self.store.path} has {len(content)} bytes, which is not a multiple of {_RECORD}: it is "
                "cut off or in another format. Fetch it again"
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD)
        if records[:, 0].max() >= n_coarse or records[:, 1].max() >= n_fine:
            raise ValueError(
                f"{file} in {self.store.path} has labels beyond {n_coarse} coarse and {n_fine} fine ones. "
                "Fetch it again"
            )
        return records


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    image_size: int = IMAGE_SIZE,
) -> FewShotSplit:
    """Loads one split of CIFAR-100, for `load_few_shot`."""
    builder = Cifar100(cache_dir=cache_dir, data_dir=data_dir, image_size=image_size)
    return split_of_builder(builder, split, protocol, preprocessor=builder.preprocessor)
