"""What the page's processes print: nothing that a visitor wrote."""

import os
import sys
import time
from typing import TextIO

_out: TextIO | None = None  # what was the error output before it was silenced


def silence() -> None:
    """
    Sends everything that this process prints from now on to nowhere, also what libraries in C print: tracebacks and
    warnings of decoders may quote names and texts of visitors. [`log`] still prints.
    """
    global _out
    if _out is not None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    _out = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # also where replaced
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def log(sentence: str) -> None:
    """
    Prints a sentence with the time.

    Args:
        sentence: it holds nothing that a visitor wrote.
    """
    print(time.strftime("%Y-%m-%d %H:%M:%S"), sentence, file=_out or sys.stderr, flush=True)
