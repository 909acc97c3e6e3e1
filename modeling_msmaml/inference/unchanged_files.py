"""Files that were encoded before and have not changed since, so that they need not be decoded again."""

import os
import threading
import time
from collections import OrderedDict
from typing import Any

from transformers import ProcessorMixin

from ..inputs.kinds import KINDS
from ..inputs.notes import Notes
from .encoded_inputs import MEMORY, KnownInput, LevelMemory

MOST_FILES = 20_000
_SETTLED = 2_000_000_000  # ns; a file that was written later than that long ago may be written again unnoticed


class UnchangedFiles:
    """
    Finds the levels of files that were encoded before, by path, size, and times of change. Those that something was
    noted about are read again, so that it is said again.

    Args:
        settings: what decides the levels of a file beside its content: modality, processor and encoder.
        notes: what is noted while files are read, one after the other.
        memory: where the levels are.
    """

    _keys: "OrderedDict[Any, Any]" = OrderedDict()  # of all classifiers, as the memory of levels is
    _lock = threading.Lock()

    def __init__(self, settings: Any, notes: Notes, memory: LevelMemory = MEMORY):
        self.settings, self.notes, self.memory = settings, notes, memory
        self._stamp: Any = None
        self._noted = 0

    def find(self, item: Any) -> KnownInput | None:
        """Returns the levels of an input if it is such a file; otherwise `store` may be told of its row's key next."""
        self._stamp, self._noted = self._stamp_of(item), self.notes.count
        key = None if self._stamp is None else self._keys.get(self._stamp)
        levels = None if key is None else self.memory.get(key)
        return None if levels is None else KnownInput(key, levels)

    def store(self, key: Any) -> None:
        """Remembers under which key the levels of the input that `find` was last asked about are to be found."""
        if self._stamp is None or self.notes.count != self._noted:
            return
        with self._lock:
            self._keys[self._stamp] = key
            while len(self._keys) > MOST_FILES:
                self._keys.popitem(last=False)

    def _stamp_of(self, item: Any) -> Any:
        if not isinstance(item, (str, os.PathLike)):
            return None
        try:
            path = os.path.abspath(item)
            stat = os.stat(path)
        except (OSError, ValueError):  # to be said by who reads it
            return None
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < _SETTLED:
            return None
        return path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, self.settings


def settings_of(modality: str, processor: ProcessorMixin | None) -> tuple:
    """What decides the row of a file of sound or picture beside its content."""
    part: Any = getattr(processor, KINDS[modality].part, None) if modality in KINDS else None
    return modality, part.to_json_string() if hasattr(part, "to_json_string") else None
