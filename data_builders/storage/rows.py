"""Where the rows of a split lie: in Arrow files on disk, or in an array in memory."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Int64


class Rows(Protocol):
    """Random access to raw rows."""

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """A new array (m, *row shape) of the stored dtype; row order as in `indices`."""
        ...


class ArrowRows:
    """Rows in a fixed-size-list column of Arrow files, read from their place in the file.

    A list column of a fixed size holds the integers of all its rows one after the other. So opening the files (a memory
    map, of which only the headers are touched) tells where in a file a row starts, and taking a row is one `pread` into
    the result: nothing is loaded before it is asked for, nothing stays, and integer types stay what they are.
    Copying out of the memory map gives the same bytes, but the first touch of every page costs a fault, and all touched
    pages count as the process's memory; reading costs the same at every row and leaves nothing behind (measured in
    `benchmarks/speed/episode_cost.py`). The position in the file is part of each call, so processes and threads may
    share the open files. Needs `os.preadv` (Linux, macOS).

    Args:
        paths: Arrow stream files as `datasets` writes them, in row order.
        column: name of the column with the rows.
        row_shape: shape of one row; its product is the length of the lists.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], column: str, row_shape: tuple[int, ...]):
        self.paths = [Path(path) for path in paths]
        self.column = column
        self.row_shape = tuple(row_shape)
        self._open()

    def _open(self) -> None:
        """Finds, for every record batch of every file, its first row, the file and the place of the first value."""
        self._files = [open(path, "rb", buffering=0) for path in self.paths]  # noqa: SIM115, closed with this object
        weakref.finalize(self, _close, self._files)
        lengths, files, places = [], [], []
        for path, file in zip(self.paths, self._files, strict=True):
            with pa.memory_map(str(path)) as source:
                content = source.read_buffer()
            batches = pa.ipc.open_stream(content)
            self._dtype = np.dtype(batches.schema.field(self.column).type.value_type.to_pandas_dtype())
            for batch in batches:
                values = batch.column(self.column).flatten()
                lengths.append(batch.num_rows)
                files.append(file.fileno())
                first_value = values.buffers()[1].address + values.offset * self._dtype.itemsize
                places.append(first_value - content.address)
        self._starts = np.cumsum([0, *lengths])
        self._file_of_batch, self._place_of_batch = np.asarray(files), np.asarray(places)

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """See `Rows.take`.

        Raises:
            IndexError: a row number is outside the data set.
            OSError: a file is shorter than when it was opened.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self._starts[-1]:
            raise IndexError(f"row numbers {indices.min()} to {indices.max()} asked of {self._starts[-1]} rows")
        taken = np.empty((len(indices), *self.row_shape), dtype=self._dtype)
        if not indices.size:
            return taken
        flat = taken.reshape(len(indices), -1)
        batches = np.searchsorted(self._starts, indices, side="right") - 1
        places = self._place_of_batch[batches] + (indices - self._starts[batches]) * flat[0].nbytes
        for row, file, place in zip(flat, self._file_of_batch[batches].tolist(), places.tolist(), strict=True):
            if os.preadv(file, [row], place) != row.nbytes:
                raise OSError(f"the cache {', '.join(map(str, self.paths))} was cut off; delete it and build it again")
        return taken

    def __getstate__(self) -> dict:
        return {"paths": self.paths, "column": self.column, "row_shape": self.row_shape}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


def _close(files: list) -> None:
    for file in files:
        file.close()


class ArrayRows:
    """Rows of an array in memory, (n, *row shape)."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """See `Rows.take`."""
        return self.array[np.asarray(indices, dtype=np.int64)]
