"""What is installed and what is given out: the lock, the audit, releases that can be built again, foreign code."""

import ast
import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import audit, release

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = (REPOSITORY / release.LOCK).read_text()
PACKAGES = ("modeling_msmaml", "data_builders", "msmaml", "benchmarks", "scripts", "demo")


def entries(lock: str) -> dict[str, list[tuple[str, list[str]]]]:
    """The versions of each package of a lock with their hashes; a version may be for some environments only."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^ *#.*\n", "", lock, flags=re.MULTILINE)):
        name, version = re.match(r"([\w.-]+)==([^\s;\\]+)", block).groups()
        found.setdefault(name, []).append((version, re.findall(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)", block)))
    return found


def constraints() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_pinned_version_is_locked_with_its_hashes():
    locked = entries(LOCK)
    assert len(locked) > 150 and all(hashes for versions in locked.values() for _, hashes in versions)
    other = {
        name: locked.get(name) for name, version in constraints().items() if [v for v, _ in locked[name]] != [version]
    }
    assert not other


def test_the_lock_names_no_index_and_nothing_but_hashed_releases():
    """A second index could give out a package of the same name; a URL or a path would be no release."""
    assert not re.findall(r"--(?:extra-)?index-url|--find-links|--trusted-host|://| @ |^-e|file:", LOCK, re.MULTILINE)


def test_pip_takes_the_lock_with_required_hashes(tmp_path):
    """The part of it that is installed here in these versions: pip needs no network to say that it is there."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^ *#.*\n", "", LOCK, flags=re.MULTILINE))
    installed = {own.name.lower(): own.version for own in importlib.metadata.distributions()}
    chosen = [block for block in blocks if installed.get(block.split("==")[0]) == re.split(r"==|\s", block)[1]]
    assert len(chosen) > 20
    (tmp_path / "part.lock").write_text("\n".join(chosen))
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "--require-hashes"]
    ended = subprocess.run([*pip, "-r", tmp_path / "part.lock"], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "Would install" not in ended.stdout


REPORT = {
    "dependencies": [
        {"name": "fine", "version": "1", "vulns": []},
        {
            "name": "old",
            "version": "2",
            "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}, {"id": "X", "fix_versions": []}],
        },
        {"name": "unknown", "skip_reason": "Dependency not found on PyPI"},
    ]
}


def test_a_report_names_advisories_and_what_was_not_looked_up():
    found, skipped = audit.verdict(REPORT)
    assert found == ["old 2: PYSEC-1, mended in 3", "old 2: X, mended in no release yet"]
    assert skipped == ["unknown"]


@pytest.mark.parametrize(
    ("left", "required", "code", "said"),
    [
        ((0, 1, 2), "", 1, "old 2: PYSEC-1"),
        ((0, 2), "", 0, "not audited: unknown"),
        ((0, 2), "1", 1, "not audited: unknown"),
        ((0,), "1", 0, "no advisory was found"),
        (None, "", 0, "not audited: all packages"),
        (None, "1", 1, "not audited: all packages"),
    ],
)
def test_what_cannot_be_audited_is_said_and_fails_only_where_it_is_required(
    monkeypatch, capsys, left, required, code, said
):
    report = "" if left is None else json.dumps({"dependencies": [REPORT["dependencies"][n] for n in left]})
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, report, "no module"))
    monkeypatch.setenv("MSMAML_REQUIRE_AUDIT", required)
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert ended.value.code == code and said in capsys.readouterr().out


def small_repository(folder: Path) -> Path:
    """A project of two files with the lock of this one, since this one's models take long to be packed."""
    (folder / "small").mkdir(parents=True)
    (folder / "small" / "__init__.py").write_text("VALUE = 1\n")
    (folder / "small" / "tool.py").write_text("print('a tool')\n")
    (folder / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='small', version='1', packages=['small'])\n"
    )
    (folder / release.LOCK).write_text(LOCK)
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "small" / "untracked.py").write_text("")
    return folder


def test_a_release_is_built_to_the_same_bytes_again(tmp_path):
    repository = small_repository(tmp_path / "repository")
    built = [release.build("HEAD", tmp_path / name, repository) for name in ("first", "second")]
    first, second = ([hashlib.sha256(path.read_bytes()).hexdigest() for path in files] for files in built)
    assert first == second
    sdist, wheel, bill, sums = built[0]
    check = subprocess.run(["sha256sum", "--check", sums.name], cwd=sums.parent, capture_output=True, text=True)
    assert check.returncode == 0 and check.stdout.count("OK") == 3, check.stdout
    content = json.loads(bill.read_text())
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.5")
    versions = {part["name"]: part["version"] for part in content["components"]}
    assert {name: versions.get(name) for name in constraints()} == constraints()
    references = {part["bom-ref"] for part in content["components"]}
    assert len(references) == len(content["components"]) and references == {*content["dependencies"][0]["dependsOn"]}
    own = content["metadata"]["component"]
    hashes = {file["url"]: file["hashes"][0]["content"] for file in own["externalReferences"]}
    assert hashes == {sdist.name: first[0], wheel.name: first[1]}
    with zipfile.ZipFile(wheel) as archive:
        modules = [name for name in archive.namelist() if name.startswith("small/")]
    assert modules == ["small/__init__.py", "small/tool.py"], "what is not committed has no part in it"
    with pytest.raises(ValueError, match="has files already"):
        release.build("HEAD", tmp_path / "first", repository)


def test_no_foreign_code_is_trusted_by_default():
    """Left out, `trust_remote_code` makes transformers ask a person at a terminal, or take a local class in silence."""
    asked, wrong = 0, []
    for path in (path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            given = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
            function = ast.unparse(call.func)
            reads = re.fullmatch(r"Auto\w+\.from_(pretrained|config)", function)
            asked += bool(given)
            if any(not isinstance(value, ast.Constant) or value.value for value in given) or (reads and not given):
                wrong.append(f"{path.relative_to(REPOSITORY)}:{call.lineno} {function}")
    assert asked >= 10 and not wrong, "\n".join(wrong)
