"""The notebooks in examples/ run from the first cell to the last, and what they have stored is what they print."""

import json
import os
import re
from pathlib import Path

import pytest

from scripts.run_notebooks import NOTEBOOKS, executed

from .test_tutorials import assert_alike

MOST_BYTES = 100_000


def printed(cells: list[dict]) -> str:
    """What the cells of a notebook print, which its file stores by lines."""
    outputs = [output for cell in cells for output in cell.get("outputs", ()) if output["output_type"] == "stream"]
    return "".join("".join(output["text"]) for output in outputs)


def pictures(cells: list[dict]) -> list[int]:
    """How many pictures each cell draws."""
    return [sum(output["output_type"] == "display_data" for output in cell.get("outputs", ())) for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored(path, tmp_path):
    stored, environment = json.loads(path.read_text())["cells"], dict(os.environ)
    cells = executed(path, tmp_path).cells
    assert os.environ == environment, "what follows in this process would find packages elsewhere"
    assert_alike(printed(cells), printed(stored))
    assert pictures(cells) == pictures(stored)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_tells_nothing_of_a_machine(path):
    text = path.read_text()
    assert len(text) < MOST_BYTES
    assert not re.search(r"(?<![\w:/])/(home|root|tmp|work|usr|Users)/|[A-Z]:\\\\", text)
    notebook = json.loads(text)
    assert set(notebook["metadata"]) == {"kernelspec"}
    assert all(cell["outputs"] is not None and "execution" not in cell["metadata"] for cell in code_of(notebook))
    assert any(cell["outputs"] for cell in code_of(notebook)), "run python -m scripts.run_notebooks"


def code_of(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_list_of_examples_names_all():
    folder = Path(NOTEBOOKS[0]).parent
    named = set(re.findall(r"\]\(([\w.]+)\)", (folder / "README.md").read_text()))
    assert named == {path.name for path in folder.iterdir() if path.suffix in (".py", ".ipynb")}
    assert len(NOTEBOOKS) == 5
