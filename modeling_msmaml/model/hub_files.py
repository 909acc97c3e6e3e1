"""Files of repositories on the Hub: fetched within a time, compared with checksums, and never taken for absent."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from huggingface_hub import constants, hf_hub_download, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import (  # HTTPError is that of the library that calls the Hub: httpx or httpx2
    EntryNotFoundError,
    FileMetadataError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

# Seconds without a byte after which a request of an upload is given up and made again; `HF_HUB_DOWNLOAD_TIMEOUT`, if it
# is longer. For these requests huggingface_hub itself sets no limit.
LONGEST_SILENCE = 120.0
_PAUSES = (1.0, 4.0)  # seconds before a file is fetched or sent again
_LONGEST_PAUSE = 60.0  # seconds that we wait where the Hub asks for a pause
_UPLOAD_ERRORS = (HTTPError, RuntimeError)  # the latter, because of one of the former, of files in LFS
_Answer = TypeVar("_Answer")
_CHECKED_SUFFIXES = (".json", ".safetensors", ".pt", ".txt", ".model")
REMEDY = (
    "Run again, which goes on with what is in the cache; without a network, download the repository elsewhere "
    "(hf download) and name its folder"
)
ROOM = "Make room there, or set HF_HOME to a folder that you may write to, and run again"


def limit_silence() -> None:
    """
    Limits how long huggingface_hub waits for an answer where it would wait for ever, as in uploads. Requests with a
    limit of their own, and a client whose limit somebody else has set, stay as they are.
    """
    client = get_session()
    if all(limit is None for limit in client.timeout.as_dict().values()):
        client.timeout = max(LONGEST_SILENCE, constants.HF_HUB_DOWNLOAD_TIMEOUT)


class NotFetched(FileNotFoundError):
    """
    The Hub cannot be asked, what it sent is not what its checksum says, or it cannot be written to the cache.

    Attributes:
        may_pass: whether it is a matter of the connection, which nobody has tried to make again.
    """

    def __init__(self, message: str, may_pass: bool = False):
        super().__init__(message)
        self.may_pass = may_pass


def hub_file(place: str | os.PathLike, name: str, subfolder: str = "", **access: Any) -> Path | None:
    """
    The path on this machine of a file of a folder or repository, which is fetched first if need be.

    Args:
        place: a folder, or the name of a repository.
        name: of the file.
        subfolder: its folder in it.
        access: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`.

    Returns:
        `None` if there is no such file; without a network (`local_files_only`) also if it is not in the cache.

    Raises:
        `FileNotFoundError`: no such repository or revision that can be read.
        `NotFetched`: the Hub cannot be asked and the file is not in the cache, or it is not what its checksum says; it
            is then deleted; or it cannot be written to the cache. The message names repository, file and remedy.
    """
    if os.path.isdir(place):
        path = Path(place, subfolder, name)
        return path if path.is_file() else None
    repository, access = os.fspath(place), {key: value for key, value in access.items() if key != "proxies"}
    file = f"{subfolder}/{name}" if subfolder else name
    limit_silence()

    def pause(error: Exception, least: float) -> float | None:
        return least if isinstance(error, NotFetched) and error.may_pass and not _stays_here(access) else None

    return repeated(lambda: _fetched(repository, file, access), pause)


def _fetched(repository: str, file: str, access: dict[str, Any]) -> Path | None:
    """One attempt of `hub_file`, with those that huggingface_hub makes by itself."""
    what = f"{file} of {repository}"
    try:
        path = Path(hf_hub_download(repository, file, **access))
    except LocalEntryNotFoundError as error:
        if _stays_here(access) or _is_known_to_be_absent(repository, file, access):
            return None
        cause = error.__cause__ or error
        may_pass = isinstance(cause, FileMetadataError)  # another server answered, such as one that asks for a log-in
        raise NotFetched(f"{what} cannot be fetched: {_said(cause)}. {REMEDY}", may_pass) from error
    except EntryNotFoundError:
        return None
    except HFValidationError as error:
        raise FileNotFoundError(f"{repository} is no folder, and a repository has another name: {error}") from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{repository} has no revision={access.get('revision')!r}: {_said(error)}") from error
    except RepositoryNotFoundError as error:
        said = "is no local folder, and no repository of the Hub that you may read (with a token, `hf auth login`)"
        raise FileNotFoundError(f"{repository} {said}: {_said(error)}") from error
    except (OSError, HTTPError) as error:  # errors of the connection are of the second kind alone
        if getattr(error, "errno", None) is not None:
            raise NotFetched(f"{what} cannot be written to the cache: {_said(error)}. {ROOM}") from error
        may_pass = not isinstance(error, HTTPError) or pause_after(error, 0) is not None
        raise NotFetched(f"{what} cannot be fetched: {_said(error)}. {REMEDY}", may_pass) from error
    if found := _damage(path):
        raise NotFetched(f"{what} was damaged on its way: {found}. It was deleted. {REMEDY}", may_pass=True)
    return path


def _said(error: BaseException) -> str:
    """What an error says; some of those of connections say nothing."""
    return (str(error) or repr(error)).strip().rstrip(".")


def _stays_here(access: dict[str, Any]) -> bool:
    return bool(access.get("local_files_only")) or is_offline_mode()


def repeated(
    call: Callable[[], _Answer],
    pause: Callable[[Exception, float], float | None],
    pauses: Sequence[float] = _PAUSES,
) -> _Answer:
    """
    Returns what a call returns, which is made again where it fails.

    Args:
        pause: for an error, and the least number of seconds to wait, returns how many it shall be; `None` if the call
            is not to be repeated.
        pauses: the least number of seconds before each repetition.

    Raises:
        The error of the last call, or one that is not to be followed by another.
    """
    for least in pauses:
        try:
            return call()
        except Exception as error:
            if (seconds := pause(error, least)) is None:
                raise
        time.sleep(seconds)
    return call()


def uploaded(repository: str, upload: Callable[[], _Answer]) -> _Answer:
    """
    Returns what an upload to a repository returns, which is repeated where the connection or the Hub fails: it is one
    commit, and what has arrived is not sent again.

    Raises:
        `OSError`: a connection that broke or was silent each time; the message names the repository and the remedy.
        `HfHubHTTPError`: the answer of the Hub.
    """

    def call() -> _Answer:
        limit_silence()  # a client that failed was replaced by a new one
        return upload()

    def pause(error: Exception, least: float) -> float | None:
        return pause_after(_of_connection(error), least) if isinstance(error, _UPLOAD_ERRORS) else None

    try:
        return repeated(call, pause)
    except _UPLOAD_ERRORS as error:
        cause = _of_connection(error)
        is_answer = cause is error and getattr(error, "response", None) is not None
        if is_answer or pause_after(cause, 0) is None:
            raise
        said = f"{_said(cause)}. It is as it was, or has all of the push: push again"
        raise OSError(f"{repository} cannot be written to: {said}") from error


def _of_connection(error: Exception) -> Exception:
    """The error of the connection that an upload ended with; another error is raised again."""
    cause = error if isinstance(error, HTTPError) else error.__cause__
    if not isinstance(cause, HTTPError):
        raise error
    return cause


def pause_after(error: Exception, least: float) -> float | None:
    """
    The seconds after which a request may be made again: those that the Hub asks for, at most a minute, or `least`;
    `None` if the same would be answered.
    """
    response = getattr(error, "response", None)
    if response is None:
        return least
    if response.status_code < 500 and response.status_code not in (408, 429):
        return None
    asked = response.headers.get("Retry-After", "")
    return min(max(least, int(asked) if asked.isdecimal() else 0), _LONGEST_PAUSE)


@contextmanager
def whole_files(
    place: str | os.PathLike | None, *names: str, reads: Sequence[str], subfolder: str = "", **access: Any
) -> Iterator[None]:
    """
    Fetches files of a repository before others read them, and compares all that they have fetched with its checksums,
    whether reading succeeds or fails. Does nothing for a folder.

    Args:
        names: of the files; those that it does not have are left out.
        reads: patterns of the names of all files that may be read.

    Raises:
        As `hub_file`.
    """
    if place is None or os.path.isdir(place):
        yield
        return
    for name in names:
        hub_file(place, name, subfolder, **access)
    limit_silence()
    where = {key: access[key] for key in ("cache_dir", "revision") if access.get(key) is not None}
    config = str(PurePosixPath(subfolder, "config.json"))
    cause = None
    try:
        yield
    except Exception as error:
        cause = error
        raise
    finally:
        found = try_to_load_from_cache(os.fspath(place), config, **where)
        if isinstance(found, str):
            check_files(os.fspath(place), Path(found).parent, reads, cause)


def check_files(
    repository: str, folder: Path, patterns: Sequence[str] = ("*",), cause: Exception | None = None
) -> None:
    """
    Compares what was fetched into a folder of the cache with its checksums, and deletes what differs.

    Args:
        patterns: of the names of these files.
        cause: the error that reading these files ended with.

    Raises:
        `NotFetched`: a file differs.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.suffix in _CHECKED_SUFFIXES})
    damaged = {path.name: found for path in files if (found := _damage(path))}
    if damaged:
        said = "; ".join(f"{name}: {found}" for name, found in damaged.items())
        raise NotFetched(f"{repository} was damaged on its way; what differs was deleted: {said}. {REMEDY}") from cause


def _is_known_to_be_absent(repository: str, file: str, access: dict[str, Any]) -> bool:
    """Whether the Hub has said before that the repository has no such file at this revision."""
    where = {key: access[key] for key in ("cache_dir", "revision") if access.get(key) is not None}
    found = try_to_load_from_cache(repository, file, **where)
    return found is not None and not isinstance(found, str)


def _damage(path: Path) -> str | None:
    """What is wrong with a file of the cache, which is then deleted; `None` if nothing is, or it cannot be told."""
    blob = path.resolve()
    if not path.is_symlink() or not blob.is_file() or blob.parent.name != "blobs":
        return None
    stat = blob.stat()
    if (found := _difference(blob, stat.st_size, stat.st_mtime_ns, stat.st_ino)) is None:
        return None
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    return found


@lru_cache(maxsize=4096)
def _difference(blob: Path, size: int, modified: int, inode: int) -> str | None:
    """
    How the content of a blob differs from its name, which is its SHA-256 for large files and for others their name in
    git; some mirrors give a SHA-1.
    """
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return None
    with blob.open("rb") as file:
        if len(blob.name) == 64:
            found = {hashlib.file_digest(file, "sha256").hexdigest()}
        else:
            content = file.read()
            found = {hashlib.sha1(start + content).hexdigest() for start in (f"blob {size}\0".encode(), b"")}
    return None if blob.name in found else f"{size} bytes whose checksum is not {blob.name}"
