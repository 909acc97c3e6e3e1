"""What a person gets wrong on the command line is told in a line that names the option, its value and the reason."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from msmaml.__main__ import main
from msmaml.commands import is_of_network

from ..own_data import save_tiny_model, write_file

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), num_inner_steps=1)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The current folder, with examples of two classes and a query."""
    for kind, name in enumerate(("crow", "wren")):
        for number in range(2):
            write_file("image", tmp_path / "birds" / name, kind, number)
    write_file("image", tmp_path / "query", 0, 5)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys, *words: object) -> tuple[object, str]:
    """The exit status of the command, and its last line on stderr."""
    try:
        status = main([str(word) for word in words])
        said = capsys.readouterr().err
    except SystemExit as error:
        said = capsys.readouterr().err
        status, said = (1, error.code) if isinstance(error.code, str) else (error.code, said)
    return status, said.strip().splitlines()[-1]


CLASSIFY = "classify --support birds --query query"
EVALUATE = "evaluate --support birds"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (f"{CLASSIFY} --output file/found.csv", 2, r"--output file/found.csv cannot be written: .* \(file\)"),
        (f"{CLASSIFY} --output folder --format csv", 2, "--output folder is a folder: name a file"),
        (f"{CLASSIFY} --output folder --format csv --overwrite", 2, "--output folder is a folder: name a file"),
        (f"{CLASSIFY} --output {os.devnull} --format csv", 2, f"--output {os.devnull} is no regular file"),
        (f"{CLASSIFY} --output {os.devnull} --format csv --overwrite", 2, f"--output {os.devnull} is no regular file"),
        ("classify --support birds --save-classifier file", 2, "--save-classifier file cannot be written: File exists"),
        ("classify --support birds --query -", 2, "--query -: nothing is read from stdin; name files"),
        (f"{CLASSIFY} --device banana", 2, r"device='banana' cannot be used here \(.*\): 'cpu' can"),
        (f"{EVALUATE} --device banana", 1, r"device='banana' cannot be used here \(.*\): 'cpu' can"),
        (f"{EVALUATE} --seed -1", 2, r"argument --seed: '-1' must be an integer in \[0, 2\*\*32\)"),
        (f"{EVALUATE} --picture confusion.banana", 1, "--picture confusion.banana: the name must end like"),
        (f"{EVALUATE} --picture confusion", 1, "--picture confusion: the name must end like"),
        (f"{EVALUATE} --picture file/confusion.png", 1, r"--picture file/confusion.png cannot be written: .* \(file\)"),
        ("evaluate --json", 2, "--json is for examples: give --support, a folder or a table of them"),
        ("evaluate configs/base.yaml --folds=3", 2, "--folds=3 is for examples: give --support"),
        ("web --port 99999", 2, "argument --port: '99999' must be an integer from 1 to 65535"),
        ("web --port 0", 2, "argument --port: '0' must be an integer from 1 to 65535"),
        ("--version again", 2, "msmaml: --version stands alone, without again"),
    ],
)
def test_it_is_told_by_its_option(words, status, message, files, model, capsys):
    before = sorted(files.rglob("*"))
    words = words.split()
    if words[0] in ("classify", "evaluate") and "birds" in words:
        words += ["--model", str(model)]
    found, said = told(capsys, *words)
    assert (found, re.search(message, said) is not None) == (status, True), said
    assert sorted(files.rglob("*")) == before, "nothing is left behind"
    assert Path(os.devnull).exists()


def test_warnings_are_told_like_errors(files, model):
    """Without the line of code, which tells a person nothing."""
    (files / "query" / "notes.odt").touch()
    command = [sys.executable, "-m", "msmaml", *CLASSIFY.split(), "--model", str(model)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=files)
    told = [line for line in done.stderr.splitlines() if "notes.odt" in line]
    assert len(told) == 1 and told[0].startswith("classify: --query query: 1 files are of another kind")
    assert done.returncode == 0 and ".py" not in done.stderr


def test_a_picture_gets_its_folder(files, model, capsys):
    assert main(["evaluate", "--support", "birds", "--model", str(model), "--picture", "new/confusion.svg"]) == 0
    assert "accuracy" in capsys.readouterr().out and (files / "new" / "confusion.svg").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("convert nowhere out", "convert: there is no folder nowhere, and the Hub, where it may be, was not reached: "),
        ("push saved someone/name", "push: someone/name was not changed: "),
    ],
)
def test_without_a_network_it_says_so(words, message, files, monkeypatch, capsys):
    (files / "saved").mkdir()
    (files / "saved" / "config.json").write_text("{}")
    library = type("ConnectError", (Exception,), {"__module__": "httpx2"})

    def fail(*arguments, **options):
        raise library("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
    monkeypatch.setattr("modeling_msmaml.hub.convert_published.convert", fail)
    assert told(capsys, *words.split()) == (1, f"{message}no network")
    assert is_of_network(library()) and not is_of_network(KeyError())


def test_who_reads_the_help_may_stop():
    """As `msmaml --help | head -0` does; what is not read is no error of a Python that ends."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "msmaml", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, "")
