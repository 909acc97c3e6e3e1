"""Reads damaged files of all kinds in a worker process, where what no reading may do is noticed."""

import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..inputs.measured_reading import Reader, Reading, read_all
from .kinds import KINDS
from .mutations import mutated
from .watch import Watch

SECONDS, GIGABYTES = 5.0, 1.0  # that a file may take
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "critical"}


def make_all(folder: Path, kinds: Iterable[str] = tuple(KINDS)) -> Path:
    """Writes the intact files of some kinds, each into a folder of its own."""
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        KINDS[kind].make(folder / kind)
    return folder


def changed_files(seeds: Path, kind: str) -> list[str]:
    """The files of a kind that are damaged in turn, relative to its folder."""
    places = {path for pattern in KINDS[kind].changed for path in (seeds / kind).glob(pattern) if path.is_file()}
    return sorted(path.relative_to(seeds / kind).as_posix() for path in places)


def inputs(seeds: Path, number: int, kinds: Iterable[str] = tuple(KINDS), seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(number/kind/file, its damaged content); the number says how it can be made again."""
    names = list(kinds)
    shares = np.array([KINDS[name].share for name in names], dtype=float)
    files = {name: changed_files(seeds, name) for name in names}
    for count in range(number):
        rng = np.random.default_rng([seed, count])
        kind = names[rng.choice(len(names), p=shares / shares.sum())]
        file = files[kind][int(rng.integers(len(files[kind])))]
        yield f"{count}/{kind}/{file}", mutated(file, (seeds / kind / file).read_bytes(), rng)


def reader(seeds: str, folder: Path) -> Reader:
    """
    Returns what reads a kind of files with one in place of the intact one. It passes over documented errors that name
    the file. Before, it reads the intact files of each kind, which must be read without an error.
    """
    os.environ.update(_ENVIRONMENT | {"HF_HOME": str(folder / "hub")})
    tempfile.tempdir = str(folder)
    import torch

    torch.set_num_threads(1)
    watch = Watch(folder)

    def read(name: str, content: bytes | None) -> None:
        number, kind, file = name.split("/", 2)
        place = folder / number / kind
        shutil.copytree(Path(seeds) / kind, place)
        if content is not None:
            (place / file).write_bytes(content)
        try:
            with watch.reading():
                KINDS[kind].read(place)
        except KINDS[kind].documented as error:
            if content is None:
                raise
            if KINDS[kind].names_file and Path(file).name not in str(error) and str(place) not in str(error):
                raise AssertionError(f"the error does not name the file: {error!r}") from error
        finally:
            shutil.rmtree(folder / number)

    watch.is_learning = True
    for kind in filter(KINDS.__contains__, sorted(os.listdir(seeds))):
        read(f"intact/{kind}/", None)
    watch.is_learning = False
    return read


def read_damaged(
    seeds: Path, files: Iterable[tuple[str, bytes]], seconds: float = SECONDS, gigabytes: float = GIGABYTES
) -> list[Reading]:
    """What came of files that `inputs` names in this way."""
    return read_all(functools.partial(reader, str(seeds)), files, seconds, gigabytes)
