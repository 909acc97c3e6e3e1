"""The sub-commands of `msmaml`, one per file."""

import ast
from pathlib import Path

COMMANDS = Path(__file__).parent


def commands() -> dict[str, str]:
    """Returns the name of each sub-command, which is a file in `commands/`, and the first line of its docstring."""
    files = sorted(file for file in COMMANDS.glob("*.py") if file.stem != "__init__")
    return {file.stem: (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0] for file in files}
