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
from ..storage.text_rows import VocabularyBuilder, VocabularyConfig

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


@dataclass
class BrownVocabularyConfig(VocabularyConfig):
    """Says which protocol's training documents are used, besides how often a word must occur in them."""

    protocol: str = "class_disjoint"


class BrownVocabulary(VocabularyBuilder, ArchiveBuilder):
    """Builds the vocabulary of the training documents of a protocol."""

    BUILDER_CONFIG_CLASS = BrownVocabularyConfig
    OFFICIAL = _OFFICIAL
    config: BrownVocabularyConfig

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
class BrownConfig(BrownVocabularyConfig):
    """Says what a sample is, besides the options of the vocabulary.

    Attributes:
        unit: `"passage"` (windows of `length` tokens) or `"document"` (the first `length` tokens of each document).
        length: number of tokens in a row.
        tokenizer: folder or name of a tokenizer that is used in place of the vocabulary.
        tokenizer_hash: hash of that tokenizer, which gives every tokenizer its own cache.
    """

    unit: str = "passage"
    length: int = text_rows.PASSAGE_LENGTH
    tokenizer: str | None = None
    tokenizer_hash: str | None = None


class Brown(ArchiveBuilder):
    """Builds passages or documents as int32 token ids with zeros after their end, one document after the other."""

    BUILDER_CONFIG_CLASS = BrownConfig
    OFFICIAL = _OFFICIAL
    config: BrownConfig
    modality = "text"

    def _info(self) -> datasets.DatasetInfo:
        self.row_shape = (self.config.length,)
        return datasets.DatasetInfo(features=row_features(self.modality, self.config.length, _category_names()))

    def vocabulary(self) -> BrownVocabulary:
        """Returns the builder of the vocabulary that defines the token ids of these rows."""
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
    """Loads one split of the Brown Corpus, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        unit: `"passage"` or `"document"`. The default is `"passage"`, or `"document"` under the protocol `original`, as
            in the published experiments.
        passage_length: number of tokens in a passage, at least 1. The default is 600, or the maximum of `tokenizer` if
            it has one. Documents have 3,000 tokens.
        min_count: least number of occurrences of a word, at least 1 and by default 5. Rarer words become `[UNK]`.
        tokenizer: folder or name of a checkpoint or of a pretrained encoder, whose tokenizer makes the rows in place of
            a vocabulary of the training documents. The split then has no word vectors.

    Raises:
        ValueError: the unit does not exist, a number is out of range, `passage_length` is given for documents,
            `min_count` is given together with `tokenizer`, or the tokenizer does not pad with the id 0.
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
    word_tokenizer = words.tokenizer(length)
    return split_of_builder(
        builder,
        split,
        protocol,
        tokenizer=word_tokenizer,
        preprocessor=word_tokenizer,
        word_vectors=words.word_vectors(),
    )


def _load_with_tokenizer(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    unit: str,
    passage_length: int | None,
    min_count: int | None,
    tokenizer: str | os.PathLike,
) -> FewShotSplit:
    if min_count is not None:
        raise ValueError(f"min_count={min_count!r} has no effect beside tokenizer={str(tokenizer)!r}: leave it out")
    words = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    if words.pad_token_id != 0:
        raise ValueError(
            f"tokenizer={str(tokenizer)!r} pads with {words.pad_token_id}, but 0 is padding in text rows: "
            "choose a tokenizer that pads with 0"
        )
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
    """Returns the names of all 15 categories, sorted."""
    splits = read_protocols("brown")["class_disjoint"]
    return sorted({category for split in splits.values() for category in split["classes"]})
