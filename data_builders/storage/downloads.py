"""Downloads of the official archives, which are resumed, retried, and checked before anything is read from them.

`datasets.DownloadManager` provides the cache (`HF_DATASETS_CACHE`, or the `cache_dir` of a call), the lock against
parallel downloads and the progress bar. It neither retries nor resumes: it starts every download from the first byte.
Therefore it is given URLs of the protocol `resumable+https`, whose file system (`ResumableHTTP`) does both.

The environment variable `MSMAML_MIRROR` is the URL of a folder on another server that holds the official archives under
their official names, and plain files in a folder of their data set (`banking77/train.csv`). Checksums and structure are
verified for a mirror, too.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import datasets
import fsspec
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.implementations.http import HTTPFileSystem

from .archives import JointStore, Official, Store, archive_store

MIRROR_VARIABLE = "MSMAML_MIRROR"
_PREFIX = "resumable+"
# The limits are in seconds; there is none for the whole download.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
_CHUNK = 1 << 20  # bytes
_NETWORK_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
# Answers after which the same request may succeed; a redirect that leads nowhere and other errors of 4xx are final.
_BUSY = (408, 425, 429)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)


class ResumableHTTP(HTTPFileSystem):
    """An HTTP file system whose downloads resume where they stopped, within one call and across calls.

    The bytes that have arrived stay in `<target>.partial` until the file is complete. A server that does not support
    ranges sends the file from its start, which then replaces the partial file; so does one whose file has changed, by
    the `ETag` or date in `<target>.partial.version`. Where a server asks for a pause (`Retry-After`), it is kept.
    """

    protocol = (f"{_PREFIX}http", f"{_PREFIX}https")
    retries = 5  # attempts in a row that bring less than `least_progress`
    retry_delay = 0.5  # seconds before the first retry; the delay doubles before each further one
    longest_pause = 120.0  # seconds that a server may ask for; with a longer pause the download fails at once
    least_progress = 1 << 16  # bytes in `slowest` seconds; a connection that brings less is given up
    slowest = 60.0

    def __init__(self, **options: Any):
        super().__init__(client_kwargs={"trust_env": True}, **options)  # `trust_env` makes aiohttp obey HTTPS_PROXY

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(_PREFIX)

    async def _info(self, url: str, **kwargs: Any) -> dict:
        """Returns what is known without a request to the server; the download makes its own request."""
        return {"name": url, "size": None, "type": "file"}

    async def _get_file(self, rpath: str, lpath: str, callback: Callback = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        """Downloads one file. After `retries` attempts in a row that bring too little, it raises the last error."""
        partial = Path(f"{lpath}.partial")
        fruitless = 0
        while True:
            before = _size(partial)
            try:
                await self._append(rpath, partial, callback)
                break
            except _NETWORK_ERRORS as error:
                fruitless = 0 if _size(partial) - before >= self.least_progress else fruitless + 1
                pause = max(_asked_pause(error), self.retry_delay * 2 ** max(fruitless - 1, 0))
                if _is_final(error) or fruitless > self.retries or pause > self.longest_pause:
                    raise
                await asyncio.sleep(pause)
        os.replace(partial, lpath)
        _version_file(partial).unlink(missing_ok=True)

    async def _append(self, url: str, partial: Path, callback: Callback) -> None:
        """Sends one request, either for the rest of the file or for all of it, and stores what arrives."""
        start = _size(partial)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        if start and _version_file(partial).exists():
            headers["If-Range"] = _version_file(partial).read_text()
        session = await self.set_session()
        async with session.get(self.encode_url(url), headers=headers, timeout=_TIMEOUT) as response:
            if response.status == 416:  # the server's file is not longer than the partial one, so it is another file
                partial.unlink()
                raise aiohttp.ClientPayloadError(f"the file at {_shown(url)} has changed")
            self._raise_not_found_for_status(response, url)
            content_range = response.headers.get("Content-Range", "") if response.status == 206 else ""
            goes_on = content_range.startswith(f"bytes {start}-")
            if response.status != 200 and not goes_on:
                raise aiohttp.ClientPayloadError(
                    f"{_shown(url)} was asked for the bytes from {start} and answered {response.status} {content_range}"
                )
            done = start if goes_on else 0
            total = content_range.rpartition("/")[2] if goes_on else ""
            if response.content_length is not None:
                callback.set_size(int(total) if total.isdecimal() else done + response.content_length)
            if not goes_on:
                _store_version(response, partial)
            with partial.open("ab" if goes_on else "wb") as file:
                since, before = time.monotonic(), done
                async for chunk in response.content.iter_chunked(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    callback.absolute_update(done)
                    if done - before >= self.least_progress:
                        since, before = time.monotonic(), done
                    elif time.monotonic() - since > self.slowest:
                        raise TimeoutError(f"{done - before} bytes came in {self.slowest:g} seconds")
            if total.isdecimal() and done < int(total):
                raise aiohttp.ClientPayloadError(f"{done} of {total} bytes have come from {_shown(url)}")


def _is_final(error: BaseException) -> bool:
    """Returns whether the same request would fail again."""
    status = getattr(error, "status", 0)
    return (
        isinstance(error, (FileNotFoundError, aiohttp.InvalidURL, aiohttp.TooManyRedirects))
        or _is_of_the_disk(error)
        or (300 <= status < 500 and status not in _BUSY)
    )


def _is_of_the_disk(error: BaseException) -> bool:
    """Returns whether an error comes from writing what has arrived, as on a full disk."""
    return isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError) and error.errno in _DISK_ERRORS


def _asked_pause(error: BaseException) -> float:
    """
    Returns the seconds that a server asked for with `Retry-After`, a number or a date; 0.0 if it did not.

    A date is compared with that of the answer, since the clock of this machine may differ from the server's.
    """
    headers = getattr(error, "headers", None) or {}
    asked = headers.get("Retry-After", "")
    try:
        return float(asked) if asked.isdecimal() else (_date(asked) - _date(headers.get("Date", ""), time.time()))
    except (TypeError, ValueError):
        return 0.0


def _date(header: str, otherwise: float | None = None) -> float:
    """Returns the date in a header as seconds since 1970; without one `otherwise`, or a `ValueError`."""
    try:
        return parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError):
        if otherwise is None:
            raise
        return otherwise


def _version_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def _store_version(response: aiohttp.ClientResponse, partial: Path) -> None:
    """Stores what tells this version of a file from another; a weak `ETag` cannot, by RFC 9110, section 13.1.5."""
    tag = response.headers.get("ETag", "")
    version = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    partial.unlink(missing_ok=True)  # first, so that no version is ever beside the bytes of another
    if version:
        _version_file(partial).write_text(version)
    else:
        _version_file(partial).unlink(missing_ok=True)


def _shown(url: str) -> str:
    """Returns a URL as messages show it: without the name and the password of a mirror."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


