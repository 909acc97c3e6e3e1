"""Texts: a string or a text file -> one string, and strings -> raw rows of token ids."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32
from transformers import PreTrainedTokenizerBase

from .kinds import modality_of_file
from .notes import Notes, UnreadableInput

MOST_BYTES = 50_000_000  # of a text file
_UNKNOWN_SHARE = 0.5  # of a text's words, from which its row says too little


def read_text(text: Any, name: str | None = None) -> str:
    """One text as a string.

    Args:
        text: a string, or the `pathlib.Path` of a text file (UTF-8, with or without a byte order mark).
        name: of the text, for errors; by default its path.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: it is neither, is blank, holds half a character, is not UTF-8, or is the path of a sound or a
            picture.
    """
    content = text
    if isinstance(text, os.PathLike):
        name = name or str(text)
        if not Path(text).is_file():
            raise FileNotFoundError(f"no text file at {name}")
        if (other := modality_of_file(text)) not in ("text", None):
            raise UnreadableInput(f"{name} is named like a file of {other}, not of text")
        if (size := Path(text).stat().st_size) > MOST_BYTES:
            raise UnreadableInput(f"the text in {name} has {size:,} bytes, more than {MOST_BYTES:,}")
        try:
            content = Path(text).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UnreadableInput(
                f"the text in {name} is not UTF-8 (byte {error.start}): save it in that encoding"
            ) from error
    where = f" in {name}" if name else ""
    if not isinstance(content, str):
        raise UnreadableInput(f"a text is a string, or a pathlib.Path of a .txt file, not a {type(content).__name__}")
    if not content.strip():
        raise UnreadableInput(f"the text{where} is empty")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UnreadableInput(
            f"the text{where} has half of a character (a surrogate) at position {error.start}, which no encoding can "
            "hold: it was cut or escaped there"
        ) from error
    return str(content)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    length: int,
    names: Sequence[str] | None = None,
    notes: Notes | None = None,
) -> Int32[np.ndarray, "texts length"]:
    """Token ids of the first `length` tokens of each text, followed by 0 ([PAD]).

    Args:
        names: of the texts, for notes.
        notes: where it is noted that a text is longer than its row, or mostly made of words that the vocabulary lacks.
    """
    encoded = np.zeros((len(texts), length), dtype=np.int32)
    for number, (row, tokens) in enumerate(zip(encoded, token_ids(tokenizer, texts), strict=True)):
        row[: len(tokens)] = tokens[:length]
        if notes is None:
            continue
        name = names[number] if names else f"texts[{number}]"
        if len(tokens) > length:
            notes.add(
                f"the model reads the first {length} tokens of a text; the rest does not count",
                f"{name} ({len(tokens)} tokens)",
            )
        unknown = sum(token == tokenizer.unk_token_id for token in tokens[:length])
        if tokens and unknown / len(tokens[:length]) > _UNKNOWN_SHARE:
            notes.add(
                "the model's vocabulary lacks more than half of the words of a text, which it cannot tell apart: train "
                "a model on texts of this kind",
                name,
            )
    return encoded


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """All token ids of each text, without special tokens; what is written like one, such as [PAD], is ordinary text."""
    return tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False, split_special_tokens=True)[
        "input_ids"
    ]
