"""The tutorials run from the first piece of code to the last, and print what they show."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from modeling_msmaml.model import modalities
from msmaml.__main__ import main as run_msmaml

TUTORIALS = sorted((Path(__file__).resolve().parents[1] / "docs" / "tutorials").glob("*.md"))
TABLES = {
    "messages.csv": "text,label\nWhere is my parcel?,delivery\nIt is lost,delivery\nI love it,praise\nGreat!,praise\n",
    "new.csv": "text\nBest shop ever.\n",
}

NUMBER = re.compile(r"\d+\.?\d*%?")


def pieces(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page in order: (language, content)."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def assert_alike(printed: str, shown: str) -> None:
    """
    The same words, and numbers that differ by no more than what other processors make of them. Where the page begins
    with three dots, a log comes first, which it does not show.
    """
    if shown.startswith("...\n"):
        shown = shown.removeprefix("...\n")
        printed = "".join(printed.splitlines(keepends=True)[-shown.count("\n") :])
    words, numbers = zip(*((NUMBER.split(text), NUMBER.findall(text)) for text in (printed, shown)), strict=True)
    assert [" ".join(part.split()) for part in words[0]] == [" ".join(part.split()) for part in words[1]]
    for found, expected in zip(*numbers, strict=True):
        tolerance = 3 if expected.endswith("%") else 0.11
        assert float(found.rstrip("%")) == pytest.approx(float(expected.rstrip("%")), abs=tolerance), printed


@pytest.mark.filterwarnings("ignore:1 of 2 inputs cannot be read", "ignore:1 of 2 queries cannot be read")
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(modalities, "_REGISTRY", dict(modalities._REGISTRY))
    for name, table in TABLES.items():
        Path(name).write_text(table)
    names, printed = {"__name__": page.stem}, ""
    for language, content in pieces(page):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(content, page.name, "exec"), names)
            printed = output.getvalue()
        elif language == "text":
            assert_alike(printed, content)
        else:
            assert language == "bash"
            for line in content.splitlines():
                program, *words = shlex.split(line)
                assert program == "msmaml"
                assert run_msmaml(words) == int("--skip-errors" in words)


def test_every_tutorial_is_tested():
    assert {page.stem for page in TUTORIALS} == {
        "texts",
        "sounds",
        "pictures",
        "meta_training",
        "modality",
        "publishing",
    }
