"""Evaluate a checkpoint on the test episodes of a config.

    msmaml evaluate CONFIG.yaml --model_name_or_path CHECKPOINT --output_dir RESULTS [--any_option value ...]

The same as `msmaml train` with `--do_train false --do_predict true`.
"""

import sys

from . import train


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Evaluates; returns what `all_results.json` holds."""
    argv = sys.argv[1:] if argv is None else argv
    config = 1 if argv and not argv[0].startswith("-") else 0
    return train.main([*argv[:config], "--do_train", "false", "--do_predict", "true", *argv[config:]], "evaluate")
