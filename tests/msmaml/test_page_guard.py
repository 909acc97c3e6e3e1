"""Which requests reach the page, how many and how large, and the headers of answers. Without gradio and a model."""

import json
import os
import re
import time
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from msmaml.web.page_files import kept_for_a_while, remove_old, stored_bytes
from msmaml.web.page_guard import HEADERS, JOIN, UPLOAD, Guard
from msmaml.web.page_limits import PageLimits
from msmaml.web.visitors import Rate, visitor_of

SECRET = "only-the-visitor-knows"


def behind(tmp_path, waiting=0, alive=2, is_loaded=True, **limits):
    """(client, what passed) of a page that answers everything."""
    passed = []

    async def answer(request: Request) -> PlainTextResponse:
        passed.append((request.url.path, await request.body()))
        if "fails" in request.url.path:
            raise ValueError(request.url.path)
        return PlainTextResponse("passed", status_code=503 if "503" in request.url.path else 200)

    pool = SimpleNamespace(
        limits=PageLimits(workers=2, **limits),
        alive=lambda: alive,
        is_loaded=lambda: is_loaded,
        running=1,
        waiting=0,
        seconds_until_free=lambda ahead: 3 * ahead,
    )
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST", "PUT", "DELETE"])])
    guarded = Guard(app, pool, tmp_path, lambda: waiting)
    return TestClient(guarded, raise_server_exceptions=False), passed


def said(answer) -> str:
    return answer.json()["detail"] if answer.headers["content-type"].startswith("application/json") else answer.text


# Limits: the message names the limit and what to do


REFUSED = {
    "a long text": (
        {"max_paste_megabytes": 1},
        JOIN,
        {"data": ["a" * 1_100_000]},
        413,
        "more than 1 MB.*shorter texts",
    ),
    "a large upload": ({"max_upload_megabytes": 1}, UPLOAD, b"a" * 1_100_000, 413, "more than 1 MB.*smaller ones"),
    "a file that is to be fetched": ({}, JOIN, {"data": [[{"path": "http://10.0.0.1/a"}]]}, 400, "not fetched"),
    "the same in hiding": ({}, JOIN, b'{"data": {"path": "\\u0068ttps://10.0.0.1/a"}}', 400, "not fetched"),
    "no JSON": ({}, JOIN, b"{", 400, "no JSON"),
    "JSON without end": ({}, JOIN, b"[" * 100_000, 400, "no JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("is_stated", [True, False], ids=["its length is stated", "in chunks"])
def test_what_is_too_much_or_no_request_of_the_page_is_refused(tmp_path, case, is_stated):
    limits, path, body, status, message = REFUSED[case]
    client, passed = behind(tmp_path, **limits)
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=body if is_stated else iter([body[:100], body[100:]]))
    assert answer.status_code == status and re.search(message, said(answer))
    assert passed == []


@pytest.mark.parametrize("body", [b'{"data": ["http://a.text"], "path": 3}', b'{"a": "' + b"a" * 900_000 + b'"}'])
def test_what_is_allowed_arrives_as_it_was(tmp_path, body):
    client, passed = behind(tmp_path, max_paste_megabytes=1, max_upload_megabytes=1)
    for path in (JOIN, UPLOAD):
        for content in (body, iter([body[:5], body[5:]])):
            assert client.post(path, content=content).text == "passed"
    assert [content for _, content in passed] == [body] * 4


def test_a_visitor_has_so_many_requests_and_is_told_when_there_are_more(tmp_path):
    client, passed = behind(tmp_path, max_requests=5, max_model_requests=2, proxies=1)
    ask = lambda visitor, path=JOIN: client.post(path, content=b"{}", headers={"X-Forwarded-For": visitor})  # noqa: E731
    assert [ask("1.2.3.4").status_code for _ in range(3)] == [200, 200, 429]
    refused = ask("1.2.3.4")
    assert re.search(r"more than 2 requests for the model in a minute.* Try again in (\d+) s", said(refused))
    assert refused.headers["retry-after"] == re.search(r"in (\d+) s", said(refused))[1]
    assert ask("1.2.3.4", "/gradio_api/run/predict").status_code == 200
    assert "more than 5 requests in a minute" in said(ask("1.2.3.4", "/gradio_api/run/predict"))
    assert client.get("/", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 200, "to look is free"
    stream = client.get("/gradio_api/queue/data", headers={"X-Forwarded-For": "1.2.3.4"})
    assert stream.status_code == 429, "what stays open is not free"
    assert ask("1.2.3.5").status_code == 200
    assert ask("1.2.3.9, 1.2.3.5").status_code == 200, "what a visitor writes before the proxy does not count"
    assert ask("1.2.3.8, 1.2.3.5").status_code == 429


def test_a_full_queue_and_a_full_disk_say_when_to_try_again(tmp_path):
    client, passed = behind(tmp_path, waiting=4, max_waiting=4, max_stored_megabytes=1)
    answer = client.post(JOIN, content=b"{}")
    assert answer.status_code == 429 and answer.headers["retry-after"] == "12"
    assert said(answer) == "The page is busy: 4 requests wait already. Try again in 12 s."
    assert client.post(UPLOAD, content=b"a").text == "passed", "which waits for nothing"
    (tmp_path / "large").write_bytes(b"a" * 1_100_000)
    client, passed = behind(tmp_path, max_stored_megabytes=1)
    answer = client.post(UPLOAD, content=b"a")
    assert answer.status_code == 429 and "more than 1 MB" in answer.text and "Try again in 60 s" in answer.text


def test_requests_come_back_with_time():
    now = 0.0
    rate = Rate(6, lambda: now)
    assert [rate.seconds_to_wait("a") for _ in range(7)] == [0] * 6 + [10]
    now = 9.0
    assert rate.seconds_to_wait("a") == 1 and rate.seconds_to_wait("b") == 0
    now = 10.1
    assert [rate.seconds_to_wait("a") for _ in range(2)] == [0, 10]


@pytest.mark.parametrize(
    ("address", "forwarded", "proxies", "visitor"),
    [
        ("10.0.0.1", "1.2.3.4", 0, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", 1, "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9, 1.2.3.4", 1, "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4, 10.0.0.2", 2, "1.2.3.4"),
        ("10.0.0.1", None, 1, "10.0.0.1"),
        ("2001:db8::1", None, 0, "2001:db8::/64"),
        ("10.0.0.1", "no address", 1, "unknown"),
        (None, None, 0, "unknown"),
    ],
)
def test_visitors_are_told_apart_by_what_they_cannot_choose(address, forwarded, proxies, visitor):
    assert visitor_of(address, forwarded, proxies) == visitor


# What there is


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd/%2e%2e/shadow",
        "/gradio_api/file=..%2f..%2fetc%2fpasswd",
        "/gradio_api/file=%252e%252e/etc/passwd",
        "/gradio_api/file=..%5c..%5cwindows",
        "/gradio_api/file=http://127.0.0.1:22/",
        "/gradio_api/file=https%3A%2F%2Fexample.org/a.png",
        "/gradio_api/file=a%00.png",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/proxy=https://example.org/a",
        "/gradio_api/dev/reload",
        "/gradio_api/info",
        "/gradio_api/call/adapt",
        "/monitoring",
        "/docs",
        "/openapi.json",
    ],
)
def test_there_is_no_way_out_of_the_page(tmp_path, path):
    client, passed = behind(tmp_path)
    assert client.get(path).status_code == 404 and client.post(path, content=b"{}").status_code == 404
    assert passed == []


def test_only_what_the_page_needs_is_there(tmp_path):
    client, passed = behind(tmp_path)
    for path in ("/", "/config", "/assets/a.js", "/gradio_api/heartbeat/a", "/gradio_api/file=/tmp/a.png"):
        assert client.get(path).text == "passed"
        assert client.put(path).status_code == 404 and client.delete(path).status_code == 404
    for path in ("/gradio_api/component_server", "/gradio_api/vibe-edit", "/login", "/config"):
        assert client.post(path, content=b"{}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing", "/assets/fails", "/assets/503"])
