"""Reads a text (a string or a text file) as one string, and encodes strings as raw rows of token ids."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32
from transformers import PreTrainedTokenizerBase

from .kinds import modality_of_file


def read_text(text: Any) -> str:
    """Reads one text as a string.

    Args:
        text: a string, or the `pathlib.Path` of a text file (UTF-8, with or without a byte order mark).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `text` is of another type, is blank, or is the path of a sound or an image.
    """
    content = text
    if isinstance(text, os.PathLike):
        if not Path(text).is_file():
            raise FileNotFoundError(f"no text file at {text}")
        if (other := modality_of_file(text)) not in ("text", None):
            raise ValueError(f"{text} has the name of a file of {other}, not of text")
        content = Path(text).read_text(encoding="utf-8-sig")
    if not isinstance(content, str):
        raise ValueError(f"a text must be a string, or the pathlib.Path of a .txt file, not a {type(content).__name__}")
    if not content.strip():
        raise ValueError("the text is empty" if content is text else f"the text in {text} is empty")
    return str(content)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int
) -> Int32[np.ndarray, "texts length"]:
    """Returns the ids of the first `length` tokens of each text; shorter texts are padded with 0, the id of [PAD]."""
    encoded = np.zeros((len(texts), length), dtype=np.int32)
    for row, tokens in zip(encoded, token_ids(tokenizer, texts), strict=True):
        row[: len(tokens)] = tokens[:length]
    return encoded


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of all tokens of each text, without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
