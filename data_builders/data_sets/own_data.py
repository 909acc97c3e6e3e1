"""A person's own classes as splits: what `folder` and `hub` share.

How own data are split:

- data that come in splits (sub-folders `train`, `validation`, `test`; `keep_splits=True` on the Hub) stay in them. It
  is an error when they break the protocol: a test class among the training ones under `class_disjoint`, a source in two
  splits under `sample_disjoint`;
- else `class_disjoint` divides the classes, and `sample_disjoint` the sources of every class, by `shares` and `seed`.

Options of both:
    shares: fractions for train, validation and test; (0.6, 0.2, 0.2) of the classes or (0.7, 0.15, 0.15) of the sources
        by default. (0, 0, 1) evaluates on everything.
    seed: decides which classes or sources go where.
    skip_unreadable: leave out inputs that cannot be read, with a warning that names them; otherwise they are an error.
    sampling_rate, duration: of audio, Hz and seconds; 16,000 and 5 by default.
    image_size: height and width of images, pixels; 32 by default.
    unit, passage_length, min_count: of text, as for `brown`.
    tokenizer: folder or name of a saved checkpoint, whose vocabulary is used for text in place of a new one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from modeling_msmaml.inputs.labelled_inputs import SPLITS, LabelledInputs, few
from modeling_msmaml.model.options import at_least, checked

from ..splits.protocols import select_rows
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from .own_rows import ENCODINGS, MODALITY_OPTIONS, OwnRows

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
    """One split of own data; the options are in the docstring of this module.

    Raises:
        ValueError: the data's own splits break the protocol, a split is empty, an option is out of range or belongs to
            another modality, inputs cannot be read, or there are no training texts to make a vocabulary of.
    """
    foreign = sorted(set(encoding_options) - set(MODALITY_OPTIONS[collection.modality]))
    if foreign:
        works = ", ".join(MODALITY_OPTIONS[collection.modality])
        raise ValueError(f"option {', '.join(foreign)} has no effect on {collection.modality}; its options: {works}")
    if collection.splits is not None:
        if shares is not None:
            raise ValueError(f"shares={shares!r} has no effect: {collection.name} comes in splits of its own")
        members = _given_splits(collection, protocol)
        chosen = collection.part(members[split])
        descriptions = {name: {"classes": chosen.class_names} for name in SPLITS}
    else:
        chosen = collection
        descriptions = divisions(collection.class_names, protocol, shares, seed)
        members = {name: rows_of(collection, description) for name, description in descriptions.items()}
    if not members[split]:
        raise ValueError(
            f"split {split!r} of {collection.name} is empty: it has {len(collection.class_names)} classes, divided "
            f"{ {name: len(numbers) for name, numbers in members.items()} }; add inputs, or choose other shares"
        )
    encoding = ENCODINGS[collection.modality](collection.part(members["train"]), cache_dir, **encoding_options)
    builder = OwnRows(chosen, encoding, descriptions, skip_unreadable, cache_dir)
    return split_of_builder(
        builder, split, protocol, name=collection.name, preprocessor=encoding.preprocessor, **encoding.fields
    )


def rows_of(collection: LabelledInputs, description: dict) -> list[int]:
    """Numbers of the inputs that belong to one split of a protocol, described as in `splits/protocols.py`."""
    names = collection.class_names
    labels = np.asarray([names.index(label) for label in collection.labels], dtype=np.int64)
    return select_rows(description, labels, np.asarray(collection.sources, dtype=object), names)[0].tolist()


def divisions(
    class_names: Sequence[str], protocol: str, shares: Sequence[float] | None = None, seed: int = 0
) -> dict[str, dict]:
    """The splits of a protocol for any classes, described as in `protocols.py`.

    Raises:
        ValueError: shares that are not three fractions with the sum 1, or a negative seed.
    """
    shares = _DEFAULT_SHARES[protocol] if shares is None else tuple(shares)
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares={shares!r} is not possible; give fractions for train, validation and test, sum 1")
    checked("seed", seed, at_least(0))
    bounds = [0.0, shares[0], shares[0] + shares[1], 1.0]
    if protocol == "sample_disjoint":
        return {
            split: {"classes": list(class_names), "share": [bounds[i], bounds[i + 1]], "seed": seed}
            for i, split in enumerate(SPLITS)
        }
    ordered = sorted(class_names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
    cuts = [round(bound * len(ordered)) for bound in bounds]
    return {split: {"classes": sorted(ordered[cuts[i] : cuts[i + 1]])} for i, split in enumerate(SPLITS)}


def _given_splits(collection: LabelledInputs, protocol: str) -> dict[str, list[int]]:
    """The inputs of each split that the data come in, which must keep what the protocol promises."""
    members = {name: [i for i, own in enumerate(collection.splits) if own == name] for name in SPLITS}
    what = collection.labels if protocol == "class_disjoint" else collection.sources
    held = {name: {what[i] for i in numbers} for name, numbers in members.items()}
    pairs = [("train", "test"), ("validation", "test")]
    pairs += [("train", "validation")] if protocol == "sample_disjoint" else []
    for first, second in pairs:
        shared = held[first] & held[second]
        if shared:
            kind = "classes" if protocol == "class_disjoint" else "sources"
            remedy = "take protocol='sample_disjoint'" if kind == "classes" else "keep a source in one split"
            raise ValueError(
                f"the {kind} {few(shared)} of {collection.name} are in {first} and in {second}, which "
                f"protocol={protocol!r} rules out: move them, or {remedy}"
            )
    return members
