"""A disk that is full, which libraries report in ways of their own."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ERRORS = (errno.ENOSPC, errno.EDQUOT)
# Of the system, which safetensors cites, and of `torch.save`, which says nothing else when it cannot write on.
_TEXTS = ("No space left on device", "Disk quota exceeded")
_OF_TORCH = ("inline_container", "PytorchStreamWriter")


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or a share of it, is full."""
    if isinstance(error, OSError) and error.errno in _ERRORS:
        return True
    text = str(error)
    return any(part in text for part in _TEXTS) or (
        isinstance(error, RuntimeError) and any(part in text for part in _OF_TORCH)
    )


@contextmanager
def told_if_full(folder: Path, what: str, remedy: str) -> Iterator[None]:
    """
    Within, an error of a full disk says so.

    Args:
        folder: where something is written.
        what: it, such as `"checkpoint-100"`.
        remedy: what can be done.

    Raises:
        `OSError`: there was no space left; its `errno` is `ENOSPC`.
    """
    try:
        yield
    except Exception as error:  # of whichever library writes
        if not is_full(error):
            raise
        existing = next((place for place in (folder, *folder.parents) if place.is_dir()), Path("."))
        free = shutil.disk_usage(existing).free / 1e6
        message = f"no space was left in {folder} for {what} ({free:,.0f} MB are free now): {remedy}"
        raise OSError(errno.ENOSPC, message) from error
