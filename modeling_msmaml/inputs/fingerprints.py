"""Hashes of files and texts, which serve as keys of stored results and change when the files or texts do."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def files_fingerprint(paths: Iterable[Path]) -> str:
    """
    Returns a hash of the name, size (bytes) and modification time (ns) of every file. It is cheap to compute and
    changes as soon as a file does.
    """
    lines = []
    for path in sorted(paths):
        stat = path.stat() if path.exists() else path.lstat()  # a link to nothing
        lines.append(f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}")
    return text_hash("\n".join(lines))


def text_hash(*parts: str) -> str:
    """
    Returns the SHA-256 hash of the parts, shortened to 32 hexadecimal digits. They may be names of files that are not
    UTF-8, of which Python makes surrogates.
    """
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
