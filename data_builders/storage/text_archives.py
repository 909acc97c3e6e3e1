"""What text data sets in official archives share: a vocabulary of training rows, or a given tokenizer, and its rows.

A data set defines a subclass of `ArchiveVocabulary`, which reads its training texts, and one of `TextArchive`, which
makes the rows. Those of a data set of short texts derive from `ShortTextVocabulary` and `ShortTexts`, and define only
how the texts are read. `text_builder` makes the builder of the rows from the options of `load_few_shot`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets
import numpy as np
from transformers import PreTrainedTokenizerFast

from modeling_msmaml.inputs.fingerprints import text_hash
from modeling_msmaml.inputs.labelled_inputs import few
from modeling_msmaml.inputs.read_text import encode_texts
from modeling_msmaml.model.options import at_least, checked

from ..splits.protocols import described_split, select_rows
from . import text_rows
from .builder import ArchiveBuilder, row_features
from .few_shot_split import FewShotSplit, split_of_builder
from .text_rows import TrainingTexts, VocabularyBuilder, VocabularyConfig
from .vocabulary import split_words

# Number of tokens in the row of a short text: a multiple of 12, the width in tokens of the reference embedding. 99.7 %
# of the texts of Banking77 (at most 96 tokens) and all texts of CLINC150 (at most 30) are whole in such a row.
TEXT_LENGTH = 60


@dataclass
class ArchiveVocabularyConfig(VocabularyConfig):
    """Says which protocol's training rows are used, besides how often a word must occur in them."""

    protocol: str = "class_disjoint"


class ArchiveVocabulary(VocabularyBuilder, ArchiveBuilder):
    """Builds the vocabulary of the training rows of a protocol, which `training_sentences` reads from `store`."""

    BUILDER_CONFIG_CLASS = ArchiveVocabularyConfig
    config: ArchiveVocabularyConfig

    def training_texts(self) -> TrainingTexts:
        """Returns the lines from which the vocabulary is made, for a vocabulary of several data sets."""

        def read() -> Iterable[str]:
            self.store = self.open_store()
            return self.training_sentences()

        return TrainingTexts(read, text_hash(str(self.hash), self.config.protocol))


@dataclass
class TextArchiveConfig(ArchiveVocabularyConfig):
    """Says what a row is.

    Attributes:
        length: number of tokens in a row.
        tokenizer_hash: hash of the tokenizer that is used in place of the vocabulary, so that every tokenizer has its
            own cache.
    """

    length: int = TEXT_LENGTH
    tokenizer_hash: str | None = None


class TextArchive(ArchiveBuilder):
    """A builder of rows of token ids, int32 with zeros after their end.

    Attributes:
        VOCABULARY: builder of the vocabulary of the training rows.
        tokenizer: tokenizer that is used in place of the vocabulary.
    """

    BUILDER_CONFIG_CLASS = TextArchiveConfig
    VOCABULARY: type[ArchiveVocabulary]
    config: TextArchiveConfig
    modality = "text"
    tokenizer: PreTrainedTokenizerFast | None = None

    def _info(self) -> datasets.DatasetInfo:
        self.row_shape = (self.config.length,)
        return datasets.DatasetInfo(features=row_features(self.modality, self.config.length, self.class_names()))

    def vocabulary(self) -> ArchiveVocabulary:
        """Returns the builder of the vocabulary that defines the token ids of these rows."""
        return self.VOCABULARY(
            cache_dir=self._cache_dir_root,
            data_dir=self.config.data_dir,
            protocol=self.config.protocol,
            min_count=self.config.min_count,
        )

    def row_tokenizer(self) -> PreTrainedTokenizerFast:
        """Returns the given tokenizer, or else that of the vocabulary."""
        return self.tokenizer or self.vocabulary().tokenizer(self.config.length)


def text_builder(
    builder: type[TextArchive],
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    length: int,
    min_count: int | None,
    tokenizer: PreTrainedTokenizerFast | str | os.PathLike | None,
    **config: Any,
) -> tuple[TextArchive, dict[str, Any]]:
    """Returns the builder of the rows, and the attributes that a split of it has besides its rows.

    Args:
        builder: class of the builder.
        data_dir, cache_dir: arguments of `load_few_shot`.
        length: number of tokens in a row.
        min_count: least number of occurrences of a word, by default 5.
        tokenizer: tokenizer that is used in place of a vocabulary, see `text_rows.given_tokenizer`.
        **config: further fields of the configuration, such as the protocol.

    Raises:
        ValueError: `min_count` is out of range or given together with `tokenizer`, or the tokenizer is not possible.
    """
    places = {"cache_dir": cache_dir, "data_dir": data_dir}
    if tokenizer is None:
        count = checked("min_count", text_rows.MIN_COUNT if min_count is None else min_count, at_least(1))
        made = builder(**places, min_count=count, length=length, **config)
        vocabulary = made.vocabulary()
        words, vectors = vocabulary.tokenizer(length), vocabulary.word_vectors()
    else:
        words, vectors = text_rows.given_tokenizer(tokenizer, min_count), None
        content = text_hash(words.backend_tokenizer.to_str())
        made = builder(**places, length=length, tokenizer_hash=content, **config)
        words.model_max_length = length
        made.tokenizer = words
    return made, {"tokenizer": words, "preprocessor": words, "word_vectors": vectors}


