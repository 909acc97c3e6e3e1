"""The workers of the page, as the server sees them: a work is given to one of them, which is replaced if it fails."""

import json
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, NamedTuple

from .page_limits import PageError, PageLimits
from .page_logs import log
from .worker_process import DONE, FAILED, READY, RESULT, TOO_LARGE, WORKS, Work, serve_workers

_LOAD_SECONDS = 600  # for the model to be loaded
_START_SECONDS = 60  # for a worker to be made
_WORKS_PER_WORKER = 500  # after which it is replaced, so that whatever grows in a library does so within bounds
_FIRST_GUESS = 1.0  # seconds a work takes, before any was done


class _Worker(NamedTuple):
    """A worker that waits for work, and how much it has done."""

    connection: Connection
    process: int
    done: int = 0


class WorkerPool:
    """
    Processes that do the work of the page. No work can end the server: what takes too long is killed, and a worker that
    ends, is killed, or has no memory left is replaced.

    Args:
        model: folder or repository of the model.
        folder: for downloads.
        limits: of the page: number of workers, and what a work may take.
        works: what they do; by default that of the page.
        is_verbose: whether they may print.

    Attributes:
        modalities: that the model takes.
        reads_levels: whether it is a model on levels.
        running, waiting: how many works are done, and how many wait.

    Raises:
        ValueError: there is no such model, or it takes no sounds, texts or pictures.
    """

    def __init__(
        self,
        model: str | None,
        folder: Path,
        limits: PageLimits,
        works: dict[str, Work] | None = None,
        is_verbose: bool = False,
    ):
        self.limits = limits
        self._given = (model, folder, limits, works or WORKS, is_verbose)
        self._sockets = tempfile.TemporaryDirectory(prefix="msmaml_workers_")  # nobody else may enter it
        self._starts = 0
        self._is_closed = False
        self._starting = threading.Lock()  # of the process that loads the model
        self._changing = threading.Condition()  # of all that follows
        self._idle: list[_Worker] = []
        self._tickets, self._served = 0, 0
        self.running = self.waiting = 0
        self._usual_seconds = _FIRST_GUESS
        said = self._start()
        self.modalities: list[str] = said["modalities"]
        self.reads_levels: bool = said["reads_levels"]
        self._idle = [self._new_worker() for _ in range(limits.workers)]

    def run(self, name: str, *arguments: Any) -> Iterator[tuple[Any, bytes | None]]:
        """
        Yields what a work yields, as soon as it does.

        Args:
            name: of the work.
            arguments: of it.

        Raises:
            PageError: it took too long or too much memory, or its process ended.
        """
        worker, is_good, start = self._take(), False, time.monotonic()
        try:
            yield from self._results(worker, name, arguments)
            is_good = True
        except _Unharmed:
            is_good = True
            raise
        finally:  # also where nobody waits for the rest
            self._usual_seconds += 0.1 * (time.monotonic() - start - self._usual_seconds)
            self._give_back(worker if is_good and worker.done < _WORKS_PER_WORKER else None, worker)

    def seconds_until_free(self, ahead: int) -> int:
        """Returns how long it may take until as many works are done as are ahead, in seconds."""
        return max(1, round(self._usual_seconds * (ahead + 1) / self.limits.workers))

    def alive(self) -> int:
        """Returns how many workers there are."""
        with self._changing:
            return len(self._idle) + self.running

    def is_loaded(self) -> bool:
        """Returns whether the process that holds the model is there."""
        return not self._is_closed and self._process.is_alive()

    def close(self) -> None:
        """Ends all processes."""
        self._is_closed = True
        with self._changing:
            for worker in self._idle:
                worker.connection.close()
            self._idle = []
            self._changing.notify_all()
        self._process.terminate()
        self._process.join(5)
        self._sockets.cleanup()

    def _start(self) -> dict[str, Any]:
        """Starts the process that loads the model, and returns what it says of it."""
        self._starts += 1
        self._address = os.path.join(self._sockets.name, str(self._starts))
        context = multiprocessing.get_context("spawn")  # the server has threads, which a copy of it would lack
        heard, said = context.Pipe(duplex=False)
        model, folder, limits, works, is_verbose = self._given
        self._process = context.Process(
            target=serve_workers, args=(self._address, said, model, folder, limits, works, is_verbose), daemon=True
        )
        self._process.start()
        said.close()
        try:
            if not heard.poll(_LOAD_SECONDS):
                self._process.kill()
                raise ValueError(f"the model was not loaded within {_LOAD_SECONDS} s")
            found = json.loads(heard.recv_bytes())
        except EOFError as error:
            self._process.join(5)
            raise ValueError(f"the process that loads the model ended with {self._process.exitcode}") from error
        if "error" in found:
            raise ValueError(found["error"])
        return found

    def _new_worker(self) -> _Worker:
        with self._starting:
            if not self._is_closed and not self._process.is_alive():
                log("the process that holds the model has ended: it is started again")
                self._start()
        connection = Client(self._address, family="AF_UNIX")
        if not connection.poll(_START_SECONDS):
            connection.close()
            raise OSError(f"no worker was there within {_START_SECONDS} s")
        kind, process = json.loads(connection.recv_bytes())
        if kind != READY:
            raise OSError("a worker began with something else than its number")
        return _Worker(connection, process)

    def _take(self) -> _Worker:
        """A worker, in the order in which they were asked for."""
        with self._changing:
            ticket, self._tickets = self._tickets, self._tickets + 1
            self.waiting += 1
            try:
                there = lambda: self._is_closed or (self._served == ticket and bool(self._idle))  # noqa: E731
                self._changing.wait_for(there)
            finally:
                self.waiting -= 1
                self._served += 1
                self._changing.notify_all()
            if self._is_closed:
                raise PageError("The page is being closed.")
            self.running += 1
            return self._idle.pop()

    def _give_back(self, worker: _Worker | None, former: _Worker) -> None:
        """Makes a worker available again, or another one in its place."""
        if worker is None:
            former.connection.close()
            with suppress(ProcessLookupError):
                os.kill(former.process, signal.SIGKILL)
            threading.Thread(target=self._replace, daemon=True).start()
            return
        with self._changing:
            self.running -= 1
            self._idle.append(worker._replace(done=worker.done + 1))
            self._changing.notify_all()

    def _replace(self) -> None:
        worker, pause = None, 0.1
        while worker is None and not self._is_closed:
            try:
                worker = self._new_worker()
            except (OSError, EOFError, ValueError) as error:
                log(f"no new worker: {type(error).__name__}")
                time.sleep(pause)
                pause = min(10.0, 2 * pause)
        with self._changing:
            self.running -= 1
            if worker is not None and not self._is_closed:
                self._idle.append(worker)
            self._changing.notify_all()

    def _results(self, worker: _Worker, name: str, arguments: tuple) -> Iterator[tuple[Any, bytes | None]]:
        end, connection = time.monotonic() + self.limits.max_work_seconds, worker.connection
        try:
            connection.send_bytes(pickle.dumps((name, arguments)))
            while True:
                if not connection.poll(max(0.0, end - time.monotonic())):
                    log(f"{name} took longer than {self.limits.max_work_seconds} s and was stopped")
                    raise PageError(
                        f"This took longer than {self.limits.max_work_seconds} s, the most that a request may take, "
                        "and was stopped: give fewer or shorter inputs."
                    )
                kind, *said = json.loads(connection.recv_bytes())
                if kind == RESULT:
                    yield said[0], connection.recv_bytes() if said[1] else None
                elif kind == DONE:
                    return
                elif kind == TOO_LARGE:
                    log(f"{name} needed more than {self.limits.max_work_megabytes} MB and was stopped")
                    raise PageError(
                        f"This needs more than {self.limits.max_work_megabytes} MB of memory, the most that a request "
                        "may take: give fewer or smaller inputs."
                    )
                elif kind == FAILED:
                    log(f"{name} failed: {said[0]} at {said[1]}")
                    raise _Unharmed("Something went wrong here, and not with you: try again, or with other inputs.")
        except (EOFError, OSError) as error:
            log(f"{name}: its worker ended")
            raise PageError(
                "The process that worked on this ended: one of the inputs may be damaged. Try again without it, or "
                "with fewer or smaller inputs."
            ) from error


class _Unharmed(PageError):
    """An error after which the worker can go on."""
