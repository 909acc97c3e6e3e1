"""Where the rows of a split lie: in a memory-mapped Arrow file, or in an array in memory."""

from __future__ import annotations

from typing import Protocol

import datasets
import numpy as np
from jaxtyping import Int64


class Rows(Protocol):
    """Random access to raw rows."""

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """A new array (m, *row shape) of the stored dtype; row order as in `indices`."""
        ...


class ArrowRows:
    """Rows in a fixed-size-list column of a memory-mapped `datasets.Dataset`.

    The chunks of the column are viewed as NumPy arrays without a copy, so reading a row is one `memcpy` out of the
    memory map and integer types stay what they are (the `torch` and `numpy` formats of `datasets` turn all of them
    into int64). Pickling keeps the path of the file, not its content.

    Args:
        dataset: the data set; without an indices mapping.
        column: name of the column with the rows.
        row_shape: shape of one row; its product is the length of the lists.
    """

    def __init__(self, dataset: datasets.Dataset, column: str, row_shape: tuple[int, ...]):
        self.dataset = dataset
        self.column = column
        self.row_shape = tuple(row_shape)
        self._open()

    def _open(self) -> None:
        chunks = self.dataset.data.column(self.column).chunks
        self._views = [chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, *self.row_shape) for chunk in chunks]
        self._starts = np.cumsum([0] + [len(view) for view in self._views])

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """See `Rows.take`. Raises IndexError for a row number outside the data set."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self._starts[-1]:
            raise IndexError(f"row numbers {indices.min()} to {indices.max()} asked of {self._starts[-1]} rows")
        taken = np.empty((len(indices), *self.row_shape), dtype=self._views[0].dtype)
        chunk_numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for position, (chunk, row) in enumerate(zip(chunk_numbers, indices - self._starts[chunk_numbers], strict=True)):
            taken[position] = self._views[chunk][row]
        return taken

    def __getstate__(self) -> dict:
        return {"dataset": self.dataset, "column": self.column, "row_shape": self.row_shape}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


class ArrayRows:
    """Rows of an array in memory, (n, *row shape)."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """See `Rows.take`."""
        return self.array[np.asarray(indices, dtype=np.int64)]
