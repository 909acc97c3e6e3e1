"""
Inputs as vectors of levels, for models that read an input once and for all: encoded in batches that suit the encoder,
a few at a time, and remembered, so that an input that comes again costs nothing.
"""

import hashlib
import itertools
import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Shaped
from torch import Tensor

from ..inputs.reading import PADDED, stacked
from ..model.level_encoder import LevelEncoder

READ_AHEAD = 1024  # rows, among which those of like shapes are put into one batch
READ_AHEAD_BYTES = 64_000_000  # of these rows
BATCH_BYTES = 4_000_000  # of the rows that the encoder is given at once, zeros at their ends included
REMEMBERED_BYTES = 256_000_000


class LevelMemory:
    """
    Levels by keys. Beyond `most_bytes`, those that were not asked for the longest are forgotten. Threads may share it.
    """

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self._levels: OrderedDict[Any, Float16[Tensor, " total"]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Any) -> Float16[Tensor, " total"] | None:
        """Returns what was stored under a key; `None` if nothing was, or it was forgotten."""
        with self._lock:
            if key in self._levels:
                self._levels.move_to_end(key)
            return self._levels.get(key)

    def put(self, key: Any, levels: Float16[Tensor, " total"]) -> None:
        """Stores levels, which must not be changed afterwards."""
        with self._lock:
            if key not in self._levels:
                self._bytes += levels.nbytes
            self._levels[key] = levels
            while self._bytes > self.most_bytes:
                _, oldest = self._levels.popitem(last=False)
                self._bytes -= oldest.nbytes

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._levels.clear()
            self._bytes = 0


# One for all classifiers, since cross-validation makes many of them, and a page one after the other.
MEMORY = LevelMemory(REMEMBERED_BYTES)
_numbers: "weakref.WeakKeyDictionary[LevelEncoder, int]" = weakref.WeakKeyDictionary()
_count = itertools.count()


def encoded_batches(
    encoder: LevelEncoder, rows: Iterable[Shaped[np.ndarray, "..."]], memory: LevelMemory = MEMORY
) -> Iterator[Float16[Tensor, "batch total"]]:
    """
    Yields the levels of rows of any shapes, in their order, in batches of up to `READ_AHEAD`, on the CPU. No more raw
    rows than these are in memory at once.

    Args:
        encoder: of the rows' modality.
        rows: raw rows, one by one.
        memory: where levels are looked up and stored.
    """
    name, encoder_keys = _name_of(encoder), []
    waiting: dict[Any, np.ndarray] = {}
    known: dict[Any, Tensor] = {}
    size = 0

    def batch() -> Float16[Tensor, "batch total"]:
        for keys in _alike(waiting, encoder.modality in PADDED):
            raw = torch.from_numpy(stacked([waiting[key] for key in keys], encoder.modality, "inputs"))
            for key, levels in zip(keys, encoder.levels(raw.to(encoder.device)).half().cpu(), strict=True):
                known[key] = levels.clone()  # a view would keep the whole batch in memory
                memory.put(key, known[key])
        return torch.stack([known[key] for key in encoder_keys])

    for row in rows:
        key = (name, row.shape, row.dtype.str, hashlib.sha256(row.tobytes()).digest())
        encoder_keys.append(key)
        if key not in known and key not in waiting:
            if (levels := memory.get(key)) is not None:
                known[key] = levels
            else:
                waiting[key] = row
                size += row.nbytes
        if len(encoder_keys) >= READ_AHEAD or size >= READ_AHEAD_BYTES:
            yield batch()
            encoder_keys, waiting, known, size = [], {}, {}, 0
    if encoder_keys:
        yield batch()


def _name_of(encoder: LevelEncoder) -> tuple:
    """What tells an encoder from others: its description, if it has the checksum of the weights, or a number."""
    described = getattr(encoder, "config", {})
    own = json.dumps(described, sort_keys=True) if described.get("sha256") else None
    if own is None:
        if encoder not in _numbers:
            _numbers[encoder] = next(_count)
        own = _numbers[encoder]
    return own, encoder.device.type, str(encoder.dtype)


def _alike(rows: dict[Any, np.ndarray], may_pad: bool) -> Iterator[list[Any]]:
    """
    The keys of rows in batches of one shape or, of rows that zeros lengthen, of like lengths. A batch has at most
    `BATCH_BYTES`, or one row.
    """
    batch: list[Any] = []
    for key in sorted(rows, key=lambda key: rows[key].shape):
        row = rows[key]
        fits = not batch or may_pad or row.shape == rows[batch[0]].shape
        if batch and not (fits and (len(batch) + 1) * row.nbytes <= BATCH_BYTES):
            yield batch
            batch = []
        batch.append(key)
    if batch:
        yield batch
