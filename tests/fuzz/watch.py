"""What a reading may not do: run code that a file brings, start a program, reach the network, write elsewhere."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CANARY = "msmaml_canary"  # in every string that would be code if something took it for code
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn", "pickle.find_class")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.bind")
_WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")


class Watch:
    """
    Listens to the audit events of the interpreter, which cannot be turned off again. They count within `reading`.

    Args:
        folder: where files may be written.
    """

    def __init__(self, folder: Path):
        self.is_learning = False  # what is imported at the first reading may start programs
        self._folder, self._is_on = str(folder), False
        self._found: list[str] = []
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Raises `AssertionError` at its end for what was done within it, whatever else was raised."""
        self._found, self._is_on = [], not self.is_learning
        try:
            yield
        finally:
            self._is_on = False
            if self._found:
                raise AssertionError(f"reading it did what no reading may: {'; '.join(self._found[:5])}")

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event in _FORBIDDEN or event in _NETWORK:
            self._found.append(f"{event} {arguments[:2]!r:.200}")
        elif event in _WRITES or (event == "open" and _writes(arguments)):
            if not all(map(self._may_write, _places(event, arguments))):
                self._found.append(f"{event} {arguments!r:.200}")
        elif event in ("exec", "compile", "import") and self._is_foreign(event, arguments):
            self._found.append(f"{event} {arguments!r:.200}")

    def _is_foreign(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Whether code comes from the files that are read, where some have the canary in their strings."""
        if event == "exec":
            code = arguments[0]
            return getattr(code, "co_filename", "").startswith(self._folder) or CANARY in repr(
                (getattr(code, "co_names", ()), getattr(code, "co_consts", ()))
            )
        return any(
            CANARY in text or text.startswith(self._folder)
            for argument in arguments[:2]
            for text in [argument.decode(errors="replace") if isinstance(argument, bytes) else str(argument)]
            if argument is not None
        )

    def _may_write(self, path: str) -> bool:
        return path.startswith(self._folder) or path == os.devnull or "__pycache__" in path


def _places(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The paths that an event is about, absolute; some are given relative to an open folder."""
    paths = [path for path in arguments[: 1 if event == "open" else 2] if isinstance(path, (str, bytes, os.PathLike))]
    folders = [number for number in arguments[1:] if isinstance(number, int) and number > 2]
    start = os.readlink(f"/proc/self/fd/{folders[-1]}") if folders and event in ("os.remove", "os.rmdir") else ""
    return [os.path.abspath(os.path.join(start, os.fsdecode(path))) for path in paths]


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return not isinstance(path, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
