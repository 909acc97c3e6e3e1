"""What of the layout no import contract (pyproject.toml, `make lint`) can say."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# Both land in one folder of a checkpoint, where the Auto classes find the siblings that a file imports, nothing else.
TRAVELLING = ("modeling_msmaml/model", "modeling_msmaml/inputs")
PACKAGES = ("modeling_msmaml", "data_builders", "msmaml")
MOST_LINES = 400


def modules(*folders: str) -> list[Path]:
    """All modules below some folders of the repository, at least one in each."""
    found = []
    for folder in folders:
        paths = sorted((REPOSITORY / folder).rglob("*.py"))
        assert paths, f"there is no module in {folder}"
        found += paths
    return found


def own_imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports of the project's own code, wherever in the file they stand."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [node for node in imports if any(root_of(name) in ("", *PACKAGES) for name in names_of(node))]


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """What is imported, with leading dots where it is relative."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def root_of(name: str) -> str:
    """The package that a name begins with; empty where it is relative."""
    return name.split(".")[0]


@pytest.mark.parametrize("folder", TRAVELLING)
def test_travelling_code_imports_siblings_only(folder):
    paths = modules(folder)
    assert {path.parent for path in paths} == {REPOSITORY / folder}, "a folder that travels is flat"
    siblings = {path.stem for path in paths} - {"__init__"}
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} imports {', '.join(names_of(node))}"
        for path in paths
        for node in own_imports(path)
        if not (isinstance(node, ast.ImportFrom) and node.level == 1 and node.module in siblings)
    ]
    assert not wrong, "\n".join(["write `from .sibling import name`:", *wrong])


def test_no_file_name_occurs_twice_in_what_travels():
    first, second = ({path.name for path in modules(folder)} - {"__init__.py"} for folder in TRAVELLING)
    assert not first & second


def test_files_fit_the_eye():
    lengths = {path.relative_to(REPOSITORY): len(path.read_text().splitlines()) for path in modules(*PACKAGES)}
    too_long = {str(path): length for path, length in lengths.items() if length > MOST_LINES}
    assert not too_long, f"these files have more than {MOST_LINES} lines: {too_long}"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_say_that_they_are_typed(package):
    assert (REPOSITORY / package / "py.typed").is_file()