def test_every_answer_has_the_headers(tmp_path, path):
    client, _ = behind(tmp_path)
    answer = client.get(path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "frame-ancestors 'self' https://huggingface.co" in answer.headers["content-security-policy"]
    assert "http" not in re.sub(r"frame-ancestors.*", "", answer.headers["content-security-policy"])


# Health, logs, files


@pytest.mark.parametrize(
    ("state", "status"), [({}, 200), ({"alive": 1}, 200), ({"alive": 0}, 503), ({"is_loaded": False}, 503)]
)
def test_health_says_whether_the_page_is_ready(tmp_path, state, status):
    client, _ = behind(tmp_path, waiting=3, **state)
    answer = client.get("/healthz")
    assert answer.status_code == status
    assert answer.json() == {
        "ready": status == 200,
        "model_loaded": state.get("is_loaded", True),
        "workers": 2,
        "workers_alive": state.get("alive", 2),
        "running": 1,
        "waiting": 3,
    }


def test_errors_are_logged_by_their_kind_and_not_by_what_was_written(tmp_path, capsys):
    client, _ = behind(tmp_path)
    answer = client.get(f"/assets/fails-{SECRET}")
    assert answer.status_code == 500 and SECRET not in answer.text
    client.get(f"/gradio_api/file=503-{SECRET}")
    out = "".join(capsys.readouterr())
    assert "ValueError at /assets/" in out and "503 at /gradio_api/file=" in out and SECRET not in out


def test_files_of_visitors_go_when_they_are_old(tmp_path, monkeypatch):
    old, new = tmp_path / "uploads" / "a" / "old", tmp_path / "uploads" / "b" / "new"
    for file in (old, new):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"a" * 5_000)
    assert stored_bytes(tmp_path) == 10_000
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 3_700)
    os.utime(new, (time.time(), time.time()))
    assert remove_old(tmp_path, 3_600) == 1
    assert not old.exists() and not old.parent.exists() and new.exists()
    os.utime(new, (0, 0))
    assert remove_old(tmp_path, 3_800) == 0, "a file that was copied with its old date is new here"


def test_they_go_by_themselves_while_the_page_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / SECRET).write_bytes(b"a")
    monkeypatch.setattr("msmaml.web.page_files._EVERY_SECONDS", 0.02)
    monkeypatch.setattr("msmaml.web.page_files.time.time", lambda now=time.time: now() + 3_700)
    with kept_for_a_while(tmp_path, PageLimits(workers=1, keep_minutes=60)):
        end = time.monotonic() + 30
        while list(tmp_path.iterdir()) and time.monotonic() < end:
            time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
    assert "1 files of visitors" in (out := capsys.readouterr().err) and SECRET not in out


def test_limits_are_integers():
    for value in (0, -1, 1.5, True, "3", 10**7):
        with pytest.raises(ValueError, match="max_waiting=.* must be an integer from 1"):
            PageLimits(max_waiting=value)
    assert PageLimits(proxies=0).proxies == 0
