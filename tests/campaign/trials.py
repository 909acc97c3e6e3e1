"""Trials of one work: it is stopped at a random moment, then goes on, and must end as if nothing had happened."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .works import WORKS, Work

TIME_LIMIT = 300.0  # seconds for a work that nothing stops


@dataclass
class Tally:
    """What became of the trials of one work with one fault.

    Attributes:
        tried: trials in which the fault took effect.
        missed: trials in which the work was done before it could.
        survived: trials that ended like the undisturbed work, by its outcome.
        lost: what went wrong in the others.
    """

    work: str
    fault: str
    tried: int = 0
    missed: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)


def _child(function: Callable[[Path, Path], str | None], shared: Path, folder: Path, rank: dict, limit: int, pipe):
    """Calls `function` in a process of its own, and sends what it returns."""
    # What is printed must not be what meets the limit.
    log = open(os.devnull if limit >= 0 else folder.with_suffix(".log"), "ab")  # noqa: SIM115, ends with the process
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    os.environ.update(rank)
    if limit >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    pipe.send(function(shared, folder))


def _start(function, shared: Path, folder: Path, processes: int = 1, limit: int = -1):
    """Starts the processes of a work, forked from a server that has done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.campaign.works"])
    started = []
    port = _free_port() if processes > 1 else ""
    for rank in range(processes):
        environment = {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
            **{"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            **{"ACCELERATE_USE_CPU": "true"},
        }
        receiver, sender = context.Pipe(duplex=False)
        arguments = (function, shared, folder, environment if processes > 1 else {}, limit, sender)
        process = context.Process(target=_child, args=arguments, daemon=True)
        process.start()
        sender.close()
        started.append((process, receiver))
    return started


def _free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def _kill(started) -> None:
    for process, _ in started:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()


def _finish(started, limit: float = TIME_LIMIT) -> tuple[bool, str | None]:
    """Waits for the end: (whether all ended well, what the first sent). What fails in one process stops the others."""
    end = time.monotonic() + limit
    while any(process.is_alive() for process, _ in started) and time.monotonic() < end:
        if any(process.exitcode for process, _ in started):
            break
        time.sleep(0.002)
    well = all(process.exitcode == 0 for process, _ in started)
    _kill(started)
    try:
        return well, started[0][1].recv() if well else None
    except EOFError:
        return False, None


def run_trials(name: str, fault: str, number: int, seed: int, shared: Path, folder: Path) -> Tally:
    """
    Runs one work undisturbed, then `number` times with a fault.

    Args:
        name: of [`WORKS`].
        fault: "kill" (SIGKILL after a random time, to all processes of the work or to one) or "full disk" (no file may
            grow beyond a random size, by `RLIMIT_FSIZE`, so that writing fails as on a full disk).
        number: of trials.
        seed: of the moments; which instructions are under way at them differs from run to run.
        shared: the material of the works.
        folder: where they write; it is emptied after each trial that ended well.
    """
    work, tally = WORKS[name], Tally(name, fault)
    dice = random.Random(f"{seed} {name} {fault}")
    start = time.monotonic()
    older, expected, sizes = _undisturbed(work, shared, folder / "undisturbed")
    duration = (time.monotonic() - start) / (2 if work.before else 1)
    for trial in range(number):
        place = folder / f"trial-{trial}"
        place.mkdir(parents=True)
        if work.before and work.is_remote:
            _expect(work.before, shared, place)
        elif work.before:
            shutil.copytree(folder / "older", place, dirs_exist_ok=True)
        limit = dice.choice(sizes) if fault == "full disk" else -1
        limit = dice.randrange(limit) if limit > 0 else limit
        started = _start(work.run, shared, place, work.processes, limit)
        if fault == "kill":
            duration = _disturb(started, dice, duration)
            stopped = any(process.exitcode for process, _ in started)
        else:
            stopped = not _finish(started)[0]
        tally.tried += stopped
        tally.missed += not stopped
        problem = _problem(work, shared, place, older, expected)
        if problem is None:
            tally.survived += stopped
            shutil.rmtree(place)
        else:
            tally.lost.append(f"trial {trial}: {problem} ({place})")
    return tally


def _undisturbed(work: Work, shared: Path, folder: Path) -> tuple[str | None, str, list[int]]:
    """What the older and the undisturbed work leave, and the sizes of the files of the latter."""
    folder.mkdir(parents=True)
    older = None
    if work.before:
        _expect(work.before, shared, folder)
        older = _expect(work.outcome, shared, folder)
        shutil.copytree(folder, folder.parent / "older")
    _expect(work.run, shared, folder, work.processes)
    expected = _expect(work.outcome, shared, folder)
    if expected is None or expected == older:
        raise RuntimeError(f"the outcome of {work} shows nothing")
    return older, expected, [path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()]


def _expect(function, shared: Path, folder: Path, processes: int = 1) -> str | None:
    well, value = _finish(_start(function, shared, folder, processes))
    if not well:
        raise RuntimeError(f"{function.__name__} fails undisturbed: {folder.with_suffix('.log').read_text()[-3000:]}")
    return value


def _disturb(started, dice: random.Random, duration: float) -> float:
    """Kills all processes, or the first of several, after a random time; returns how long the work takes at most."""
    start = time.monotonic()
    end = start + dice.uniform(0, duration)
    while time.monotonic() < end and any(process.is_alive() for process, _ in started):
        time.sleep(0.001)
    first = started[: dice.choice([1, len(started)])]
    was_done = not any(process.is_alive() for process, _ in started)
    _kill(first)
    _kill(started)
    return min(duration, 1.05 * (time.monotonic() - start)) if was_done else duration


def _problem(work: Work, shared: Path, place: Path, older: str | None, expected: str) -> str | None:
    """What is wrong after a stop, or after the work has gone on; None if nothing is."""
    if work.before:
        well, found = _finish(_start(work.outcome, shared, place))
        if well and found not in (older, expected):
            return "what it left is taken for whole, and is neither the former nor the new"
    well, _ = _finish(_start(work.run, shared, place, work.processes))
    if not well:
        return f"it does not go on: {place.with_suffix('.log').read_text()[-600:]}"
    well, found = _finish(_start(work.outcome, shared, place))
    if not well or found != expected:
        return "it went on, and ended differently"
    return None
