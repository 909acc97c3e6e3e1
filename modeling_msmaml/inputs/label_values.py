"""
Labels and sources as they are written: what stands for a missing one (`is_absent`), the one spelling of strings that
look the same at their ends (`clean`), and strings that look the same but are not (`refuse_look_alikes`).
"""

import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from .kinds import is_missing

# What `str` makes of missing values, as scripts leave it in lists, columns and names of folders.
_WRITTEN_OUT = frozenset(("nan", "NaN", "-nan", "-NaN", "<NA>", "NaT"))
# Cells of tables that stand for nothing; a table of text cannot say it otherwise. pandas reads the same as missing.
ABSENT_CELLS = _WRITTEN_OUT | frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None", "1.#IND", "1.#QNAN", "-1.#IND")
    + ("-1.#QNAN",)
)
# Letters, marks and symbols that show nothing, beside the characters of the categories of controls and formats.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_JOINERS = frozenset("\u200c\u200d")  # which some scripts need at the end of a word
# Letters of other alphabets that are drawn like Latin ones, and characters that are drawn like those of ASCII.
_DRAWN_ALIKE = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0405\u0406\u0408"  # Cyrillic capitals
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458\u0501\u04bb"  # Cyrillic
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf"  # Greek
    "\u2010\u2011\u2024\ua789",  # hyphens, dot and colon
    "ABEKMHOPCTXSIJ" + "aeopcyxsijdh" + "ABEZHIKMNOPTYXo" + "--.:",
)


def printable(text: str) -> str:
    r"""Returns a string that every encoding of Unicode can hold; bytes of a file name that are not UTF-8 are `\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that is no byte of a file name
        return text.encode("utf-8", "backslashreplace").decode()


def clean(text: str) -> str:
    """Returns a string in composed characters (NFC), printable, without white space and invisible marks at its ends."""
    if text.isascii() and text.isprintable():  # most of the millions that there may be
        return text.strip()
    text = unicodedata.normalize("NFC", printable(text))
    start, stop = 0, len(text)
    while start < stop and _is_margin(text[start]):
        start += 1
    while start < stop and _is_margin(text[stop - 1]):
        stop -= 1
    return text[start:stop]


def _is_margin(character: str) -> bool:
    return character.isspace() or (_shows_nothing(character) and character not in _JOINERS)


def _shows_nothing(character: str) -> bool:
    if "\U000e0020" <= character <= "\U000e007f":  # tags, which tell the flags of regions apart
        return False
    return character in _FILLERS or unicodedata.category(character) in ("Cf", "Cc")


def _seen(text: str) -> str:
    """
    What of a string a reader sees: variation selectors and invisible characters fall away, white space is one, and
    letters that are drawn alike are the same.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = clean(text)
    shown = (
        character
        for place, character in enumerate(text)
        if character.isspace()
        or not (_shows_nothing(character) or "\ufe00" <= character <= "\ufe0f")
        or (character in _JOINERS and _joins(text, place))
    )
    return " ".join("".join(shown).translate(_DRAWN_ALIKE).split())


def _joins(text: str, place: int) -> bool:
    """Whether a joiner changes how its neighbours are drawn: emoji, Arabic letters, and Indic ones beside a virama."""
    before = text[:place].rstrip("\ufe0e\ufe0f")[-1:]
    beside = (before, text[place + 1 : place + 2])
    if all(character and unicodedata.category(character) in ("So", "Sk") for character in beside):
        return text[place] == "\u200d"
    is_virama = any(character and unicodedata.combining(character) == 9 for character in beside)
    return is_virama or bool(before and unicodedata.bidirectional(before) == "AL")


def half_character(text: str) -> int | None:
    """
    Returns the position of the first half of a surrogate pair in a string, which no encoding can hold; `None` if there
    is none. Bytes of a file name that are not UTF-8, as Python writes them in strings, are no halves.
    """
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        return error.start
    return None


def is_absent(value: Any) -> bool:
    """
    Returns whether a value stands for none: `None`, NaN, NaT, NA, a masked element, what is blank, and strings such as
    `"nan"` that missing values become when they are written out.
    """
    if isinstance(value, str):
        return not (cleaned := clean(value)) or cleaned in _WRITTEN_OUT or not _seen(cleaned)
    if isinstance(value, bytes):
        return not value.strip(b" \t\r\n\f\v\0")
    return value.is_nan() if isinstance(value, Decimal) else is_missing(value)


def refuse_look_alikes(labels: Iterable[Any], where: str) -> None:
    """
    Refuses labels that a reader cannot tell apart, such as `"cat"` with an invisible character within or with a
    Cyrillic a, `"a b"` and `"a  b"`, or the number 1 and the string `"1"`. Upper and lower case stay different.

    Args:
        labels: the labels, which may repeat.
        where: the data that they are of, with which the message begins.

    Raises:
        ValueError: two different labels look the same.
    """
    first: dict[str, Any] = {}
    for label in dict.fromkeys(labels):
        known = first.setdefault(_seen(str(label)), label)
        if known != label:
            raise ValueError(
                f"{where}: the labels {ascii(known)} and {ascii(label)} look the same but are two classes: write both "
                "in one way, or rename one"
            )


def source_of(value: Any, otherwise: str) -> str:
    """Returns the source that a cell names, cleaned; an input without one, such as NaN or `NA`, is its own source."""
    return otherwise if is_absent(value) or (text := clean(str(value))) in ABSENT_CELLS else text


def refuse_absent(labels: Mapping[str, str], root: str) -> None:
    """
    Refuses names of class folders that are blank or stand for a missing label.

    Args:
        labels: the label of each folder.
        root: what they are in, for messages.

    Raises:
        ValueError: such a name.
    """
    if wrong := [ascii(folder) for folder, label in labels.items() if is_absent(label)]:
        raise ValueError(
            f"{root}: {', '.join(sorted(wrong))} is no name of a class, since it is blank or stands for a missing "
            "label: rename the sub-folder"
        )
