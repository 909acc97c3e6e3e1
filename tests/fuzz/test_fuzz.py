"""Damaged files of every kind end in a documented error that names them; what no reading may do would be noticed."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from ..inputs.measured_reading import Reader, read_all, report
from .kinds import KINDS
from .reading import changed_files, inputs, make_all, read_damaged
from .watch import CANARY, Watch

# How many of them; `make fuzz` asks for more.
MUTATIONS = int(os.environ.get("MSMAML_MUTATIONS", "80"))
QUICK = ("model", "published checkpoint", "tables", "YAML of a run", "archives", "results that go on", "stored levels")


def test_damaged_files_of_all_kinds(tmp_path):
    seeds = make_all(tmp_path, QUICK)
    files = list(inputs(seeds, MUTATIONS, QUICK))
    readings = read_damaged(seeds, files)
    assert {reading.name.split("/")[1] for reading in readings} == set(QUICK) and len(readings) == MUTATIONS
    assert not [reading for reading in readings if reading.finding], report(readings)


def test_inputs_can_be_made_again(tmp_path):
    kinds = ("tables", "results that go on", "checkpoint of a run")
    seeds = make_all(tmp_path, kinds)
    files = list(inputs(seeds, 200, kinds))
    assert files == list(inputs(seeds, 200, kinds)) != list(inputs(seeds, 200, kinds, seed=1))
    own = {f"{kind}/{file}" for kind in kinds for file in changed_files(seeds, kind)}
    assert {name.split("/", 1)[1] for name, _ in files} == own and len(own) > 8
    changed = [content != (seeds / name.split("/", 1)[1]).read_bytes() for name, content in files]
    assert sum(changed) > 190


def test_shares_are_of_a_hundred():
    assert sum(kind.share for kind in KINDS.values()) == 100


def misbehaving(folder: Path) -> Reader:
    """Does within a watched reading what the name of a file says."""
    watch = Watch(folder)
    (folder / f"{CANARY}.py").write_text("")

    def read(name: str, content: bytes) -> None:
        with watch.reading():
            match name:
                case "starts a program":
                    subprocess.run(["true"])
                case "calls a shell":
                    os.system("true")
                case "writes elsewhere":
                    (Path.home() / f".{CANARY}").write_text("")
                case "removes elsewhere":
                    (Path.home() / f".{CANARY}").unlink()
                case "evaluates":
                    eval(f"'{CANARY}'")
                case "runs code from a file":
                    exec(compile("", str(folder / "x.py"), "exec"))
                case "connects":
                    with socket.socket() as own:
                        own.connect_ex(("127.0.0.1", 9))
                case "imports":
                    __import__(CANARY)
                case _:
                    (folder / "x").write_text("")
                    (folder / "x").unlink()

    return read


def test_what_no_reading_may_do_is_noticed():
    names = ["fine", "starts a program", "calls a shell", "writes elsewhere", "removes elsewhere", "evaluates"]
    names += ["runs code from a file", "connects", "imports", "is fine too"]
    readings = read_all(misbehaving, [(name, b"") for name in names], seconds=30, gigabytes=1)
    found = {reading.name: reading.finding for reading in readings if reading.finding}
    assert list(found) == names[1:-1]
    expected = ("Popen", "os.system", "open", "os.remove", "compile", "compile", "socket.connect", "import")
    for event, finding in zip(expected, found.values(), strict=True):
        assert "did what no reading may" in finding and event in finding


@pytest.mark.parametrize("kind", ["model", "encoder of levels", "published checkpoint", "YAML of a run"])
def test_intact_files_are_read(kind, tmp_path):
    seeds = make_all(tmp_path, [kind])
    KINDS[kind].read(seeds / kind)
    assert changed_files(seeds, kind)
