"""
The processes in which the page does its work. One, which does nothing else, loads the model; each worker is a copy of
it that takes no time to make, does one work after the other, and may be killed at any moment.

Nothing that a worker sends is unpickled by the server: it sends JSON, and bytes that the server only hands back.
"""

import io
import json
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any, NoReturn

from modeling_msmaml import MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.inference.base_model import stored_model

from . import page_answers
from .page_answers import Demo, Fitted
from .page_downloads import results_file
from .page_limits import PageLimits
from .page_logs import silence

READY, RESULT, DONE, TOO_LARGE, FAILED = "ready", "result", "done", "too large", "failed"
# What is done for the page, by its name: a function of a `Demo` and of arguments that yields (JSON, bytes or None).
Work = Callable[..., Iterator[tuple[Any, bytes | None]]]


class _Pickler(pickle.Pickler):
    """Of classifiers, without the model, which every worker has."""

    def persistent_id(self, obj: Any) -> tuple[str, int | None] | None:
        if isinstance(obj, MSMAMLModel):
            return "model", 0 if obj.config.num_inner_steps == 0 else None
        return ("processor", None) if isinstance(obj, MSMAMLProcessor) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, demo: Demo):
        super().__init__(io.BytesIO(content))
        self.demo = demo

    def persistent_load(self, pid: tuple[str, int | None]) -> Any:
        part, steps = pid
        return self.demo.processor if part == "processor" else stored_model(_place(self.demo), steps, "cpu")[0]


def _place(demo: Demo) -> str:
    """Where the model of the page is stored."""
    return str(demo.base.model)


def packed(fitted: Fitted) -> bytes:
    """Returns what a visitor's examples gave, without the model, for the server to keep."""
    content = io.BytesIO()
    _Pickler(content).dump(fitted)
    return content.getvalue()


def unpacked(content: bytes, demo: Demo) -> Fitted:
    """Returns what [`packed`] in another worker has packed."""
    return _Unpickler(content, demo).load()


def preview(demo: Demo, *given: Any) -> Iterator[tuple[str, None]]:
    """The HTML of some inputs, see [`Demo.preview`]."""
    yield demo.preview(*given), None


def adapt(demo: Demo, *given: Any) -> Iterator[tuple[list, bytes | None]]:
    """(message, charts) and the packed classifiers, see [`Demo.adapt`]."""
    fitted, content = None, None
    for message, drawn, state in demo.adapt(*given):
        if state is not fitted:
            fitted, content = state, packed(state) if state is not None else None
        yield [message, drawn], content


def classify(demo: Demo, content: bytes | None, *given: Any) -> Iterator[tuple[list, None]]:
    """The HTML of the results and the path of their table, see [`Demo.classify`]."""
    answer = demo.classify(None if content is None else unpacked(content, demo), *given)
    yield [answer.html, None if answer.table is None else str(results_file(answer.table, demo.folder))], None


def archive(demo: Demo, content: bytes) -> Iterator[tuple[str, None]]:
    """The path of the archive, see [`Demo.archive`]."""
    yield str(demo.archive(unpacked(content, demo))), None


WORKS: dict[str, Work] = {"preview": preview, "adapt": adapt, "classify": classify, "archive": archive}


def serve_workers(
    address: str,
    hello: Connection,
    model: str | None,
    folder: Path,
    limits: PageLimits,
    works: dict[str, Work],
    is_verbose: bool,
) -> None:
    """
    Loads the model and makes a worker for whoever connects, until the server ends: the main function of a process.

    Args:
        address: of the socket on which it waits.
        hello: where it says what the model is like, or why there is none.
        model, folder, limits: see [`Demo`].
        works: what workers do, by name.
        is_verbose: whether it may print.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the terminal sends to all; the server says when to end
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers leave nothing behind
    if not is_verbose:
        silence()
    import torch

    torch.set_num_threads(1)  # threads of this process would be missing in its copies
    page_answers.SECONDS_PER_STEP = 0  # it is the server that waits
    try:
        demo = Demo(model, folder, limits)
        for steps in (None, 0):
            stored_model(_place(demo), steps, "cpu")
    except (OSError, ValueError) as error:
        hello.send_bytes(json.dumps({"error": str(error)}).encode())
        return
    listener = Listener(address, family="AF_UNIX", backlog=64)
    hello.send_bytes(json.dumps({"modalities": demo.modalities, "reads_levels": demo.reads_levels}).encode())
    server = parent_process()
    assert server is not None
    waiting = listener._listener._socket  # pyright: ignore[reportAttributeAccessIssue]  # it has no public name
    while server.sentinel not in wait([waiting, server.sentinel]):
        connection = listener.accept()
        if os.fork() == 0:
            listener.close()
            hello.close()
            _work(connection, demo, limits, works)
        connection.close()


def _work(connection: Connection, demo: Demo, limits: PageLimits, works: dict[str, Work]) -> NoReturn:
    """The life of a worker."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // limits.workers))
    _limit_memory(limits.max_work_megabytes)
    status = 0
    try:
        connection.send_bytes(json.dumps([READY, os.getpid()]).encode())
        while True:
            name, arguments = pickle.loads(connection.recv_bytes())  # of the server
            signal.alarm(2 * limits.max_work_seconds)  # which kills it, where there is no server any more to do it
            _answer(connection, demo, works[name], arguments)
            signal.alarm(0)
    except (EOFError, OSError):  # the server has no more to do
        pass
    except BaseException:
        status = 1
    os._exit(status)


def _answer(connection: Connection, demo: Demo, work: Work, arguments: tuple) -> None:
    try:
        for result, content in work(demo, *arguments):
            connection.send_bytes(json.dumps([RESULT, result, content is not None]).encode())
            if content is not None:
                connection.send_bytes(content)
        connection.send_bytes(json.dumps([DONE]).encode())
    except (EOFError, OSError):
        raise
    except MemoryError:
        connection.send_bytes(json.dumps([TOO_LARGE]).encode())
    except Exception as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):  # as torch says it
            connection.send_bytes(json.dumps([TOO_LARGE]).encode())
            return
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = "" if where is None else f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"
        connection.send_bytes(json.dumps([FAILED, type(error).__name__, place]).encode())


def _limit_memory(megabytes: int) -> None:
    """Of this process, beyond what it has now; no file of its memory is written when it crashes."""
    import resource  # not on Windows, where the page does not run

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not on Linux
        return
    most = pages * resource.getpagesize() + megabytes * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
