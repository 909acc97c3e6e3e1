"""
Classify files from a few labelled examples, which are given as one sub-folder per class.

    msmaml classify --support birds/ --query unknown/*.wav [--json]

The files are sounds, texts (.txt) or pictures. The folder of --support is read as that of load_few_shot("folder"), with
or without a metadata.csv; a folder as a query stands for all its files of this kind, and others are named in a warning.
--save keeps the adapted classifier, which then needs no --support: msmaml classify --model SAVED --query FILES
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from transformers.utils import logging

from modeling_msmaml.inference.few_shot_classifier import FewShotClassifier
from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.inputs.label_values import printable
from modeling_msmaml.inputs.labelled_files import query_files, support_set


def table(files: list[Path], predicted: list[str], probabilities: list[dict[str, float]]) -> str:
    """Returns a table with one row per file: its class, and the probability of every class."""
    rows = [["file", "class", *probabilities[0]]]
    rows += [
        [printable(str(file)), guess, *(f"{value:.3f}" for value in row.values())]
        for file, guess, row in zip(files, predicted, probabilities, strict=True)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        names = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        lines.append("  ".join(names + [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]))
    return "\n".join(lines)


def _folder(name: str) -> Path:
    if not name.strip():
        raise argparse.ArgumentTypeError(f"{name!r} names no folder; the current one is called .")
    return Path(name)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="msmaml classify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        help="folder or Hub repository of the model; by default $MSMAML_MODEL, or the model that comes with the code",
    )
    parser.add_argument("--support", type=_folder, help="folder with one sub-folder of examples per class")
    parser.add_argument("--query", nargs="+", default=[], help="files to classify, or folders of them")
    parser.add_argument(
        "--modality", choices=tuple(KINDS), help="modality to take where the folders hold files of several kinds"
    )
    parser.add_argument(
        "--reject_below", type=float, help="probability in [0, 1]; a file is 'unsure' if no class reaches it"
    )
    parser.add_argument(
        "--skip_errors",
        "--skip-errors",
        action="store_true",
        help="pass over files that cannot be read, with one warning that names them; queries are then 'unreadable'",
    )
    parser.add_argument("--save", type=_folder, help="folder in which to save the adapted classifier")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per file and line instead of a table"
    )
    arguments = parser.parse_args(argv)
    if not arguments.query and arguments.save is None:
        parser.error("nothing to do: give --query files, or --save a folder")
    return arguments


def run(arguments: argparse.Namespace) -> str:
    """Returns what the command prints.

    Raises:
        ValueError, OSError: an option or a file cannot be used.
    """
    given = {"skip_unreadable": True} if arguments.skip_errors else {}
    if arguments.reject_below is not None:
        given["reject_below"] = arguments.reject_below
    classifier = FewShotClassifier.from_pretrained(arguments.model, **given)
    if arguments.support is not None:
        classifier.set_params(modality=arguments.modality).fit(*support_set(arguments.support, arguments.modality))
    else:
        try:
            check_is_fitted(classifier, "adapted_")
        except NotFittedError:
            raise ValueError(
                f"{classifier.model} is no adapted classifier: give --support, a folder with one sub-folder per class"
            ) from None
        if arguments.modality not in (None, classifier.modality_):
            raise ValueError(
                f"--modality {arguments.modality}: this classifier is one of {classifier.modality_}; leave the option "
                "out"
            )
    if arguments.save is not None:
        classifier.save_pretrained(arguments.save)
    if not arguments.query:
        return ""
    files = query_files(arguments.query, classifier.modality_)
    names = [str(label) for label in classifier.classes_]
    found = classifier.predict_proba(files)
    unread = np.asarray(np.isnan(found).any(axis=1)).tolist()
    predicted = [str(label) for label in classifier.decide(found)]
    probabilities = [dict(zip(names, row, strict=True)) for row in found.tolist()]
    if not arguments.json:
        return table(files, predicted, probabilities)
    return "\n".join(
        json.dumps({"file": printable(str(file)), "class": guess, "probabilities": None if is_unread else row})
        for file, guess, row, is_unread in zip(files, predicted, probabilities, unread, strict=True)
    )


def main(argv: list[str] | None = None) -> None:
    """Prints the classes of the queries."""
    arguments = parse_arguments(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        output = run(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"classify: {printable(str(error))}")
    if output:
        print(output)
