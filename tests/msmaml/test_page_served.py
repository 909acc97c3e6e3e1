"""The page as a server, asked over HTTP as browsers ask it, and as they do not. Without a browser."""

import json
import os
import secrets
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from msmaml.web.page_guard import HEADERS

from .page_actions import served

SECRET = "only-the-visitor-knows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def page_url(space, folder) -> str:
    with served(space, folder) as address:
        yield address.rstrip("/")


def ask(address: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, dict, bytes]:
    request = urllib.request.Request(address, data=body, headers={"Content-Type": kind} if body is not None else {})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, dict(answer.headers.items()), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers.items()), error.read()


def upload(url: str, name: str, content: bytes) -> tuple[int, bytes]:
    edge = secrets.token_hex(8)
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
    status, _, answer = ask(f"{url}/gradio_api/upload", body, f"multipart/form-data; boundary={edge}")
    return status, answer


def call(url: str, trigger: str, values: dict[str, object]) -> tuple[int, dict]:
    """Asks for what follows on an event of a component, beside the queue."""
    config = json.loads(ask(f"{url}/config")[2])
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    names = {number: name for name, number in ids.items()}
    (found,) = [
        own for own in config["dependencies"] if [ids[trigger], "change"] in own["targets"] and "preview" in str(own)
    ][:1] or [next(own for own in config["dependencies"] if [ids[trigger], "change"] in own["targets"])]
    data = [values.get(names.get(number)) for number in found["inputs"]]
    body = {"data": data, "fn_index": found["id"], "session_hash": "session"}
    status, _, answer = ask(f"{url}/gradio_api/run/predict", json.dumps(body).encode())
    return status, json.loads(answer)


def test_the_page_is_ready_and_has_its_headers(page_url):
    status, headers, body = ask(f"{page_url}/healthz")
    assert status == 200 and json.loads(body)["ready"] and json.loads(body)["workers_alive"] >= 1
    status, headers, body = ask(page_url)
    assert status == 200 and {name: headers.get(name.lower(), headers.get(name)) for name in HEADERS} == HEADERS
    assert b'analytics_enabled":true' not in body.replace(b" ", b"")


def test_no_file_but_those_of_the_page_and_of_visitors_is_given_away(page_url, folder, space):
    status, answer = upload(page_url, f"{SECRET}.txt", b"what a visitor wrote")
    (path,) = json.loads(answer)
    assert status == 200 and str(folder) in path
    assert ask(f"{page_url}/gradio_api/file={urllib.parse.quote(path)}")[2] == b"what a visitor wrote"
    for asked in (
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "/proc/self/environ",
        f"{path}/../../../../../../../../etc/passwd",
        f"{path}/%2e%2e/%2e%2e/log.txt",
        f"{Path(path).parent}/%252e%252e",
        f"{folder}/log.txt",
        f"{space}/app.py",
        "app.py",
        f"{space}/pretrained/msmaml-base/config.json",
        "file:///etc/passwd",
        "http://127.0.0.1/",
    ):
        status, _, body = ask(f"{page_url}/gradio_api/file={asked}")
        assert status in (403, 404), asked
        assert b"root:" not in body and b"import" not in body


def test_a_file_that_was_not_uploaded_is_not_read(page_url):
    for path in ("/etc/passwd", "../../../../etc/passwd", "http://127.0.0.1:9/a.txt"):
        values = {"modality": "text", "examples_0_files": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
        status, answer = call(page_url, "examples_0_files", values | {"name_0": SECRET})
        assert status >= 400 and "root:" not in json.dumps(answer)


@pytest.mark.parametrize("name", [f"../../{SECRET}.txt", f"/etc/{SECRET}.txt", f"a\\\\{SECRET}.txt"])
def test_an_upload_stays_in_its_folder(page_url, folder, name):
    status, answer = upload(page_url, name, b"a")
    assert status == 400 or Path(json.loads(answer)[0]).resolve().is_relative_to(folder)


def test_what_is_too_large_is_said(page_url):
    status, answer = upload(page_url, "a.txt", b"a" * 10_600_000)
    assert status == 413 and b"maximum allowed size" in answer
    status, _, answer = ask(f"{page_url}/gradio_api/queue/join", b'{"data": ["' + b"a" * 4_100_000 + b'"]}')
    assert status == 413 and "more than 4 MB" in json.loads(answer)["detail"]


def test_nothing_of_visitors_is_logged_and_nothing_is_left(space, tmp_path):
    """Whatever goes wrong, and wherever: in gradio, in a worker, in a decoder."""
    with served(space, tmp_path) as address:
        url = address.rstrip("/")
        upload(url, f"{SECRET}.wav", f"RIFF{SECRET}".encode())
        (path,) = json.loads(upload(url, f"{SECRET}.png", b"\x89PNG\r\n\x1a\n" + SECRET.encode() * 50)[1])
        file = {"path": path, "orig_name": f"{SECRET}.png", "meta": {"_type": "gradio.FileData"}}
        given = {"modality": "image", "examples_0_files": [file], "name_0": SECRET, "examples_0_lines": SECRET}
        status, _ = call(url, "examples_0_files", given)
        assert status == 200
        call(url, "examples_0_files", given | {"modality": SECRET})
        call(url, "examples_0_files", given | {"examples_0_files": [{"path": f"/{SECRET}"}]})
        for path in (f"/{SECRET}", f"/gradio_api/file=/{SECRET}", f"/gradio_api/heartbeat/{SECRET}%00"):
            if "heartbeat" not in path:
                ask(url + path)
        ask(f"{url}/gradio_api/queue/join", json.dumps({"data": [SECRET], "fn_index": 0}).encode())
        ask(f"{url}/gradio_api/run/predict", json.dumps({"data": [SECRET], "fn_index": 10**6}).encode())
        assert list(tmp_path.rglob(f"{SECRET}.png"))
    log = (tmp_path / "log.txt").read_text()
    assert SECRET not in log and "quotes nothing that visitors write" in log
    left = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "log.txt"]
    assert left == [], "SIGTERM, by which a container is ended, leaves no file"


def test_workers_end_with_the_server(space, tmp_path):
    """Also if it is killed, so that it cannot end them."""
    with served(space, tmp_path) as address:
        assert json.loads(ask(f"{address}healthz")[2])["ready"]
        (server,) = [int(name) for name in os.listdir("/proc") if name.isdigit() and _serves(name, address)]
        family = _children(server)
        assert family
        os.kill(server, signal.SIGKILL)
        end = time.monotonic() + 60
        while any(map(_is_alive, family)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(map(_is_alive, family))


def _serves(process: str, address: str) -> bool:
    port = str(urllib.parse.urlsplit(address).port)
    try:
        words = Path("/proc", process, "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return port.encode() in words and b"app.py" in words


def _children(process: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == process:
                found += [int(name), *_children(int(name))]
    return found


def _is_alive(process: int) -> bool:
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
