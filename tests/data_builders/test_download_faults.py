"""What servers do wrong while an official archive is fetched: every kind ends in the right file or in a clear error."""

import errno
import http.server
import os
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from types import SimpleNamespace

import datasets
import pytest

from data_builders.storage import downloads
from data_builders.storage.archives import Official
from data_builders.storage.downloads import MIRROR_VARIABLE, ResumableHTTP, fetch

CONTENT = os.urandom(300_000)
OTHER = os.urandom(400_000)
OFFICIAL = Official(
    title="Tiny",
    source="https://nowhere.invalid/tiny.bin",
    archives=("tiny.bin",),
    folders=("tiny",),
    marker="marker",
)


@dataclass
class Answer:
    """How one request is answered.

    Attributes:
        status: 200 becomes 206 where a range is asked for and the version fits.
        headers: these are sent besides.
        sent: share of the body that is sent before the connection ends; the length that was announced is that of all.
        wait: seconds before the second half of what is sent.
        short_range: whether a 206 holds half of the rest and says so, with a length that fits.
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    content: bytes = CONTENT
    tag: str | None = '"one"'
    sent: float = 1.0
    wait: float = 0.0
    short_range: bool = False


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.seen.append(dict(self.headers))
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        if answer.status != 200:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, body = 0, answer.content
        wanted, version = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted and version in (None, answer.tag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            body = body[start:]
            if answer.short_range:
                body = body[: len(body) // 2 + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(answer.content)}")
        else:
            self.send_response(200)
        if answer.tag:
            self.send_header("ETag", answer.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: int(len(body) * answer.sent)]
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        server.stopped.wait(answer.wait)
        self.wfile.write(body[len(body) // 2 :])

    def handle_error(self, *arguments):
        pass

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, host="127.0.0.1"):
        super().__init__((host, 0), Handler)
        self.answers, self.seen, self.stopped = [Answer()], [], threading.Event()
        self.url = f"http://{host}:{self.server_port}/tiny.bin"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address):
        """Nothing: a client that gives up is part of the tests."""

    def close(self):
        self.stopped.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(ResumableHTTP, "retry_delay", 0.001)
    server = Server()
    yield server
    server.close()


def download(server, target, url=None):
    ResumableHTTP(skip_instance_cache=True).get_file(url or server.url, str(target))
    return target.read_bytes()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


HALF = Answer(sent=0.5)


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        ([Answer(429, {"Retry-After": "0"}), Answer()], 2),
        ([Answer(408), Answer(425), Answer(500), Answer(502), Answer(503), Answer()], 6),
        ([HALF, Answer()], 2),
        ([HALF, Answer(short_range=True), Answer()], 3),
        ([HALF, Answer(content=OTHER, tag='"two"')], 2),
        ([HALF, Answer(206, {"Content-Range": "bytes 0-9/300000"}), Answer()], 3),
        ([HALF, Answer(204), Answer()], 3),
        ([HALF] * 6 + [Answer()], 7),
    ],
    ids=["busy", "errors", "dropped", "short range", "another version", "wrong range", "no content", "drops again"],
)
def test_what_passes_ends_in_the_right_file(server, tmp_path, answers, requests):
    last = answers[-1]
    server.answers = answers
    assert download(server, tmp_path / "file") == last.content
    assert len(server.seen) == requests
    assert left(tmp_path) == ["file"]


def test_parts_of_two_versions_are_never_joined_across_runs(server, tmp_path, monkeypatch):
    monkeypatch.setattr(ResumableHTTP, "retries", 0)
    server.answers = [HALF]
    with pytest.raises(downloads.aiohttp.ClientPayloadError):
        download(server, tmp_path / "file")
    assert left(tmp_path) == ["file.partial", "file.partial.version"]
    server.answers = [Answer(content=OTHER, tag='"two"')]
    assert download(server, tmp_path / "file") == OTHER
    assert server.seen[-1]["If-Range"] == '"one"'


@pytest.mark.parametrize(("asked", "ahead"), [("1", 0), ("date", 0), ("date", 3600), ("date", -3600)])
def test_the_pause_that_a_server_asks_for_is_kept(server, tmp_path, monkeypatch, asked, ahead):
    """A date is that of the server's clock, however wrong (`ahead`, seconds) the one of this machine is."""
    clock = SimpleNamespace(time=lambda: time.time() + ahead, monotonic=time.monotonic)
    monkeypatch.setattr(downloads, "time", clock)
    value = formatdate(time.time() + 2, usegmt=True) if asked == "date" else asked
    server.answers = [Answer(503, {"Retry-After": value}), Answer()]
    start = time.monotonic()
    download(server, tmp_path / "file")
    assert 0.8 < time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(429, {"Retry-After": "3600"}), "429"),
        (Answer(401), "401"),
        (Answer(403), "403"),
        (Answer(410), "410"),
        (Answer(302, {"Location": "/tiny.bin"}), "tiny.bin"),
        (Answer(404), "tiny.bin"),
    ],
    ids=["an hour's pause", "unauthorized", "forbidden", "gone", "redirects in a circle", "not found"],
)
def test_what_does_not_pass_is_an_error_at_once(server, tmp_path, answer, error):
    server.answers = [answer]
    with pytest.raises((downloads.aiohttp.ClientError, FileNotFoundError), match=error):
        download(server, tmp_path / "file")
    assert len(server.seen) <= 11, "aiohttp follows ten redirects"
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["stall", "trickle"])
def test_a_stalled_connection_is_given_up(server, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(ResumableHTTP, "retries", 1)
    if kind == "stall":
        monkeypatch.setattr(downloads, "_TIMEOUT", downloads.aiohttp.ClientTimeout(total=None, sock_read=0.2))
    else:
        monkeypatch.setattr(ResumableHTTP, "slowest", 0.2)
        monkeypatch.setattr(ResumableHTTP, "least_progress", 1 << 20)
    server.answers = [Answer(sent=0.5, wait=0.5 if kind == "trickle" else 20.0)]
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        download(server, tmp_path / "file")
    assert time.monotonic() - start < 15
    assert "file" not in left(tmp_path)


def test_a_password_goes_to_no_other_host_and_into_no_message(server, tmp_path, monkeypatch):
    other = Server("localhost")
    try:
        server.answers = [Answer(302, {"Location": other.url})]
        url = server.url.replace("http://", "http://me:secret@")
        assert download(server, tmp_path / "file", url) == CONTENT
        assert "Authorization" in server.seen[0] and "Authorization" not in other.seen[0]
    finally:
        other.close()
    monkeypatch.setenv(MIRROR_VARIABLE, url.rpartition("/")[0])
    for answer in (Answer(404), Answer(403)):
        server.answers = [answer]
        manager = datasets.DownloadManager(download_config=datasets.DownloadConfig(cache_dir=tmp_path / "cache"))
        with pytest.raises(ConnectionError, match="Tiny cannot be fetched") as error:
            fetch(OFFICIAL, manager)
        assert "secret" not in str(error.value) and "/tiny.bin" in str(error.value)


def test_a_full_disk_is_no_fault_of_the_network(server, tmp_path, monkeypatch):
    monkeypatch.setenv(MIRROR_VARIABLE, server.url.rpartition("/")[0])

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads.os, "replace", full)
    monkeypatch.setattr(downloads, "_store_version", full)
    manager = datasets.DownloadManager(download_config=datasets.DownloadConfig(cache_dir=tmp_path / "cache"))
    with pytest.raises(OSError, match="cannot be written to the download cache.*No space left") as error:
        fetch(OFFICIAL, manager)
    assert not isinstance(error.value, ConnectionError) and len(server.seen) == 1
