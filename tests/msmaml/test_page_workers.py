"""The processes in which the page works: whatever an input does to one of them, the page goes on."""

import ctypes
import os
import pickle
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from msmaml.web import worker_pool
from msmaml.web.page_limits import PageError, PageLimits
from msmaml.web.page_service import PageService
from msmaml.web.worker_process import WORKS

from ..level_models import save_level_model
from ..own_data import write_file

LIMITS = PageLimits(workers=2, max_work_seconds=20, max_work_megabytes=700)
SECRET = "a name that only the visitor knows"


# What workers do in these tests besides their work.


def hang(demo, seconds):
    time.sleep(seconds)
    yield "awake", None


def abort(demo):
    yield "so far", None
    os.abort()


def crash(demo):
    ctypes.string_at(0)
    yield "never", None


def be_killed(demo):
    os.kill(os.getpid(), signal.SIGKILL)
    yield "never", None


def allocate(demo, megabytes):
    yield len(np.ones(megabytes * 125_000)), None


def allocate_with_torch(demo, megabytes):
    import torch

    yield len(torch.ones(megabytes * 250_000)), None


def fail(demo, secret):
    print(secret)
    raise KeyError(secret)
    yield


def number(demo):
    yield os.getpid(), None


OTHERS = (hang, abort, crash, be_killed, allocate, allocate_with_torch, fail, number)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Two workers with a small model on levels, which can also misbehave."""
    folder = tmp_path_factory.mktemp("pool")
    model = save_level_model(folder)
    (folder / "downloads").mkdir()
    works = WORKS | {work.__name__: work for work in OTHERS}
    pool = worker_pool.WorkerPool(str(model), folder / "downloads", LIMITS, works)
    yield pool
    pool.close()


@pytest.fixture
def service(pool):
    return PageService(pool, pool._given[1])


def only(pool, name, *arguments):
    ((result, _),) = pool.run(name, *arguments)
    return result


def wait_until(holds):
    end = time.monotonic() + 240  # on a machine that has much else to do
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    assert holds()


HARM = {
    "it aborts, as a library in C may": ("abort", (), "process that worked on this ended"),
    "it reads where there is no memory": ("crash", (), "process that worked on this ended"),
    "the kernel kills it": ("be_killed", (), "process that worked on this ended"),
    "it allocates without end": ("allocate", (5_000,), "needs more than 700 MB of memory, the most"),
    "a tensor allocates without end": ("allocate_with_torch", (5_000,), "needs more than 700 MB of memory, the most"),
    "it hangs": ("hang", (600,), "longer than 1 s, the most that a request may take"),
}


@pytest.mark.parametrize("case", HARM)
def test_whatever_happens_to_a_worker_is_said_and_others_are_served(pool, monkeypatch, case):
    name, arguments, message = HARM[case]
    if name == "hang":
        monkeypatch.setattr(pool, "limits", PageLimits(workers=2, max_work_seconds=1))
    with pytest.raises(PageError, match=message):
        list(pool.run(name, *arguments))
    monkeypatch.undo()
    assert only(pool, "allocate", 50) == 50 * 125_000, "less than the limit is there"
    wait_until(lambda: pool.alive() == 2 and pool.running == 0)


def test_others_are_served_while_one_hangs(pool):
    said = []
    hanging = threading.Thread(target=lambda: said.append(only(pool, "hang", 3)))
    hanging.start()
    wait_until(lambda: pool.running == 1)
    start = time.monotonic()
    assert only(pool, "hang", 0) == "awake" and not said
    assert time.monotonic() - start < 3
    hanging.join()
    assert said == ["awake"]


def test_what_nobody_waits_for_any_more_is_stopped(pool):
    works = pool.run("abort")
    assert next(works) == ("so far", None)
    works.close()
    wait_until(lambda: pool.alive() == 2 and pool.running == 0)


def test_a_worker_is_the_same_for_many_works_and_then_another(pool, monkeypatch):
    first = {only(pool, "number") for _ in range(5)}
    assert len(first) == 1
    monkeypatch.setattr(worker_pool, "_WORKS_PER_WORKER", 1)
    only(pool, "number")
    wait_until(lambda: pool.alive() == 2 and pool.running == 0)
    monkeypatch.undo()
    assert len({only(pool, "number") for _ in range(5)}) == 1


def test_an_error_of_ours_is_said_without_what_the_visitor_wrote(pool, capfd):
    before = only(pool, "number")
    with pytest.raises(PageError, match="Something went wrong here") as raised:
        list(pool.run("fail", SECRET))
    printed = "".join(capfd.readouterr())
    assert SECRET not in str(raised.value) + printed
    assert re.search(r"fail failed: KeyError at test_page_workers.py:\d+", printed), "where it was is known"
    assert only(pool, "number") == before, "and the worker goes on"


def test_the_server_unpickles_nothing_that_a_worker_sends(pool, monkeypatch):
    def refuse(*_):
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr("multiprocessing.connection._ForkingPickler.loads", refuse)
    assert only(pool, "hang", 0) == "awake"


@pytest.mark.parametrize("modality", ["audio", "text", "image"])
def test_a_visitor_may_be_served_by_one_worker_after_the_other(service, tmp_path, monkeypatch, modality):
    """What was fitted in one is known in the next, and nothing of it is in the server but bytes."""
    monkeypatch.setattr("msmaml.web.page_service.SECONDS_PER_STEP", 0)
    files = [[str(write_file(modality, tmp_path, kind, number)) for number in range(2)] for kind in range(2)]
    fields = ("crow", files[0], "", "wren", files[1], "")
    assert service.preview(modality, files[0], None, "crow").count('class="example') >= 2
    *_, (message, _, kept) = service.adapt(modality, 2, False, fields)
    assert "Adapted to 4 examples" in message and isinstance(kept.content, bytes)
    assert len(kept.content) < 200_000, "the model is not in it"
    process = only(service.pool, "number")
    os.kill(process, signal.SIGKILL)
    with pytest.raises(PageError):
        list(service.pool.run("number"))
    shown, path = service.classify(kept, modality, False, files[0] + files[1], None)
    assert re.findall('class="guess".*?<b>(.*?)</b>', shown) == ["crow", "crow", "wren", "wren"]
    assert Path(path).read_bytes().count(b"\n") == 5 and Path(service.archive(kept)).stat().st_size > 1_000
    assert "Press Adapt" in service.staleness(kept, modality, 2, ("jay", *fields[1:]))
    assert "Press Adapt first" in service.classify(None, modality, False, files[0], None)[0]


def test_without_workers_a_preview_says_when_to_try_again(service, monkeypatch):
    monkeypatch.setattr(service.pool, "waiting", 8 * LIMITS.max_waiting)
    assert re.search(r"The page is busy: 256 .* Try again in \d+ s", service.preview("text", None, "a", "crow"))


def test_the_process_with_the_model_is_started_again(pool):
    os.kill(pool._process.pid, signal.SIGKILL)
    wait_until(lambda: not pool.is_loaded())
    assert only(pool, "hang", 0) == "awake", "workers do not need it"
    with pytest.raises(PageError):
        list(pool.run("be_killed"))
    wait_until(lambda: pool.is_loaded() and pool.alive() == 2 and pool.running == 0)
    assert only(pool, "hang", 0) == "awake"


def test_a_model_that_is_none_is_said(tmp_path):
    with pytest.raises(ValueError, match="is no folder or repository of a model"):
        worker_pool.WorkerPool(str(tmp_path), tmp_path, LIMITS)
