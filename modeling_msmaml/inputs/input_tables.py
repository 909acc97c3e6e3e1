"""Reads tables that a person writes for a classifier, with a file or a text in each row, and possibly its class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .label_values import ABSENT_CELLS, clean, is_absent, source_of
from .strict_tables import csv_lines, json_lines

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


class TableRow(NamedTuple):
    """
    A row of a table.

    Args:
        item: the path of a file, or a text.
        name: how messages and results name it: the path, or the table with the line.
        label: its class; `None` where classes are not asked for.
        source: the recording or document that it comes from; its name where the table does not say.
    """

    item: Path | str
    name: str
    label: str | None
    source: str


def is_table(path: Path) -> bool:
    """Returns whether a file is a table, by the suffix of its name."""
    return path.suffix.lower() in TABLE_SUFFIXES


def table_rows(path: Path, is_labelled: bool = False) -> Iterator[TableRow]:
    """
    Yields the rows of a table in CSV, TSV or JSON lines, one by one.

    Args:
        path: the table. It has either the column `file_name`, relative to the folder of the table, or the column
            `text`. The columns `label` and `source` are read where classes are asked for, and no others.
        is_labelled: whether classes are asked for.

    Raises:
        FileNotFoundError: a file with a class does not exist.
        OSError: the table cannot be opened.
        ValueError: it is damaged, lacks a column or has both of the first two, or a row lacks a value.
    """
    is_empty = True
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        if is_empty:
            _check_columns(row, where, is_labelled)
            is_empty = False
        kind = "text" if "text" in row else "file_name"
        value = row.get(kind)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: {kind} is {value!r}: give a string that is not blank")
        item = value if kind == "text" else path.parent / value
        name = where if kind == "text" else str(item)
        label = _label(row.get("label"), where) if is_labelled else None
        if is_labelled and isinstance(item, Path) and not item.is_file():
            raise FileNotFoundError(f"{where}: there is no file {item}; correct or remove the line")
        yield TableRow(item, name, label, source_of(row.get("source"), name))
    if is_empty:
        raise ValueError(f"{path} has no rows")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        for line, row in json_lines(path):
            yield line, {key.strip().lower(): value for key, value in row.items()}
        return
    columns: list[str] = []
    for line, values in csv_lines(path, "\t" if path.suffix.lower() == ".tsv" else ",", allows_long=True):
        if not columns:
            columns = [value.lower() for value in values]
            if twice := {column for column in columns if column and columns.count(column) > 1}:
                raise ValueError(f"{path}, line {line}: the columns {', '.join(sorted(twice))} are there twice")
            continue
        yield line, dict(zip(columns, values, strict=True))


def _check_columns(row: dict[str, Any], where: str, is_labelled: bool) -> None:
    has_one = ("file_name" in row) != ("text" in row)
    if not has_one or (is_labelled and "label" not in row):
        also = ", and the column label" if is_labelled else ""
        raise ValueError(
            f"{where}: the columns are {', '.join(row)}; it needs either file_name or text{also}; others are not read"
        )


def _label(value: Any, where: str) -> str:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"{where}: label is a {type(value).__name__}: give a string")
    label = "" if value is None else clean(str(value))
    if label in ABSENT_CELLS or is_absent(label):
        raise ValueError(f"{where}: there is no label ({value!r}): give the row a class, or remove it")
    return label
