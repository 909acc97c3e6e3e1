"""The words, word vectors and word-level tokenizer that text data sets and a person's own text share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gensim.models import Word2Vec
from jaxtyping import Float32
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD_TOKEN, UNK_TOKEN = "[PAD]", "[UNK]"
WORD_VECTOR_SIZE = 128
_WORD2VEC: dict[str, Any] = {
    "sg": 1,
    "window": 5,
    "negative": 5,
    "epochs": 5,
    "seed": 0,
    "workers": 1,
}  # one worker: deterministic
_LONGEST_SENTENCE = 10_000  # words; gensim would drop what lies beyond


class Word(NamedTuple):
    """An entry of a vocabulary: its token, how often it occurs in the training texts, and its vector."""

    token: str
    count: int
    vector: Float32[np.ndarray, " 128"]


def text_normalizer() -> normalizers.Normalizer:
    """Typographic quotes and the corpus's `` and '' become plain ones; letters become lower case."""
    plain = {"``": '"', "''": '"', "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"}
    replacements = [normalizers.Replace(quote, replacement) for quote, replacement in plain.items()]
    return normalizers.Sequence([*replacements, normalizers.Lowercase()])


def text_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Splits at white space; every punctuation mark is a token of its own."""
    return pre_tokenizers.BertPreTokenizer()


def split_words(text: str) -> list[str]:
    """The tokens of a text before they are looked up in a vocabulary."""
    return [word for word, _ in text_pre_tokenizer().pre_tokenize_str(text_normalizer().normalize_str(text))]


def word_level_tokenizer(tokens: Sequence[str], max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer over a fixed list of words.

    Args:
        tokens: in id order; `[PAD]` first (id 0), `[UNK]` second (id 1).
        max_length: tokens a sample; kept as `model_max_length`.

    Raises:
        ValueError: the first two tokens are others, or a token occurs twice.
    """
    if list(tokens[:2]) != [PAD_TOKEN, UNK_TOKEN]:
        raise ValueError(f"a vocabulary starts with {PAD_TOKEN} and {UNK_TOKEN}, this one with {list(tokens[:2])}")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError("a token occurs twice in the vocabulary")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK_TOKEN))
    tokenizer.normalizer = text_normalizer()
    tokenizer.pre_tokenizer = text_pre_tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD_TOKEN, unk_token=UNK_TOKEN, model_max_length=max_length
    )


def fit_words(sentences: Iterable[str], min_count: int) -> list[Word]:
    """The vocabulary of some texts, in id order, with skip-gram word vectors (Mikolov et al. 2013).

    Args:
        sentences: lines of the training texts.
        min_count: words that occur less often become `[UNK]`, before the vectors are trained.

    Returns:
        `[PAD]` with a zero vector, `[UNK]`, then the words by falling count.

    Raises:
        ValueError: there is no word at all.
    """
    split = [words for sentence in sentences for words in _at_most(split_words(sentence), _LONGEST_SENTENCE)]
    counts = Counter(word for sentence in split for word in sentence)
    if not counts:
        raise ValueError("the training texts have no words: a vocabulary cannot be made of them")
    frequent = {word for word, count in counts.items() if count >= min_count}
    known = [[word if word in frequent else UNK_TOKEN for word in sentence] for sentence in split]
    model = Word2Vec(known, vector_size=WORD_VECTOR_SIZE, min_count=1, **_WORD2VEC)
    rare = sum(counts.values()) - sum(counts[word] for word in frequent)
    unknown_vector = model.wv[UNK_TOKEN] if rare else model.wv.vectors.mean(axis=0)
    ordered = sorted(frequent, key=lambda word: (-counts[word], word))
    return [
        Word(PAD_TOKEN, 0, np.zeros_like(unknown_vector)),
        Word(UNK_TOKEN, rare, unknown_vector),
        *(Word(word, counts[word], model.wv[word]) for word in ordered),
    ]


def _at_most(words: list[str], size: int) -> Iterable[list[str]]:
    return (words[start : start + size] for start in range(0, max(len(words), 1), size))
