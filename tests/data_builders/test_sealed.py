"""Caches that can be trusted: damage is found, built again or refused by name; two processes build once."""

import json
import multiprocessing
import os
import shutil
import signal
import time
import warnings
from pathlib import Path

import datasets
import numpy as np
import pytest

from data_builders import FewShotBuilder, row_features
from data_builders.storage import sealed

ROWS = np.random.default_rng(0).integers(0, 256, (40, 12), dtype=np.uint8)
# By fork, so that a process starts in milliseconds: what they run computes nothing with torch.
PROCESSES = multiprocessing.get_context("fork")


class Squares(FewShotBuilder):
    """Forty rows. `log` gets a line for each time they are made, `before` is called before each row."""

    modality, row_shape = "image", (3, 2, 2)

    def __init__(self, cache_dir, log, before=lambda number: None):
        self.log, self.before = log, before
        super().__init__(cache_dir=cache_dir, dataset_name="squares")

    @classmethod
    def code_modules(cls):
        return []

    def _info(self):
        return datasets.DatasetInfo(features=row_features("image", 12, ["a"]))

    def _generate_examples(self):
        with open(self.log, "a") as log:
            log.write("made\n")
        for number, row in enumerate(ROWS):
            self.before(number)
            yield number, {"image": row, "label": 0, "source_id": "s"}


@pytest.fixture
def squares(tmp_path):
    """How to make a builder, and how often the rows have been made."""
    log = tmp_path / "log"

    def make(before=lambda number: None):
        return Squares(tmp_path / "cache", log, before)

    make.times = lambda: len(log.read_text().splitlines())
    make.folder = Path(make().cache_dir)
    return make


def opened(builder) -> np.ndarray:
    return np.asarray(builder.build().with_format("numpy")["image"][:])


def silently(builder) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return opened(builder)


