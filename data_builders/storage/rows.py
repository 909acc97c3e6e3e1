"""Random access to the rows of a split, which are stored in Arrow files on disk or in an array in memory."""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from modeling_msmaml.inputs.fingerprints import text_hash

from .sealed import sealed_checksums


class Rows(Protocol):
    """Random access to raw rows."""

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Returns the rows with these indices, in this order, as a new array (m, *row_shape) of the stored dtype."""
        ...


class ArrowRows:
    """Rows in a column of Arrow files, whose fixed-size lists are read from their positions in the files.

    A column of fixed-size lists holds the integers of all its rows one after the other. Opening the files as memory
    maps, of which only the headers are touched, therefore shows where each row starts, and taking a row is one `pread`
    into the result. Rows are read only when they are taken, do not stay in memory, and keep their integer type.

    Copying rows out of the memory map would give the same bytes, but the first touch of every page costs a page fault,
    and all touched pages count as memory of the process. Reading costs the same for every row and leaves nothing in
    memory (docs/notes/storage.md has the measurements). The position in the file is part of every call, so that
    processes and threads may share the open files. The class needs `os.preadv`, which Linux and macOS have.

    Args:
        paths: paths of Arrow stream files as `datasets` writes them, in the order of the rows.
        column: name of the column with the rows.
        row_shape: shape of one row; the product of its entries is the length of the lists.

    Raises:
        OSError: a file is no complete Arrow stream of such rows.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], column: str, row_shape: tuple[int, ...]):
        self.paths = [Path(path) for path in paths]
        self.column = column
        self.row_shape = tuple(row_shape)
        self._open()

    def _open(self) -> None:
        """Finds the first row, the file and the position of the first value of every record batch."""
        self._files = [open(path, "rb", buffering=0) for path in self.paths]  # noqa: SIM115, closed with this object
        weakref.finalize(self, _close, self._files)
        lengths, files, places = [], [], []
        for path, file in zip(self.paths, self._files, strict=True):
            try:
                with pa.memory_map(str(path)) as source:
                    content = source.read_buffer()
                stream = pa.ipc.open_stream(content)
                kind = stream.schema.field(self.column).type
                self._dtype = np.dtype(kind.value_type.to_pandas_dtype())
                if kind.list_size != math.prod(self.row_shape) or self._dtype.hasobject:
                    raise OSError(f"column {self.column!r} is of type {kind}, not of rows {self.row_shape}")
                for batch in stream:
                    batch.validate()
                    values = batch.column(self.column).flatten()
                    lengths.append(batch.num_rows)
                    files.append(file.fileno())
                    first_value = values.buffers()[1].address + values.offset * self._dtype.itemsize
                    places.append(first_value - content.address)
            except (pa.ArrowException, OSError, KeyError, AttributeError, TypeError, IndexError) as error:
                raise OSError(f"the cache {path} is damaged ({error}); delete it and build it again") from error
        self._starts = np.cumsum([0, *lengths])
        self._file_of_batch, self._place_of_batch = np.asarray(files), np.asarray(places)

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Returns rows as `Rows.take` does.

        Raises:
            IndexError: an index is outside the data set.
            OSError: a file is shorter than it was when it was opened.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self._starts[-1]:
            raise IndexError(
                f"indices={indices.min()} to {indices.max()} do not fit a data set of {self._starts[-1]} rows"
            )
        taken = np.empty((len(indices), *self.row_shape), dtype=self._dtype)
        if not indices.size:
            return taken
        flat = taken.reshape(len(indices), -1)
        batches = np.searchsorted(self._starts, indices, side="right") - 1
        places = self._place_of_batch[batches] + (indices - self._starts[batches]) * flat[0].nbytes
        for row, file, place in zip(flat, self._file_of_batch[batches].tolist(), places.tolist(), strict=True):
            if os.preadv(file, [row.data], place) != row.nbytes:
                raise OSError(f"the cache {', '.join(map(str, self.paths))} was cut off; delete it and build it again")
        return taken

    def fingerprint(self) -> str | None:
        """Returns a string that stands for all rows, without reading them; None if the files are in no sealed cache."""
        checksums = [sealed_checksums(path) for path in self.paths]
        return None if None in checksums else text_hash(self.column, json.dumps(checksums))

    def __getstate__(self) -> dict:
        return {"paths": self.paths, "column": self.column, "row_shape": self.row_shape}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


def _close(files: list) -> None:
    for file in files:
        file.close()


class LevelRows:
    """Rows that have several arrays, one for each level of an encoder, each in a column of its own.

    Args:
        path: path of the Arrow stream file.
        shapes: shape of one row of each level.
    """

    def __init__(self, path: str | os.PathLike, shapes: Mapping[str, tuple[int, ...]]):
        self._levels = {name: ArrowRows([path], name, shape) for name, shape in shapes.items()}

    def take(self, indices: Int64[np.ndarray, " m"], names: Iterable[str]) -> dict[str, np.ndarray]:
        """Returns the rows of the named levels, each as `Rows.take` does; other levels are not read."""
        return {name: self._levels[name].take(indices) for name in names}


class ArrayRows:
    """Rows of an array in memory, of shape (n, *row_shape)."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Returns rows as `Rows.take` does."""
        return self.array[np.asarray(indices, dtype=np.int64)]
