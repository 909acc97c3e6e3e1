"""Vocabularies of text data sets and of a user's own texts: the words, their vectors and a word-level tokenizer."""

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
# Training is deterministic only with one worker.
_WORD2VEC: dict[str, Any] = {"sg": 1, "window": 5, "negative": 5, "epochs": 5, "seed": 0, "workers": 1}
_LONGEST_SENTENCE = 10_000  # words; gensim would drop the words beyond this number


class Word(NamedTuple):
    """An entry of a vocabulary: the token, its count in the training texts, and its vector."""

    token: str
    count: int
    vector: Float32[np.ndarray, " 128"]


def text_normalizer() -> normalizers.Normalizer:
    """Replaces typographic quotes, and the `` and '' of the Brown Corpus, by plain ones, and lower-cases letters."""
    plain = {"``": '"', "''": '"', "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"}
    replacements = [normalizers.Replace(quote, replacement) for quote, replacement in plain.items()]
    return normalizers.Sequence([*replacements, normalizers.Lowercase()])


def text_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Splits texts at white space and makes every punctuation mark a token of its own."""
    return pre_tokenizers.BertPreTokenizer()


def split_words(text: str) -> list[str]:
    """Returns the tokens of a text before they are looked up in a vocabulary."""
    return [word for word, _ in text_pre_tokenizer().pre_tokenize_str(text_normalizer().normalize_str(text))]


def word_level_tokenizer(tokens: Sequence[str], max_length: int) -> PreTrainedTokenizerFast:
    """Makes a tokenizer with a fixed list of words.

    Args:
        tokens: tokens in the order of their ids. The first two are `[PAD]` (id 0) and `[UNK]` (id 1).
        max_length: number of tokens in a sample, which becomes `model_max_length`.

    Raises:
        ValueError: the first two tokens are different, or a token occurs twice.
    """
    if list(tokens[:2]) != [PAD_TOKEN, UNK_TOKEN]:
        raise ValueError(f"tokens must start with {PAD_TOKEN} and {UNK_TOKEN}, but they start with {list(tokens[:2])}")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError("a token occurs twice in tokens; every token must occur once")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK_TOKEN))
    tokenizer.normalizer = text_normalizer()
    tokenizer.pre_tokenizer = text_pre_tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD_TOKEN, unk_token=UNK_TOKEN, model_max_length=max_length
    )


def fit_words(sentences: Iterable[str], min_count: int) -> list[Word]:
    """Makes a vocabulary from texts, with skip-gram word vectors (Mikolov et al. 2013).

    Args:
        sentences: lines of the training texts.
        min_count: least number of occurrences of a word. Rarer words become `[UNK]` before the vectors are trained.

    Returns:
        The entries in the order of their ids: `[PAD]` with a zero vector, `[UNK]`, and then the words in order of
        decreasing count.

    Raises:
        ValueError: the texts have no words.
    """
    split = [words for sentence in sentences for words in _at_most(split_words(sentence), _LONGEST_SENTENCE)]
    counts = Counter(word for sentence in split for word in sentence)
    if not counts:
        raise ValueError("the training texts have no words, so no vocabulary can be made: add texts with words")
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
