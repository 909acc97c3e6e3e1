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
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerFast

from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor

from . import archives, protocols, text_rows, vocabulary
from .base import INPUT_MODULES, FewShotBuilder, row_features, text_hash
from .few_shot import FewShotSplit, split_of_builder
from .protocols import SPLITS, select_rows

PROTOCOLS = ("class_disjoint", "sample_disjoint")
_MODALITY_OPTIONS = {
    "audio": ("sampling_rate", "duration"),
    "text": ("unit", "passage_length", "min_count", "tokenizer"),
    "image": ("image_size",),
}
OPTIONS = ("shares", "seed", "skip_unreadable", *(name for names in _MODALITY_OPTIONS.values() for name in names))
_DEFAULT_SHARES = {"class_disjoint": (0.6, 0.2, 0.2), "sample_disjoint": (0.7, 0.15, 0.15)}


@dataclass(frozen=True)
class Collection:
    """Labelled inputs that have not been read yet; the lists have one entry an input.

    Attributes:
        name: of the data set.
        modality: `"audio"`, `"text"` or `"image"`.
        names: what to call an input in an error.
        labels: names of classes.
        sources: the recording or document that an input comes from.
        splits: the split that it comes in; None when the data have no splits.
        read: number of an input -> what the processor takes: a path or bytes, and the string itself of a text. Raises
            ValueError or OSError when it cannot be read.
        fingerprint: changes when an input does.
    """

    name: str
    modality: str
    names: Sequence[str]
    labels: Sequence[str]
    sources: Sequence[str]
    splits: Sequence[str] | None
    read: Callable[[int], Any]
    fingerprint: str

    @property
    def class_names(self) -> list[str]:
        """All labels, sorted."""
        return sorted(set(self.labels))

    def part(self, numbers: Sequence[int]) -> Collection:
        """Some of the inputs."""
        return replace(
            self,
            names=[self.names[i] for i in numbers],
            labels=[self.labels[i] for i in numbers],
            sources=[self.sources[i] for i in numbers],
            splits=None,
            read=lambda position: self.read(numbers[position]),
            fingerprint=text_hash(self.fingerprint, json.dumps(list(numbers))),
        )

    def rows_of(self, description: dict) -> list[int]:
        """Numbers of the inputs that belong to one split of a protocol."""
        names = self.class_names
        labels = np.asarray([names.index(label) for label in self.labels], dtype=np.int64)
        return select_rows(description, labels, np.asarray(self.sources, dtype=object), names)[0].tolist()


@dataclass(frozen=True)
class Encoding:
    """How an input becomes rows.

    Attributes:
        preprocessor: the part of the processor that does it; `FewShotSplit.preprocessor`.
        row_shape: of one row.
        encode: what `Collection.read` gives -> (rows, *row_shape) integers.
        key: changes when a row does; for the cache.
        fields: further attributes of the split.
    """

    preprocessor: Any
    row_shape: tuple[int, ...]
    encode: Callable[[Any], np.ndarray]
    key: str
    fields: dict[str, Any]


class OwnRows(FewShotBuilder):
    """Rows of a collection, input after input.

    Raises (from `build`):
        ValueError: inputs that cannot be read, all of them named; not with `skip_unreadable`.

    Warns:
        UserWarning: with `skip_unreadable`, the same.
    """

    def __init__(
        self,
        collection: Collection,
        encoding: Encoding,
        descriptions: dict[str, dict],
        skip_unreadable: bool,
        cache_dir: str | os.PathLike | None,
    ):
        self.collection, self.encoding, self.descriptions = collection, encoding, descriptions
        self.skip_unreadable = skip_unreadable
        self.modality, self.row_shape = collection.modality, encoding.row_shape
        super().__init__(cache_dir=cache_dir)

    @classmethod
    def code_modules(cls) -> list[ModuleType]:
        return [*super().code_modules(), archives, protocols, *INPUT_MODULES, text_rows, vocabulary]

    def input_fingerprint(self, data_dir: str | None) -> str:
        """Of the inputs and of how they become rows."""
        return text_hash(self.collection.fingerprint, self.encoding.key, str(self.skip_unreadable))

    def protocols(self) -> dict[str, dict[str, dict]]:
        """The same divisions whatever the protocol is called: `load_collection` has made them for one."""
        return dict.fromkeys(PROTOCOLS, self.descriptions)

    def _info(self) -> datasets.DatasetInfo:
        size = int(np.prod(self.row_shape))
        return datasets.DatasetInfo(features=row_features(self.modality, size, self.collection.class_names))

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        unreadable = []
        for number, name in enumerate(self.collection.names):
            try:
                rows = self.encoding.encode(self.collection.read(number))
            except (ValueError, OSError) as error:
                unreadable.append(f"{name} ({error})")
                continue
            common = {"label": self.collection.labels[number], "source_id": self.collection.sources[number]}
            for position, row in enumerate(rows):
                yield f"{number}/{position}", {self.modality: self.flat(row), **common}
        if unreadable:
            report = (
                f"{len(unreadable)} of {len(self.collection.names)} inputs of {self.collection.name} cannot be read"
            )
            if not self.skip_unreadable or len(unreadable) == len(self.collection.names):
                raise ValueError(f"{report}: {'; '.join(unreadable)}. Remove them, or pass skip_unreadable=True")
            warnings.warn(f"{report} and were left out: {'; '.join(unreadable)}", UserWarning, stacklevel=2)


