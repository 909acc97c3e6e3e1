"""
Classify files from a few labelled examples.

The examples are a folder with one sub-folder per class, with or without a metadata.csv, or a table (.csv, .tsv, .jsonl)
with the columns file_name or text, and label. Queries are sounds, texts (.txt) or pictures: files, folders, patterns in
quotes, or such a table without labels.
"""

import argparse
import os
import sys
from pathlib import Path

from . import quick_imports, warnings_in_words

MODALITIES = ("audio", "text", "image")
FORMAT_OF_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
EPILOG = """
examples:
  msmaml classify --support birds/ --query unknown/*.wav
  msmaml classify --support birds/ --query "recordings/**/*.wav" --output birds.csv --skip-errors
  msmaml classify --support topics.csv --query letters.csv --format jsonl
  msmaml classify --support birds/ --query unknown/ --explain
  msmaml classify --support birds/ --save-classifier crow_or_wren
  msmaml classify --classifier crow_or_wren --query unknown/
  accelerate launch -m msmaml classify --support birds/ --query recordings/ --output birds.csv

A run with --output that was stopped goes on where it was when it is started again. Under `accelerate launch`, the
processes share the queries.

exit status:
  0  everything was classified
  1  everything was classified except queries that --skip-errors passed over
  2  it was stopped by an error; results that were there by then are written
  130  it was interrupted by Ctrl+C; the same
"""


class Stopped(SystemExit):
    """The end of the process with status 2, when the message is on stderr."""

    def __init__(self, message: str):
        super().__init__(message)
        self.code = 2


def _folder(name: str) -> Path:
    if not name.strip():
        raise argparse.ArgumentTypeError(f"{name!r} names no folder; the current one is called .")
    return Path(name)


def _file(name: str) -> Path:
    if not name.strip():
        raise argparse.ArgumentTypeError(f"{name!r} names no file")
    return Path(name)


def _workers(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} must be an integer of at least 0")
    return int(value)


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} must be an integer of at least 1")
    return int(value)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="msmaml classify",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--support", type=_folder, help="folder with one sub-folder of examples per class, or a table of them")
    add("--query", nargs="+", default=[], help="files to classify, folders, patterns, or tables of them")
    add("--model", help="folder or Hub repository of the model; by default $MSMAML_MODEL, or the one that comes along")
    add("--classifier", help="folder or Hub repository of an adapted classifier, which needs no --support")
    add(
        "--save-classifier",
        "--save_classifier",
        "--save",
        type=_folder,
        metavar="DIR",
        help="folder in which to save the adapted classifier",
    )
    add("--format", choices=("table", "csv", "jsonl"), help="by default a table, or what the name of --output says")
    add("--json", action="store_true", help="the same as --format jsonl")
    add(
        "--output",
        type=_file,
        metavar="FILE",
        help="file for the results, .csv or .jsonl, to which they are written as they are computed",
    )
    add("--overwrite", action="store_true", help="start --output anew, whatever it holds")
    add(
        "--explain",
        nargs="?",
        const=3,
        type=_count,
        metavar="N",
        help="say what results rest on: the weights of the levels, and the N examples nearest to each query, 3 if no "
        "number follows",
    )
    add("--modality", choices=MODALITIES, help="modality to take where the folders hold files of several kinds")
    add(
        "--reject-below",
        "--reject_below",
        type=float,
        metavar="PROBABILITY",
        help="in [0, 1]; a file is 'unsure' if no class reaches it",
    )
    add(
        "--skip-errors",
        "--skip_errors",
        action="store_true",
        help="pass over files that cannot be read, and name them on stderr; queries are then 'unreadable'",
    )
    add(
        "--workers",
        type=_workers,
        metavar="N",
        help="threads that read files ahead; by default one per processor, up to 8",
    )
    add("--device", help="where the model runs, such as cpu or cuda; by default a GPU where there is one")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="whether to show a progress bar on stderr; by default where that is a terminal",
    )
    return parser


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line, by default that of the process."""
    own = parser()
    arguments = own.parse_args(argv)
    if not arguments.query and arguments.save_classifier is None:
        own.error("nothing to do: give --query files, or --save-classifier a folder")
    if arguments.classifier is not None and (arguments.support is not None or arguments.model is not None):
        own.error("--classifier is adapted already: leave out --support and --model, or give it as --model")
    if arguments.json:
        if arguments.format not in (None, "jsonl"):
            own.error(f"--json and --format {arguments.format}: give one of them")
        arguments.format = "jsonl"
    if (arguments.output is not None or arguments.overwrite) and not arguments.query:
        own.error("--output and --overwrite are for results: give --query files")
    if arguments.explain is not None and not arguments.query:
        own.error("--explain is for results: give --query files")
    if arguments.overwrite and arguments.output is None:
        own.error("--overwrite is for --output")
    if arguments.output is not None:
        arguments.format = arguments.format or FORMAT_OF_SUFFIX.get(arguments.output.suffix.lower())
        if arguments.format not in ("csv", "jsonl"):
            own.error(f"--output {arguments.output}: call it .csv or .jsonl, or give --format csv or jsonl")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Writes the classes of the queries, and returns the exit status."""
    arguments = parse_arguments(argv)
    with quick_imports():
        from transformers.utils import logging

        from modeling_msmaml.inputs.label_values import printable

        from ..classifying.run import run

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings_in_words("classify"):
            return 1 if run(arguments) else 0
    except KeyboardInterrupt:
        print("classify: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read the results has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at the exit
        return 2
    except (ValueError, OSError) as error:
        message = f"classify: {printable(str(error))}"
        print(message, file=sys.stderr)
        raise Stopped(message) from None
