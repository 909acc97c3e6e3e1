"""
Reads `metadata.csv` or `metadata.jsonl`, the table of the files of a folder with their labels and sources. Where the
sub-folders are splits, each of them may have a table of its own.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .folder_walk import is_ignored
from .kinds import modality_of_file
from .label_values import ABSENT_CELLS, clean, is_absent
from .labelled_inputs import SPLIT_OF_NAME, few
from .notes import listing
from .strict_tables import csv_lines, json_lines

TABLES = ("metadata.csv", "metadata.jsonl")
# Tables that people and programs write under this name, but that are not read.
_OTHER_TABLE = re.compile(
    r"metadata\.(tsv|tab|xls[xmb]?|ods|numbers|json|ndjson|parquet|feather|arrow|(csv|jsonl|tsv|xlsx)\.\w+)"
)


class Columns(NamedTuple):
    """
    The columns of a table beside `file_name`, in any case.

    Args:
        label: the class; where a table has no column `label`, the sub-folder is the class.
        source: the recording or document; `None` to read none.
        allows_others: whether a table may have further columns, which are not read.
    """

    label: str = "label"
    source: str | None = "source"
    allows_others: bool = False


class ListedFile(NamedTuple):
    """A file, by its path relative to the folder, with its label, its source and its line, where they are given."""

    name: str
    label: str | None = None
    source: str | None = None
    where: str = ""

    @property
    def modality(self) -> str | None:
        return modality_of_file(self.name)


def tables_of(root: Path) -> list[Path]:
    """
    Returns the tables of a folder: one in the folder itself, or one in each of its splits, or none.

    Raises:
        FileNotFoundError: a table is a link to nothing.
        ValueError: a folder has several tables or one of another kind, or only some splits have one.
    """
    below = sorted(name for name in os.listdir(root) if not is_ignored(name) and (root / name).is_dir())
    are_splits = bool(below) and all(name.lower() in SPLIT_OF_NAME for name in below)
    splits = {name: _tables_in(root / name) for name in below} if are_splits else {}
    found, nested = _tables_in(root), [table for tables in splits.values() for table in tables]
    if found and nested:
        raise ValueError(f"{found[0]} and {nested[0]} both list files: keep one of them")
    if without := [name for name, tables in splits.items() if nested and not tables]:
        raise ValueError(f"{nested[0]} lists the files of its split, but there is none in {few(without)}: add it")
    return found or nested


def _tables_in(folder: Path) -> list[Path]:
    files = sorted(
        entry.name for entry in os.scandir(folder) if not is_ignored(entry.name) and not os.path.isdir(entry)
    )
    tables = [name for name in files if name.lower() in TABLES]
    if len(tables) > 1:
        raise ValueError(f"{folder} has the tables {', '.join(tables)}: keep one of them")
    if other := [name for name in files if _OTHER_TABLE.fullmatch(name.lower())]:
        raise ValueError(
            f"{folder / other[0]} is a table that is not read: save it as metadata.csv (UTF-8, with the columns "
            "file_name, label and source), or give it another name if it does not list the files"
        )
    for name in tables:
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name} is a link to nothing: mend or remove it")
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is no regular file")
    return [folder / name for name in tables]


def listed_files(root: Path, columns: Columns | None = None) -> list[ListedFile]:
    """
    Returns the files of the tables of a folder (see `tables_of`), in their order. Labels and sources are cleaned (see
    `clean`).

    Raises:
        FileNotFoundError: a table names files that do not exist, or are no regular files.
        ValueError: it is no table of these columns, or a value in it is not possible.
    """
    columns = columns or Columns()
    files: list[ListedFile] = []
    for table in tables_of(root):
        files += _listed(root, table, columns)
    return files


def _listed(root: Path, path: Path, columns: Columns) -> list[ListedFile]:
    files: list[ListedFile] = []
    lines: dict[str, int] = {}
    label_column = columns.label.lower()
    source_column = None if columns.source is None else columns.source.lower()
    for line, row in _rows(path, columns):
        where = f"{path}, line {line}"
        name = _file_name(row["file_name"], path.parent, where)
        if name in lines:
            raise ValueError(f"{where}: listed twice: {name}, first in line {lines[name]}")
        lines[name] = line
        label = row.get(label_column)
        if label is not None and (label in ABSENT_CELLS or is_absent(label)):
            raise ValueError(f"{name} in {where}, has no label{_remedy(label) if label else ''}")
        source = None if source_column is None else row.get(source_column)
        full = (path.parent.relative_to(root) / name).as_posix()
        files.append(ListedFile(full, label, source, where))
    if not files:
        raise ValueError(f"{path} lists no files")
    absent = [file for file in files if not os.path.isfile(root / file.name)]
    if absent:
        raise FileNotFoundError(
            f"{absent[0].where}: files that do not exist: {few(file.name for file in absent)}; correct or remove their "
            "lines"
        )
    return files


def _remedy(label: str) -> str:
    return (
        f"; {label} stands for a missing one: if it is the name of a class, write another, such as class_"
        f"{re.sub(r'[^0-9A-Za-z]', '', label)}, or leave out the column, so that sub-folders are the classes"
    )


def _file_name(given: str, folder: Path, where: str) -> str:
    """Returns a `file_name` relative to the folder, in one spelling: that of the file itself, where it exists."""
    spellings = [given, unicodedata.normalize("NFC", given), unicodedata.normalize("NFD", given)]
    spellings += [spelling.replace("\\", "/") for spelling in spellings]  # as Windows writes it
    found = next((spelling for spelling in spellings if os.path.exists(folder / spelling)), spellings[3])
    name = os.path.normpath(found)
    if not given or os.path.isabs(name) or name.split(os.sep)[0] == "..":
        raise ValueError(f"{where}: a file outside its folder: {given}; file_name is relative to {folder}")
    return Path(name).as_posix()


def _rows(path: Path, columns: Columns) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and the values of each row; what is not a table of its kind raises."""
    names: list[str] = []
    if path.suffix.lower() == ".jsonl":
        rows = list(json_lines(path))
        names = list(dict.fromkeys(key.strip().lower() for _, row in rows for key in row))
        if rows:
            _check_columns(names, columns, f"{path}, line {rows[0][0]}")
        for line, row in rows:
            values = {key.strip().lower(): value for key, value in row.items()}
            yield (
                line,
                {name: _cell(values.get(name), name, f"{path}, line {line}") for name in _read_of(names, columns)},
            )
        return
    for line, values in csv_lines(path):
        if not names:
            names = [value.lower() for value in values]
            _check_columns(names, columns, f"{path}, line {line}")
            continue
        cells = dict(zip(names, values, strict=True))
        yield line, {name: value if name == "file_name" else clean(value) for name, value in cells.items()}


def _read_of(names: list[str], columns: Columns) -> list[str]:
    wanted = ("file_name", columns.label.lower(), (columns.source or "").lower())
    return [name for name in names if name in wanted]


def _cell(value: Any, name: str, where: str) -> str:
    """Returns a value of JSON as a table of text would have it; it is blank where there is none."""
    if value is None or isinstance(value, float) and value != value:
        return ""
    if isinstance(value, str):
        return value.strip() if name == "file_name" else clean(value)
    if name == "file_name" or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: {name} is a {type(value).__name__}: give a string")
    return str(value)


def _check_columns(names: list[str], columns: Columns, where: str) -> None:
    unknown = set() if columns.allows_others else set(names) - {"file_name", "label", "source"}
    if "file_name" not in names or unknown or len({*names} - {""}) < len([name for name in names if name]):
        raise ValueError(
            f"{where}: the columns are {names}; it needs file_name, and may have label and source, each once"
        )
    for option, column in (("label_column", columns.label), ("source_column", columns.source)):
        if column not in (None, "label", "source") and column.lower() not in names:
            raise ValueError(f"{where}: {option}={column!r} is no column of it; its columns are {listing(names)}")
