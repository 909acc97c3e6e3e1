"""Any data set that `datasets.load_dataset` reads: `load_few_shot("hub:<repo>", label_column=..., input_column=...)`.

All rows of all its splits are pooled and divided by the protocol, unless `keep_splits=True`. How that is done, and the
options that are not listed here, are described in `own_data.py`.

Options:
    repo: name of the data set on the Hub, or a local folder; what stands after `hub:`.
    label_column: the class of a row: a class label, a string or an integer.
    input_column: audio, image or string; may be left out when there is only one such column.
    source_column: the recording or document of a row; every row is its own source when left out.
    config_name, revision: as for `datasets.load_dataset`.
    keep_splits: use the data set's own train, validation and test splits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import datasets

from . import own_data
from .base import text_hash
from .few_shot import FewShotSplit
from .own_data import PROTOCOLS, Collection, load_collection
from .protocols import SPLITS

__all__ = ["OPTIONS", "PROTOCOLS", "hub_collection", "load"]
OPTIONS = (
    *("repo", "label_column", "input_column", "source_column", "config_name", "revision", "keep_splits"),
    *own_data.OPTIONS,
)


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    repo: str | None = None,
    label_column: str = "label",
    input_column: str | None = None,
    source_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    keep_splits: bool = False,
    **options: Any,
) -> FewShotSplit:
    """See `load_few_shot`; `data_dir` is not used. What `datasets.load_dataset` raises is not changed.

    Raises:
        ValueError: no `repo`; else see `hub_collection` and `load_collection`.
    """
    if not repo:
        raise ValueError("name='hub' needs the name of a data set: 'hub:<repo>', for instance 'hub:mteb/banking77'")
    cache = None if cache_dir is None else str(cache_dir)
    loaded = datasets.load_dataset(repo, config_name, revision=revision, cache_dir=cache)
    collection = hub_collection(loaded, f"hub:{repo}", label_column, input_column, source_column, keep_splits)
    return load_collection(collection, split, protocol, cache_dir, **options)


def hub_collection(
    loaded: Mapping[str, datasets.Dataset],
    name: str,
    label_column: str = "label",
    input_column: str | None = None,
    source_column: str | None = None,
    keep_splits: bool = False,
) -> Collection:
    """The rows of all splits, not read yet.

    Args:
        loaded: split -> data set, as `datasets.load_dataset` returns it.
        name: of the data set.
        label_column, input_column, source_column, keep_splits: see the docstring of this module.

    Raises:
        ValueError: a column does not exist or has another type, the input column is not clear, rows have no label, or
            with `keep_splits` a split has another name than train, validation and test.
    """
    features = next(iter(loaded.values())).features
    for option, column in (("label_column", label_column), ("source_column", source_column)):
        if column is not None and column not in features:
            raise ValueError(f"{option}={column!r} is no column of {name}; its columns: {', '.join(features)}")
    input_column, modality = _input_column(features, input_column, {label_column, source_column}, name)
    foreign = sorted(set(loaded) - set(SPLITS))
    if keep_splits and foreign:
        raise ValueError(f"keep_splits=True: {name} has the splits {', '.join(loaded)}; only {', '.join(SPLITS)} work")
    inputs, names, labels, sources, splits = [], [], [], [], []
    for split, data in loaded.items():
        undecoded = _undecoded(data.select_columns([input_column]), input_column)
        own_labels = _label_names(data, label_column, f"{name}, split {split!r}")
        names += [f"{split}/{row}" for row in range(len(data))]
        inputs += [(undecoded, row) for row in range(len(data))]
        labels += own_labels
        splits += [split] * len(data)
        sources += map(str, data[source_column][:]) if source_column else [f"{split}/{row}" for row in range(len(data))]
    fingerprints = [f"{split}={data._fingerprint}" for split, data in loaded.items()]
    return Collection(
        name=name,
        modality=modality,
        names=names,
        labels=labels,
        sources=sources,
        splits=splits if keep_splits else None,
        read=partial(_read, inputs, input_column, modality),
        fingerprint=text_hash(*fingerprints, label_column, input_column, str(source_column)),
    )


def _modality(feature: Any) -> str | None:
    if isinstance(feature, datasets.Audio):
        return "audio"
    if isinstance(feature, datasets.Image):
        return "image"
    return "text" if getattr(feature, "dtype", None) in ("string", "large_string") else None


def _input_column(features: datasets.Features, asked: str | None, others: set, name: str) -> tuple[str, str]:
    """The column with the inputs, and its modality."""
    modalities = {column: _modality(feature) for column, feature in features.items() if column not in others}
    found = ", ".join(f"{column} ({features[column]})" for column in features)
    if asked is not None:
        if not modalities.get(asked):
            raise ValueError(f"input_column={asked!r} is no audio, image or string column of {name}, which has {found}")
        return asked, modalities[asked]
    candidates = [column for column, modality in modalities.items() if modality in ("audio", "image")]
    candidates = candidates or [column for column, modality in modalities.items() if modality]
    if len(candidates) != 1:
        raise ValueError(f"input_column is needed for {name}: its columns are {found}")
    return candidates[0], modalities[candidates[0]]


def _undecoded(data: datasets.Dataset, column: str) -> datasets.Dataset:
    """Sounds and images as the bytes of their files: the processor decodes them."""
    feature = data.features[column]
    return data if _modality(feature) == "text" else data.cast_column(column, type(feature)(decode=False))


def _label_names(data: datasets.Dataset, column: str, where: str) -> list[str]:
    """The class of every row, as a string."""
    feature, values = data.features[column], data[column][:]
    if getattr(feature, "dtype", None) not in ("string", "large_string", "int64", "int32", "int16", "int8", "bool"):
        raise ValueError(f"label_column={column!r} of {where} is {feature}; a class label, string or integer is needed")
    is_class = isinstance(feature, datasets.ClassLabel)
    without = sum(value is None or (is_class and value < 0) for value in values)
    if without:
        raise ValueError(f"{without} rows of {where} have no label in column {column!r}: remove them from the data set")
    return [feature.int2str(value) if is_class else str(value) for value in values]


def _read(inputs: list[tuple[datasets.Dataset, int]], column: str, modality: str, number: int) -> str | bytes:
    """The string, or the bytes or path of a file."""
    data, row = inputs[number]
    value = data[row][column]
    if value is None:
        raise ValueError("it is empty")
    if modality == "text":
        return value
    return value["bytes"] if value["bytes"] is not None else value["path"]
