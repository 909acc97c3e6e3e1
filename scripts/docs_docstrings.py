"""
Extension of griffe (mkdocs.yml): reads docstrings as this project writes them. Names in brackets become links, several
arguments before one colon become several, and errors "as" another function raises are an entry of their own.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

from griffe import Extension, Object

PACKAGES = ("modeling_msmaml", "data_builders")
OPTIONS = "Its arguments are [the options of the model](../options.md)."  # a docstring that is completed at import


@cache
def public_names() -> dict[str, str]:
    """The package of each public name."""
    found = {}
    for package in PACKAGES:
        source = Path(__file__).parents[1].joinpath(package, "__init__.py").read_text()
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found.update(dict.fromkeys(ast.literal_eval(node.value), package))
    return found


def as_google(docstring: str) -> str:
    """A docstring in the style that griffe parses."""
    several = r"^( +)((?:\*{0,2}\w+, )+\*{0,2}\w+): (.*(?:\n\1 +.*)*)"
    found = re.sub(several, _one_by_one, docstring, flags=re.MULTILINE)
    found = re.sub(r"^(Raises:\n +)As (?=[\[`])", r"\1Exception: as ", found, flags=re.MULTILINE)
    found = re.sub(r"^Args:\n +\{options\}$", OPTIONS, found, flags=re.MULTILINE)
    return re.sub(r"\[`([\w.]+)(\(.*?\))?`\](?![\[(])", _link, found)


def _one_by_one(item: re.Match) -> str:
    indent, names, text = item.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))


def _link(name: re.Match) -> str:
    first, _, member = name[1].partition(".")
    package = public_names().get(first)
    shown = f"`{name[1]}{name[2] or ''}`"
    # A member that a base class of a library defines has no place to lead to.
    return shown if package is None else f"[{shown}][{package}.{first}]"


class ProjectDocstrings(Extension):
    """What griffe loads, with docstrings that it can parse."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_google(obj.docstring.value)
