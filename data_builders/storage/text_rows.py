"""What all text data sets share: units of samples, rows of token ids, and a vocabulary with word vectors.

The vocabulary is that of training texts, or that of a tokenizer that a person gives.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import datasets
import numpy as np
from jaxtyping import Float32, Int32
from transformers import PreTrainedTokenizerFast

from modeling_msmaml.inputs.read_text import token_ids
from modeling_msmaml.model.options import at_least, checked

from . import vocabulary
from .builder import FewShotBuilder

UNITS = ("passage", "document")
PASSAGE_LENGTH = 600  # tokens; docs/notes/defaults.md compares the lengths
DOCUMENT_LENGTH = 3_000  # tokens, as in the published experiments
MIN_COUNT = 5


def row_length(unit: str, passage_length: int | None) -> int:
    """Returns the number of tokens in a row.

    Args:
        unit: `"passage"` or `"document"`.
        passage_length: number of tokens in a passage, at least 1; 600 by default. It must be None for documents.

    Raises:
        ValueError: the unit does not exist, the length is not a positive integer, or a length is given for documents.
    """
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r} does not exist; the units are {', '.join(UNITS)}")
    if unit == "document":
        if passage_length is not None:
            raise ValueError(
                f"passage_length={passage_length!r} has no meaning for unit='document', which is {DOCUMENT_LENGTH} "
                "tokens long: leave it out, or choose unit='passage'"
            )
        return DOCUMENT_LENGTH
    return checked("passage_length", PASSAGE_LENGTH if passage_length is None else passage_length, at_least(1))


def passages(tokens: list[int], length: int) -> Int32[np.ndarray, "passages length"]:
    """Splits the tokens of a document into consecutive windows.

    The last window may be shorter. It is kept, with zeros after its end, if it has at least half the length. The first
    window is always kept, so that no document disappears.

    Args:
        tokens: token ids of the document.
        length: number of tokens in a window.
    """
    starts = [
        start for start in range(0, max(len(tokens), 1), length) if start == 0 or 2 * (len(tokens) - start) >= length
    ]
    rows = np.zeros((len(starts), length), dtype=np.int32)
    for row, start in zip(rows, starts, strict=True):
        window = tokens[start : start + length]
        row[: len(window)] = window
    return rows


def document_rows(
    tokenizer: PreTrainedTokenizerFast, text: str, unit: str, length: int
) -> Int32[np.ndarray, "rows length"]:
    """Returns the rows of one document: all its passages, or its first `length` tokens as the only row."""
    rows = passages(token_ids(tokenizer, [text])[0], length)
    return rows if unit == "passage" else rows[:1]


def given_tokenizer(
    tokenizer: PreTrainedTokenizerFast | str | os.PathLike, min_count: int | None = None
) -> PreTrainedTokenizerFast:
    """Returns the tokenizer that a person gives in place of a vocabulary of the training texts; an object is copied.

    Args:
        tokenizer: a tokenizer, or the folder or name of a checkpoint or pretrained encoder that has one.
        min_count: option for a vocabulary of the training texts, which must be None.

    Raises:
        ValueError: `min_count` is given, or the tokenizer has another type or no token that pads.
        OSError: there is no tokenizer of this name.
    """
    title = str(tokenizer) if isinstance(tokenizer, (str, os.PathLike)) else type(tokenizer).__name__
    if min_count is not None:
        raise ValueError(f"min_count={min_count!r} has no effect beside tokenizer={title!r}: leave it out")
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        words = copy.deepcopy(tokenizer)
    elif isinstance(tokenizer, (str, os.PathLike)):
        words = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    else:
        raise ValueError(f"tokenizer is a {title}: give a PreTrainedTokenizerFast, or the folder or name of one")
    if words.pad_token_id is None:
        raise ValueError(f"tokenizer={title!r} has no token that pads, which text rows need: set its pad_token")
    return words


def longest(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """Returns the largest number of tokens of a text that a tokenizer names; None if it names none."""
    return tokenizer.model_max_length if tokenizer.model_max_length <= 1_000_000 else None


class TrainingTexts(Iterable[str]):
    """The lines of training texts, which are read whenever they are iterated over.

    Args:
        read: function that returns the lines.
        fingerprint: string that changes when the lines do, so that they need not be read to be recognised.
    """

    def __init__(self, read: Callable[[], Iterable[str]], fingerprint: str):
        self.read, self.fingerprint = read, fingerprint

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())


@dataclass
class VocabularyConfig(datasets.BuilderConfig):
    """Says how often a word must occur in the training texts to get an id of its own."""

    min_count: int = MIN_COUNT


class VocabularyBuilder(FewShotBuilder):
    """Builds a vocabulary with word vectors from training texts only.

    There is one row per token, in the order of the ids, with the columns `token`, `count` and `vector` (128 float32).
    Id 0 is `[PAD]`, whose vector is zero. Id 1 is `[UNK]`, which replaces rare words before the word vectors are
    trained, so that its vector means "some rare word". The other tokens follow in order of decreasing count.
    """

    BUILDER_CONFIG_CLASS = VocabularyConfig
    config: VocabularyConfig

    def training_sentences(self) -> Iterable[str]:
        """Returns the lines of the training texts."""
        raise NotImplementedError

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
        words = vocabulary.fit_words(self.training_sentences(), self.config.min_count)
        for token_id, word in enumerate(words):
            yield token_id, {"token": word.token, "count": word.count, "vector": word.vector.tolist()}

    def tokenizer(self, max_length: int) -> PreTrainedTokenizerFast:
        """Returns a tokenizer that looks words up in this vocabulary and cuts texts to `max_length` tokens."""
        return vocabulary.word_level_tokenizer([str(token) for token in self.build()["token"]], max_length)

    def word_vectors(self) -> Float32[np.ndarray, "vocabulary 128"]:
        """Returns the word vectors in the order of the token ids."""
        return np.ascontiguousarray(self.build().with_format("numpy")["vector"][:], dtype=np.float32)
