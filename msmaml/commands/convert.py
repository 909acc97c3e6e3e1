"""Convert published checkpoints to folders that transformers loads.

msmaml convert FOLDER_OR_REPOSITORY OUT [--all] [--run RUN] [--iteration N] [--tokenizer PATH]
"""

import sys

from modeling_msmaml.hub import convert_published
from modeling_msmaml.hub.convert_published import option_parser as parser

from . import is_of_network

__all__ = ["main", "parser"]


def main(argv: list[str] | None = None) -> None:
    """Writes the folders, and prints the path of each."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        convert_published.main(argv, prog="msmaml convert")
    except Exception as error:
        if not is_of_network(error):
            raise
        source = parser("msmaml convert").parse_args(argv).source
        sys.exit(f"convert: there is no folder {source}, and the Hub, where it may be, was not reached: {error}")
