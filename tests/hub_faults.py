"""Faults of the Hub of `fake_hub.py`, and another host that its redirects may lead to."""

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = 30.0  # that a stalled answer takes, which is longer than any client of a test waits
PAGE = b"<!doctype html><title>Sign in to this network</title>"


@dataclass
class Fault:
    """
    What is wrong with the answers to some requests.

    Attributes:
        path: a regular expression for the path, the whole or a part.
        kind: a status; `"drop"`, the connection breaks before the answer; `"stall"`, no answer comes, and the request
            has no effect; `"late"`, it has, but no answer comes; `"cut"`, the connection breaks in the midst of the
            body; `"short"`, half of the file is sent as the whole; `"altered"`, one bit in the midst of it differs;
            `"page"`, a page of another server in its place; `"redirect"`, to the same path of another host.
        times: of how many requests; `None` for all.
        methods: of the requests; by default all but OPTIONS.
        headers: such as `Retry-After`.
    """

    path: str
    kind: int | str
    times: int | None = None
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT")
    headers: dict[str, str] = field(default_factory=dict)

    def takes(self, method: str, path: str) -> bool:
        """Whether it concerns this request, which then counts."""
        if self.times == 0 or method not in self.methods or not re.search(self.path, path):
            return False
        self.times = None if self.times is None else self.times - 1
        return True

    def spoiled(self, body: bytes) -> bytes:
        """A body as it is sent."""
        if self.kind == "altered":
            middle = len(body) // 2
            return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        return {"short": body[: len(body) // 2], "page": PAGE}.get(str(self.kind), body)


class OtherHost:
    """A host that serves the same files as a Hub, over its own port; `seen` holds (method, path, headers)."""

    def __init__(self, hub):
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _other_handler(self, hub))
        self.url = f"http://localhost:{self.server.server_port}"

    def __enter__(self) -> "OtherHost":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.shutdown()
        self.server.server_close()


def _other_handler(host: OtherHost, hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            size = int(self.headers.get("Content-Length", 0))
            self.rfile.read(size)
            host.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
            match = re.fullmatch(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", self.path)
            status, headers, body = (200, {}, b"{}") if match is None else hub.resolve(self, **match.groupdict())
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *arguments) -> None:
            """Nothing: `seen` is the log."""

    return Handler
