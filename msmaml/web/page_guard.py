"""What stands between visitors and gradio: which requests pass, how many and how large, and the headers of answers."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .page_files import stored_bytes
from .page_logs import log
from .page_service import busy
from .visitors import Rate, visitor_of
from .worker_pool import WorkerPool

API = "/gradio_api/"
JOIN, UPLOAD = f"{API}queue/join", f"{API}upload"
# Whatever gradio also answers, such as requests to fetch an address for somebody, is closed.
GET = ("/assets/", "/static/", "/svelte/", f"{API}heartbeat/", f"{API}file=")
GET_EXACTLY = {
    *("/", "/config", "/favicon.ico", "/manifest.json", "/pwa_icon", "/robots.txt", "/theme.css"),
    *(f"{API}{name}" for name in ("queue/data", "upload_progress", "startup-events", "app_id", "theme.css", "user")),
}
STREAMS = (f"{API}heartbeat/", f"{API}queue/data", f"{API}upload_progress")  # which stay open
POST = (f"{API}run/",)
POST_EXACTLY = {JOIN, UPLOAD, f"{API}cancel", f"{API}reset"}
# Gradio's page has scripts and styles in its HTML, and makes functions from texts (`js` of events). A Space is
# shown in a frame of huggingface.co.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), payment=(), usb=(), display-capture=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_LOOKED_SECONDS = 2.0  # for which what is stored is taken as known


class TooLarge(Exception):
    """A request has more bytes than it may."""


class _Body:
    """The body of a request, of which is known whether it was read to its end."""

    def __init__(self, receive: Receive):
        self._receive, self.is_read = receive, False

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_read = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def read_rest(self, most: int) -> None:
        """Reads what is left, up to a number of bytes: a browser that still sends shows no answer."""
        while not self.is_read and most > 0:
            most -= len((await self.receive()).get("body", b""))


class Guard:
    """
    Lets requests through to the page, or answers them itself: `/healthz`, what there is not, and what is too much. Its
    answers have the sentence under `detail`, where the page looks for it.

    Args:
        app: the page.
        pool: of workers, with the limits.
        folder: of the files of visitors.
        waiting: says how many requests for the model wait.
    """

    def __init__(self, app: ASGIApp, pool: WorkerPool, folder: Path, waiting: Callable[[], int]):
        self.app, self.pool, self.folder, self.waiting = app, pool, folder, waiting
        self.limits = pool.limits
        self.requests = Rate(self.limits.max_requests)
        self.model_requests = Rate(self.limits.max_model_requests)
        self._stored, self._looked = 0, float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # the page needs no WebSocket

        started, too_large = False, []
        body = _Body(receive)
        receive = body.receive

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if too_large and not started:
                return  # what others make of it
            if message["type"] == "http.response.start":
                started = True
                if message["status"] >= 400 and scope["method"] == "POST":
                    await body.read_rest(2_000_000 * self.limits.max_upload_megabytes)
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if message["status"] >= 500:
                    log(f"{message['status']} at {_known(scope['path'])}")
            await send(message)

        refusal = None
        try:
            answer = self._refusal(scope)
            if answer is None and scope["method"] == "POST":
                answer, receive = await self._checked(scope, receive, too_large)
            await (answer or self.app)(scope, receive, send_with_headers)
        except Exception as error:  # else the server prints it, with what the visitor wrote
            if not too_large:
                log(f"{type(error).__name__} at {_known(scope['path'])}")
                refusal = _refused(500, "Something went wrong here: try again.", scope)
        if too_large:
            refusal = _refused(413, str(too_large.pop()), scope)
        if refusal is not None and not started:
            await refusal(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        path, method = scope["path"], scope["method"]
        if path == "/healthz":
            return self._health()
        reads = method in ("GET", "HEAD") and (path in GET_EXACTLY or path.startswith(GET))
        writes = method == "POST" and (path.rstrip("/") in POST_EXACTLY or path.startswith(POST))
        if not (reads or writes) or _leads_elsewhere(path):
            return _refused(404, "There is nothing here.", scope)
        if not writes and not path.startswith(STREAMS):
            return None
        visitor = self._visitor(scope)
        if wait := self.requests.seconds_to_wait(visitor):
            return self._too_many(self.requests, "requests", wait, scope)
        if path.rstrip("/") == JOIN:
            if (waiting := self.waiting()) >= self.limits.max_waiting:
                wait = self.pool.seconds_until_free(waiting)
                return _refused(429, busy(self.pool, waiting), scope, wait)
            if wait := self.model_requests.seconds_to_wait(visitor):
                return self._too_many(self.model_requests, "requests for the model", wait, scope)
        if path.rstrip("/") == UPLOAD and self._stored_bytes() > self.limits.max_stored_megabytes * 1e6:
            minutes = self.limits.keep_minutes
            return _refused(
                429,
                f"The page is busy: files of visitors take more than {self.limits.max_stored_megabytes} MB, all that "
                f"it has for them. Files go after {minutes} minutes. Try again in 60 s.",
                scope,
                60,
            )
        return None

    def _too_many(self, rate: Rate, what: str, wait: int, scope: Scope) -> Response:
        sentence = f"You made more than {rate.per_minute} {what} in a minute, the most that are taken."
        return _refused(429, f"{sentence} Try again in {wait} s.", scope, wait)

    def _visitor(self, scope: Scope) -> str:
        client = scope.get("client")
        # Several headers of this name are one list.
        forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")) or None
        return visitor_of(client[0] if client else None, forwarded, self.limits.proxies)

    async def _checked(
        self, scope: Scope, receive: Receive, too_large: list[TooLarge]
    ) -> tuple[Response | None, Receive]:
        """A refusal of what a request holds, or else a `receive` with the same content, which may be too large."""
        if scope["path"].rstrip("/") == UPLOAD:
            what, most = "files of one upload", self.limits.max_upload_megabytes
            remedy = "upload fewer files at once, or smaller ones"
        else:
            what, most = "names and texts", self.limits.max_paste_megabytes
            remedy = "give fewer or shorter texts, or upload them as files"
        sentence = f"The {what} have more than {most} MB, the most that is taken: {remedy}."
        stated = Headers(scope=scope).get("content-length", "0")
        if not stated.isdecimal() or int(stated) > most * 1e6:
            return _refused(413, sentence, scope), receive
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most * 1e6:
                too_large[:] = [TooLarge(sentence)]
                raise too_large[0]
            return message

        if scope["path"].rstrip("/") == UPLOAD:
            return None, counted
        parts, message = [], {"more_body": True}
        while message.get("more_body"):
            message = await counted()
            if message["type"] == "http.disconnect":
                return _refused(400, "The request ended too early.", scope), receive
            parts.append(message.get("body", b""))
        body = b"".join(parts)
        try:
            if _names_an_address(json.loads(body)):
                return _refused(400, "Files are uploaded, and not fetched from an address.", scope), receive
        except (ValueError, RecursionError):
            return _refused(400, "The request is no JSON.", scope), receive
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        return None, again

    def _stored_bytes(self) -> int:
        if time.monotonic() - self._looked > _LOOKED_SECONDS:
            self._stored, self._looked = stored_bytes(self.folder), time.monotonic()
        return self._stored

    def _health(self) -> Response:
        alive, is_loaded = self.pool.alive(), self.pool.is_loaded()
        is_ready = is_loaded and alive > 0
        return JSONResponse(
            {
                "ready": is_ready,
                "model_loaded": is_loaded,
                "workers": self.limits.workers,
                "workers_alive": alive,
                "running": self.pool.running,
                "waiting": self.waiting(),
            },
            status_code=200 if is_ready else 503,
            headers={"Cache-Control": "no-store"},
        )


def _refused(status: int, sentence: str, scope: Scope, wait: int | None = None) -> Response:
    headers = {} if wait is None else {"Retry-After": str(wait)}
    if scope["path"].rstrip("/") == UPLOAD:  # whose answer the page shows as it is
        return PlainTextResponse(sentence, status_code=status, headers=headers)
    return JSONResponse({"detail": sentence, "error": sentence}, status_code=status, headers=headers)


def _leads_elsewhere(path: str) -> bool:
    """Whether a path, however often it is encoded, leads upwards or to an address."""
    for _ in range(4):
        _, is_file, file = path.partition("/file=")
        if ".." in path.replace("\\", "/").replace("=", "/").split("/") or "\0" in path or (is_file and "://" in file):
            return True
        path = unquote(path)
    return False


def _names_an_address(content: Any) -> bool:
    """Whether any file in it is one that gradio would fetch."""
    if isinstance(content, dict):
        path = content.get("path")
        if isinstance(path, str) and ("://" in path or path.lstrip().lower().startswith(("http:", "https:"))):
            return True
        return any(map(_names_an_address, content.values()))
    return isinstance(content, list) and any(map(_names_an_address, content))


def _known(path: str) -> str:
    """The part of a path that the visitor did not choose."""
    known = (*GET, *POST, *sorted(GET_EXACTLY | POST_EXACTLY, key=len, reverse=True))
    return next((name for name in known if path.startswith(name)), "an unknown path")
