"""Lists the rows of tables and of data sets on the Hub as labelled inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import datasets

from .fingerprints import text_hash
from .label_values import clean, is_absent, refuse_look_alikes, source_of
from .labelled_inputs import SPLIT_OF_NAME, LabelledInputs
from .notes import listing
from .path_strings import ends_like_file, named_place, shown
from .read_text import read_text


def labelled_tables(
    loaded: Mapping[str, datasets.Dataset],
    name: str,
    label_column: str = "label",
    input_column: str | None = None,
    source_column: str | None = None,
    keep_splits: bool = False,
    places: Mapping[str, Sequence[str]] | None = None,
) -> LabelledInputs:
    """Lists the rows of all splits as labelled inputs, without reading sounds and images.

    Args:
        loaded: the data set of each split, as `datasets.load_dataset` returns them.
        name: name of the data set.
        label_column: column of the class: a class label, string or integer.
        input_column: column of the inputs: audio, image or string. By default it is the only audio or image column, or
            else the only string column.
        source_column: column of the recording or document from which an input comes. By default each row is a source,
            and so is a row without a value there (null, NaN, a blank string, or a word such as `NA`).
        keep_splits: whether the splits train, validation and test stay as they are.
        places: for splits where it is known, the file and line of each row, for messages.

    Raises:
        ValueError: a column does not exist or has a wrong type, there are several possible input columns, a column of
            strings holds nothing but names of files, rows have no label, two labels look the same, or, with
            `keep_splits`, a split has a name other than train, validation and test.
    """
    features = next(iter(loaded.values())).features
    for option, column in (("label_column", label_column), ("source_column", source_column)):
        if column is not None and column not in features:
            raise ValueError(f"{option}={column!r} is no column of {name}; its columns: {', '.join(features)}")
    input_column, modality = _input_column(features, input_column, {label_column, source_column}, name)
    foreign = [split for split in loaded if split.lower() not in SPLIT_OF_NAME]
    if keep_splits and foreign:
        known = ", ".join(SPLIT_OF_NAME)
        raise ValueError(f"keep_splits=True: {name} has the splits {', '.join(loaded)}; those that work are {known}")
    inputs, names, labels, sources, splits = [], [], [], [], []
    for split, data in loaded.items():
        undecoded = _undecoded(data.select_columns([input_column]), input_column)
        where, own_names = f"{name}, split {split!r}", [f"{split}/{row}" for row in range(len(data))]
        own_places = (places or {}).get(split, [f"row {row}" for row in range(len(data))])
        own_labels = _label_names(data, label_column, where, own_places)
        if modality == "text":
            _refuse_file_names(data, input_column, where, own_places)
        names += own_places if split in (places or {}) else own_names
        inputs += [(undecoded, row) for row in range(len(data))]
        labels += own_labels
        splits += [SPLIT_OF_NAME.get(split.lower(), split)] * len(data)
        own_sources = data[source_column][:] if source_column else [None] * len(data)
        sources += [source_of(source, own) for own, source in zip(own_names, own_sources, strict=True)]
    refuse_look_alikes(labels, f"{name}, column {label_column!r}")
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
    """Returns the modality of a column by its feature; `None` if it cannot be an input."""
    if isinstance(feature, datasets.Audio):
        return "audio"
    if isinstance(feature, datasets.Image):
        return "image"
    return "text" if getattr(feature, "dtype", None) in ("string", "large_string") else None


def _input_column(
    features: datasets.Features, asked: str | None, others: set[str | None], name: str
) -> tuple[str, str]:
    """Returns the column with the inputs, and its modality."""
    columns = {column: _modality(feature) for column, feature in features.items() if column not in others}
    modalities = {column: modality for column, modality in columns.items() if modality is not None}
    found = ", ".join(f"{column} ({features[column]})" for column in features)
    if asked is not None:
        if asked not in modalities:
            raise ValueError(f"input_column={asked!r} is no audio, image or string column of {name}, which has {found}")
        return asked, modalities[asked]
    candidates = [column for column, modality in modalities.items() if modality in ("audio", "image")]
    candidates = candidates or list(modalities)
    if len(candidates) != 1:
        raise ValueError(f"input_column is needed for {name}: its columns are {found}")
    return candidates[0], modalities[candidates[0]]


def _undecoded(data: datasets.Dataset, column: str) -> datasets.Dataset:
    """Leaves sounds and images as the content of their files, for the processor to decode."""
    feature = data.features[column]
    return data if _modality(feature) == "text" else data.cast_column(column, type(feature)(decode=False))


def _refuse_file_names(data: datasets.Dataset, column: str, where: str, places: Sequence[str]) -> None:
    """Refuses a column of strings all of which name files, which would be learned as texts."""
    first = None
    for number, value in enumerate(data[column]):
        if value is None or not value.strip():
            continue
        place = named_place(value)
        if place is None or (place.why and not ends_like_file(value)):
            return
        first = first or f"{places[number]}: {shown(value)}"
    if first is not None:
        raise ValueError(
            f"column {column!r} of {where} holds nothing but names of files ({first}), which are not opened: give a "
            "column of sounds, pictures or texts, such as datasets.Audio() or Image() for this one, or a folder with "
            "a metadata.csv"
        )


def _label_names(data: datasets.Dataset, column: str, where: str, places: Sequence[str]) -> list[str]:
    """Returns the name of the class of every row, cleaned (see `clean`)."""
    feature, values = data.features[column], data[column][:]
    dtype = str(getattr(feature, "dtype", None))
    if dtype not in ("string", "large_string", "bool") and not re.fullmatch(r"u?int\d+", dtype):
        raise ValueError(f"label_column={column!r} of {where} is {feature}; a class label, string or integer is needed")
    labels: list[str] = []
    for row, value in enumerate(values):
        if isinstance(feature, datasets.ClassLabel) and value is not None:
            if value >= len(feature.names):
                raise ValueError(
                    f"{places[row]} of {where} has {value} in column {column!r}, which is no class of {feature}"
                )
            value = feature.names[value] if value >= 0 else None
        label = "" if is_absent(value) else clean(str(value))
        labels.append("" if is_absent(label) else label)
    if without := [places[row] for row, label in enumerate(labels) if not label]:
        raise ValueError(
            f"{len(without)} rows of {where} have no label in column {column!r} ({listing(without)}): remove them from "
            "the data set, or write the class otherwise if it is called NA, None, null or the like"
        )
    return labels


def _read(inputs: list[tuple[datasets.Dataset, int]], column: str, modality: str, number: int) -> str | bytes:
    """Returns an input: the string of a text, or the content or path of a file."""
    data, row = inputs[number]
    value = data[row][column]
    if value is None:
        raise ValueError("it is empty")
    if modality == "text":
        return read_text(value)
    return value["bytes"] if value["bytes"] is not None else value["path"]
