"""
Classify files after a few labelled examples, one sub-folder a class:

    python -m modeling_msmaml.classify --support birds/ --query unknown/*.wav [--json]

Sounds, texts (.txt) or pictures; a folder as a query stands for all its files. --save keeps the adapted classifier,
which later needs no --support: python -m modeling_msmaml.classify --model SAVED --query FILES
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from transformers.utils import logging

from .inference.few_shot_classifier import FewShotClassifier
from .inputs.kinds import KINDS, listed_suffixes, modality_of_file


def files_in(folder: Path, modality: str | None = None) -> list[Path]:
    """The files of a modality (by default of any) at any depth of a folder, sorted; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in found
        if modality_of_file(path) in ([modality] if modality else KINDS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def support_set(folder: Path, modality: str | None = None) -> tuple[list[Path], list[str]]:
    """
    The files in the sub-folders of a folder, and the sub-folder of each.

    Raises:
        `FileNotFoundError`: no such folder.
        `ValueError`: no sub-folder, or one without a file.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--support {folder} is no folder; it should have one sub-folder a class")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = {path.name: files_in(path, modality) for path in classes}
    if not files:
        raise ValueError(f"--support {folder} has no sub-folders: put the examples of each class into one of its own")
    if empty := [name for name, own in files.items() if not own]:
        raise ValueError(
            f"{', '.join(str(folder / name) for name in empty)}: no files of these kinds: {listed_suffixes(modality)}"
        )
    return [file for own in files.values() for file in own], [name for name, own in files.items() for _ in own]


def query_files(queries: Iterable[str], modality: str | None) -> list[Path]:
    """
    The files that are named, and those of folders that are named.

    Raises:
        `FileNotFoundError`: there is no such file, or none in a folder.
    """
    files = []
    for query in map(Path, queries):
        found = files_in(query, modality) if query.is_dir() else [query] if query.is_file() else []
        if not found:
            raise FileNotFoundError(
                f"--query {query}: no such file, or no {modality or 'sound, text or picture'} in it"
            )
        files += found
    return files


def table(files: list[Path], predicted: list[str], probabilities: list[dict[str, float]]) -> str:
    """One line a file: its class, and all probabilities."""
    rows = [["file", "class", *probabilities[0]]]
    rows += [
        [str(file), guess, *(f"{value:.3f}" for value in row.values())]
        for file, guess, row in zip(files, predicted, probabilities, strict=True)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        names = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        lines.append("  ".join(names + [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]))
    return "\n".join(lines)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m modeling_msmaml.classify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="folder or Hub repository; by default $MSMAML_MODEL, or the one shipped")
    parser.add_argument("--support", type=Path, help="folder with one sub-folder of examples a class")
    parser.add_argument("--query", nargs="+", default=[], help="files to classify, or folders of them")
    parser.add_argument("--modality", choices=tuple(KINDS), help="among files of several kinds")
    parser.add_argument("--reject_below", type=float, help="probability in [0, 1] below which a file is 'unsure'")
    parser.add_argument("--save", type=Path, help="folder for the adapted classifier")
    parser.add_argument("--json", action="store_true", help="a JSON object a line instead of a table")
    arguments = parser.parse_args(argv)
    if not arguments.query and arguments.save is None:
        parser.error("nothing to do: give --query files, or --save a folder")
    return arguments


def run(arguments: argparse.Namespace) -> str:
    """What is printed."""
    given = {} if arguments.reject_below is None else {"reject_below": arguments.reject_below}
    classifier = FewShotClassifier.from_pretrained(arguments.model, **given)
    if arguments.support is not None:
        classifier.set_params(modality=arguments.modality).fit(*support_set(arguments.support, arguments.modality))
    else:
        try:
            check_is_fitted(classifier, "adapted_")
        except NotFittedError:
            raise ValueError(
                f"{classifier.model} is no adapted classifier: give --support, a folder with one sub-folder a class"
            ) from None
        if arguments.modality not in (None, classifier.modality_):
            raise ValueError(f"--modality {arguments.modality}: this classifier is one of {classifier.modality_}")
    if arguments.save is not None:
        classifier.save_pretrained(arguments.save)
    if not arguments.query:
        return ""
    files = query_files(arguments.query, classifier.modality_)
    names = [str(label) for label in classifier.classes_]
    probabilities = [dict(zip(names, row, strict=True)) for row in classifier.predict_proba(files).tolist()]
    predicted = [str(label) for label in classifier.predict(files)]
    if not arguments.json:
        return table(files, predicted, probabilities)
    return "\n".join(
        json.dumps({"file": str(file), "class": guess, "probabilities": row})
        for file, guess, row in zip(files, predicted, probabilities, strict=True)
    )


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        output = run(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"classify: {error}")
    if output:
        print(output)


if __name__ == "__main__":
    main()