# Short texts


class ShortText(NamedTuple):
    """A text, the name of its class, and its place in the data set, such as `train/17`."""

    text: str
    label: str
    place: str


class ShortTextReader(ArchiveBuilder):
    """A builder that reads short texts."""

    def read_texts(self) -> Sequence[ShortText]:
        """Returns all texts in `store`, in their order."""
        raise NotImplementedError

    def checked_texts(self) -> Sequence[ShortText]:
        """Returns all texts, after checking that there are any and that they belong to classes of the data set.

        Raises:
            ValueError: the data set has no texts, an empty one, or one of an unknown class. The message says where.
        """
        texts, classes = self.read_texts(), set(self.class_names())
        empty = [text.place for text in texts if not text.text.strip()]
        unknown = [f"{text.label!r} ({text.place})" for text in texts if text.label not in classes]
        if not texts or empty or unknown:
            what = (
                f"texts without words: {few(empty)}"
                if empty
                else f"classes that {self.OFFICIAL.title} lacks: {few(unknown)}"
                if unknown
                else "no texts"
            )
            raise ValueError(f"{self.store.path} has {what}. Fetch the data set again")
        return texts


def sources_of(texts: Sequence[ShortText]) -> list[str]:
    """Returns the source of each text: the place of the first text that has the same words.

    So every text is its own source, except that a text which is in the data set twice is never in two splits of
    `sample_disjoint`, nor both in the support and in the query set of an episode.
    """
    first: dict[str, str] = {}
    return [first.setdefault(" ".join(split_words(text.text)), text.place) for text in texts]


class ShortTextVocabulary(ArchiveVocabulary, ShortTextReader):
    """Builds the vocabulary of the training rows of short texts."""

    def training_sentences(self) -> Iterator[str]:
        texts, names = self.checked_texts(), self.class_names()
        labels = np.asarray([names.index(text.label) for text in texts])
        sources = np.asarray(sources_of(texts), dtype=object)
        description = described_split(self.protocols(), self.config.protocol, "train", self.dataset_name)
        for row in select_rows(description, labels, sources, names)[0]:
            yield from texts[row].text.splitlines()


class ShortTexts(TextArchive, ShortTextReader):
    """Builds one row per text, with its first `length` tokens."""

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        texts = self.checked_texts()
        rows = encode_texts(self.row_tokenizer(), [text.text for text in texts], self.config.length)
        for text, row, source in zip(texts, rows, sources_of(texts), strict=True):
            yield text.place, {self.modality: self.flat(row), "label": text.label, "source_id": source}


def load_short_texts(
    builder_class: type[ShortTexts],
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    text_length: int = TEXT_LENGTH,
    min_count: int | None = None,
    tokenizer: PreTrainedTokenizerFast | str | os.PathLike | None = None,
) -> FewShotSplit:
    """Loads one split of a data set of short texts, for `load_few_shot`.

    Args:
        builder_class: class of its builder.
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        text_length: number of tokens in a row, at least 1 and by default 60.
        min_count, tokenizer: options as in `data_sets/brown.py`.

    Raises:
        ValueError: see `text_builder`; or `text_length` is not a positive integer.
    """
    length = checked("text_length", text_length, at_least(1))
    builder, fields = text_builder(builder_class, data_dir, cache_dir, length, min_count, tokenizer, protocol=protocol)
    return split_of_builder(builder, split, protocol, **fields)


def short_training_texts(
    vocabulary_class: type[ShortTextVocabulary],
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    **options: Any,
) -> TrainingTexts:
    """Returns the lines of the training texts, for a vocabulary of several data sets.

    Args:
        vocabulary_class: class of the data set's own vocabulary.
        protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        **options: options of `load_short_texts`, none of which changes the texts.
    """
    return vocabulary_class(cache_dir=cache_dir, data_dir=data_dir, protocol=protocol).training_texts()
