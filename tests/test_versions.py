"""The version: from the tags of a repository, and sensible where there are none, or no repository, or no git."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

from .wheel_environment import WheelEnvironment, built

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", ".git_archival.txt", ".gitattributes")
PLANNED = re.search(r'^PLANNED = "(.*)"$', (REPOSITORY / "setup.py").read_text(), re.MULTILINE)[1]


def git(folder: Path, *words: str) -> str:
    """Runs git in a folder, as nobody in particular, without the settings of this machine."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    someone = {f"GIT_{role}_{fact}": "a@b" for role in ("AUTHOR", "COMMITTER") for fact in ("NAME", "EMAIL")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", folder, *words], env={**kept, **own, **someone}, capture_output=True, text=True, check=True
    )
    return done.stdout


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "a change")


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit: what says how this project is built, with packages of one file each."""
    if shutil.which("git") is None:
        pytest.skip(reason="there is no git")
    folder = tmp_path / "repository"
    for name in ("modeling_msmaml", "data_builders", "msmaml", "pretrained", "configs"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(folder)
    return folder


def version_in(folder: Path, path: str | None = None) -> str:
    """The version under which a folder is installed; `path` says where programs such as git are looked for."""
    told = {name: value for name, value in os.environ.items() if not name.startswith(("SETUPTOOLS_SCM", "GIT_"))}
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--version"],
        cwd=folder,
        env={**told, "PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def archive(folder: Path) -> Path:
    """What a site offers as a download of the newest commit, unpacked."""
    git(folder, "archive", "--output", "archive.zip", "HEAD")
    with zipfile.ZipFile(folder / "archive.zip") as packed:
        packed.extractall(folder.parent / "archive")
    (folder / "archive.zip").unlink()
    return folder.parent / "archive"


def clone(folder: Path, *options: str) -> Path:
    """A clone of it."""
    place = folder.parent / "clone"
    git(folder.parent, "clone", "--quiet", *options, folder.as_uri(), str(place))
    return place


def without_git(folder: Path) -> Path:
    shutil.rmtree(folder / ".git")
    return folder


HERE, NEXT = (lambda folder: folder), r"\+g\w+"


@pytest.mark.parametrize(
    ("tags", "commits", "place", "expected"),
    [
        ([], 1, HERE, rf"{PLANNED}\.dev2{NEXT}"),
        (["v0.0.1"], 0, HERE, r"0\.0\.1"),
        (["v0.0.1"], 2, HERE, rf"{PLANNED}\.dev2{NEXT}"),
        (["v99.1.0"], 0, HERE, r"99\.1\.0"),
        (["v99.1.0"], 3, HERE, rf"99\.1\.1\.dev3{NEXT}"),
        (["v99.1.0rc1"], 0, HERE, r"99\.1\.0rc1"),
        (["data-2026", "v99.1.0-data", "v99", "v99.1.0.dev3"], 0, HERE, rf"{PLANNED}\.dev1{NEXT}"),
        (["v99.1.0"], 0, archive, r"99\.1\.0"),
        (["v99.1.0"], 1, archive, rf"99\.1\.1\.dev1{NEXT}"),
        ([], 0, archive, rf"{PLANNED}\.dev0"),
        (["v99.1.0"], 1, lambda folder: clone(folder, "--depth", "1", "--no-tags"), rf"{PLANNED}\.dev1{NEXT}"),
        (["v99.1.0"], 1, lambda folder: clone(folder, "--depth", "1"), rf"{PLANNED}\.dev1{NEXT}"),
        (["v99.1.0"], 1, clone, rf"99\.1\.1\.dev1{NEXT}"),
        (["v99.1.0"], 0, without_git, rf"{PLANNED}\.dev0"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_versions_come_from_tags(tags, commits, place, expected, repository):
    for tag in tags:
        git(repository, "tag", tag)
    for _ in range(commits):
        commit(repository)
    assert re.fullmatch(expected, version_in(place(repository)))


def test_what_is_changed_or_lies_elsewhere_is_no_release(repository):
    git(repository, "tag", "v99.1.0")
    assert version_in(repository, path=os.devnull) == f"{PLANNED}.dev0", "there is no git"
    shutil.copytree(repository, repository / "inside", ignore=shutil.ignore_patterns(".git"))
    assert version_in(repository / "inside") == f"{PLANNED}.dev0", "the repository around it is another"
    (repository / "README.md").write_text("changed")
    assert Version("99.1.0") < Version(version_in(repository)) < Version("99.1.1")


def test_a_tagged_commit_is_installed_under_its_tag(repository, tmp_path):
    """The wheel, what Python says of it, the command, and a source distribution, which has no tags any more."""
    shutil.rmtree(repository / "msmaml")
    for path in ("__init__.py", "__main__.py", "commands/__init__.py"):
        (repository / "msmaml" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "msmaml" / path, repository / "msmaml" / path)
    commit(repository)
    git(repository, "tag", "--annotate", "v99.1.0", "--message", "a release")
    wheel = built(clone(repository), tmp_path)
    assert wheel.name.startswith("msmaml-99.1.0-")
    installed = WheelEnvironment(tmp_path / "environment", wheel, [])
    assert installed.run(tmp_path, "msmaml", "--version") == "msmaml 99.1.0\n"
    printed = installed.run(tmp_path, "python", "-c", "import msmaml; print(msmaml.__version__, len(vars(msmaml)))")
    assert printed.startswith("99.1.0 ")
    build = "from setuptools.build_meta import build_sdist; print(build_sdist('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=repository, check=True, capture_output=True)
    (packed,) = (repository / "dist").glob("*.tar.gz")
    shutil.unpack_archive(packed, tmp_path / "unpacked", filter="data")
    assert version_in(tmp_path / "unpacked" / "msmaml-99.1.0") == "99.1.0"


def test_sources_that_are_not_installed_say_so(tmp_path):
    shutil.copy(REPOSITORY / "msmaml" / "__init__.py", tmp_path / "msmaml.py")
    code = "import msmaml; print(msmaml.__version__)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Version(done.stdout.strip()) < Version("0.0.1")


def test_what_is_planned_is_that_of_the_changelog():
    """With unreleased changes it is after the newest release, otherwise that release or the one after it."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    unreleased, released = re.search(
        r"^## \[Unreleased\]\n(.*?)^## \[([\d.]+)\]", changelog, re.MULTILINE | re.DOTALL
    ).groups()
    assert Version(PLANNED) > Version(released) or (not unreleased.strip() and released == PLANNED)
    assert Version(PLANNED).base_version == PLANNED, "a release, not a development version"


def test_a_tag_on_this_commit_is_the_newest_release_of_the_changelog():
    command = ["git", "-C", str(REPOSITORY), "tag", "--points-at", "HEAD", "--list", "v*"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip(reason="the sources are no clone")
    released = re.findall(r"^## \[([\d.]+)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert set(listed.stdout.split()) <= {f"v{released[0]}"}
