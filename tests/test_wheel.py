"""The wheel, installed where neither the repository nor an editable install is on the path."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from .own_data import save_tiny_model, write_file

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("modeling_msmaml", "data_builders", "msmaml")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing that a build leaves behind lies in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, folder / "source" / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "source"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert built.returncode == 0, built.stderr[-2000:]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Runs Python in an empty folder with the wheel and the dependencies, without site's editable installs."""
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    path = os.pathsep.join([str(target), sysconfig.get_paths()["purelib"]])

    def run_python(folder: Path, *words: object) -> str:
        environment = {**os.environ, "PYTHONPATH": path, "ACCELERATE_USE_CPU": "true"}
        command = [sys.executable, "-S", *map(str, words)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run_python


def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "msmaml = msmaml.__main__:main" in archive.read(points).decode()
    for package in PACKAGES:
        own = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / package).rglob("*.py")}
        assert own <= names and f"{package}/py.typed" in names
    assert {"data_builders/splits/esc50.json", "modeling_msmaml/hub/model_card_template.md"} <= names
    assert not any(name.startswith(("tests", "benchmarks", "run_meta")) for name in names)


def test_the_wheel_alone_trains_and_classifies(run, tmp_path):
    assert str(REPOSITORY) not in run(tmp_path, "-c", "import msmaml; print(msmaml.__file__)")
    assert run(tmp_path, "-m", "msmaml", "--version").startswith("msmaml ")
    shutil.copy(REPOSITORY / "configs" / "quickstart.yaml", tmp_path / "quick.yaml")
    options = {"max_steps": 1, "num_test_episodes": 2, "num_inner_steps": 1, "output_dir": "out", "use_cpu": "true"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    table = run(tmp_path, "-m", "msmaml", "train", "quick.yaml", *words, "--cache_dir", tmp_path / "cache")
    assert "image" in table and (tmp_path / "out" / "model.safetensors").is_file()
    model = save_tiny_model(tmp_path / "tiny")
    for kind, bird in enumerate(("crow", "wren")):
        write_file("audio", tmp_path / "birds" / bird, kind, 0)
    query = write_file("audio", tmp_path, 0, 1)
    output = run(tmp_path, "-m", "msmaml", "classify", "--model", model, "--support", "birds", "--query", query)
    assert query.name in output
