"""How a user's own data are divided into splits, which the data sets `folder` and `hub` share.

Data that come in splits (in sub-folders `train`, `validation` and `test`, or from the Hub with `keep_splits=True`) keep
them. It is an error if these splits break the protocol, because a test class is also used for training or validation
under `class_disjoint`, or a source occurs in two splits under `sample_disjoint`. Data without splits are divided by
`shares` and `seed`: `class_disjoint` divides the classes, and `sample_disjoint` divides the sources of every class.

Options of both data sets:
    shares: fractions for train, validation and test; by default (0.6, 0.2, 0.2) of the classes or (0.7, 0.15, 0.15) of
        the sources. (0, 0, 1) uses all data for the test.
    seed: seed of the division.
    skip_unreadable: whether inputs that cannot be read are left out, with a warning that names them. By default they
        are an error.
    sampling_rate, duration: sampling rate (Hz) and duration (s) of audio samples; by default 16,000 and 5.
    image_size: height and width of images in pixels; by default 32.
    unit, passage_length, min_count: options of text, as for `brown`.
    tokenizer: tokenizer, or folder or name of a checkpoint that has one, for text in place of a new vocabulary.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from modeling_msmaml.inputs.labelled_inputs import SPLITS, LabelledInputs, few
from modeling_msmaml.model.options import any_seed, checked

from ..splits.protocols import NoSuchSplit, select_rows
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from ..storage.text_rows import TrainingTexts
from .own_rows import ENCODINGS, MODALITY_OPTIONS, OwnRows, readable_lines

OPTIONS = ("shares", "seed", "skip_unreadable", *(name for names in MODALITY_OPTIONS.values() for name in names))
_DEFAULT_SHARES = {"class_disjoint": (0.6, 0.2, 0.2), "sample_disjoint": (0.7, 0.15, 0.15)}


def load_collection(
    collection: LabelledInputs,
    split: str,
    protocol: str,
    cache_dir: str | os.PathLike | None,
    shares: Sequence[float] | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    **encoding_options: Any,
) -> FewShotSplit:
    """Makes one split of a user's own data.

    Args:
        collection: the labelled inputs.
        split, protocol, cache_dir: arguments of `load_few_shot`.
        shares, seed, skip_unreadable, **encoding_options: options, which the docstring of this module describes.

    Raises:
        NoSuchSplit: the split is empty. The message says what the data have and how they are divided.
        ValueError: the splits of the data break the protocol, an option is out of range or belongs to another modality,
            inputs cannot be read, or there are no training texts to make a vocabulary from.
    """
    foreign = sorted(set(encoding_options) - set(MODALITY_OPTIONS[collection.modality]))
    if foreign:
        works = ", ".join(MODALITY_OPTIONS[collection.modality])
        raise ValueError(f"option {', '.join(foreign)} has no effect on {collection.modality}; its options: {works}")
    members, descriptions = _members(collection, protocol, shares, seed)
    if descriptions is None:
        chosen = collection.part(members[split])
        descriptions = {name: {"classes": chosen.class_names} for name in SPLITS}
    else:
        chosen = collection
    if not members[split]:
        raise NoSuchSplit(
            f"split {split!r} of {collection.name} is empty: it has {len(collection.class_names)} classes, divided "
            f"{ {name: len(numbers) for name, numbers in members.items()} }; add inputs, or choose other shares"
        )
    encoding = ENCODINGS[collection.modality](collection.part(members["train"]), cache_dir, **encoding_options)
    builder = OwnRows(chosen, encoding, descriptions, skip_unreadable, cache_dir)
    return split_of_builder(
        builder, split, protocol, name=collection.name, preprocessor=encoding.preprocessor, **encoding.fields
    )


def training_lines(
    collection: LabelledInputs, protocol: str, shares: Sequence[float] | None = None, seed: int = 0, **options: Any
) -> TrainingTexts:
    """Returns the lines of the training texts of a user's own data, for a vocabulary of several data sets.

    Args:
        collection, protocol, shares, seed: arguments of `load_collection`.
        **options: its other options, which do not change the lines. Texts that cannot be read are skipped.

    Raises:
        ValueError: the data are not texts, there are no training texts, or see `load_collection`.
    """
    if collection.modality != "text":
        raise ValueError(f"{collection.name} has {collection.modality}, not texts: it has no part in a vocabulary")
    training = collection.part(_members(collection, protocol, shares, seed)[0]["train"])
    if not training.names:
        raise ValueError(f"{collection.name} has no training texts to make a vocabulary from: add some")
    return TrainingTexts(lambda: readable_lines(training), training.fingerprint)


def _members(
    collection: LabelledInputs, protocol: str, shares: Sequence[float] | None, seed: int
) -> tuple[dict[str, list[int]], dict[str, dict] | None]:
    """Returns the indices of the inputs of each split, and the descriptions of splits that the data do not have."""
    if collection.splits is None:
        descriptions = divisions(collection.class_names, protocol, shares, seed)
        return {name: rows_of(collection, description) for name, description in descriptions.items()}, descriptions
    if shares is not None:
        raise ValueError(f"shares={shares!r} has no effect, because {collection.name} has its own splits: leave it out")
    return _given_splits(collection, collection.splits, protocol), None


def rows_of(collection: LabelledInputs, description: dict) -> list[int]:
    """Returns the indices of the inputs of one split, whose description has the form of `splits/protocols.py`."""
    names = collection.class_names
    labels = np.asarray([names.index(label) for label in collection.labels], dtype=np.int64)
    return select_rows(description, labels, np.asarray(collection.sources, dtype=object), names)[0].tolist()


def divisions(
    class_names: Sequence[str], protocol: str, shares: Sequence[float] | None = None, seed: int = 0
) -> dict[str, dict]:
    """Returns descriptions of the splits of a protocol, in the form of `splits/protocols.py`, for any classes.

    Args:
        class_names: names of all classes.
        protocol: `class_disjoint` or `sample_disjoint`.
        shares: fractions of classes or sources for train, validation and test; by default those of the protocol.
        seed: non-negative seed of the division.

    Raises:
        ValueError: the shares are not three fractions with the sum 1, or the seed is not a non-negative integer.
    """
    shares = _DEFAULT_SHARES[protocol] if shares is None else tuple(shares)
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"shares={shares!r} is not possible; give fractions for train, validation and test with the sum 1"
        )
    checked("seed", seed, any_seed)
    bounds = [0.0, shares[0], shares[0] + shares[1], 1.0]
    if protocol == "sample_disjoint":
        return {
            split: {"classes": list(class_names), "share": [bounds[i], bounds[i + 1]], "seed": seed}
            for i, split in enumerate(SPLITS)
        }
    ordered = sorted(class_names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
    cuts = [round(bound * len(ordered)) for bound in bounds]
    return {split: {"classes": sorted(ordered[cuts[i] : cuts[i + 1]])} for i, split in enumerate(SPLITS)}


def _given_splits(collection: LabelledInputs, splits: Sequence[str], protocol: str) -> dict[str, list[int]]:
    """Returns the indices of the inputs of each given split, after checking that the splits obey the protocol."""
    members = {name: [i for i, own in enumerate(splits) if own == name] for name in SPLITS}
    what = collection.labels if protocol == "class_disjoint" else collection.sources
    held = {name: {what[i] for i in numbers} for name, numbers in members.items()}
    pairs = [("train", "test"), ("validation", "test")]
    pairs += [("train", "validation")] if protocol == "sample_disjoint" else []
    for first, second in pairs:
        shared = held[first] & held[second]
        if shared:
            kind = "classes" if protocol == "class_disjoint" else "sources"
            remedy = "choose protocol='sample_disjoint'" if kind == "classes" else "keep each source in one split"
            raise ValueError(
                f"the {kind} {few(shared)} of {collection.name} are in {first} and in {second}, which "
                f"protocol={protocol!r} rules out: move them, or {remedy}"
            )
    return members
