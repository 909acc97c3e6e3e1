"""What is read of a text: what no reader sees of it does not count, and a long one takes little."""

import time

import pytest

from modeling_msmaml import MSMAMLProcessor
from modeling_msmaml.inputs.read_text import encode_texts, read_text, token_ids

from ..own_data import tiny_processor

# What no reader sees, or sees as the word that it stands for.
SAME_TEXTS = (
    "\ufeffword1 word2",
    "word1 \ufeffword2",
    "wo\u00adrd1 word2",
    "word1\u200b \u200eword2\u2069",
    "word1\u200d word2",
    "\ufeff\ufeffword1\u2060 word2\u200c",
    "\uff57\uff4f\uff52\uff44\uff11 word2",
)


def test_what_is_invisible_in_a_text_does_not_count(tmp_path):
    for text in SAME_TEXTS:
        (tmp_path / "own.txt").write_text(text, encoding="utf-8")
        assert read_text(text) == read_text(tmp_path / "own.txt") == "word1 word2", ascii(text)
    assert read_text("e\ufb03cient cafe\u0301") == "efficient caf\u00e9"
    for text in (
        "\U0001f468\u200d\U0001f467",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "word1\uff0cword2",
        "x\u00b2 \u2460 \u2026",
    ):
        assert read_text(text) == text, "what counts is kept"


# Long texts


def test_long_texts_take_little_and_have_the_same_row():
    processor = tiny_processor()
    words = " ".join(f"word{number % 9}" for number in range(40_000)) + "."
    assert processor.tokenizer is not None
    whole = processor.tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
    assert token_ids(processor.tokenizer, [words, "word1"]) == [whole, token_ids(processor.tokenizer, ["word1"])[0]]
    with pytest.warns(UserWarning, match=r"first 18 tokens of a text.*: text \(more than \d{5} tokens\)"):
        assert processor(text=words)["input_ids"].tolist() == [whole[:18]]
    spread = f"word1{' ' * 250_000}word2,{'word3' * 30_000}"
    tokens = encode_texts(processor.tokenizer, [spread], 18)[0]
    assert tokens[:3].tolist() == token_ids(processor.tokenizer, ["word1 word2 ,"])[0], (
        "no word is cut at a piece's end"
    )


@pytest.mark.parametrize(
    "text", ["word1 word2 " * 2_000_000, "中" * 8_000_000, "." * 8_000_000], ids=["words", "letters", "marks"]
)
@pytest.mark.filterwarnings("ignore")
def test_a_huge_text_is_tokenized_in_bounded_time(text):
    start = time.perf_counter()
    MSMAMLProcessor(tokenizer=tiny_processor().tokenizer)(text=text)
    assert time.perf_counter() - start < 3
