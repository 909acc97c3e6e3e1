"""Brown Corpus: 500 documents of American English in 15 categories (Francis and Kucera 1964; non-commercial).

A sample is a passage of a document (or a whole document), its class the category, its source the document. Words are
looked up in a vocabulary, and have word vectors, that were made from the training documents of the protocol only.
`class_disjoint` tests on five categories; training and validation have different documents of the other ten. Needed in
`data_dir`: `brown.zip` as NLTK distributes it, or its extracted folder `brown`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import datasets
import numpy as np
from gensim.models import Word2Vec
from jaxtyping import Int32

from modeling_msmaml.processing_msmaml import token_ids

from . import vocabulary
from .archives import Official, Store, few
from .base import ArchiveBuilder, row_features
from .few_shot import FewShotSplit, split_of_builder
from .protocols import read_protocols, select_rows

OPTIONS = ("unit", "passage_length", "min_count")
PROTOCOLS = tuple(read_protocols("brown"))

UNITS = ("passage", "document")
DOCUMENT_LENGTH = 3_000  # tokens, as published
_CATEGORIES_FILE = "cats.txt"
_WORD2VEC = {"sg": 1, "window": 5, "negative": 5, "epochs": 5, "seed": 0, "workers": 1}  # one worker: deterministic
_OFFICIAL = Official(
    title="the Brown Corpus",
    folders=("brown",),
    archives=("brown.zip",),
    marker=_CATEGORIES_FILE,
    source="https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/brown.zip",
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


def passages(tokens: list[int], length: int) -> Int32[np.ndarray, "passages length"]:
    """Consecutive windows; the last, shorter one is kept (0 after its end) when it is at least half as long.

    The first window is kept in any case, so that no document disappears.
    """
    starts = [
        start for start in range(0, max(len(tokens), 1), length) if start == 0 or 2 * (len(tokens) - start) >= length
    ]
    rows = np.zeros((len(starts), length), dtype=np.int32)
    for row, start in zip(rows, starts, strict=True):
        window = tokens[start : start + length]
        row[: len(window)] = window
    return rows


@dataclass
class BrownVocabularyConfig(datasets.BuilderConfig):
    """Whose training documents to use, and how often a word must occur in them to have an id of its own."""

    protocol: str = "class_disjoint"
    min_count: int = 5


class BrownVocabulary(ArchiveBuilder):
    """One row a token, in id order: `token`, `count` and `vector` (128 float32), from training documents only.

    Id 0 is `[PAD]`, with a zero vector. Id 1 is `[UNK]`: rarer words are replaced by it before the word vectors are
    trained, so it has a vector that means "some rare word". The others follow by falling count.
    """

    BUILDER_CONFIG_CLASS = BrownVocabularyConfig
    OFFICIAL = _OFFICIAL
    config: BrownVocabularyConfig

    @classmethod
    def code_modules(cls) -> list[ModuleType]:
        return [*super().code_modules(), vocabulary]

    def _info(self) -> datasets.DatasetInfo:
        features = datasets.Features(
            {
                "token": datasets.Value("string"),
                "count": datasets.Value("int64"),
                "vector": datasets.List(datasets.Value("float32"), length=vocabulary.WORD_VECTOR_SIZE),
            }
        )
        return datasets.DatasetInfo(features=features)

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        documents = training_documents(read_documents(self.store), self.config.protocol)
        sentences = [vocabulary.split_words(sentence) for document in documents for sentence in document.sentences]
        counts = Counter(word for sentence in sentences for word in sentence)
        frequent = {word for word, count in counts.items() if count >= self.config.min_count}
        known = [[word if word in frequent else vocabulary.UNK_TOKEN for word in sentence] for sentence in sentences]
        model = Word2Vec(known, vector_size=vocabulary.WORD_VECTOR_SIZE, min_count=1, **_WORD2VEC)
        words = sorted(frequent, key=lambda word: (-counts[word], word))
        rare = sum(counts.values()) - sum(counts[word] for word in words)
        unknown_vector = model.wv[vocabulary.UNK_TOKEN] if rare else model.wv.vectors.mean(axis=0)
        rows = [
            (vocabulary.PAD_TOKEN, 0, np.zeros_like(unknown_vector)),
            (vocabulary.UNK_TOKEN, rare, unknown_vector),
            *((word, counts[word], model.wv[word]) for word in words),
        ]
        for token_id, (token, count, vector) in enumerate(rows):
            yield token_id, {"token": token, "count": count, "vector": vector.tolist()}


def training_documents(documents: list[Document], protocol: str) -> list[Document]:
    """The documents that a protocol trains on: the only ones that the vocabulary and the word vectors may see."""
    names = _category_names()
    labels = np.asarray([names.index(document.category) for document in documents])
    sources = np.asarray([document.name for document in documents], dtype=object)
    rows, _ = select_rows(read_protocols("brown")[protocol]["train"], labels, sources, names)
    return [documents[row] for row in rows]


@dataclass
class BrownConfig(BrownVocabularyConfig):
    """The vocabulary, and what a sample is.

    Attributes:
        unit: `"passage"`: windows of `passage_length` tokens; `"document"`: the first 3,000 tokens of each document.
    """

    unit: str = "passage"
    passage_length: int = 600


class Brown(ArchiveBuilder):
    """Passages or documents as int32 token ids, 0 after their end; document after document."""

    BUILDER_CONFIG_CLASS = BrownConfig
    OFFICIAL = _OFFICIAL
    config: BrownConfig
    modality = "text"

    @classmethod
    def code_modules(cls) -> list[ModuleType]:
        return [*super().code_modules(), vocabulary]

    def _info(self) -> datasets.DatasetInfo:
        length = self.config.passage_length if self.config.unit == "passage" else DOCUMENT_LENGTH
        self.row_shape = (length,)
        return datasets.DatasetInfo(features=row_features(self.modality, length, _category_names()))

    def vocabulary(self) -> BrownVocabulary:
        """The builder of the vocabulary that these rows are written in."""
        return BrownVocabulary(
            cache_dir=self._cache_dir_root,
            data_dir=self.config.data_dir,
            protocol=self.config.protocol,
            min_count=self.config.min_count,
        )

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        tokens = self.vocabulary().build()["token"]
        tokenizer = vocabulary.word_level_tokenizer(tokens, max_length=self.row_shape[0])
        documents = read_documents(self.store)
        ids = token_ids(tokenizer, ["\n".join(document.sentences) for document in documents])
        for document, document_ids in zip(documents, ids, strict=True):
            rows = passages(document_ids, self.row_shape[0])
            for number, row in enumerate(rows if self.config.unit == "passage" else rows[:1]):
                example = {"text": self.flat(row), "label": document.category, "source_id": document.name}
                yield f"{document.name}/{number}", example


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    unit: str = "passage",
    passage_length: int = 600,
    min_count: int = 5,
) -> FewShotSplit:
    """See `load_few_shot`.

    Args:
        unit: `"passage"` or `"document"`.
        passage_length: tokens of a passage, at least 1; documents have 3,000.
        min_count: rarer words become `[UNK]`; at least 1.

    Raises:
        ValueError: another unit, or a number out of range; `passage_length` given for documents.
    """
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r} does not exist; the units are {', '.join(UNITS)}")
    for name, value in (("passage_length", passage_length), ("min_count", min_count)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} is not possible; it must be an integer of at least 1")
    builder = Brown(
        cache_dir=cache_dir,
        data_dir=data_dir,
        protocol=protocol,
        min_count=min_count,
        unit=unit,
        passage_length=passage_length,
    )
    stored = builder.vocabulary().build().with_format("numpy")
    tokenizer = vocabulary.word_level_tokenizer([str(token) for token in stored["token"][:]], builder.row_shape[0])
    vectors = np.ascontiguousarray(stored["vector"][:], dtype=np.float32)
    return split_of_builder(builder, split, protocol, tokenizer=tokenizer, preprocessor=tokenizer, word_vectors=vectors)


def _category_names() -> list[str]:
    splits = read_protocols("brown")["class_disjoint"]
    return sorted({category for split in splits.values() for category in split["classes"]})
