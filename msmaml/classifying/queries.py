"""The queries of a run: files, folders, patterns and tables, gone through one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modeling_msmaml.inference.streamed_predictions import Query
from modeling_msmaml.inputs.input_tables import is_table, table_rows
from modeling_msmaml.inputs.label_values import printable
from modeling_msmaml.inputs.labelled_files import query_files


class Queries:
    """
    The queries that a person names, each once, in their order. Of tables, nothing is kept in memory; of files, the
    paths are.

    Args:
        given: names of files, folders and tables, and patterns.
        modality: of all of them.

    Raises:
        As [`query_files`] and [`table_rows`]; `ValueError`: a table of texts for another modality, or two names that
            look the same where they are written.
    """

    def __init__(self, given: list[str], modality: str):
        self._parts: list[Path | list[Path]] = []
        for name in dict.fromkeys(given):
            table = Path(name)
            if name.strip() and is_table(table) and table.is_file():
                self._parts.append(table)
            else:
                self._parts.append(query_files([name], modality))
        names: set[str] = set()
        is_first: list[bool] = []
        raw: set[str] = set()
        for query in self._all():
            if isinstance(query.item, str) and modality != "text":
                raise ValueError(f"{query.name}: the table has texts, and this classifier is one of {modality}")
            own = str(query.item) if isinstance(query.item, Path) else query.name
            is_first.append(own not in raw)
            if is_first[-1] and query.name in names:
                raise ValueError(f"two files are both written {query.name!r}: rename one of them")
            raw.add(own)
            names.add(query.name)
        self._chosen = np.array(is_first)
        self.longest_name = max(map(len, names))

    def __len__(self) -> int:
        return int(self._chosen.sum())

    def __iter__(self) -> Iterator[Query]:
        return (query for query, is_chosen in zip(self._all(), self._chosen, strict=True) if is_chosen)

    def share(self, number: int, count: int) -> Queries:
        """The queries of process `number` of `count`: consecutive ones, of which each process has as many."""
        own, position = self._chosen.copy(), np.cumsum(self._chosen) - 1
        own &= position * count // max(len(self), 1) == number
        return self._with(own)

    def without(self, names: set[str]) -> Queries:
        """The queries whose names are not among these."""
        own = self._chosen.copy()
        for position, query in enumerate(self._all()):
            own[position] &= query.name not in names
        return self._with(own)

    def _with(self, chosen: np.ndarray) -> Queries:
        queries = object.__new__(Queries)
        queries._parts, queries._chosen, queries.longest_name = self._parts, chosen, self.longest_name
        return queries

    def _all(self) -> Iterator[Query]:
        for part in self._parts:
            if isinstance(part, Path):
                yield from (Query(written(row.name), row.item) for row in table_rows(part))
            else:
                yield from (Query(written(str(path)), path) for path in part)


def written(name: str) -> str:
    """How results name a query: what is no UTF-8 and what breaks lines is written as an escape."""
    name = printable(name)
    if len(name.splitlines()) == 1 and not name.endswith(("\n", "\r")):
        return name
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in name)
