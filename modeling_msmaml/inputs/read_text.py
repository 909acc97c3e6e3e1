"""Texts: a string or a text file -> one string, and strings -> raw rows of token ids."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32
from transformers import PreTrainedTokenizerBase

from .kinds import modality_of_file


def read_text(text: Any) -> str:
    """One text as a string.

    Args:
        text: a string, or the `pathlib.Path` of a text file (UTF-8, with or without a byte order mark).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither, is blank, or is the path of a sound or a picture.
    """
    content = text
    if isinstance(text, os.PathLike):
        if not Path(text).is_file():
            raise FileNotFoundError(f"no text file at {text}")
        if (other := modality_of_file(text)) not in ("text", None):
            raise ValueError(f"{text} is named like a file of {other}, not of text")
        content = Path(text).read_text(encoding="utf-8-sig")
    if not isinstance(content, str):
        raise ValueError(f"a text is a string, or a pathlib.Path of a .txt file, not a {type(content).__name__}")
    if not content.strip():
        raise ValueError("the text is empty" if content is text else f"the text in {text} is empty")
    return str(content)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int
) -> Int32[np.ndarray, "texts length"]:
    """Token ids of the first `length` tokens of each text, followed by 0 ([PAD])."""
    encoded = np.zeros((len(texts), length), dtype=np.int32)
    for row, tokens in zip(encoded, token_ids(tokenizer, texts), strict=True):
        row[: len(tokens)] = tokens[:length]
    return encoded


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """All token ids of each text, without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