@dataclass
class OwnVocabularyConfig(datasets.BuilderConfig):
    """How often a word must occur in the training texts to have an id of its own."""

    min_count: int = text_rows.MIN_COUNT


class OwnVocabulary(text_rows.VocabularyBuilder):
    """Words of a collection of training texts; those that cannot be read are left to `OwnRows` to report."""

    BUILDER_CONFIG_CLASS = OwnVocabularyConfig
    config: OwnVocabularyConfig

    def __init__(self, collection: Collection, cache_dir: str | os.PathLike | None, min_count: int):
        self.collection = collection
        super().__init__(cache_dir=cache_dir, min_count=min_count)

    @classmethod
    def code_modules(cls) -> list[ModuleType]:
        return [*super().code_modules(), text_rows]

    def input_fingerprint(self, data_dir: str | None) -> str:
        """Of the texts."""
        return self.collection.fingerprint

    def training_sentences(self) -> Iterator[str]:
        for number in range(len(self.collection.names)):
            try:
                text = self.collection.read(number)
            except (ValueError, OSError):
                continue
            yield from text.splitlines()


def load_collection(
    collection: Collection,
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
    foreign = sorted(set(encoding_options) - set(_MODALITY_OPTIONS[collection.modality]))
    if foreign:
        works = ", ".join(_MODALITY_OPTIONS[collection.modality])
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
        members = {name: collection.rows_of(description) for name, description in descriptions.items()}
    if not members[split]:
        raise ValueError(
            f"split {split!r} of {collection.name} is empty: it has {len(collection.class_names)} classes, divided "
            f"{ {name: len(numbers) for name, numbers in members.items()} }; add inputs, or choose other shares"
        )
    encoding = _ENCODINGS[collection.modality](collection.part(members["train"]), cache_dir, **encoding_options)
    builder = OwnRows(chosen, encoding, descriptions, skip_unreadable, cache_dir)
    return split_of_builder(
        builder, split, protocol, name=collection.name, preprocessor=encoding.preprocessor, **encoding.fields
    )


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
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r} is not possible; it must be a non-negative integer")
    bounds = [0.0, shares[0], shares[0] + shares[1], 1.0]
    if protocol == "sample_disjoint":
        return {
            split: {"classes": list(class_names), "share": [bounds[i], bounds[i + 1]], "seed": seed}
            for i, split in enumerate(SPLITS)
        }
    ordered = sorted(class_names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
    cuts = [round(bound * len(ordered)) for bound in bounds]
    return {split: {"classes": sorted(ordered[cuts[i] : cuts[i + 1]])} for i, split in enumerate(SPLITS)}


def _given_splits(collection: Collection, protocol: str) -> dict[str, list[int]]:
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
                f"the {kind} {archives.few(shared)} of {collection.name} are in {first} and in {second}, which "
                f"protocol={protocol!r} rules out: move them, or {remedy}"
            )
    return members


def _audio(training: Collection, cache_dir, sampling_rate: int = 16_000, duration: float = 5.0) -> Encoding:
    extractor = MSMAMLFeatureExtractor(sampling_rate, duration)
    return Encoding(
        preprocessor=extractor,
        row_shape=(extractor.num_samples,),
        encode=lambda sound: extractor(sound)["input_values"],
        key=extractor.to_json_string(),
        fields={},
    )


def _image(training: Collection, cache_dir, image_size: int = 32) -> Encoding:
    processor = MSMAMLImageProcessor(image_size)
    return Encoding(
        preprocessor=processor,
        row_shape=(3, image_size, image_size),
        encode=lambda image: processor(image)["pixel_values"],
        key=processor.to_json_string(),
        fields={},
    )


def _text(
    training: Collection,
    cache_dir,
    unit: str = "passage",
    passage_length: int | None = None,
    min_count: int | None = None,
    tokenizer: str | os.PathLike | None = None,
) -> Encoding:
    vectors = None
    if tokenizer is not None:
        if min_count is not None:
            raise ValueError(f"min_count={min_count!r} has no effect beside tokenizer={str(tokenizer)!r}")
        words = PreTrainedTokenizerFast.from_pretrained(tokenizer)
        if passage_length is None and unit == "passage" and words.model_max_length <= 1_000_000:
            passage_length = words.model_max_length
    length = text_rows.row_length(unit, passage_length)
    if tokenizer is None:
        if not training.names:
            raise ValueError(
                f"{training.name} has no training texts to make a vocabulary of: add some, or name the checkpoint to "
                "evaluate with tokenizer=..."
            )
        min_count = text_rows.positive("min_count", text_rows.MIN_COUNT if min_count is None else min_count)
        own = OwnVocabulary(training, cache_dir, min_count)
        words, vectors = own.tokenizer(length), own.word_vectors()
    words.model_max_length = length
    return Encoding(
        preprocessor=words,
        row_shape=(length,),
        encode=lambda text: text_rows.document_rows(words, text, unit, length),
        key=text_hash(words.backend_tokenizer.to_str(), unit, str(length)),
        fields={"tokenizer": words, "word_vectors": vectors},
    )


_ENCODINGS = {"audio": _audio, "text": _text, "image": _image}
