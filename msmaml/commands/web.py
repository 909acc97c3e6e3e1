"""Serve a web page on which you give examples and classify files.

msmaml web [--model FOLDER_OR_REPOSITORY] [--port 7860]
"""

import sys

from ..web.page_options import option_parser as parser

__all__ = ["main", "parser"]


def main(argv: list[str] | None = None) -> None:
    """Serves the page until it is interrupted."""
    try:
        from ..web import page
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "matplotlib"):
            raise
        sys.exit(f"web: the page needs {error.name}: pip install 'msmaml[web]'")
    page.main(sys.argv[1:] if argv is None else argv, prog="msmaml web")
