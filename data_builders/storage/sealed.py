"""Folders of a cache that are complete and intact, or are found not to be: checksums, a lock and building again.

A finished folder is sealed: `checksums.json` holds the size of each file and a checksum of each block of 256 KiB. At
every opening sizes are compared, and so are checksums: those of all blocks if the folder has at most 64 MiB or if a
file looks changed since the last complete check (its size, modification time or inode, as `checked.json` has them), and
otherwise those of the first, the last and 64 random blocks of each file. XXH3 is several times as fast as CRC-32 and
SHA-256 (docs/notes/storage.md has the measurements); what it must find are accidents, no forgery.

A folder takes its name only when it is sealed, and a complete one is opened without a lock and without writing, so that
it may be read-only.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import xxhash
from filelock import FileLock

CHECKSUMS = "checksums.json"
CHECKED = "checked.json"
ELSEWHERE = "name another cache_dir, or set HF_HOME to a folder that you may write to"
BLOCK = 1 << 18  # bytes to which a checksum belongs
WHOLE_UP_TO = 1 << 26  # bytes up to which a folder is checked completely at every opening
SAMPLED_BLOCKS = 64  # of each file of a larger folder


_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class CacheError(OSError):
    """A cache that is missing or damaged and cannot be built here."""


@contextlib.contextmanager
def cache_in_words(name: str, cache_dir: str | os.PathLike | None) -> Iterator[None]:
    """
    Says what to set where a cache cannot be written, as in a home that is read-only.

    Args:
        name: of what is built in the cache.
        cache_dir: its folder; `None` for that of `datasets`.

    Raises:
        CacheError: in place of the error about a folder of the cache, or one that holds it.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, CacheError) or error.errno not in _UNWRITABLE or not isinstance(error.filename, str):
            raise
        from datasets import config

        root, place = Path(cache_dir or config.HF_DATASETS_CACHE).expanduser().absolute(), Path(error.filename)
        if not (root.is_relative_to(place) or place.is_relative_to(root)):
            raise
        raise CacheError(f"{name} cannot be stored in {root} ({error.strerror}: {place}): {ELSEWHERE}") from error


def make_whole(folder: Path, name: str, build: Callable[[], None]) -> None:
    """Returns when a folder is sealed and intact; until then it builds it, in one process at a time.

    Args:
        folder: the folder. If it is intact, nothing is written, not even a lock.
        name: name of what it holds, for messages.
        build: function that makes the folder, or puts a new one in place of a damaged one, and seals it.

    Raises:
        CacheError: the folder is missing or damaged and cannot be written, or it is damaged and building it has failed.

    Warns:
        UserWarning: the folder is damaged and is built again.
    """
    fault = find_fault(folder)
    if fault is None:
        return
    place = _existing(folder.parent)
    if not os.access(place, os.W_OK | os.X_OK) or (folder.exists() and not os.access(folder, os.W_OK)):
        if folder.exists():
            raise CacheError(
                f"the cache of {name} is damaged: {fault}. It cannot be built again, since {place} cannot be written: "
                f"put a good copy in its place, or {ELSEWHERE}"
            )
        raise CacheError(
            f"there is no cache of {name} at {folder}, and {place} cannot be written: build it first where it can, "
            f"with the same data, options and version of the code, or {ELSEWHERE}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        fault = find_fault(folder)
        if fault is None:  # another process has built it in the meantime
            return
        if not folder.exists():
            build()
            return
        warnings.warn(f"the cache of {name} is damaged: {fault}. It is built again", UserWarning, stacklevel=3)
        try:
            build()
        except (OSError, ValueError) as error:
            raise CacheError(
                f"the cache of {name} is damaged: {fault}. It cannot be built again: {error}. Mend that, put a good "
                "copy of the cache in its place, or name another cache_dir"
            ) from error


def replace_folder(new: Path, folder: Path) -> None:
    """Gives a sealed folder its name, in place of the one that has it now."""
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(new, folder)


def seal(folder: Path) -> None:
    """Writes the sizes and checksums of all files of a folder, after these have reached the disk."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name in (CHECKSUMS, CHECKED) or path.name.startswith("."):
            continue
        with open(path, "rb", buffering=0) as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
            files[path.name] = {"size": size, "checksums": [_checksum(file, block) for block in range(_blocks(size))]}
    _write_json(folder / CHECKSUMS, {"block": BLOCK, "files": files})
    _write_json(folder / CHECKED, {name: _stamp(folder / name) for name in files})


def find_fault(folder: Path) -> str | None:
    """Returns what is wrong with a folder, in words that name the file, or None if it is sealed and intact."""
    try:
        files = _stored(folder)
    except FileNotFoundError:
        return f"{folder / CHECKSUMS} is missing"
    except (OSError, ValueError) as error:
        return f"{folder / CHECKSUMS} cannot be read ({error})"
    try:
        for name, (size, _) in files.items():
            found = (folder / name).stat().st_size
            if found != size:
                return f"{folder / name} has {found:,} bytes instead of {size:,}"
        stamps = {name: _stamp(folder / name) for name in files}
        changed = stamps != _checked(folder)
        whole = changed or sum(size for size, _ in files.values()) <= WHOLE_UP_TO
        for name, (size, checksums) in files.items():
            with open(folder / name, "rb", buffering=0) as file:
                for block in range(_blocks(size)) if whole else _sample(_blocks(size)):
                    if _checksum(file, block) != checksums[block]:
                        return f"{folder / name} differs from its checksum in the block at byte {block * BLOCK:,}"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except OSError as error:
        return f"{folder} cannot be read ({error})"
    if changed and os.access(folder, os.W_OK):
        with contextlib.suppress(OSError):  # a full disk: the next opening then checks everything again
            _write_json(folder / CHECKED, stamps)
    return None


def sealed_checksums(path: Path) -> list[str] | None:
    """Returns the checksums of a file of a sealed folder, which stand for its content; None if it is not sealed."""
    try:
        return _stored(path.parent)[path.name][1]
    except (OSError, ValueError, KeyError):
        return None


def _stored(folder: Path) -> dict[str, tuple[int, list[str]]]:
    """Returns the size and the checksums of each file.

    Raises:
        ValueError: the file of checksums is damaged itself.
    """
    try:
        stored = json.loads((folder / CHECKSUMS).read_bytes())
    except RecursionError as error:
        raise ValueError("it has too many levels of nesting") from error
    try:
        files = {name: (entry["size"], entry["checksums"]) for name, entry in stored["files"].items()}
        fits = all(len(checksums) == _blocks(size) for size, checksums in files.values())
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("it does not hold sizes and checksums") from error
    if not files or not fits or stored.get("block") != BLOCK:
        raise ValueError("its entries do not fit each other")
    return files


def _checked(folder: Path) -> object:
    """The stamps at the last complete check; None if they are not known."""
    try:
        return json.loads((folder / CHECKED).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _sample(blocks: int) -> list[int]:
    """The first, the last and random blocks, others at every opening, whatever the seeds of the run."""
    chosen = random.SystemRandom().sample(range(blocks), min(SAMPLED_BLOCKS, blocks))
    return sorted({0, blocks - 1, *chosen} & set(range(blocks)))


def _checksum(file: io.FileIO, block: int) -> str:
    return xxhash.xxh3_64_hexdigest(os.pread(file.fileno(), BLOCK, block * BLOCK))


def _write_json(path: Path, content: object) -> None:
    """Writes a file as a whole: a process that is killed leaves the former one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
