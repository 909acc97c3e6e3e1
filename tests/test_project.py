"""What a stranger finds at the door: contributing guide, forms, workflow, citation, and which tests are quick."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from .conftest import SLOW, SLOW_FIXTURES

REPOSITORY = Path(__file__).resolve().parents[1]
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))
WORKFLOW = REPOSITORY / ".github" / "workflows" / "ci.yml"


def parsed(path: Path | str):
    return yaml.safe_load((REPOSITORY / path).read_text())


def pinned(package: str) -> str:
    return re.search(rf"^{package}==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), flags=re.MULTILINE)[1]


def make_targets() -> set[str]:
    return set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))


def test_files_that_the_contributing_guide_names_exist():
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([\w./-]+(?:\.\w+|/))`", page)
    assert len(named) > 15
    # `../shared` and files that a contributor makes, written with a placeholder, are no such names.
    missing = [name for name in named if not (REPOSITORY / name).exists()]
    assert not missing
    assert set(re.findall(r"`make (\w+)`", page)) <= make_targets()


def test_pre_commit_formats_as_make_lint_does():
    (ruff, plain) = parsed(".pre-commit-config.yaml")["repos"]
    assert ruff["rev"] == f"v{pinned('ruff')}"
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-check", "ruff-format"]
    assert [hook["id"] for hook in plain["hooks"]] == ["end-of-file-fixer", "check-yaml"]


def test_workflow_runs_what_a_change_must_pass():
    workflow = parsed(WORKFLOW)
    commands = "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])
    assert set(re.findall(r"make (\w+)", commands)) == {"test", "demo", "audit"} <= make_targets()
    assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())
    (audit,) = (step for step in workflow["jobs"]["audit"]["steps"] if step.get("run") == "make audit")
    assert audit["env"] == {"MSMAML_REQUIRE_AUDIT": "1"}
    # YAML reads a bare `on` as true.
    assert {"push", "pull_request"} <= set(workflow[True])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_are_valid(path):
    """By the schema of issue forms: what is shown, and unique names of what is asked."""
    form = parsed(path)
    assert form["name"] and form["description"]
    questions = [element for element in form["body"] if element["type"] != "markdown"]
    names = [question["id"] for question in questions]
    assert len(names) == len(set(names)) >= 2
    for question in questions:
        assert question["type"] in ("input", "textarea", "dropdown", "checkboxes")
        assert question["attributes"]["label"]


def test_citation_is_of_this_version():
    citation = parsed("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    released = re.findall(r"^## \[([\d.]+)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == released[0], "the newest release"
    for reference in (citation, *citation["references"]):
        assert reference["title"] and reference["authors"]


def test_slow_tests_exist():
    defined = {
        node.name
        for path in (REPOSITORY / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    listed = [name for names in SLOW.values() for name in names]
    assert len(listed) == len(set(listed))
    assert not {*listed, *SLOW_FIXTURES} - defined
