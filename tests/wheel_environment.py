"""Fresh environments for an installed wheel, which borrow the packages that it requires from this one."""

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def required(requirements: Iterable[str], extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """The installed packages that some requirements ask for, with all that those ask for, by their names."""
    found: dict[tuple[str, str], Distribution] = {}
    waiting = [(Requirement(line), tuple(extras)) for line in requirements]
    while waiting:
        wanted, of_parent = waiting.pop()
        marker = wanted.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", *of_parent)):
            continue
        for extra in ("", *wanted.extras):
            if (wanted.name, extra) in found:
                continue
            try:
                found[wanted.name, extra] = package = distribution(wanted.name)
            except PackageNotFoundError:  # of another platform, or one that this environment can do without
                continue
            waiting += [(Requirement(line), (extra,)) for line in package.requires or ()]
    return {name: package for (name, _), package in found.items()}


def built(source: Path, folder: Path) -> Path:
    """The wheel of some sources, built into a folder with what this environment has, without a network."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--wheel-dir", folder, source], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    return wheel


class WheelEnvironment:
    """
    An environment with a wheel, what it requires and nothing else: neither pip nor an editable install nor a network.

    Args:
        folder: new folder for it.
        wheel: the wheel.
        requirements: the lines `Requires-Dist` of the wheel.
        extras: those with which it is installed.
    """

    def __init__(self, folder: Path, wheel: Path, requirements: Iterable[str], extras: Iterable[str] = ()):
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=100)
        (site,) = folder.glob("lib/python*/site-packages")
        for package in required(requirements, extras).values():
            for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
                if not (site / name).exists():
                    (site / name).symlink_to(str(package.locate_file(name)))
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
        install = [*pip, "--quiet", "--no-deps", "--no-index", "--no-compile", wheel]
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(install, capture_output=True, text=True, timeout=200, env=outside)
        assert done.returncode == 0, done.stderr

    def run(self, place: Path, *command: object, status: int = 0) -> str:
        """What a program of the environment prints that runs in a folder, offline, and ends with this status."""
        program, *words = map(str, command)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MSMAML", "HF_"))}
        own = {"HOME": str(place), "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [self.folder / "bin" / program, *words],
            cwd=place,
            env={**kept, **own},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == status, done.stderr[-3000:]
        return done.stdout if status == 0 else done.stderr
