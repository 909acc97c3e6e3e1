"""Tables and data sets of the Hub -> labelled inputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import datasets

from .fingerprints import text_hash
from .labelled_inputs import SPLITS, LabelledInputs


def labelled_tables(
    loaded: Mapping[str, datasets.Dataset],
    name: str,
    label_column: str = "label",
    input_column: str | None = None,
    source_column: str | None = None,
    keep_splits: bool = False,
) -> LabelledInputs:
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
    return LabelledInputs(
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
