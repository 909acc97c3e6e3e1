"""
Many visitors of the page at once: what they are told, and how long it takes.

    python -m benchmarks.page_load [--visitors 200] [--workers 2] [--model FOLDER]

Each opens the page, looks at the preview of a class, adapts the model to the example task of texts, and has its queries
classified, over HTTP as a browser does. Who is told that the page is busy comes back after the time that it names. The
server runs on this machine, beside the visitors.
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import numpy as np

from msmaml.web.example_tasks import example_task
from msmaml.web.page_guard import API, JOIN

from .pages import command_line, table

REPOSITORY = Path(__file__).resolve().parents[1]
STEPS = {
    "page": "the page",
    "preview": "preview of a class",
    "adapt": "Adapt, from the queue to the end",
    "classify": "Classify, from the queue to the end",
    "visit": "the whole visit, with all that was waited for",
}


class Visit:
    """
    One visitor.

    Args:
        client: of HTTP.
        config: what the page says of itself.
        number: of the visitor, who has an address of their own.
    """

    def __init__(self, client: httpx.AsyncClient, config: dict, number: int):
        self.client, self.config, self.session = client, config, f"visitor{number}"
        self.headers = {"X-Forwarded-For": f"10.0.{number // 250}.{number % 250 + 1}"}
        self.seconds: dict[str, float] = {}
        self.told: Counter[str] = Counter()
        task = example_task("text")
        self.values: dict[str, object] = {"modality": "text", "count": len(task.names), "skip_unreadable": False}
        for own, (name, texts) in enumerate(zip(task.names, task.examples, strict=True)):
            self.values |= {f"name_{own}": name, f"examples_{own}_lines": "\n".join(texts)}
        self.values["queries_lines"] = "\n".join(task.queries)

    async def make(self) -> None:
        """Goes through all of it."""
        start = time.perf_counter()
        await self._timed("page", self._get())
        await self._timed("preview", self._preview())
        for step, said in (("adapt", "Adapted to 15 examples"), ("classify", "<table")):
            await self._queued(step, said)
        self.seconds["visit"] = time.perf_counter() - start

    async def _timed(self, step: str, work: Awaitable[bool]) -> None:
        start = time.perf_counter()
        self.told["answers" if await work else "errors"] += 1
        self.seconds[step] = time.perf_counter() - start

    async def _get(self) -> bool:
        return (await self.client.get("/", headers=self.headers)).status_code == 200

    async def _preview(self) -> bool:
        answer = await self.client.post(
            f"{API}run/predict", json=self._body("examples_0_lines", "change"), headers=self.headers
        )
        return answer.status_code == 200 and "class=" in answer.text

    async def _queued(self, step: str, said: str) -> None:
        while True:
            start = time.perf_counter()
            answer = await self.client.post(JOIN, json=self._body(step, "click"), headers=self.headers)
            if answer.status_code != 429:
                break
            self.told["busy"] += 1
            wait = int(answer.headers["Retry-After"])  # which every such answer has
            await asyncio.sleep(wait * random.uniform(1, 1.5))
        last = ""
        if answer.status_code == 200:
            address = f"{API}queue/data?session_hash={self.session}"
            async with self.client.stream("GET", address, headers=self.headers) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("data:"):
                        last = line if "process_" in line else last
                        if json.loads(line[5:])["msg"] in ("process_completed", "unexpected_error"):
                            break
        self.seconds[step] = time.perf_counter() - start
        self.told["answers" if said in last or self._has_seen(step, last) else "errors"] += 1

    def _has_seen(self, step: str, last: str) -> bool:
        """Whether the end of a work that was shown bit by bit, of which only changes are sent, was a success."""
        return step == "adapt" and '"success":true' in last and 'role=\\"alert\\"' not in last

    def _body(self, element: str, event: str) -> dict:
        ids = {part["id"]: part["props"].get("elem_id") for part in self.config["components"]}
        for own in self.config["dependencies"]:
            names = [ids.get(number) for number in own["inputs"]]
            starts = any(ids.get(number) == element and kind == event for number, kind in own["targets"])
            if starts and (event == "click" or len(names) == 4):  # that of a preview has four inputs
                data = [self.values.get(name or "") for name in names]
                return {"data": data, "fn_index": own["id"], "session_hash": self.session}
        raise ValueError(f"the page has no {event} of {element}")


async def visit_at_once(url: str, visitors: int) -> tuple[list[Visit], float]:
    """Returns what all of them met, and how long it took until the last had left, in seconds."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        config = (await client.get("/config")).json()
        first = Visit(client, config, 60_000)  # by which all is loaded
        await first.make()
        start = time.perf_counter()
        visits = [Visit(client, config, number) for number in range(visitors)]
        ends = await asyncio.gather(*(visit.make() for visit in visits), return_exceptions=True)
        for visit, end in zip(visits, ends, strict=True):
            if end is not None:
                visit.told[f"errors ({type(end).__name__})"] += 1
        return visits, time.perf_counter() - start


def measured(
    visitors: int, workers: int, model: str | None, visit: Callable = visit_at_once
) -> tuple[list[Visit], float]:
    """
    Serves the page and returns what visitors met, see [`visit_at_once`].

    Raises:
        RuntimeError: the page does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "msmaml", "web", "--port", str(port), "--proxies", "1", "--workers", str(workers)]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GRADIO_TEMP_DIR": folder}
        server = subprocess.Popen(
            [*command, *(["--model", model] if model else [])],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if server.poll() is not None:
                    raise RuntimeError(f"the page ended with {server.returncode}")
                try:
                    if httpx.get(f"{url}/healthz").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)
            else:
                raise RuntimeError("the page is not ready after five minutes")
            found = asyncio.run(visit(url, visitors))
            if httpx.get(f"{url}/healthz").status_code != 200:
                raise RuntimeError("the page is not ready after all visits")
            return found
        finally:
            server.terminate()
            server.wait()


def report(visits: list[Visit], seconds: float) -> str:
    """Returns what was met as Markdown."""
    told = sum((visit.told for visit in visits), Counter())
    served = sum("visit" in visit.seconds and not any("error" in word for word in visit.told) for visit in visits)
    rows = []
    for step, words in STEPS.items():
        values = [visit.seconds[step] for visit in visits if step in visit.seconds]
        cells = [f"{value:.2f}" for value in np.percentile(values, (50, 95, 99))] if values else ["–"] * 3
        rows.append([words, str(len(values)), *cells])
    errors = sum(count for word, count in told.items() if "error" in word)
    lines = [
        f"{len(visits)} visitors at once, all of whom had left after {seconds:.0f} s: {served} had all answers; "
        f"{told['busy']} times one was told to come back, and {errors} times anything else.",
        "",
        table(["what a visitor waits for", "number", "median, s", "95 %, s", "99 %, s"], rows),
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = command_line(__doc__ or "", page=False, visitors=200, workers=2, model=None).parse_args(argv)
    print(report(*measured(arguments.visitors, arguments.workers, arguments.model)))


if __name__ == "__main__":
    main()
