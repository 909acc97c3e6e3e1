"""Convert published checkpoints to folders that transformers loads.

msmaml convert FOLDER_OR_REPOSITORY OUT [--all] [--run RUN] [--iteration N] [--tokenizer PATH]
"""

import sys

from modeling_msmaml.hub import convert_published
from modeling_msmaml.hub.convert_published import option_parser as parser

__all__ = ["main", "parser"]


def main(argv: list[str] | None = None) -> None:
    """Writes the folders, and prints the path of each."""
    convert_published.main(sys.argv[1:] if argv is None else argv, prog="msmaml convert")
