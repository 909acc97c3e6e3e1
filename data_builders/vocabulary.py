"""The word-level tokenizer that text data sets and a person's own text share."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD_TOKEN, UNK_TOKEN = "[PAD]", "[UNK]"
WORD_VECTOR_SIZE = 128


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