def flip(path: Path, at: int = -1, keep_time: bool = True) -> None:
    """Changes one bit, by default in the middle of a file, so that not even the modification time tells of it."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2 if at < 0 else at] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


ARROW, INFO = "squares-stored.arrow", "dataset_info.json"
DAMAGE = {
    "cut off": (ARROW, lambda path: os.truncate(path, path.stat().st_size - 1)),
    "emptied": (ARROW, lambda path: os.truncate(path, 0)),
    "longer": (ARROW, lambda path: path.write_bytes(path.read_bytes() + b"\0")),
    "zeroed": (ARROW, zero),
    "one bit": (ARROW, flip),
    "gone": (ARROW, Path.unlink),
    "description cut off": (INFO, lambda path: os.truncate(path, 20)),
    "description gone": (INFO, Path.unlink),
    "checksums gone": (sealed.CHECKSUMS, Path.unlink),
    "checksums cut off": (sealed.CHECKSUMS, lambda path: os.truncate(path, 30)),
    "checksums of another form": (sealed.CHECKSUMS, lambda path: path.write_text("[1]")),
    "checksums of nothing": (sealed.CHECKSUMS, lambda path: path.write_text('{"block": 262144, "files": {}}')),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_built_again_once(squares, name, damage):
    opened(squares())
    damage(squares.folder / name)
    with pytest.warns(UserWarning, match=f"squares is damaged: .*{name}"):
        assert np.array_equal(opened(squares()), ROWS)
    assert np.array_equal(silently(squares()), ROWS) and squares.times() == 2


def tree(folder: Path) -> dict:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.fixture
def read_only(monkeypatch):
    """Nothing can be written, as `os.access` sees it: the superuser may write anywhere but in a read-only mount."""
    # `datasets` puts a module of its own in the place of `os` in the module of a builder, which is this one.
    monkeypatch.setattr(sealed.os, "access", lambda path, mode: mode == os.R_OK)


def test_opening_a_complete_cache_writes_nothing(squares, request):
    opened(squares())
    before = tree(squares.folder.parents[3])
    silently(squares())
    assert tree(squares.folder.parents[3]) == before, "not even where it could"
    flip(squares.folder / sealed.CHECKED, 5)  # as after copying: the files look changed
    before = tree(squares.folder.parents[3])
    request.getfixturevalue("read_only")
    assert np.array_equal(silently(squares()), ROWS)
    assert tree(squares.folder.parents[3]) == before


@pytest.mark.parametrize("damage", [None, *DAMAGE])
def test_read_only_cache_that_is_not_whole_is_refused_by_name(squares, damage, request):
    message = r"there is no cache of squares at .*cannot be written: build it first .*cache_dir"
    if damage:
        opened(squares())
        name, change = DAMAGE[damage]
        change(squares.folder / name)
        message = f"squares is damaged: .*{name}.*cannot be written: .*good copy"
    before = tree(squares.folder.parents[3])
    request.getfixturevalue("read_only")
    with pytest.raises(sealed.CacheError, match=message):
        squares().build()
    assert tree(squares.folder.parents[3]) == before


def test_damaged_cache_without_its_sources_names_both(squares):
    def gone(number):
        raise FileNotFoundError("squares.zip is not there")

    opened(squares())
    flip(squares.folder / ARROW)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(sealed.CacheError, match=f"{ARROW} differs .*squares.zip is not there"),
    ):
        squares(gone).build()
    with pytest.warns(UserWarning, match="damaged"):
        assert np.array_equal(opened(squares()), ROWS)


@pytest.mark.parametrize("how", ["an error", "a kill"])
def test_half_written_cache_is_never_taken_for_whole(squares, how):
    def stop(number):
        if number == 20:
            if how == "a kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("row 20 is wrong")

    if how == "a kill":
        process = PROCESSES.Process(target=lambda: squares(stop).build())
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        leftover = Path(f"{squares.folder}.incomplete")
        assert leftover.is_dir()
        (leftover / "of another version.arrow").write_text("stale")
    else:
        with pytest.raises(ValueError, match="row 20 is wrong"):
            squares(stop).build()
    assert not squares.folder.exists()
    assert np.array_equal(silently(squares()), ROWS)
    assert not list(squares.folder.parent.rglob("*another version*"))


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_build_once(squares, damaged, tmp_path):
    if damaged:
        opened(squares())
        flip(squares.folder / ARROW)
    before, barrier = squares.times() if damaged else 0, PROCESSES.Barrier(2)

    def build(number):
        builder = squares(lambda row: time.sleep(0.01))
        barrier.wait(60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.save(tmp_path / f"{number}.npy", opened(builder))

    processes = [PROCESSES.Process(target=build, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert squares.times() == before + 1
    assert all(np.array_equal(np.load(tmp_path / f"{number}.npy"), ROWS) for number in range(2))


# Folders that are too large to be read at every opening


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A sealed folder of a hundred blocks, of which two are sampled, and what its checks have read."""
    monkeypatch.setattr(sealed, "BLOCK", 1000)
    monkeypatch.setattr(sealed, "WHOLE_UP_TO", 50_000)
    monkeypatch.setattr(sealed, "SAMPLED_BLOCKS", 2)
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "rows").write_bytes(np.random.default_rng(0).bytes(99_500))
    sealed.seal(folder)
    original, read = sealed._checksum, []
    monkeypatch.setattr(sealed, "_checksum", lambda file, block: read.append(block) or original(file, block))
    return folder, read


def test_a_large_folder_is_sampled_until_it_looks_changed(large):
    folder, read = large
    assert sealed.find_fault(folder) is None
    assert {0, 99} <= set(read) and len(read) <= 4
    seen = set()
    for _ in range(20):
        sealed.find_fault(folder)
        seen |= set(read)
    assert len(seen) > 10, "other blocks at every opening"
    os.utime(folder / "rows")
    read.clear()
    assert sealed.find_fault(folder) is None and read == list(range(100))
    read.clear()
    assert sealed.find_fault(folder) is None and len(read) <= 4, "the check is remembered"


@pytest.mark.parametrize(
    ("at", "keep_time", "block"),
    [(7, True, 0), (99_300, True, 99_000), (51_234, False, 51_000)],
    ids=["first block", "last block", "any block, new time"],
)
def test_damage_of_a_large_folder(large, at, keep_time, block):
    folder, _ = large
    flip(folder / "rows", at, keep_time)
    assert f"rows differs from its checksum in the block at byte {block:,}" in (sealed.find_fault(folder) or "")


def test_a_copied_folder_is_checked_completely(large, tmp_path):
    folder, read = large
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert sealed.find_fault(copy) is None and len(read) == 100
    assert json.loads((copy / sealed.CHECKED).read_text()) != json.loads((folder / sealed.CHECKED).read_text())
