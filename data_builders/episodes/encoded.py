"""Splits whose rows are features of a frozen encoder, which are computed once and then read like any other rows.

Training on such splits never runs the encoder. The rows are float16, and a model with the same encoder accepts them in
place of raw inputs. The features are computed again if anything changes on which they depend: the weights of the
encoder, what the config records about it, the raw rows, the code, or the versions of transformers, timm and torch.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from types import ModuleType

import datasets
import numpy as np
import torch

from modeling_msmaml.inputs.fingerprints import text_hash
from modeling_msmaml.model import (
    encoder_registry,
    modality_audio,
    modality_image,
    modality_text,
    pretrained_encoder,
)
from modeling_msmaml.model.pretrained_encoder import PretrainedFrontend

from ..storage.builder import FewShotBuilder, _ArrayFeatures
from ..storage.few_shot_split import FewShotSplit
from ..storage.rows import ArrowRows
from .episode_dataset import EpisodeDataset

ROWS_AT_ONCE = 256


def encode_split(
    split: FewShotSplit, frontend: PretrainedFrontend, cache_dir: str | os.PathLike | None = None
) -> FewShotSplit:
    """Returns the same split with features of the encoder, float16 (num_features, positions), as its rows.

    Args:
        split: a split with raw rows.
        frontend: the pretrained encoder `model.frontends[split.modality]`. Features are computed on its device.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.

    Raises:
        TypeError: the frontend is not a pretrained encoder.
        ValueError: the encoder reads another modality, the rows are already features, or features are not finite in
            float16.
    """
    if not isinstance(frontend, PretrainedFrontend):
        raise TypeError(f"frontend is a {type(frontend).__name__}, but a pretrained encoder is needed")
    if frontend.modality != split.modality:
        raise ValueError(f"the encoder reads {frontend.modality}, but {split!r} is {split.modality}")
    first = split.rows(np.arange(min(1, len(split))))
    if first.dtype == np.float16:
        raise ValueError(f"the rows of {split!r} are features already: pass a split with raw rows")
    builder = EncodedRows(split, frontend, cache_dir)
    stored = builder.build()
    rows = ArrowRows([file["filename"] for file in stored.cache_files], split.modality, builder.row_shape)
    return dataclasses.replace(split, row_shape=builder.row_shape, _data=rows, _row_numbers=np.arange(len(split)))


def encode_episodes(
    episodes: EpisodeDataset,
    frontends: Mapping[str, torch.nn.Module],
    cache_dir: str | os.PathLike | None = None,
) -> EpisodeDataset:
    """Returns the same episodes with features in place of raw rows for each modality that has a pretrained encoder.

    Args:
        episodes: episodes of raw rows, which must not be augmented. The modalities that have a pretrained encoder must
            not be mixed.
        frontends: the frontends of a model, by modality.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.

    Raises:
        ValueError: the episodes are augmented or mixed, or no modality has a pretrained encoder.
    """
    encoders = {name: frontend for name, frontend in frontends.items() if isinstance(frontend, PretrainedFrontend)}
    if not any(split.modality in encoders for split in episodes.splits):
        raise ValueError("no modality of these episodes has a pretrained encoder, so there are no features to store")
    if episodes.augment:
        raise ValueError(
            f"augment={episodes.augment} changes raw rows at every draw, so that their features cannot be stored; "
            "augment=False works"
        )
    mixed = [name for name in encoders if episodes.mix_classes.get(name)]
    if mixed:
        raise ValueError(
            f"mix_classes={episodes.mix_classes} mixes other rows at every draw, so that the features of "
            f"{', '.join(mixed)} cannot be stored: leave {', '.join(mixed)} out of it"
        )
    encoded = copy.copy(episodes)
    encoded.splits = [
        encode_split(split, encoders[split.modality], cache_dir) if split.modality in encoders else split
        for split in episodes.splits
    ]
    return encoded


class EncodedRows(FewShotBuilder):
    """Builds the features of all rows of a split, in the order of the rows."""

    def __init__(self, split: FewShotSplit, frontend: PretrainedFrontend, cache_dir: str | os.PathLike | None):
        self.split, self.frontend, self.modality = split, frontend, split.modality
        example = torch.from_numpy(split.rows(np.arange(1)))
        self.row_shape = tuple(next(frontend.batches(example)).shape[1:])
        super().__init__(cache_dir=cache_dir)

    @classmethod
    def code_modules(cls) -> list[ModuleType]:
        return [
            *super().code_modules(),
            encoder_registry,
            modality_audio,
            modality_image,
            modality_text,
            pretrained_encoder,
        ]

    def input_fingerprint(self, data_dir: str | None) -> str:
        """Returns a hash of the encoder, of the raw rows and of the versions of the libraries."""
        versions = [version(package) for package in ("transformers", "timm", "torch")]
        return text_hash(encoder_fingerprint(self.frontend), rows_fingerprint(self.split), *versions)

    def _info(self) -> datasets.DatasetInfo:
        size = int(np.prod(self.row_shape))
        column = datasets.List(datasets.Value("float16"), length=size)
        return datasets.DatasetInfo(features=_ArrayFeatures({self.modality: column}))

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        number = 0
        with datasets.utils.tqdm(total=len(self.split), desc=f"Encoding {self.split.name} {self.split.split}") as bar:
            for raw in _parts(self.split):
                for features in self.frontend.batches(torch.from_numpy(raw)):
                    if not features.isfinite().all():
                        raise ValueError(
                            f"features of rows {number} to {number + len(features) - 1} of {self.split!r} are not "
                            "finite in float16, so that the features of this encoder cannot be stored"
                        )
                    for row in features.cpu().numpy():
                        yield number, {self.modality: np.ascontiguousarray(row).reshape(-1)}
                        number += 1
                    bar.update(len(features))


def encoder_fingerprint(frontend: PretrainedFrontend) -> str:
    """Returns a hash of everything that decides the features: architecture, preprocessing and weights."""
    described = {name: frontend.spec.get(name) for name in ("recorded", "pool", "layer")}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(frontend.encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def rows_fingerprint(split: FewShotSplit) -> str:
    """Returns a hash of the raw rows and their order."""
    digest = hashlib.sha256(f"{split.modality} {split.row_shape}".encode())
    for raw in _parts(split):
        digest.update(str(raw.dtype).encode())
        digest.update(raw.tobytes())
    return digest.hexdigest()


def _parts(split: FewShotSplit) -> Iterator[np.ndarray]:
    """Yields all rows of a split, at most `ROWS_AT_ONCE` at a time."""
    for start in range(0, len(split), ROWS_AT_ONCE):
        yield split.rows(np.arange(start, min(start + ROWS_AT_ONCE, len(split))))
