"""Reads files in a worker process, and measures each: time, memory, and what goes wrong."""

import contextlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SECONDS, GIGABYTES = 5.0, 0.5  # that a file may take
_START = 120.0  # seconds that a worker may take to import what it needs

# Of (name of a file, its content).
Reader = Callable[[str, bytes], Any]
# Of the folder where it may write.
MakeReader = Callable[[Path], Reader]


@dataclass(frozen=True)
class Reading:
    """
    What came of one file.

    Attributes:
        name: of the file.
        seconds: until there was a row, an error, or the limit of time.
        gigabytes: by which the memory of the process rose above what it had before; all that it has where it hangs.
        finding: what is wrong; empty where all is well.
    """

    name: str
    seconds: float
    gigabytes: float
    finding: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.seconds:.3f} s, {self.gigabytes:.3f} GB {self.finding}".rstrip()


def read_all(
    make_reader: MakeReader,
    files: Iterable[tuple[str, bytes]],
    seconds: float = SECONDS,
    gigabytes: float = GIGABYTES,
) -> list[Reading]:
    """
    Reads files one after the other. A worker that hangs, ends or has taken too much memory is replaced by a new one.

    Args:
        make_reader: a function of a module, which a worker calls once. What it returns reads one file; whatever that
            raises is a finding.
        files: names and contents.
        seconds, gigabytes: limits per file.
    """
    readings, worker = [], None
    with tempfile.TemporaryDirectory(prefix="msmaml_readings_") as folder:
        try:
            for name, content in files:
                worker = worker or _Worker(make_reader, Path(folder))
                readings.append(worker.read(name, content, seconds, gigabytes))
                if not worker.usable:
                    worker.stop()
                    worker = None
        finally:
            if worker is not None:
                worker.stop()
    return readings


def report(readings: list[Reading], shown: int = 5) -> str:
    """Lists the findings, the slowest files, and those that took most memory."""
    slowest = sorted(readings, key=lambda reading: -reading.seconds)[:shown]
    largest = sorted(readings, key=lambda reading: -reading.gigabytes)[:shown]
    findings = [reading for reading in readings if reading.finding]
    parts = {f"{len(findings)} findings in {len(readings)} files": findings, "slowest": slowest, "largest": largest}
    return "\n".join(f"{title}:\n" + "\n".join(f"  {reading}" for reading in found) for title, found in parts.items())


class _Worker:
    """A process of its own; a forked one would inherit the memory and the threads of the tests."""

    def __init__(self, make_reader: MakeReader, folder: Path):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, make_reader, folder), daemon=True)
        self.process.start()
        self.usable = True
        other.close()
        if not self.connection.poll(_START) or self.connection.recv() != "ready":
            self.stop()
            raise RuntimeError("the worker does not start")

    def read(self, name: str, content: bytes, seconds: float, gigabytes: float) -> Reading:
        start = time.perf_counter()
        self.connection.send((name, content))
        if not self.connection.poll(seconds):
            self.usable = False
            return Reading(name, time.perf_counter() - start, self._held(), f"no end after {seconds:g} s, stopped")
        try:
            taken, grown, finding = self.connection.recv()
        except EOFError:
            self.usable = False
            self.process.join(seconds)
            return Reading(name, time.perf_counter() - start, 0, f"ended the process, code {self.process.exitcode}")
        if grown > gigabytes:
            self.usable = False  # where a peak cannot be forgotten, it would be found of the next file too
            finding = f"more than {gigabytes:g} GB; {finding}".rstrip("; ")
        return Reading(name, taken, grown, finding)

    def _held(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**30

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Any, make_reader: MakeReader, folder: Path) -> None:
    read = make_reader(folder)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # decoders written in C say there what they think of each file
    connection.send("ready")
    while True:
        try:
            name, content = connection.recv()
        except EOFError:
            return
        _forget_peak()
        before, finding, start = psutil.Process().memory_info().rss, "", time.perf_counter()
        try:
            read(name, content)
        except Exception as error:  # the reader keeps the documented errors to itself
            finding = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        connection.send((seconds, max(0, _peak() - before) / 2**30, finding))


def _forget_peak() -> None:
    """Where the system allows it; otherwise a peak also counts for the files after it, up to the first finding."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most memory that the process held, bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
