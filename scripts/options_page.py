"""Writes docs/options.md, the table of all options of a run, from the dataclasses that declare them.

python -m scripts.options_page
"""

# ruff: noqa: E501 (the page has one sentence per line)

import re
from pathlib import Path

from modeling_msmaml import MetaTrainingArguments, MSMAMLConfig
from modeling_msmaml.hub.model_card import markdown_table
from modeling_msmaml.model.options import default_of, options_of, type_name, types_of
from msmaml.runs.data_arguments import DataArguments
from msmaml.runs.run_arguments import ModelArguments

PAGE = Path(__file__).resolve().parents[1] / "docs" / "options.md"
TEXT = """# All options

For everyone who writes a YAML file or a command line: every option of `run_meta.py`, `msmaml train` and `msmaml evaluate`, with its values, its default and what it does.

An option stands in the YAML file as `name: value` or on the command line as `--name value`, and the command line wins.
Lists and dicts are JSON on the command line and may be YAML in a file.
Besides these there are the options that `MetaTrainingArguments` inherits from [`transformers.TrainingArguments`](https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments), such as `--output_dir`, `--max_steps` and `--report_to`.
`python -m scripts.options_page` writes this page.
"""
ABOUT = {
    ModelArguments: (
        "Where the model comes from",
        "`model_name_or_path` is a checkpoint; without it, a new model is made.",
    ),
    MSMAMLConfig: ("The model", "The fields of `MSMAMLConfig`. Those of a checkpoint are in its `config.json`."),
    DataArguments: ("The data", "The fields of `DataArguments`."),
    MetaTrainingArguments: ("Training and evaluation", "The fields of `MetaTrainingArguments`."),
}


def rows(declared: type, left_out: set[str]) -> list[tuple[str, ...]]:
    """One row for each option of a dataclass."""
    types = types_of(declared)
    return [
        (f"`{field.name}`", type_name(types[field.name]), f"`{default_of(field)!r}`", plain(field.metadata["help"]))
        for field in options_of(declared)
        if field.name not in left_out
    ]


def plain(text: str) -> str:
    """The help of an option without the square brackets that its docstring turns into links."""
    return re.sub(r"\[(`[^`]*`)\]", r"\1", text)


def page() -> str:
    """The text of the page."""
    config = {field.name for field in options_of(MSMAMLConfig)}
    parts = [TEXT]
    for declared, (title, about) in ABOUT.items():
        left_out = set() if declared is MSMAMLConfig else config
        table = markdown_table(("option", "values", "default", "what it does"), rows(declared, left_out))
        parts.append(f"## {title}\n\n{about}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
