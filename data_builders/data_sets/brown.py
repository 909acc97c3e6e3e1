"""The Brown Corpus: 500 documents of American English in 15 categories (Francis and Kucera 1964; non-commercial).

A sample is a passage of a document or a whole document. Its class is the category, and its source is the document. The
vocabulary and the word vectors are made from the training documents of the protocol only. `class_disjoint` tests on
five categories, while training and validation use different documents of the other ten.

`data_dir` holds `brown.zip` as NLTK distributes it, or its extracted folder `brown`. Without `data_dir` the archive is
downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from modeling_msmaml.inputs.labelled_inputs import few

from ..splits.protocols import read_protocols, select_rows
from ..storage import text_rows
from ..storage.archives import Official, Store
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from ..storage.text_archives import ArchiveVocabulary, TextArchive, TextArchiveConfig, text_builder
from ..storage.text_rows import TrainingTexts

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
    """A document: its name in the corpus, its category, and its sentences without tags."""

    name: str
    category: str
    sentences: list[str]


def read_documents(store: Store) -> list[Document]:
    """Reads all documents, in the order of `cats.txt`.

    Raises:
        ValueError: a document is missing or does not have the word/tag format of the corpus, or a line of `cats.txt` is
            wrong.
    """
    lines = [line.split() for line in store.read_one(_CATEGORIES_FILE).decode("utf-8").splitlines() if line.strip()]
    categories = _category_names()
    wrong = [" ".join(line) for line in lines if len(line) != 2 or line[1] not in categories]
    if wrong or not lines:
        raise ValueError(
            f"{_CATEGORIES_FILE} in {store.path} has {len(lines)} lines, of which {len(wrong)} do not name a document "
            f"and its category: {few(wrong)}. Fetch the data set again"
        )
    contents = store.read([name for name, _ in lines])
    return [
        Document(name, category, strip_tags(content.decode("utf-8"), name))
        for (name, category), (_, content) in zip(lines, contents, strict=True)
    ]


def strip_tags(tagged: str, name: str = "text") -> list[str]:
    """Returns the sentences of a document in the word/tag format, without the tags and with one space between words.

    A word may contain slashes, since the tag follows the last one.

    Args:
        tagged: content of the document.
        name: name of the document, for the error message.

    Raises:
        ValueError: a word has no tag.
    """
    sentences = []
    for line in tagged.splitlines():
        words = line.split()
        bare = [word for word in words if "/" not in word]
        if bare:
            raise ValueError(f"document {name} has words without a tag: {few(bare)}; it is not a document of Brown")
        if words:
            sentences.append(" ".join(word.rsplit("/", 1)[0] for word in words))
    return sentences


class BrownVocabulary(ArchiveVocabulary):
    """Builds the vocabulary of the training documents of a protocol."""

    OFFICIAL = _OFFICIAL

    def training_sentences(self) -> Iterator[str]:
        documents = training_documents(read_documents(self.store), self.config.protocol)
        return (sentence for document in documents for sentence in document.sentences)


def training_documents(documents: list[Document], protocol: str) -> list[Document]:
    """Returns the documents from which the vocabulary and the word vectors are made.

    These are the training documents of the protocol. Only `original` uses all documents, because its published
    experiments had word vectors of all texts.
    """
    if protocol == "original":
        return documents
    names = _category_names()
    labels = np.asarray([names.index(document.category) for document in documents])
    sources = np.asarray([document.name for document in documents], dtype=object)
    rows, _ = select_rows(read_protocols("brown")[protocol]["train"], labels, sources, names)
    return [documents[row] for row in rows]


@dataclass
class BrownConfig(TextArchiveConfig):
    """Says what a sample is, besides the options of the vocabulary and the length of a row.

    Attributes:
        unit: `"passage"` (windows of `length` tokens) or `"document"` (the first `length` tokens of each document).
    """

    unit: str = "passage"


class Brown(TextArchive):
    """Builds passages or documents as int32 token ids with zeros after their end, one document after the other."""

    BUILDER_CONFIG_CLASS = BrownConfig
    OFFICIAL = _OFFICIAL
    VOCABULARY = BrownVocabulary
    config: BrownConfig

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        tokenizer = self.row_tokenizer()
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
    tokenizer: PreTrainedTokenizerFast | str | os.PathLike | None = None,
) -> FewShotSplit:
    """Loads one split of the Brown Corpus, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        unit: `"passage"` or `"document"`. The default is `"passage"`, or `"document"` under the protocol `original`, as
            in the published experiments.
        passage_length: number of tokens in a passage, at least 1. The default is 600, or the maximum of the tokenizer
            that a name in `tokenizer` stands for, if it has one. Documents have 3,000 tokens.
        min_count: least number of occurrences of a word, at least 1 and by default 5. Rarer words become `[UNK]`.
        tokenizer: tokenizer that makes the rows in place of a vocabulary of the training documents, or the folder or
            name of a checkpoint or of a pretrained encoder that has one. The split then has no word vectors.

    Raises:
        ValueError: the unit does not exist, a number is out of range, `passage_length` is given for documents,
            `min_count` is given together with `tokenizer`, or the tokenizer does not pad with the id 0.
    """
    unit = unit or ("document" if protocol == "original" else "passage")
    if isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = text_rows.given_tokenizer(tokenizer, min_count)
        if unit == "passage" and passage_length is None:
            passage_length = text_rows.longest(tokenizer)
    length = text_rows.row_length(unit, passage_length)
    builder, fields = text_builder(
        Brown, data_dir, cache_dir, length, min_count, tokenizer, protocol=protocol, unit=unit
    )
    return split_of_builder(builder, split, protocol, **fields)


def training_texts(
    protocol: str, data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None, **options: Any
) -> TrainingTexts:
    """Returns the sentences of the training documents, for a vocabulary of several data sets.

    Args:
        protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        **options: options of `load`, none of which changes the texts.
    """
    return BrownVocabulary(cache_dir=cache_dir, data_dir=data_dir, protocol=protocol).training_texts()


def _category_names() -> list[str]:
    """Returns the names of all 15 categories, sorted."""
    splits = read_protocols("brown")["class_disjoint"]
    return sorted({category for split in splits.values() for category in split["classes"]})
