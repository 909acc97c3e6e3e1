"""The file of results of a run: written as they are computed, and continued by a run that is started again."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .formats import Format


class _Result(NamedTuple):
    """A line of a file, with its position and length in bytes."""

    name: str
    is_error: bool
    start: int
    length: int


class ResultsFile:
    """
    Appends lines to a file. A last line that is only half there, of a process that was killed, is removed.

    Args:
        path: the file, which is made if need be.
        format: of its lines.

    Raises:
        ValueError: another process is writing to it.
    """

    def __init__(self, path: Path, format: Format):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        if not _locks(self._file):
            self._file.close()
            raise ValueError(f"--output {path}: another process is writing to it; wait for its end")
        if (end := _end_of_lines(path)) < path.stat().st_size:
            self._file.truncate(end)
        if self._file.seek(0, os.SEEK_END) == 0:
            self.append(format.header())

    def append(self, lines: str) -> None:
        """Writes whole lines, which are in the file when it returns, even if the process is killed then."""
        self._file.write(lines.encode())
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _locks(file: BinaryIO) -> bool:
    """Locks an open file, until it is closed or its process ends, if no other does; Windows has no such lock."""
    if importlib.util.find_spec("fcntl") is None:
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def part_of(output: Path, number: int) -> Path:
    """Where process `number` of several writes its share of the results."""
    return output.with_name(f"{output.name}.part-{number}")


def parts_of(output: Path) -> list[Path]:
    """The parts of an output that there are, of any number of processes."""
    found = output.parent.glob(f"{_escaped(output.name)}.part-*") if output.parent.is_dir() else []
    return sorted((part for part in found if _number(part).isdecimal()), key=lambda part: int(_number(part)))


def names_in(path: Path, format: Format) -> set[str]:
    """
    The names of the queries whose results a file has, without a last line that is only half there.

    Raises:
        ValueError: a line is no result.
    """
    return {result.name for result in _results(path, format)} if path.exists() else set()


def errors_in(path: Path, format: Format) -> int:
    """How many queries of a file could not be read."""
    return sum(result.is_error for result in _results(path, format))


def merge(output: Path, format: Format, names: Iterator[str]) -> None:
    """
    Puts the parts of an output into one file, in the order of these names, and removes them. Only the places of the
    lines are in memory. Results of other names, which are no queries any more, come last.
    """
    sources = [path for path in (output, *parts_of(output)) if path.exists()]
    places: dict[str, tuple[int, int, int]] = {}
    for number, source in enumerate(sources):
        for result in _results(source, format):
            places.setdefault(result.name, (number, result.start, result.length))
    unfinished = output.with_name(f"{output.name}.merging")
    files = [source.open("rb") for source in sources]
    try:
        with unfinished.open("wb") as merged:
            merged.write(format.header().encode())
            for name in _in_order(names, places):
                number, start, length = places.pop(name)
                files[number].seek(start)
                merged.write(files[number].read(length))
    finally:
        for file in files:
            file.close()
    os.replace(unfinished, output)
    for source in sources:
        if source != output:
            source.unlink()


def _in_order(names: Iterator[str], places: dict[str, tuple[int, int, int]]) -> Iterator[str]:
    yield from (name for name in names if name in places)
    yield from list(places)


def _results(path: Path, format: Format) -> Iterator[_Result]:
    header, start = format.header().encode(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n") and not (number == 1 and line == header):
                try:
                    name, is_error = format.read(line.decode())
                except ValueError as error:
                    raise ValueError(
                        f"{path}, line {number} is no result of this run ({error}): remove the line, or start anew "
                        "with --overwrite"
                    ) from error
                yield _Result(name, is_error, start, len(line))
            start += len(line)


def _end_of_lines(path: Path) -> int:
    """The number of bytes up to the last line break."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65_536)
            file.seek(start)
            if (position := file.read(end - start).rfind(b"\n")) >= 0:
                return start + position + 1
            end = start
    return 0


def _number(part: Path) -> str:
    return part.name.rpartition(".part-")[2]


def _escaped(name: str) -> str:
    """A name as `glob` takes it literally."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
