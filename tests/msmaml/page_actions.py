"""The page in a browser: how it is served for tests, and what visitors do on it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a microphone and a camera
]
expect.set_options(timeout=20_000)  # a machine may have much to do
MODALITIES = ("audio", "text", "image")
STEPS = 6
SAMPLING_RATE, SECONDS, IMAGE_SIZE = 16_000, 1.0, 32


@contextmanager
def served(space: Path, folder: Path, program: Sequence[str] = ("app.py",)) -> Iterator[str]:
    """
    The address of the page of a Space while it runs.

    Args:
        folder: for uploads and for what it prints.
        program: what Python runs in the folder of the Space, which takes `--port`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Nothing of this checkout: a Space has its own folder only.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MSMAML_MODEL")}
    environment |= {"OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(folder / "uploads")}
    log = (folder / "log.txt").open("w+")
    server = subprocess.Popen(
        [sys.executable, *program, "--port", str(port)], cwd=space, env=environment, stdout=log, stderr=log
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(1800):
            if server.poll() is not None:
                break
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.1)
        else:
            pytest.fail("the page does not answer after three minutes")
        if server.poll() is not None:
            log.seek(0)
            pytest.fail(f"the page's server ended: {log.read()[-2000:]}")
        yield url
    finally:
        server.terminate()
        server.wait()
        log.close()


def choose(page: Page, modality: str) -> None:
    page.get_by_label(modality, exact=True).check()
    suffixes = {"audio": ".wav", "text": ".txt", "image": ".png"}
    expect(page.locator("#examples_0_files")).to_contain_text(suffixes[modality])


def upload(page: Page, field: str, *files: Path) -> None:
    page.set_input_files(f"#{field}_files input[type=file]", [str(file) for file in files])


def clear(page: Page, field: str) -> None:
    page.locator(f"#{field}_files").get_by_label("Clear").click()


def tone(path: Path, frequency: float, seconds: float = 1.0, rate: int = 8_000) -> Path:
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate), rate)
    return path
