"""What text data sets share: the sample unit, the vocabulary with its word vectors, and the rows of token ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import datasets
import numpy as np
from jaxtyping import Float32, Int32
from transformers import PreTrainedTokenizerFast

from modeling_msmaml.inputs.read_text import token_ids
from modeling_msmaml.model.options import at_least, checked

from . import vocabulary
from .builder import FewShotBuilder

UNITS = ("passage", "document")
PASSAGE_LENGTH = 600  # tokens; chosen by measuring, see README.md
DOCUMENT_LENGTH = 3_000  # tokens, as published
MIN_COUNT = 5


def row_length(unit: str, passage_length: int | None) -> int:
    """Tokens of a row.

    Raises:
        ValueError: another unit, a length that is no positive integer, or a length given for documents.
    """
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r} does not exist; the units are {', '.join(UNITS)}")
    if unit == "document":
        if passage_length is not None:
            raise ValueError(
                f"passage_length={passage_length!r} has no meaning for unit='document', which is {DOCUMENT_LENGTH} "
                "tokens long: leave it out, or take unit='passage'"
            )
        return DOCUMENT_LENGTH
    return checked("passage_length", PASSAGE_LENGTH if passage_length is None else passage_length, at_least(1))


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


def document_rows(
    tokenizer: PreTrainedTokenizerFast, text: str, unit: str, length: int
) -> Int32[np.ndarray, "rows length"]:
    """The rows of one document: all its passages, or its first `length` tokens as the only row."""
    rows = passages(token_ids(tokenizer, [text])[0], length)
    return rows if unit == "passage" else rows[:1]


class VocabularyBuilder(FewShotBuilder):
    """One row a token, in id order: `token`, `count` and `vector` (128 float32), from training texts only.

    Id 0 is `[PAD]`, with a zero vector. Id 1 is `[UNK]`: rarer words are replaced by it before the word vectors are
    trained, so it has a vector that means "some rare word". The others follow by falling count. The configuration has
    `min_count`.
    """

    def training_sentences(self) -> Iterable[str]:
        """Lines of the training texts."""
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
        """Looks words up in this vocabulary; `max_length` tokens a sample."""
        return vocabulary.word_level_tokenizer([str(token) for token in self.build()["token"]], max_length)

    def word_vectors(self) -> Float32[np.ndarray, "vocabulary 128"]:
        """In the order of the token ids."""
        return np.ascontiguousarray(self.build().with_format("numpy")["vector"][:], dtype=np.float32)
