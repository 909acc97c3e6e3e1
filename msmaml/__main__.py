"""The command `msmaml` finds the sub-command and imports nothing else."""

import difflib
import importlib
import os
import sys

from . import __version__
from .commands import commands


def usage() -> str:
    """Returns what `msmaml --help` prints."""
    lines = [f"  {name:<10} {does}" for name, does in commands().items()]
    return "\n".join(
        [
            "usage: msmaml COMMAND ...",
            "",
            "MS-MAML: one few-shot learner for audio, text and images.",
            "",
            "commands:",
            *lines,
            "",
            "`msmaml COMMAND --help` explains a command, and `msmaml --version` prints the version.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs a sub-command and returns its exit status; 2 if there is no such command, or nobody reads what it prints."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `msmaml info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at the exit
        return 2
    return status


def _run(argv: list[str]) -> int:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        if rest:
            print(f"msmaml: --version stands alone, without {' '.join(rest)}", file=sys.stderr)
            return 2
        print(f"msmaml {__version__}")
        return 0
    if name not in commands():
        close = difflib.get_close_matches(name, commands(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        print(f"msmaml: there is no command {name!r}{hint}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        status = importlib.import_module(f".commands.{name}", __package__).main(rest)
    except ModuleNotFoundError as error:
        from modeling_msmaml.extras import extra_with, with_extra

        if extra_with(error.name) is None:
            raise
        sys.exit(f"{name}: {with_extra(error)}")
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
