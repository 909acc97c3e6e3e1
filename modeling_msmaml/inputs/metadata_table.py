"""Reads `metadata.csv`, the table of the files of a folder with their labels and sources."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .kinds import modality_of_file
from .label_values import ABSENT_CELLS, clean, is_absent
from .labelled_inputs import few

METADATA = "metadata.csv"


class ListedFile(NamedTuple):
    """A file, by its path relative to the folder, with its label and source where they are given."""

    name: str
    label: str | None = None
    source: str | None = None

    @property
    def modality(self) -> str | None:
        return modality_of_file(self.name)


def listed_files(root: Path) -> list[ListedFile]:
    """
    Returns the files of `metadata.csv`, in its order. Labels and sources are cleaned (see `clean`).

    Raises:
        FileNotFoundError: it names files that do not exist, or are no regular files.
        ValueError: it is no table of the columns `file_name`, `label` and `source`, or a value in it is not possible.
    """
    path = root / METADATA
    files: list[ListedFile] = []
    lines: dict[str, int] = {}
    for line, row in _table(path):
        name = _file_name(row["file_name"], root, f"{path}, line {line}")
        if name in lines:
            raise ValueError(f"{path}, line {line}: listed twice: {name}, first in line {lines[name]}")
        lines[name] = line
        label = row.get("label")
        if label is not None and (label in ABSENT_CELLS or is_absent(label)):
            written = f"; {label} stands for a missing one" if label else ""
            raise ValueError(f"{name} in {path}, line {line}, has no label{written}")
        files.append(ListedFile(name, label, row.get("source")))
    if not files:
        raise ValueError(f"{path} lists no files")
    absent = [file.name for file in files if not os.path.isfile(root / file.name)]
    if absent:
        raise FileNotFoundError(
            f"{path}, line {lines[absent[0]]}: files that do not exist: {few(absent)}; correct or remove their lines"
        )
    return files


def _file_name(given: str, root: Path, where: str) -> str:
    """Returns a `file_name` relative to the folder, in one spelling: that of the file itself, where it exists."""
    spellings = [given, unicodedata.normalize("NFC", given), unicodedata.normalize("NFD", given)]
    spellings += [spelling.replace("\\", "/") for spelling in spellings]  # as Windows writes it
    name = os.path.normpath(next((spelling for spelling in spellings if os.path.exists(root / spelling)), spellings[3]))
    if not given or os.path.isabs(name) or name.split(os.sep)[0] == "..":
        raise ValueError(f"{where}: a file outside its folder: {given}; file_name is relative to {root}")
    return Path(name).as_posix()


def _table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and the values of each row of a `metadata.csv`; what is not a table of its kind raises."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            line, values = reader.line_num, [value.strip() for value in row]
            if not any(values):
                continue
            if any(character in value for value in values for character in "\n\r\0"):
                raise ValueError(f"{path}, line {line}: a value spans several lines or is damaged; close its quotes")
            if not columns:
                columns = [value.lower() for value in values]
                _check_columns(columns, f"{path}, line {line}")
                continue
            if len(values) != len(columns):
                raise ValueError(
                    f"{path}, line {line}: there are {len(values)} values for the {len(columns)} columns "
                    f"{', '.join(columns)}; put quotes around a value with a comma"
                )
            cells = dict(zip(columns, values, strict=True))
            yield line, {name: value if name == "file_name" else clean(value) for name, value in cells.items()}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; close all quotes") from error


def _text(path: Path) -> str:
    """Returns the content of a table in UTF-8, or in UTF-16 with a byte order mark, which spreadsheets write."""
    content = path.read_bytes()
    is_marked = content[:2] in (b"\xff\xfe", b"\xfe\xff") and content[2:4] != b"\0\0"
    if not is_marked and b"\0" in content[:4]:  # of characters that are in ASCII, as the columns are
        raise ValueError(f"{path} is not UTF-8; it looks like UTF-16 or UTF-32: save it as UTF-8")
    try:
        return content.decode("utf-16" if is_marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: it is not UTF-8; save it in this encoding") from error


def _check_columns(columns: list[str], where: str) -> None:
    unknown = set(columns) - {"file_name", "label", "source"}
    if "file_name" not in columns or unknown or len(set(columns)) < len(columns):
        raise ValueError(
            f"{where}: the columns are {columns}; it needs file_name, and may have label and source, each once"
        )
