"""The Dockerfile, which no test here can build: what it says holds, and its command runs as it would in a container."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path

import pytest

from msmaml.web.page_limits import PageLimits
from msmaml.web.page_options import option_parser

REPOSITORY = Path(__file__).resolve().parents[1]
NOBODY = 65_534


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """(instruction, its arguments) of each line."""
    text = re.sub(r"\\\n", " ", (REPOSITORY / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, arguments.strip()) for name, arguments in lines]


def only(steps, name: str) -> str:
    (arguments,) = [arguments for found, arguments in steps if found == name]
    return arguments


def copied(steps) -> list[str]:
    return [source for name, arguments in steps if name == "COPY" for source in shlex.split(arguments)[:-1]]


def test_it_runs_as_a_user_who_may_write_nothing(steps):
    names = [name for name, _ in steps]
    assert only(steps, "USER") == "1000" and names.index("USER") > max(i for i, n in enumerate(names) if n == "COPY")
    assert not any("chown" in arguments or "chmod" in arguments for _, arguments in steps)


def test_its_base_and_its_packages_have_versions(steps):
    assert re.fullmatch(r"python:3\.\d+\.\d+-[a-z-]+", only(steps, "FROM"))
    (install,) = [arguments for name, arguments in steps if name == "RUN" and "pip" in arguments]
    assert "--constraint constraints.txt" in install and "gradio" in install
    assert re.search(r"^gradio==", (REPOSITORY / "constraints.txt").read_text(), flags=re.MULTILINE)


def test_what_is_copied_is_there_and_nothing_else_is_sent(steps):
    ignored = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    for source in copied(steps):
        assert (REPOSITORY / source).exists(), source
        assert any(line.startswith("!") and fnmatch(source.split("/")[0], line[1:]) for line in ignored), source
    assert {"modeling_msmaml", "msmaml", "pretrained"} <= set(copied(steps))


def test_it_holds_no_secret(steps):
    said = " ".join(arguments for name, arguments in steps if name in ("ARG", "ENV", "RUN"))
    assert not re.search(r"token|secret|passw|key", said, flags=re.IGNORECASE)


def test_its_command_has_options_that_exist_and_serves_the_port_that_is_asked(steps):
    program, file, *options = json.loads(only(steps, "CMD"))
    arguments = option_parser().parse_args(options)
    assert (program, file) == ("python", "app.py") and (arguments.host, arguments.port) == ("0.0.0.0", 7860)
    assert only(steps, "EXPOSE") == "7860" and ":7860/healthz" in only(steps, "HEALTHCHECK")


def test_the_page_of_the_docs_lists_every_limit():
    text = (REPOSITORY / "docs" / "page.md").read_text()
    listed = {row[0]: row[1:] for row in re.findall(r"^\| `--(\w+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)}
    said = {}
    for limit in fields(PageLimits):
        default = limit.metadata.get("default", limit.default)
        said[limit.name] = (f"{default:,}" if isinstance(default, int) else default, limit.metadata["help"])
    assert listed == said
    for command in re.findall(r"^msmaml web (.*)$", text, flags=re.MULTILINE):
        option_parser().parse_args(shlex.split(command))


def unprivileged() -> dict:
    """
    How a process is started as another user; where this Python is in a folder that nobody else may enter, without the
    right of root to write where the mode of a file forbids it.
    """
    python = Path(sys.executable).resolve()
    if all(path.stat().st_mode & 0o001 for path in (python, *python.parents)):
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    if shutil.which("setpriv") is None:
        pytest.skip("no other user may run this Python, and there is no setpriv")
    return {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become another user")
def test_its_command_runs_as_nobody_with_no_home(steps, tmp_path_factory):
    """Of the folder of the image; what the command asks for its health says that the page is ready."""
    other = unprivileged()
    without_rights = [] if other else ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    from .own_data import save_tiny_model

    image, scratch = tmp_path_factory.mktemp("image"), tmp_path_factory.mktemp("tmp")
    for path in (image, *image.parents):
        if path.stat().st_uid == os.geteuid() and path != Path(path.anchor) and "pytest" in path.name:
            path.chmod(path.stat().st_mode | 0o055)
    scratch.chmod(0o777)
    for source in copied(steps):
        place = REPOSITORY / source
        if source == "pretrained":
            continue  # a small model in its place, which is loaded in less time
        if place.is_dir():
            shutil.copytree(place, image / place.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, image)
    save_tiny_model(image / "pretrained" / "msmaml-base")
    for path in (image, *image.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, *command = json.loads(only(steps, "CMD"))
    command[command.index("7860")] = str(port)
    *_, check = json.loads(only(steps, "HEALTHCHECK").partition("CMD")[2])
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
    for arguments in (arguments for name, arguments in steps if name == "ENV"):
        environment |= {"MPLCONFIGDIR": str(scratch / "matplotlib")} | dict(
            pair.split("=", 1) for pair in shlex.split(arguments) if not pair.startswith("MPLCONFIGDIR")
        )
    with (scratch / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [*without_rights, sys.executable, *command],
            cwd=image,
            env=environment,
            **other,
            stdout=log,
            stderr=log,
        )
    try:
        end, ready = time.monotonic() + 240, False
        while not ready and server.poll() is None and time.monotonic() < end:
            try:
                ready = urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=8).status == 200
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.2)
        assert ready, (scratch / "log.txt").read_text()
        asked = subprocess.run([sys.executable, "-c", check.replace("7860", str(port))], timeout=60)
        assert asked.returncode == 0
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    for path in (image, *image.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    left = [path.name for path in scratch.rglob("*") if path.is_file() and "matplotlib" not in path.parts]
    assert left == ["log.txt"], "when it ends, nothing of visitors is left"
