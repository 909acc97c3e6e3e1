"""
Print a script by which a shell completes the command and its options.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from . import commands

EPILOG = """
examples:
  msmaml completion bash > ~/.local/share/bash-completion/completions/msmaml
  msmaml completion zsh > ~/.zfunc/_msmaml

It needs shtab: pip install 'msmaml[completion]'
"""
_PLACES = ("support", "query", "model", "classifier")  # options of strings that are mostly paths


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "msmaml completion", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Prints the script."""
    arguments = parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        import shtab
    except ModuleNotFoundError:
        sys.exit("completion: it needs shtab: pip install 'msmaml[completion]'")
    print(shtab.complete(whole_parser(shtab.FILE), shell=arguments.shell))


def whole_parser(file: Any) -> argparse.ArgumentParser:
    """
    The parser of `msmaml` with all commands, which the command itself does without, since it would load everything.

    Args:
        file: what marks an option as a path.
    """
    from modeling_msmaml.extras import extra_with

    whole = argparse.ArgumentParser("msmaml")
    whole.add_argument("--version", action="store_true", help="print the version")
    own = whole.add_subparsers()
    for name, does in commands().items():
        does = does.replace("%", "%%")  # which argparse would take for a format
        try:
            given = importlib.import_module(f"{__package__}.{name}").parser()
        except ModuleNotFoundError as error:  # of an extra: the command is completed, and says itself what it lacks
            if extra_with(error.name) is None:
                raise
            own.add_parser(name, help=does)
            continue
        for action in given._actions:
            is_path = action.type is Path or action.dest in (*_PLACES, "output", "save_classifier")
            if is_path and not action.choices:
                action.complete = file
        own.add_parser(name, help=does, parents=[given], add_help=False)
    return whole