for _protocol in ResumableHTTP.protocol:
    fsspec.register_implementation(_protocol, ResumableHTTP, clobber=True)


def fetch(official: Official, downloads: datasets.DownloadManager) -> Store:
    """Returns the official data set from the download cache, and downloads first what is not there.

    Args:
        official: description of the data set.
        downloads: the download manager of the builder, which determines the cache.

    Raises:
        ConnectionError: the archive cannot be downloaded. The message says which file to put where instead.
        OSError: it cannot be written to the cache, as on a full disk. What has arrived is kept.
        ValueError: the downloaded file is not the official archive. The file is deleted.
    """
    if official.parts:
        return JointStore([fetch(part, downloads) for part in official.parts])
    url = archive_url(official)
    try:
        path = Path(str(downloads.download(_PREFIX + url)))
    except _NETWORK_ERRORS as error:
        if _is_of_the_disk(error):
            raise OSError(
                f"{official.title} cannot be written to the download cache ({error}). Make room there, or name another "
                "cache_dir, and run again"
            ) from error
        said = str(error).replace(url, _shown(url))
        raise ConnectionError(
            f"{official.title} cannot be fetched from {_shown(url)} ({type(error).__name__}: {said}). Run again to go "
            f"on from where it stopped; or, without a network, choose a folder, {official.remedy}, and pass it as "
            "data_dir"
        ) from error
    try:
        return checked_archive(official, path, _shown(url))
    except ValueError:
        path.unlink()
        path.with_name(path.name + ".json").unlink(missing_ok=True)
        raise


def archive_url(official: Official) -> str:
    """Returns the URL of an archive: on the mirror that `MSMAML_MIRROR` names, or else its official source."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    name = f"{official.folders[0]}/{official.archives[0]}" if official.is_plain_file else official.archives[0]
    return f"{mirror.rstrip('/')}/{name}" if mirror else official.source


def checked_archive(official: Official, path: Path, url: str) -> Store:
    """Returns the archive at `path` after comparing it with the official one.

    The checksums are compared, or the structure if there is no official checksum.

    Args:
        official: description of the archive.
        path: path of the downloaded file.
        url: URL of the download, for messages.

    Raises:
        ValueError: the file is not the official archive. The message says what it is.
    """
    remedy = f"Run again, or choose a folder, {official.remedy}, and pass it as data_dir"
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise ValueError(f"{url} returned an HTML page instead of {official.archives[0]}. {remedy}")
    if official.md5:
        found = _md5(path)
        if found != official.md5:
            raise ValueError(
                f"{url} returned a file of {_size(path)} bytes with md5 {found}, but {official.archives[0]} has "
                f"{official.md5}: it is incomplete or was altered. {remedy}"
            )
    store = archive_store(path, official)
    names = store.names() if official.counts else []
    for pattern, expected in official.counts:
        count = sum(fnmatch(name, pattern) for name in names)
        if count != expected:
            raise ValueError(
                f"{url} returned an archive with {count} files {pattern}, but {official.title} has {expected}. {remedy}"
            )
    return store


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
