"""Hashes of files and texts, for what is stored under them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Hash of name, size (bytes) and modification time (ns) of every file: cheap, and new as soon as a file changes."""
    lines = []
    for path in sorted(paths):
        stat = path.stat()
        lines.append(f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}")
    return text_hash("\n".join(lines))


def text_hash(*parts: str) -> str:
    """SHA-256 of the parts, shortened to 32 hexadecimal digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
