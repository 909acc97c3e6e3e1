"""Texts: a string or a text file -> one string, and strings -> raw rows of token ids."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Int32
from transformers import PreTrainedTokenizerBase

from .kinds import OTHER_FILES, is_missing, modality_of_file, only_column, plain
from .notes import Notes, UnreadableInput, named
from .path_strings import may_be_file, named_place, shown

MOST_BYTES = 50_000_000  # of a text file
IS_TEXT = "if the string itself is a text, name modality='text'"
_UNKNOWN_SHARE = 0.5  # of a text's words, from which its row says too little
_CONTROL_SHARE = 0.05  # of the characters, beyond which it is no text
# Control characters that are neither white space nor those of terminals and old text files.
_CONTROL = re.compile("[\x00-\x07\x0e-\x19\x7f-\x84\x86-\x9f]")
_DOCUMENTS = {"%PDF-": "a PDF document", "{\\rtf": "an RTF document"}
# Soft hyphen, marks of the direction and of places where a line may break, byte order mark. Joiners count in languages
# whose letters they shape, and in emojis; they are dropped beside ASCII characters and at the ends of a text.
_INVISIBLE = "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
_JOINERS = "\u200c\u200d"
# Ligatures, and letters and digits of double width, which stand for others.
_STAND_FOR_OTHERS = "\ufb00-\ufb06\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
_TRACES = re.compile(f"[{_INVISIBLE}]+|(?<![^\0-\x7f])[{_JOINERS}]|[{_JOINERS}](?![^\0-\x7f])|([{_STAND_FOR_OTHERS}]+)")
# Invisible characters that Unicode counts among letters, marks and symbols.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffe\uffff")
# Characters that are tokenized at once, which takes some 100 bytes for each; more than a row of ordinary text holds.
_PIECE = 100_000
_BATCH = 1_000_000
_LONGEST_WORD = 10_000  # characters, within which the end of a word is looked for
_MOST_CHARACTERS = 1_000_000  # from which the tokens of a row are taken, of texts with hardly any words


def read_text(text: Any, name: str | None = None) -> str:
    """One text as a string.

    Args:
        text: a string, or the `pathlib.Path` of a text file (UTF-8, with or without a byte order mark). Invisible
            characters such as soft hyphens and zero-width spaces are dropped, ligatures (U+FB01) and letters of double
            width become ordinary letters, and letters with accents become single characters (NFC).
        name: of the text, for errors; by default its path.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: it is neither, has no visible character, holds half a character, a NUL or many control
            characters, is not UTF-8, is a document of another kind, or is named like a sound, a picture or such a
            document.
    """
    content = text = plain(text)
    if isinstance(text, os.PathLike):
        name = name or str(text)
        content = _content(Path(text), name)
    where = f" in {name}" if name else ""
    if is_missing(content):
        raise UnreadableInput(f"the text{where} is missing ({content!r})")
    if not isinstance(content, str):
        raise UnreadableInput(f"a text is a string, or a pathlib.Path of a .txt file, not a {type(content).__name__}")
    if not _is_visible(content):
        raise UnreadableInput(f"the text{where} is empty" + (" but for invisible characters" if content else ""))
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UnreadableInput(
            f"the text{where} has half of a character (a surrogate) at position {error.start}, which no encoding can "
            "hold: it was cut or escaped there"
        ) from error
    _check_characters(content, where)
    return content if content.isascii() else _without_traces(content)


def _content(path: Path, name: str) -> str:
    if path.is_dir():
        raise UnreadableInput(f"{name} is a folder: give the files in it")
    if not path.is_file():
        raise FileNotFoundError(f"no text file at {name}")
    if (other := modality_of_file(path)) not in ("text", None):
        raise UnreadableInput(f"{name} is named like a file of {other}, not of text")
    if path.suffix.lower() in OTHER_FILES:
        raise UnreadableInput(f"{name} is named like a file of another kind: save its text as .txt")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UnreadableInput(f"the text in {name} has {size:,} bytes, more than {MOST_BYTES:,}")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableInput(
            f"the text in {name} is not UTF-8 (byte {error.start}): save it in that encoding"
        ) from error
    return content.replace("\r\n", "\n").replace("\r", "\n")


def _without_traces(text: str) -> str:
    """A text without what pages and documents leave in it that no reader sees, but that makes a word another word."""
    text = _TRACES.sub(lambda found: unicodedata.normalize("NFKC", found[1] or ""), text)
    return unicodedata.normalize("NFC", text)  # accents that are characters of their own, as in names of macOS


def _is_visible(text: str) -> bool:
    """Whether a reader sees anything of a text."""
    return any(map(_is_visible_character, text[:1_000])) or any(map(_is_visible_character, set(text)))


def _is_visible_character(character: str) -> bool:
    if character.isspace() or character in _FILLERS or unicodedata.category(character) in ("Cc", "Cf"):
        return False
    return not ("\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef")  # variation selectors


def _check_characters(text: str, where: str) -> None:
    """Raises `UnreadableInput` for the content of a file that is no text, or is one in another encoding."""
    if (position := text.find("\0")) >= 0:
        raise UnreadableInput(
            f"the text{where} has a NUL character at position {position}: it is no text, or was saved as UTF-16 or "
            "UTF-32; save it as UTF-8"
        )
    head = text[:10_000]
    strange = len(_CONTROL.findall(head))
    if strange > _CONTROL_SHARE * len(head):
        raise UnreadableInput(
            f"the text{where} has {strange} control characters among its first {len(head)}: it is no text, or was "
            "saved as UTF-16; save it as UTF-8"
        )
    for start, kind in _DOCUMENTS.items():
        if text.startswith(start):
            raise UnreadableInput(f"the text{where} is {kind} with all its markup: save its text as .txt")


def read_string(text: Any, notes: Notes, named_as_text: bool) -> str:
    """One text as a string, see [`read_text`]; a string that names a file is no text unless it was named as one.

    Args:
        notes: where it is noted that a string that names a file, or seems to, is taken as a text.
        named_as_text: whether the person said that the inputs are texts.

    Raises:
        FileNotFoundError: a string is written like a path of a file that does not exist, or see [`read_text`].
        UnreadableInput: a string names a file or an address, or see [`read_text`].
    """
    text = plain(text)
    place = named_place(text) if isinstance(text, str) else None
    if place is not None and named_as_text:
        notes.add(
            "a string that is the name of a file, or is written like one, is itself taken as the text; pathlib.Path "
            "reads the file",
            shown(text),
        )
    elif place is not None:
        error = FileNotFoundError if place.is_missing else UnreadableInput
        why = place.why or "is the name of a file: give it as a pathlib.Path to read the text in it"
        raise error(f"{shown(text)} {why}; {IS_TEXT}")
    elif isinstance(text, str) and not named_as_text and len(text) <= _LONGEST_WORD:
        if any(map(str.isalnum, text)) and os.path.isdir(text):
            notes.add("a word that is also the name of a folder is taken as a text", shown(text))
        elif may_be_file(text):
            notes.add(
                "a word that ends like the name of a file is taken as a text, since no file has this name", shown(text)
            )
    return read_text(text)


def read_texts(texts: Any, name: str, notes: Notes) -> dict[str, str]:
    """Several inputs that were named as texts: name -> string.

    Args:
        texts: a text, see [`read_text`], or several.
        name: of the argument; the texts are called `name[i]`.
        notes: see [`read_string`].

    Raises:
        FileNotFoundError, UnreadableInput: a text that cannot be read.
        ValueError: there is no text, or a table of several columns.
    """
    texts = only_column(plain(texts), name)
    if isinstance(texts, (set, frozenset)):
        raise ValueError(f"{name} is a set, which has no order: give a list")
    if isinstance(texts, (str, bytes, dict, os.PathLike)) or not hasattr(texts, "__iter__"):
        items = {name: texts}
    else:
        items = {f"{name}[{number}]": item for number, item in enumerate(texts)}
    if not items:
        raise ValueError(f"{name} is empty: give at least one text")
    strings = {}
    for own, item in items.items():
        notes.prefix = f"{own}: "
        strings[name_of_text(own, item)] = named(own, read_string, item, notes, True)
    notes.prefix = ""
    return strings


def name_of_text(name: str, item: Any) -> str:
    """How messages name a text by its position and, if it is a file, its path."""
    return f"{name}: {item}" if isinstance(item, os.PathLike) else name


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    length: int,
    names: Sequence[str] | None = None,
    notes: Notes | None = None,
) -> Int32[np.ndarray, "texts length"]:
    """Token ids of the first `length` tokens of each text, see `row_ids`, followed by 0 ([PAD]).

    A text is tokenized no further than its row goes, and no further than its first million characters.

    Args:
        names: of the texts, for notes.
        notes: where it is noted that a text is longer than its row, or mostly made of words that the vocabulary lacks.

    Raises:
        UnreadableInput: the tokenizer finds nothing in a text, whose row would be padding.
    """
    encoded = np.zeros((len(texts), length), dtype=np.int32)
    for row, tokens in zip(encoded, texts_one_by_one(tokenizer, texts, length, names, notes), strict=True):
        if isinstance(tokens, UnreadableInput):
            raise tokens
        row[: len(tokens)] = tokens
    return encoded


def texts_one_by_one(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    length: int,
    names: Sequence[str] | None = None,
    notes: Notes | None = None,
) -> Iterator[Int32[np.ndarray, " tokens"] | UnreadableInput]:
    """Yields the token ids of each text as [`encode_texts`] finds them, but without zeros at the end, or the error of a
    text in which the tokenizer finds nothing."""
    for number, (tokens, used) in enumerate(_tokens(tokenizer, texts, length)):
        name = names[number] if names else f"texts[{number}]"
        if not tokens:
            yield UnreadableInput(f"{name}: the tokenizer finds no word in the first {used:,} characters of the text")
            continue
        yield np.asarray(row_ids(tokenizer, tokens[:length]), dtype=np.int32)
        if notes is None:
            continue
        is_whole = used == len(texts[number])
        if len(tokens) > length:
            counted = f"{len(tokens)}" if is_whole else f"more than {len(tokens)}"
            notes.add(
                f"the model reads the first {length} tokens of a text; the rest does not count",
                f"{name} ({counted} tokens)",
            )
        elif not is_whole:
            notes.add(
                f"the model reads the first {used:,} characters of a text; the rest does not count",
                f"{name} ({len(tokens)} tokens in them)",
            )
        unknown = sum(token == tokenizer.unk_token_id for token in tokens[:length])
        if unknown / len(tokens[:length]) > _UNKNOWN_SHARE:
            notes.add(
                "the model's vocabulary lacks more than half of the words of a text, which it cannot tell apart: train "
                "a model on texts of this kind",
                name,
            )


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """
    All token ids of each text, see `row_ids`, without special tokens; what is written like one, such as [PAD], is
    ordinary text.
    """
    return [row_ids(tokenizer, tokens) for tokens, _ in _tokens(tokenizer, texts)]


def row_ids(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[int]:
    """
    Token ids as rows hold them, where 0 is padding: if the tokenizer pads with another token, as that of RoBERTa does,
    this one and 0 change places.
    """
    padding = cast(int, tokenizer.pad_token_id)
    if padding == 0:
        return tokens
    exchanged = {0: padding, padding: 0}
    return [exchanged.get(token, token) for token in tokens]


def _tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int | None = None
) -> Iterator[tuple[list[int], int]]:
    """
    The token ids of each text, and how many of its characters they come from: all, or where a length is given, as many
    as a row and one more token take.
    """
    for group in _groups(texts):
        pieces = [_pieces(text) for text in group]
        firsts = [next(own) for own in pieces]
        for tokens, first, others in zip(_tokenized(tokenizer, firsts), firsts, pieces, strict=True):
            used = len(first)
            while length is None or (len(tokens) <= length and used < _MOST_CHARACTERS):
                if (piece := next(others, None)) is None:
                    break
                tokens += _tokenized(tokenizer, [piece])[0]
                used += len(piece)
            yield tokens, used


def _tokenized(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False, split_special_tokens=True)[
        "input_ids"
    ]


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """Consecutive texts whose first pieces are tokenized together."""
    group, characters = [], 0
    for text in texts:
        if group and characters + min(len(text), _PIECE) > _BATCH:
            yield group
            group, characters = [], 0
        group.append(text)
        characters += min(len(text), _PIECE)
    if group:
        yield group


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces that are tokenized on their own, cut between two words."""
    start = 0
    while True:
        stop = min(start + _PIECE, len(text))
        if stop < len(text):
            stop = _end_of_word(text, start, stop)
        yield text[start:stop]
        if stop == len(text):
            return
        start = stop


def _end_of_word(text: str, start: int, stop: int) -> int:
    """The last place at which no token can go on: before white space, or between a letter and punctuation."""
    places = range(stop, max(start, stop - _LONGEST_WORD), -1)
    for place in places:
        if text[place].isspace():
            return place
    for place in places:
        if text[place - 1].isalnum() and unicodedata.category(text[place]).startswith("P"):
            return place
    return stop
