"""The options of the page, apart from it, since they are asked for without gradio too."""

import argparse

DESCRIPTION = """
Serve a web page on which the model learns to tell apart your own sounds, texts or pictures from a few examples.

`demo/` makes the page the program of a Hugging Face Space.
"""
EPILOG = """
examples:
  msmaml web
  msmaml web --model outputs/base --port 7861
"""


def _port(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 65_535:
        raise argparse.ArgumentTypeError(f"{value!r} must be an integer from 1 to 65535")
    return int(value)


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
    return parser
