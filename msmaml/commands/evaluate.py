"""
Evaluate a few-shot classifier on its labelled examples, or a checkpoint on the test episodes of a config.

With --support, the examples are divided into folds. The model adapts to all folds but one and classifies this one, in
turn: accuracy with its 95 % interval, and the confusion matrix. Examples of one source, which a column of the table may
name, are in one fold.

With a config, this is the same as `msmaml train` with `--do_train false --do_predict true`; `msmaml evaluate
CONFIG.yaml --help` lists its options.
"""

import argparse
import sys
from pathlib import Path

from . import quick_imports, warnings_in_words

EPILOG = """
examples:
  msmaml evaluate --support birds/
  msmaml evaluate --support topics.csv --folds 10 --picture confusion.png
  msmaml evaluate configs/base.yaml --model_name_or_path outputs/base --output_dir outputs/results

exit status: 0 if it was evaluated, 1 if not, 2 if an option is wrong
"""


_OF_BOTH = {"--seed", "-h", "--help"}  # options beside --support which a config has, too


def _seed(value: str) -> int:
    if not value.isdecimal() or int(value) >= 2**32:
        raise argparse.ArgumentTypeError(f"{value!r} must be an integer in [0, 2**32)")
    return int(value)


def parser() -> argparse.ArgumentParser:
    """The parser of the options beside --support."""
    parser = argparse.ArgumentParser(
        prog="msmaml evaluate",
        usage="msmaml evaluate --support SUPPORT [options]\n       msmaml evaluate CONFIG.yaml [options]",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--support", type=Path, required=True, help="folder with one sub-folder of examples per class, or a table")
    add("--model", help="folder or Hub repository of the model; by default $MSMAML_MODEL, or the one that comes along")
    add("--folds", type=int, help="number of folds; by default 5, or the number of examples of the smallest class")
    add("--seed", type=_seed, default=0, help="seed of the division into folds")
    add("--picture", type=Path, metavar="FILE", help="file for the confusion matrix, such as confusion.png or .svg")
    add("--json", action="store_true", help="print one JSON object")
    add("--modality", choices=("audio", "text", "image"), help="modality to take where there are several")
    add("--skip-errors", "--skip_errors", action="store_true", help="pass over examples that cannot be read")
    add("--device", help="where the model runs, such as cpu or cuda; by default a GPU where there is one")
    return parser


def main(argv: list[str] | None = None) -> dict[str, float] | None:
    """Prints the cross-validation, or returns the results on episodes, which are also in `all_results.json`."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help") or any(word.split("=")[0] == "--support" for word in argv):
        _cross_validate(parser().parse_args(argv))
        return None
    own = {option for action in parser()._actions for option in action.option_strings}
    if alone := [word for word in argv if word.split("=")[0] in own - _OF_BOTH]:
        parser().error(f"{alone[0]} is for examples: give --support, a folder or a table of them")
    for argument in argv:
        if argument.split("=")[0] in ("--do_train", "--do_predict"):
            sys.exit(
                f"evaluate: {argument} is not for this command, which never trains and always tests: use msmaml train"
            )
    from . import train

    config = 1 if not argv[0].startswith("-") else 0
    return train.main([*argv[:config], "--do_train", "false", "--do_predict", "true", *argv[config:]], "evaluate")


def _cross_validate(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from transformers.utils import logging

        from modeling_msmaml.inputs.label_values import printable

        from ..classifying.evaluation import evaluate

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings_in_words("evaluate"):
            print(evaluate(arguments))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        sys.exit("evaluate: a picture needs matplotlib: pip install matplotlib")
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {printable(str(error))}")
