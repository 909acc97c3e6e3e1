"""The options of the page, apart from it, since they are asked for without gradio too."""

import argparse
from dataclasses import fields

from .page_limits import LARGEST, PageLimits, least_of

DESCRIPTION = """
Serve a web page on which the model learns to tell apart your own sounds, texts or pictures from a few examples.

`demo/` makes the page the program of a Hugging Face Space.
"""
EPILOG = """
examples:
  msmaml web
  msmaml web --model outputs/base --port 7861
  msmaml web --host 0.0.0.0 --proxies 1 --max_waiting 100
"""


def _port(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 65_535:
        raise argparse.ArgumentTypeError(f"{value!r} must be an integer from 1 to 65535")
    return int(value)


def _number(least: int):
    def number(value: str) -> int:
        if not value.isdecimal() or not least <= int(value) <= LARGEST:
            raise argparse.ArgumentTypeError(f"{value!r} must be an integer from {least} to {LARGEST}")
        return int(value)

    return number


def option_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line; `prog` is the name of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        help="folder or Hub repository of the model; by default $MSMAML_MODEL, or the model that comes with the code",
    )
    parser.add_argument("--port", type=_port, help="port of the page; by default the first free one from 7860 on")
    parser.add_argument(
        "--host",
        help="address of this machine on which the page is served; 0.0.0.0 for all, by default 127.0.0.1, itself only",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print errors in full, which may quote what visitors write"
    )
    group = parser.add_argument_group("limits, see docs/page.md")
    for limit in fields(PageLimits):
        default = limit.metadata.get("default", limit.default)
        group.add_argument(
            f"--{limit.name}",
            type=_number(least_of(limit.name)),
            metavar="N",
            help=f"{limit.metadata['help']} (default: {default})",
        )
    return parser


def limits_of(arguments: argparse.Namespace) -> PageLimits:
    """Returns the limits that the command line asks for."""
    given = {limit.name: getattr(arguments, limit.name) for limit in fields(PageLimits)}
    return PageLimits(**{name: value for name, value in given.items() if value is not None})
