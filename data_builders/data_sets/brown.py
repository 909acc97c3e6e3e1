"""Brown Corpus: 500 documents of American English in 15 categories (Francis and Kucera 1964; non-commercial).

A sample is a passage of a document (or a whole document), its class the category, its source the document. Words are
looked up in a vocabulary, and have word vectors, that were made from the training documents of the protocol only.
`class_disjoint` tests on five categories; training and validation have different documents of the other ten.
`data_dir`: with `brown.zip` as NLTK distributes it, or its extracted folder `brown`; without one, it is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import datasets
import numpy as np
from transformers import PreTrainedTokenizerFast

from modeling_msmaml.inputs.fingerprints import text_hash
from modeling_msmaml.inputs.labelled_inputs import few
from modeling_msmaml.model.options import at_least, checked

from ..splits.protocols import read_protocols, select_rows
from ..storage import text_rows
from ..storage.archives import Official, Store
from ..storage.builder import ArchiveBuilder, row_features
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from ..storage.text_rows import VocabularyBuilder

OPTIONS = ("unit", "passage_length", "min_count", "tokenizer")
PROTOCOLS = tuple(read_protocols("brown"))

_CATEGORIES_FILE = "cats.txt"
_OFFICIAL = Official(
    title="the Brown Corpus",
    folders=("brown",),
    archives=("brown.zip",),
    marker=_CATEGORIES_FILE,
    source="https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/brown.zip",
    md5="a0a8630959d3d937873b1265b0a05497",
)


class Document(NamedTuple):
    """One text: its name in the corpus, its category and its sentences, without tags."""

    name: str
    category: str
    sentences: list[str]


def read_documents(store: Store) -> list[Document]:
    """All documents in the order of `cats.txt`.

    Raises:
        ValueError: a document is missing or is not in the corpus's word/tag format, or a line of `cats.txt` is wrong.
    """
    lines = [line.split() for line in store.read_one(_CATEGORIES_FILE).decode("utf-8").splitlines() if line.strip()]
    categories = _category_names()
    wrong = [" ".join(line) for line in lines if len(line) != 2 or line[1] not in categories]
    if wrong or not lines:
        raise ValueError(f"{_CATEGORIES_FILE} in {store.path} has {len(lines)} lines, some of them wrong: {few(wrong)}")
    contents = store.read([name for name, _ in lines])
    return [
        Document(name, category, strip_tags(content.decode("utf-8"), name))
        for (name, category), (_, content) in zip(lines, contents, strict=True)
    ]


def strip_tags(tagged: str, name: str = "text") -> list[str]:
    """Sentences of a document in the word/tag format, words separated by spaces; a word may contain slashes itself.

    Raises:
        ValueError: a word has no tag.
    """
    sentences = []
    for line in tagged.splitlines():
        words = line.split()
        bare = [word for word in words if "/" not in word]
        if bare:
            raise ValueError(f"document {name} has words without a tag: {few(bare)}; it is no Brown document")
        if words:
            sentences.append(" ".join(word.rsplit("/", 1)[0] for word in words))
    return sentences


@dataclass
class BrownVocabularyConfig(datasets.BuilderConfig):
    """Whose training documents to use, and how often a word must occur in them to have an id of its own."""

    protocol: str = "class_disjoint"
    min_count: int = 5


class BrownVocabulary(VocabularyBuilder, ArchiveBuilder):
    """Words of the training documents of a protocol."""

    BUILDER_CONFIG_CLASS = BrownVocabularyConfig
    OFFICIAL = _OFFICIAL
    config: BrownVocabularyConfig

    def training_sentences(self) -> Iterator[str]:
        documents = training_documents(read_documents(self.store), self.config.protocol)
        return (sentence for document in documents for sentence in document.sentences)


def training_documents(documents: list[Document], protocol: str) -> list[Document]:
    """The documents that a protocol trains on: the only ones that the vocabulary and the word vectors may see.

    Except under `original`, which was published with word vectors of all texts.
    """
    if protocol == "original":
        return documents
    names = _category_names()
    labels = np.asarray([names.index(document.category) for document in documents])
    sources = np.asarray([document.name for document in documents], dtype=object)
    rows, _ = select_rows(read_protocols("brown")[protocol]["train"], labels, sources, names)
    return [documents[row] for row in rows]


@dataclass
class BrownConfig(BrownVocabularyConfig):
    """The vocabulary, and what a sample is.

    Attributes:
        unit: `"passage"`: windows of `length` tokens; `"document"`: the first `length` tokens of each document.
        length: tokens of a row.
        tokenizer: folder or name of a tokenizer to use in place of the vocabulary.
        tokenizer_hash: changes when that tokenizer does.
    """

    unit: str = "passage"
    length: int = text_rows.PASSAGE_LENGTH
    tokenizer: str | None = None
    tokenizer_hash: str | None = None


class Brown(ArchiveBuilder):
    """Passages or documents as int32 token ids, 0 after their end; document after document."""

    BUILDER_CONFIG_CLASS = BrownConfig
    OFFICIAL = _OFFICIAL
    config: BrownConfig
    modality = "text"

    def _info(self) -> datasets.DatasetInfo:
        self.row_shape = (self.config.length,)
        return datasets.DatasetInfo(features=row_features(self.modality, self.config.length, _category_names()))

    def vocabulary(self) -> BrownVocabulary:
        """The builder of the vocabulary that these rows are written in."""
        return BrownVocabulary(
            cache_dir=self._cache_dir_root,
            data_dir=self.config.data_dir,
            protocol=self.config.protocol,
            min_count=self.config.min_count,
        )

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        if self.config.tokenizer is None:
            tokenizer = self.vocabulary().tokenizer(self.config.length)
        else:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(self.config.tokenizer)
        for document in read_documents(self.store):
            text = "\n".join(document.sentences)
            rows = text_rows.document_rows(tokenizer, text, self.config.unit, self.config.length)
            for number, row in enumerate(rows):
                example = {"text": self.flat(row), "label": document.category, "source_id": document.name}
                yield f"{document.name}/{number}", example


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    unit: str | None = None,
    passage_length: int | None = None,
    min_count: int | None = None,
    tokenizer: str | os.PathLike | None = None,
) -> FewShotSplit:
    """See `load_few_shot`.

    Args:
        unit: `"passage"` or `"document"`; by default passages, under protocol `original` documents, as published.
        passage_length: tokens of a passage, at least 1; documents have 3,000. By default 600, or as many as
            `tokenizer` takes at most, if it says.
        min_count: rarer words become `[UNK]`; at least 1, by default 5.
        tokenizer: folder or name of a checkpoint or of a pretrained encoder, whose tokenizer makes the rows in place
            of a vocabulary of the training documents; the split then has no word vectors.

    Raises:
        ValueError: another unit, or a number out of range; `passage_length` given for documents, or `min_count` beside
            `tokenizer`; a tokenizer that pads with another token than 0.
    """
    unit = unit or ("document" if protocol == "original" else "passage")
    if tokenizer is not None:
        return _load_with_tokenizer(split, protocol, data_dir, cache_dir, unit, passage_length, min_count, tokenizer)
    length = text_rows.row_length(unit, passage_length)
    min_count = checked("min_count", text_rows.MIN_COUNT if min_count is None else min_count, at_least(1))
    builder = Brown(
        cache_dir=cache_dir, data_dir=data_dir, protocol=protocol, min_count=min_count, unit=unit, length=length
    )
    words = builder.vocabulary()
    tokenizer = words.tokenizer(length)
    return split_of_builder(
        builder, split, protocol, tokenizer=tokenizer, preprocessor=tokenizer, word_vectors=words.word_vectors()
    )


def _load_with_tokenizer(
    split, protocol, data_dir, cache_dir, unit, passage_length, min_count, tokenizer
) -> FewShotSplit:
    if min_count is not None:
        raise ValueError(f"min_count={min_count!r} has no effect beside tokenizer={str(tokenizer)!r}")
    words = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    if words.pad_token_id != 0:
        raise ValueError(f"tokenizer={str(tokenizer)!r} pads with {words.pad_token_id}, but 0 is padding in text rows")
    if passage_length is None and unit == "passage" and words.model_max_length <= 1_000_000:
        passage_length = words.model_max_length
    length = text_rows.row_length(unit, passage_length)
    builder = Brown(
        cache_dir=cache_dir,
        data_dir=data_dir,
        protocol=protocol,
        unit=unit,
        length=length,
        tokenizer=str(tokenizer),
        tokenizer_hash=text_hash(words.backend_tokenizer.to_str()),
    )
    words.model_max_length = length
    return split_of_builder(builder, split, protocol, tokenizer=words, preprocessor=words)


def _category_names() -> list[str]:
    splits = read_protocols("brown")["class_disjoint"]
    return sorted({category for split in splits.values() for category in split["classes"]})
