"""
What `datasets` would read of a local folder, looked at beforehand: files that our own listing takes instead, and tables
whose damaged lines are errors with the file and the line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow
import pyarrow.parquet

from modeling_msmaml.inputs.kinds import modality_of_file
from modeling_msmaml.inputs.labelled_inputs import few
from modeling_msmaml.inputs.strict_tables import csv_lines, json_lines

_JSON_LINES = (".jsonl", ".ndjson")
_MODALITY_OF_BUILDER = {"audiofolder": "audio", "imagefolder": "image", "text": "text"}


class LocalFiles(NamedTuple):
    """
    The files of a local data set.

    Args:
        files: of each split, in the order in which `datasets` reads them.
        modality: of the files if our own listing reads them; `None` if `datasets` does.
        delimiter: between two values of CSV; `None` if the folder says itself how its tables are read.
    """

    files: Mapping[str, Sequence[Path]]
    modality: str | None
    delimiter: str | None


def local_files(repo: str, given: Mapping[str, Any]) -> LocalFiles:
    """
    Tells how `datasets` would read a local folder, without reading its files.

    Args:
        repo: the folder.
        given: further arguments of `datasets.load_dataset`.

    Raises:
        FileNotFoundError, ValueError: what `datasets.load_dataset_builder` refuses, such as a folder without files.
    """
    try:
        builder = datasets.load_dataset_builder(repo, **given)
    except ValueError as error:
        raise ValueError(f"hub:{repo}: {error}") from error
    files = {str(split): [Path(name) for name in names] for split, names in (builder.config.data_files or {}).items()}
    kind = next((base.__module__.rsplit(".")[-1] for base in type(builder).__mro__ if _is_packaged(base)), "")
    card = Path(repo) / "README.md"
    is_configured = card.is_file() and "\nconfigs:" in card.read_text("utf-8", errors="replace")
    every = [path for paths in files.values() for path in paths]
    modality = None if is_configured else _MODALITY_OF_BUILDER.get(kind)
    if modality is not None and not any(modality_of_file(path) == modality for path in every):
        modality = None  # such as archives, which `datasets` unpacks
    separator = getattr(builder.config, "sep", ",")
    return LocalFiles(files, modality, None if is_configured else separator)


def _is_packaged(base: type) -> bool:
    return base.__module__.startswith("datasets.packaged_modules.")


def table_lines(local: LocalFiles) -> dict[str, list[str]]:
    """
    Checks the tables of a local data set.

    Returns:
        For each split of CSV or JSON lines, the file and line of each row.

    Raises:
        ValueError: a table is damaged, see `strict_tables.py`, or has a column twice.
    """
    found = {}
    for split, paths in local.files.items():
        places, are_tables = [], bool(paths)
        for path in paths:
            own = _rows(path, local.delimiter)
            are_tables = are_tables and own is not None
            places += [f"{path}, line {line}" for line in own or ()]
        if are_tables:
            found[split] = places
    return found


def _rows(path: Path, delimiter: str | None) -> list[int] | None:
    """The line of each row of a table; `None` for a file of another kind."""
    suffix = path.suffix.lower()
    if suffix in _JSON_LINES:
        return [line for line, _ in json_lines(path)]
    if suffix not in (".csv", ".tsv") or delimiter is None:
        return None
    lines: list[int] = []
    columns: list[str] | None = None
    for line, values in csv_lines(path, delimiter, allows_long=True, allows_utf_16=False):
        if columns is None:
            columns = [value for value in values if value]
            if len(set(columns)) < len(columns):
                raise ValueError(f"{path}, line {line}: the columns are {values}; each may be there once")
            continue
        lines.append(line)
    return lines


def unreadable_files(local: LocalFiles) -> str:
    """Names the files that `datasets` could not read: damaged ones of Parquet, or else all of the data set."""
    every = [path for paths in local.files.values() for path in paths]
    return few(map(str, [path for path in every if _is_damaged(path)] or every))


def _is_damaged(path: Path) -> bool:
    if path.suffix.lower() != ".parquet":
        return False
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass
    except (pyarrow.ArrowException, OSError):
        return True
    return False
