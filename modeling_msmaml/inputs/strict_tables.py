"""Reads tables, CSV and JSON lines, row by row; what is damaged is an error with the file and the line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from .label_values import half_character

_LONGEST_VALUE = 1 << 30  # characters; what the standard library takes by default is less than a long text


def csv_lines(
    path: Path, delimiter: str = ",", allows_long: bool = False, allows_utf_16: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """
    Yields the line number and the values of each row of a table, stripped; those of the first row are its columns.

    Args:
        path: the table, in UTF-8 or, with a byte order mark, in UTF-16.
        delimiter: between two values.
        allows_long: whether a value may have several lines.
        allows_utf_16: whether the table may be in UTF-16.

    Raises:
        OSError: it cannot be opened.
        ValueError: it has another encoding, an open quote, a row with more or fewer values than columns, or a value of
            several lines.
    """
    previous = csv.field_size_limit(_LONGEST_VALUE)
    try:
        with _opened(path, allows_utf_16) as table:
            yield from _checked_lines(path, table, delimiter, "\0" if allows_long else "\n\r\0")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {_line_of(path, error)}: it is not UTF-8; save it in this encoding") from error
    finally:
        csv.field_size_limit(previous)


def _checked_lines(path: Path, table: TextIO, delimiter: str, forbidden: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(table, delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            line, values = reader.line_num, [value.strip() for value in row]
            if not any(values):
                continue
            if any(character in value for value in values for character in forbidden):
                raise ValueError(f"{path}, line {line}: a value spans several lines or is damaged; close its quotes")
            if columns and len(values) != len(columns):
                raise ValueError(
                    f"{path}, line {line}: there are {len(values)} values for the {len(columns)} columns "
                    f"{', '.join(columns)}; put quotes around a value with a {_NAMES.get(delimiter, delimiter)}"
                )
            columns = columns or values
            yield line, values
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}; close all quotes, and write a quotation mark within quotes twice"
        ) from error


_NAMES = {",": "comma", "\t": "tab"}


def _opened(path: Path, allows_utf_16: bool) -> TextIO:
    """Opens a table in UTF-8, or in UTF-16 with a byte order mark, which spreadsheets write."""
    with path.open("rb") as file:
        start = file.read(4)
    is_marked = start[:2] in (b"\xff\xfe", b"\xfe\xff") and start[2:] != b"\0\0"
    if (is_marked and not allows_utf_16) or (not is_marked and b"\0" in start):  # columns are in ASCII
        raise ValueError(f"{path} is not UTF-8; it looks like UTF-16 or UTF-32: save it as UTF-8")
    return path.open(encoding="utf-16" if is_marked else "utf-8-sig", newline="")


def _line_of(path: Path, error: UnicodeDecodeError) -> int:
    """The line of what cannot be decoded, which is searched in the whole file, since it is read in blocks."""
    content = path.read_bytes()
    try:
        content.decode(error.encoding)
    except UnicodeDecodeError as found:
        return content[: found.start].count(b"\n") + 1
    return 1


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    Yields the line number and the object of each line of a file in JSON lines, without blank lines.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not UTF-8, or a line is no JSON object, has a key twice or half of a surrogate pair.
    """
    with path.open("rb") as lines:
        for line, content in enumerate(lines, 1):
            where = f"{path}, line {line}"
            try:
                text = content.decode("utf-8-sig" if line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: it is not UTF-8; save it in this encoding") from error
            if not text.strip():
                continue
            try:
                row = json.loads(text, object_pairs_hook=_unique)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: it is no JSON object on one line ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{where}: it is no JSON object, but a {type(row).__name__}")
            if (found := _half_in(row)) is not None:
                raise ValueError(f"{where}: {found!r} has half of a surrogate pair: decode the text anew, or remove it")
            yield line, row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key is there twice")
    return row


def _half_in(value: Any) -> str | None:
    """A string within a value of JSON, or a key, that has half of a surrogate pair."""
    if isinstance(value, str):
        return value[:80] if half_character(value) is not None else None
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return next((found for part in parts if (found := _half_in(part)) is not None), None)
