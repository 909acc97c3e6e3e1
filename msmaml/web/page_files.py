"""The files of visitors on the server: how much they take, and how they go."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .page_limits import PageLimits
from .page_logs import log

_EVERY_SECONDS = 30.0  # old files are looked for
_BLOCK = 4096  # bytes that a file takes on disk, at least


def stored_bytes(folder: Path) -> int:
    """Returns how much the files in a folder take on disk, in bytes."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it is gone by now
                total += max(_BLOCK, os.stat(os.path.join(path, name)).st_size)
    return total


def remove_old(folder: Path, seconds: float) -> int:
    """Removes files in a folder that are older, and empty folders, and returns how many files that were."""
    oldest, removed = time.time() - seconds, 0
    for path, folders, names in os.walk(folder, topdown=False):
        for name in names:
            with suppress(OSError):
                file = os.path.join(path, name)
                if max((found := os.lstat(file)).st_mtime, found.st_ctime) < oldest:
                    os.remove(file)
                    removed += 1
        for name in folders:
            inner = os.path.join(path, name)
            with suppress(OSError):  # it is not empty
                if path != str(folder) and os.stat(inner).st_mtime < oldest:
                    os.rmdir(inner)
    return removed


@contextmanager
def kept_for_a_while(folder: Path, limits: PageLimits) -> Iterator[None]:
    """Removes the files of visitors in the folders of a folder that are too old, until it is left."""
    ends = threading.Event()

    def remove_again_and_again() -> None:
        while not ends.wait(_EVERY_SECONDS):
            if removed := remove_old(folder, 60 * limits.keep_minutes):
                log(f"{removed} files of visitors were removed after {limits.keep_minutes} minutes")

    thread = threading.Thread(target=remove_again_and_again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(10)
