"""The sub-commands of `msmaml`, one per file."""

import ast
import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMANDS = Path(__file__).parent


def commands() -> dict[str, str]:
    """Returns the name of each sub-command, which is a file in `commands/`, and the first line of its docstring."""
    files = sorted(file for file in COMMANDS.glob("*.py") if file.stem != "__init__")
    return {file.stem: (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0] for file in files}


@contextmanager
def quick_imports() -> Iterator[None]:
    """
    Imports libraries without looking for garbage meanwhile: they make millions of objects, nearly all of which stay,
    and going through them again and again takes a sixth of the time of a small run. Does nothing where they are there.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()  # so that later collections pass over them, too


@contextmanager
def warnings_in_words(command: str) -> Iterator[None]:
    """Prints warnings as errors are printed, by the name of the command, without the place in the code."""
    usual = warnings.formatwarning

    def in_words(message, category, filename, lineno, line=None) -> str:
        if issubclass(category, UserWarning):
            return f"{command}: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = in_words
    try:
        yield
    finally:
        warnings.formatwarning = usual


def is_of_network(error: Exception) -> bool:
    """Whether an error says that the Hub was not reached. Its client lets errors of its HTTP library through."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests")
