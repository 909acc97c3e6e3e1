"""An Arrow file of features that grows part by part and can be continued after its process was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

ROWS = "rows.arrow"
PARTS = "parts.jsonl"
_SHAPES = b"shapes"  # in the metadata of the schema
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class GrowingRows:
    """Writes an Arrow stream with one column of fixed-size lists of float16 for each level of an encoder.

    Each part is one record batch. When it has reached the disk, a line in `parts.jsonl` records its rows, its end in
    the file and its checksum. Opening the same folder again keeps the parts that fit their lines and cuts off the rest,
    so that no half-written part is taken for a whole one, and no whole part is computed twice.

    Args:
        folder: folder of the two files, which is made if it does not exist.
        shapes: shape of one row of each level.

    Attributes:
        num_rows: number of rows in whole parts.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]]):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.shapes = folder, dict(shapes)
        described = {name: list(shape) for name, shape in self.shapes.items()}
        columns = [pa.field(name, pa.list_(pa.float16(), _size(shape))) for name, shape in self.shapes.items()]
        self._schema = pa.schema(columns, metadata={_SHAPES: json.dumps(described)})
        self._file = open(folder / ROWS, "a+b", buffering=0)  # noqa: SIM115, closed by `close`
        self._parts = open(folder / PARTS, "a+b", buffering=0)  # noqa: SIM115, closed by `close`
        self.num_rows = self._end = 0
        self._keep_whole_parts()
        if not self._end:
            self._write(self._schema.serialize(), 0)

    def _keep_whole_parts(self) -> None:
        """Finds the parts at the start that are whole and belong to this schema, and cuts off what follows them."""
        self._parts.seek(0)
        kept = 0
        for number, line in enumerate(self._parts.readlines()):
            try:
                rows, end, checksum = json.loads(line)
                content = os.pread(self._file.fileno(), end - self._end, self._end)
            except (ValueError, TypeError, OSError, OverflowError, RecursionError):
                break
            whole = isinstance(rows, int) and line.endswith(b"\n") and len(content) == end - self._end
            if not whole or _checksum(content, rows) != checksum:
                break
            if number == 0 and content != self._schema.serialize().to_pybytes():
                break
            self.num_rows, self._end, kept = self.num_rows + rows, end, kept + len(line)
        self._file.truncate(self._end)
        self._parts.truncate(kept)

    def append(self, levels: Mapping[str, np.ndarray]) -> None:
        """Appends a part and returns when it has reached the disk.

        Args:
            levels: float16 array (rows, *shape) of each level.
        """
        flat = {name: np.ascontiguousarray(levels[name], dtype=np.float16).reshape(-1) for name in self.shapes}
        columns = [
            pa.FixedSizeListArray.from_arrays(pa.array(flat[name]), _size(shape)) for name, shape in self.shapes.items()
        ]
        batch = pa.record_batch(columns, schema=self._schema)
        self._write(batch.serialize(), batch.num_rows)

    def _write(self, content: pa.Buffer, rows: int) -> None:
        _write_all(self._file.fileno(), memoryview(content))
        os.fsync(self._file.fileno())
        self._end += content.size
        line = json.dumps([rows, self._end, _checksum(content, rows)]) + "\n"
        _write_all(self._parts.fileno(), memoryview(line.encode()))
        os.fsync(self._parts.fileno())
        self.num_rows += rows

    def finish(self) -> None:
        """Ends the stream. The record of the parts is deleted, since the folder is now to be sealed."""
        _write_all(self._file.fileno(), memoryview(_END_OF_STREAM))
        self.close()
        (self.folder / PARTS).unlink()

    def close(self) -> None:
        """Closes the files, which can be continued if `finish` was not called."""
        self._file.close()
        self._parts.close()


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of one row of each level of a file that `GrowingRows` has written.

    Raises:
        OSError: it cannot be read, or is no such file.
    """
    try:
        with pa.memory_map(str(path)) as source:
            metadata = pa.ipc.open_stream(source).schema.metadata
        return {name: tuple(map(int, shape)) for name, shape in json.loads(metadata[_SHAPES]).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise OSError(f"{path} is damaged ({error}); delete its folder and store the levels again") from error


def _checksum(content: bytes | pa.Buffer, rows: int) -> str:
    """The checksum of a part and of the number of its rows."""
    return xxhash.xxh3_64_hexdigest(memoryview(content), seed=rows)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _write_all(file: int, content: memoryview) -> None:
    """Writes everything: one call writes at most 2 GiB, and less if the disk is nearly full."""
    while content:
        content = content[os.write(file, content) :]
