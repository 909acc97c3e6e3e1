"""Evaluate a checkpoint on the test episodes of a config.

    msmaml evaluate CONFIG.yaml --model_name_or_path CHECKPOINT --output_dir RESULTS [--any_option value ...]

This is the same as `msmaml train` with `--do_train false --do_predict true`.
"""

import sys

from . import train


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Returns the results, which are also written to `all_results.json`."""
    argv = sys.argv[1:] if argv is None else argv
    for argument in argv:
        if argument.split("=")[0] in ("--do_train", "--do_predict"):
            sys.exit(
                f"evaluate: {argument} is not for this command, which never trains and always tests: use msmaml train"
            )
    config = 1 if argv and not argv[0].startswith("-") else 0
    return train.main([*argv[:config], "--do_train", "false", "--do_predict", "true", *argv[config:]], "evaluate")
