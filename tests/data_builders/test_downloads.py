"""Official archives over real HTTP: a loopback server that serves archives made here, well or badly."""

import hashlib
import io
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import datasets
import pytest

from data_builders import load_few_shot
from data_builders.data_sets.brown import Brown, BrownVocabulary
from data_builders.data_sets.cifar100 import Cifar100
from data_builders.data_sets.esc50 import Esc50
from data_builders.storage.archives import TarStore, ZipStore
from data_builders.storage.downloads import MIRROR_VARIABLE, ResumableHTTP, archive_url, checked_archive

from .test_builders import ARCHIVE, DATA_SETS, TINY, arrow_files, write_archive

BUILDERS = {"esc50": (Esc50,), "cifar100": (Cifar100,), "brown": (Brown, BrownVocabulary)}


class Server(ThreadingHTTPServer):
    """Serves `content` under every path.

    Attributes:
        content: the file.
        failures: what the next requests meet, first one first: a status, or "drop" (the connection ends half-way).
        knows_ranges: whether it answers a `Range`.
        requests: the path and the `Range` of every request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.failures, self.knows_ranges, self.requests = b"", [], True, []
        self.content_type = "application/octet-stream"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/mirror/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        failure = self.server.failures.pop(0) if self.server.failures else None
        if isinstance(failure, int):
            self.send_error(failure)
            return
        content, start = self.server.content, 0
        if wanted and self.server.knows_ranges:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", self.server.content_type)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if failure == "drop" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv(MIRROR_VARIABLE, server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(ResumableHTTP, "retry_delay", 0.001)
        yield server
        server.shutdown()


def serve(server, monkeypatch, tmp_path, name, files=None):
    """Puts a tiny archive on the server; the official checksum or structure is that of the good tiny one."""
    path = tmp_path / "made" / ARCHIVE[name]
    path.parent.mkdir(exist_ok=True)
    write_archive(path, TINY[name]() if files is None else files, "root-of-archive")
    server.content = path.read_bytes()
    for builder in BUILDERS[name]:
        md5 = hashlib.md5(server.content).hexdigest() if builder.OFFICIAL.md5 else ""
        counts = (("audio/*.wav", 100), ("meta/esc50.csv", 1)) if builder.OFFICIAL.counts else ()
        monkeypatch.setattr(builder, "OFFICIAL", replace(builder.OFFICIAL, md5=md5, counts=counts))
    return server.content


def downloaded(cache_dir):
    """Archives, and parts of them, in the download cache."""
    return [path for path in cache_dir.rglob("downloads/*") if path.suffix not in (".json", ".lock")]


@pytest.mark.parametrize("name", DATA_SETS)
def test_complete_archive(name, server, monkeypatch, tmp_path):
    """It is fetched once, for all splits; the rows are those of the same archive in a folder."""
    content = serve(server, monkeypatch, tmp_path, name)
    cache_dir = tmp_path / "cache"
    fetched = load_few_shot(name, "test", cache_dir=cache_dir)
    load_few_shot(name, "train", cache_dir=cache_dir)
    assert server.requests == [(f"/mirror/{ARCHIVE[name]}", None)]
    (path,) = downloaded(cache_dir)
    assert path.read_bytes() == content
    local = load_few_shot(name, "test", data_dir=tmp_path / "made", cache_dir=cache_dir)
    assert (fetched.rows(range(len(fetched))) == local.rows(range(len(local)))).all()
    assert fetched.source_ids.tolist() == local.source_ids.tolist()
    path.unlink()
    assert len(load_few_shot(name, "train", cache_dir=cache_dir)), "the built rows need the archive no more"


def test_default_cache_is_that_of_datasets(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path, "cifar100")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "hf" / "downloads")
    load_few_shot("cifar100")
    assert downloaded(tmp_path / "hf") and arrow_files(tmp_path / "hf")


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("damage", ["truncated", "altered", "html"])
def test_what_is_not_the_official_archive_is_refused_and_deleted(name, damage, server, monkeypatch, tmp_path):
    content = serve(server, monkeypatch, tmp_path, name)
    if damage == "truncated":
        server.content = content[: len(content) // 2]
    elif damage == "html":
        server.content, server.content_type = b"\n<!DOCTYPE html><html>Moved</html>", "text/html"
    else:
        files = TINY[name]()
        files.pop(next(file for file in files if file.endswith((".wav", "test.bin", "00"))))
        serve(server, monkeypatch, tmp_path, name, files)
        for builder in BUILDERS[name]:
            if builder.OFFICIAL.md5:
                md5 = hashlib.md5(content).hexdigest()
                monkeypatch.setattr(builder, "OFFICIAL", replace(builder.OFFICIAL, md5=md5))
    message = {"html": "HTML page", "truncated": "md5|damaged", "altered": "md5|99 files audio"}[damage]
    cache_dir = tmp_path / "cache"
    with pytest.raises(ValueError, match=message) as error:
        load_few_shot(name, cache_dir=cache_dir)
    assert server.url in str(error.value) or "damaged" in str(error.value)
    assert not downloaded(cache_dir) and not arrow_files(cache_dir)
    server.content = content
    assert len(load_few_shot(name, cache_dir=cache_dir)), "the next run fetches it anew"


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("entry", ["../../outside.txt", "/etc/outside.txt", "root-of-archive/../../outside.txt"])
def test_an_entry_that_points_outside(name, entry, server, monkeypatch, tmp_path):
    """Even if its checksum were right; and nothing is written anywhere."""
    path = tmp_path / "made" / ARCHIVE[name]
    serve(server, monkeypatch, tmp_path, name)
    files = {f"root-of-archive/{file}": content for file, content in TINY[name]().items()} | {entry: b"evil"}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
    else:
        write_rooted_tar(path, files)
    server.content = path.read_bytes()
    for builder in BUILDERS[name]:
        if builder.OFFICIAL.md5:
            md5 = hashlib.md5(server.content).hexdigest()
            monkeypatch.setattr(builder, "OFFICIAL", replace(builder.OFFICIAL, md5=md5))
    with pytest.raises(ValueError, match="outside.txt.* points outside the archive"):
        load_few_shot(name, cache_dir=tmp_path / "cache")
    assert not list(tmp_path.parent.rglob("outside.txt"))
    assert not arrow_files(tmp_path / "cache")


def write_rooted_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("name", [r"..\outside", r"C:\outside", "C:/outside", "//server/outside", "a/../../b"])
@pytest.mark.parametrize("store", [ZipStore, TarStore])
def test_unsafe_names(name, store, tmp_path):
    with pytest.raises(ValueError, match="points outside"):
        store(tmp_path / "archive", "marker").inside(name)
    assert store(tmp_path / "archive", "marker").inside("a/..b/c..d") == "a/..b/c..d"


# Interruptions


def test_a_dropped_connection_is_resumed(server, monkeypatch, tmp_path):
    content = serve(server, monkeypatch, tmp_path, "cifar100")
    server.failures = ["drop", "drop", 503]
    assert len(load_few_shot("cifar100", cache_dir=tmp_path / "cache"))
    starts = [int(wanted.split("=")[1].rstrip("-")) for _, wanted in server.requests[1:]]
    assert starts[0] == len(content) // 2 and starts[0] < starts[1] == starts[2], "it goes on where it stopped"
    assert downloaded(tmp_path / "cache")[0].read_bytes() == content


def test_the_next_run_resumes(server, monkeypatch, tmp_path):
    content = serve(server, monkeypatch, tmp_path, "cifar100")
    monkeypatch.setattr(ResumableHTTP, "retries", 0)
    server.failures = ["drop", 503]
    with pytest.raises(ConnectionError, match="Run again to go on"):
        load_few_shot("cifar100", cache_dir=tmp_path / "cache")
    assert len(load_few_shot("cifar100", cache_dir=tmp_path / "cache"))
    assert server.requests[-1][1] == f"bytes={len(content) // 2}-"


def test_a_server_without_ranges_sends_it_all_again(server, monkeypatch, tmp_path):
    content = serve(server, monkeypatch, tmp_path, "cifar100")
    server.failures, server.knows_ranges = ["drop"], False
    assert len(load_few_shot("cifar100", cache_dir=tmp_path / "cache"))
    assert downloaded(tmp_path / "cache")[0].read_bytes() == content


def test_a_part_of_another_file_is_thrown_away(server, monkeypatch, tmp_path):
    """The file on the server is shorter than what has arrived of the former one."""
    monkeypatch.setattr(ResumableHTTP, "retries", 0)
    server.content, server.failures = b"x" * 10_000_000, ["drop", 503]
    with pytest.raises(ConnectionError):
        load_few_shot("cifar100", cache_dir=tmp_path / "cache")
    serve(server, monkeypatch, tmp_path, "cifar100")
    monkeypatch.setattr(ResumableHTTP, "retries", 1)
    assert len(load_few_shot("cifar100", cache_dir=tmp_path / "cache"))


def test_a_server_that_stays_down_is_given_up(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path, "cifar100")
    server.failures = [503] * 100
    with pytest.raises(ConnectionError, match="503"):
        load_few_shot("cifar100", cache_dir=tmp_path / "cache")
    assert len(server.requests) == 1 + ResumableHTTP.retries


def test_a_missing_file_is_not_asked_for_again(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path, "cifar100")
    server.failures = [404]
    with pytest.raises(ConnectionError, match="cifar-100-binary.tar.gz"):
        load_few_shot("cifar100", cache_dir=tmp_path / "cache")
    assert len(server.requests) == 1


# Without a network


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("way", ["offline mode", "nobody there"])
def test_offline_says_which_file_goes_where(name, way, monkeypatch, tmp_path):
    if way == "offline mode":
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    else:
        with Server() as gone:
            monkeypatch.setenv(MIRROR_VARIABLE, gone.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(ResumableHTTP, "retries", 0)
    with pytest.raises(ConnectionError) as error:
        load_few_shot(name, cache_dir=tmp_path)
    for part in ("data_dir", ARCHIVE[name], BUILDERS[name][0].OFFICIAL.source):
        assert part in str(error.value)
    assert not arrow_files(tmp_path)


def test_official_sources(monkeypatch):
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    for builders in BUILDERS.values():
        official = builders[0].OFFICIAL
        assert archive_url(official) == official.source and official.source.startswith("https://")
        assert bool(official.md5) != bool(official.counts)
    monkeypatch.setenv(MIRROR_VARIABLE, "https://mirror.example/data/")
    assert archive_url(Brown.OFFICIAL) == "https://mirror.example/data/brown.zip"


def test_real_archives(data_dir):
    """The file of NLTK has the official checksum; the shortened CIFAR-100 has not, and would be refused."""
    assert checked_archive(Brown.OFFICIAL, data_dir / "brown.zip", "url").read_one("cats.txt")
    with pytest.raises(ValueError, match="md5"):
        checked_archive(Cifar100.OFFICIAL, data_dir / "cifar-100-binary.tar.gz", "url")
