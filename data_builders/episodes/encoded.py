"""Splits whose rows are features of a frozen encoder, which are computed once and then read like any other rows.

Training on such splits never runs the encoder. The features are float16. They are computed again if anything changes on
which they depend: the weights of the encoder, what the config records about it, the raw rows, the code, or the versions
of transformers, timm and torch. An encoder with several levels (`level_encoder.py`) gives all of them in one pass, and
a pass that was interrupted goes on after the last whole part.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import datasets
import numpy as np
import torch
from datasets import config as settings

from modeling_msmaml.inputs.fingerprints import text_hash
from modeling_msmaml.model import (
    encoder_registry,
    modality_audio,
    modality_image,
    modality_text,
    pretrained_encoder,
)
from modeling_msmaml.model.level_encoder import LevelEncoder as ModelLevels
from modeling_msmaml.model.level_frontend import LevelFrontend
from modeling_msmaml.model.options import at_least, checked
from modeling_msmaml.model.pretrained_encoder import PretrainedFrontend

from ..storage import growing_rows, sealed
from ..storage.few_shot_split import FewShotSplit
from ..storage.padded_rows import unpadded
from ..storage.rows import ArrowRows, LevelRows
from . import level_encoder
from .episode_dataset import EpisodeDataset
from .level_encoder import FlatLevels, OneLevel, RowEncoder

PART_ROWS = 512  # rows that an interrupted pass loses at most
PART_BYTES = 1 << 25  # bytes of features that are held in memory at most, unless one row has more


def encode_split(
    split: FewShotSplit,
    frontend: PretrainedFrontend | LevelFrontend | RowEncoder,
    cache_dir: str | os.PathLike | None = None,
    batch_size: int | None = None,
) -> FewShotSplit:
    """Returns the same split with features of an encoder as its rows.

    The rows of a frontend are float16 (num_features, positions), and a model with the same frontend accepts them in
    place of raw inputs. The rows of a `RowEncoder` have several levels, which `FewShotSplit.levels` reads.

    Args:
        split: a split with raw rows.
        frontend: the pretrained encoder `model.frontends[split.modality]`, or any other `RowEncoder`. Features are
            computed on its device.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.
        batch_size: number of rows that are encoded at once; by default the encoder's.

    Raises:
        TypeError: the frontend is not a pretrained encoder.
        ValueError: the encoder reads another modality, the rows are already features, or features are not finite in
            float16 or have other shapes than the encoder has declared.
        sealed.CacheError: the cache is missing or damaged and cannot be written.
    """
    if batch_size is not None:
        checked("batch_size", batch_size, at_least(1))
    encoder = frontend
    if isinstance(frontend, PretrainedFrontend):
        encoder = OneLevel(frontend, batch_size)
    elif isinstance(frontend, LevelFrontend):
        encoder = FlatLevels(frontend, batch_size)
    if not isinstance(encoder, RowEncoder):
        raise TypeError(
            f"frontend is a {type(frontend).__name__}, but a pretrained encoder is needed: a frontend of a "
            "model, or any other data_builders.RowEncoder"
        )
    if encoder.modality != split.modality:
        raise ValueError(f"the encoder reads {encoder.modality}, but {split!r} is {split.modality}")
    if split.level_shapes or split.rows(np.arange(min(1, len(split)))).dtype == np.float16:
        raise ValueError(f"the rows of {split!r} are features already: pass a split with raw rows")
    stored = EncodedRows(split, encoder, cache_dir, batch_size)
    with sealed.cache_in_words(f"the features of {split!r}", cache_dir):
        path = stored.build()
    shapes, numbers = growing_rows.stored_shapes(path), np.arange(len(split))
    if isinstance(encoder, (OneLevel, FlatLevels)):
        rows = ArrowRows([path], split.modality, shapes[split.modality])
        return dataclasses.replace(split, row_shape=rows.row_shape, _data=rows, _row_numbers=numbers)
    rows = LevelRows(path, shapes)
    return dataclasses.replace(split, row_shape=(), level_shapes=shapes, _data=rows, _row_numbers=numbers)


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
    kinds = (PretrainedFrontend, LevelFrontend)
    encoders = {name: frontend for name, frontend in frontends.items() if isinstance(frontend, kinds)}
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
        encode_split(_as_read(split, encoders[split.modality]), encoders[split.modality], cache_dir)
        if split.modality in encoders
        else split
        for split in episodes.splits
    ]
    return encoded


def _as_read(split: FewShotSplit, frontend: PretrainedFrontend | LevelFrontend) -> FewShotSplit:
    """Returns the split without the padding of its texts, if the features do not depend on the length of a row."""
    return unpadded(split) if isinstance(frontend, LevelFrontend) else split


class EncodedRows:
    """The stored features of all rows of a split, in the order of the rows.

    Args:
        split: a split with raw rows.
        encoder: the encoder.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.
        batch_size: number of rows that are encoded at once; by default the encoder's.

    Attributes:
        cache_dir: folder of these features, whose name is a hash of everything on which they depend.
    """

    def __init__(
        self,
        split: FewShotSplit,
        encoder: RowEncoder,
        cache_dir: str | os.PathLike | None = None,
        batch_size: int | None = None,
    ):
        self.split, self.encoder, self.batch_size = split, encoder, batch_size or encoder.batch_size
        code = [inspect.getsource(module) for module in self._code_modules()]
        versions = [version(package) for package in ("transformers", "timm", "torch")]
        key = text_hash(encoder.fingerprint(), split.fingerprint(), *versions, *code)
        root = Path(cache_dir or settings.HF_DATASETS_CACHE).expanduser().absolute()
        self.cache_dir = root / "encoded_rows" / key

    def _code_modules(self) -> list[ModuleType]:
        """Returns the modules that decide the features. What code an encoder of one's own has, its fingerprint says."""
        modules = [sys.modules[__name__], level_encoder, growing_rows]
        if isinstance(self.encoder, OneLevel):
            modules += [encoder_registry, modality_audio, modality_image, modality_text, pretrained_encoder]
        elif isinstance(self.encoder, FlatLevels):
            encoder = self.encoder.frontend.encoder(torch.device("cpu"))
            modules += [sys.modules[kind.__module__] for kind in type(encoder).__mro__ if issubclass(kind, ModelLevels)]
        return modules

    def build(self) -> Path:
        """Returns the path of the Arrow file, after computing what of it is missing."""
        name = f"features of {self.split.name} {self.split.split}"
        sealed.make_whole(self.cache_dir, name, self._encode)
        return self.cache_dir / growing_rows.ROWS

    def _encode(self) -> None:
        """Computes the features part by part and gives the folder its name when all parts are on the disk."""
        unfinished = self.cache_dir.with_suffix(".parts")
        shapes = self.encoder.level_shapes(self.split.row_shape)
        stored = growing_rows.GrowingRows(unfinished, shapes)
        row_bytes = 2 * sum(int(np.prod(shape)) for shape in shapes.values())
        part_rows = max(1, min(PART_ROWS, PART_BYTES // max(1, row_bytes)))
        title = f"Encoding {self.split.name} {self.split.split}"
        try:
            with datasets.utils.tqdm(total=len(self.split), initial=stored.num_rows, desc=title, unit="row") as bar:
                for start in range(stored.num_rows, len(self.split), part_rows):
                    numbers = np.arange(start, min(start + part_rows, len(self.split)))
                    part = {name: np.empty((len(numbers), *shape), np.float16) for name, shape in shapes.items()}
                    for places, rows in self._batches(numbers):
                        for name, features in self._levels(rows, numbers[places], shapes).items():
                            part[name][places] = features
                        bar.update(len(places))
                    stored.append(part)
            stored.finish()
        finally:
            stored.close()
        sealed.seal(unfinished)
        sealed.replace_folder(unfinished, self.cache_dir)

    def _batches(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yields the rows with these numbers in batches, with their places among the numbers.

        Texts are put together by length, so that a batch has little padding, and long ones come first, so that too
        large a batch fails at once.
        """
        places = np.arange(len(numbers))
        if self.split.modality != "text":
            for batch in np.split(places, range(self.batch_size, len(places), self.batch_size)):
                yield batch, torch.from_numpy(self.split.rows(numbers[batch]))
            return
        rows = self.split.rows(numbers)
        lengths = rows.shape[1] - (rows[:, ::-1] != 0).argmax(axis=1)
        lengths[~rows.any(axis=1)] = 1
        order = np.argsort(-lengths, kind="stable")
        for batch in np.split(order, range(self.batch_size, len(places), self.batch_size)):
            # The number of positions of a frontend follows from the length of the rows.
            longest = rows.shape[1] if isinstance(self.encoder, OneLevel) else int(lengths[batch].max())
            yield batch, torch.from_numpy(rows[batch, :longest])

    def _levels(
        self, rows: torch.Tensor, numbers: np.ndarray, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, np.ndarray]:
        """Returns the features of some rows in float16, after checking them."""
        with torch.no_grad():
            levels = self.encoder.levels(rows)
        expected = {name: (len(rows), *shape) for name, shape in shapes.items()}
        found = {name: tuple(features.shape) for name, features in levels.items()}
        if found != expected:
            raise ValueError(f"the encoder has declared levels of shape {expected}, but gives {found}")
        arrays = {}
        for name, features in levels.items():
            half = features.to(torch.float16).cpu()
            if not half.isfinite().all():
                wrong = numbers[~half.reshape(len(rows), -1).isfinite().all(dim=1).numpy()]
                raise ValueError(
                    f"the features of {len(wrong)} of {len(rows)} rows of {self.split!r}, among them row {wrong[0]}, "
                    f"are not finite in float16 (level {name}), so that the features of this encoder cannot be stored"
                )
            arrays[name] = half.numpy()
        return arrays
