"""What `msmaml evaluate --support` prints: accuracy with its interval, and the confusion matrix as table or picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from modeling_msmaml.inference.cross_validation import CrossValidation, cross_validate
from modeling_msmaml.inference.few_shot_classifier import FewShotClassifier
from modeling_msmaml.inputs.label_values import printable
from modeling_msmaml.inputs.labelled_files import labelled_support

from .processes import Processes

MOST_NUMBERED = 30  # classes in whose picture each cell has its number


def evaluate(arguments: argparse.Namespace) -> str:
    """
    Cross-validates on a support set, and draws the picture that was asked for.

    Returns:
        What is to be printed.

    Raises:
        ValueError, OSError: an option or a file cannot be used.
        ModuleNotFoundError: a picture was asked for without matplotlib.
    """
    if arguments.picture is not None:
        check_picture(arguments.picture)
    items, labels, sources = labelled_support(arguments.support, arguments.modality)
    modality = "text" if any(isinstance(item, str) for item in items) else arguments.modality
    classifier = FewShotClassifier.from_pretrained(
        arguments.model,
        modality=modality,
        skip_unreadable=arguments.skip_errors,
        device=arguments.device or Processes().device(),
    )
    found = cross_validate(classifier, items, labels, sources, arguments.folds, arguments.seed)
    if arguments.picture is not None:
        draw(found, arguments.picture)
    return as_json(found) if arguments.json else as_text(found)


def as_json(found: CrossValidation) -> str:
    """The results as one JSON object."""
    low, high = found.interval
    return json.dumps(
        {
            "accuracy": found.accuracy,
            "interval": [low, high],
            "examples": found.count,
            "folds": found.folds,
            "classes": [str(name) for name in found.classes],
            "confusion": found.confusion.tolist(),
        }
    )


def as_text(found: CrossValidation) -> str:
    """The accuracy, and a table with a row for each class and a column for each class that was predicted."""
    low, high = found.interval
    names = [printable(str(name)) for name in found.classes]
    rows = [["class", *names, "right"]]
    for name, counts, share in zip(names, found.confusion.tolist(), found.accuracies.values(), strict=True):
        rows.append([name, *map(str, counts), f"{100 * share:.0f} %"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join(
        [
            f"accuracy {100 * found.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %) on "
            f"{found.count} examples in {found.folds} folds",
            "",
            "rows: classes; columns: what was predicted",
            *lines,
        ]
    )


def check_picture(path: Path) -> None:
    """
    Makes the folder of a picture, before anything is computed for it.

    Raises:
        ValueError: the name does not say in which format, or the folder cannot be made.
    """
    from matplotlib.figure import Figure

    if path.suffix.lower().lstrip(".") not in Figure().canvas.get_supported_filetypes():
        raise ValueError(f"--picture {path}: the name must end like that of a picture, such as .png, .svg or .pdf")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--picture {path} cannot be written: {error.strerror} ({path.parent})") from error


def draw(found: CrossValidation, path: Path) -> None:
    """Draws the confusion matrix; the suffix of the path says in which format."""
    from matplotlib.figure import Figure

    names = [printable(str(name)) for name in found.classes]
    side = 2.5 + 0.4 * min(len(names), 40)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = found.confusion / found.confusion.sum(axis=1, keepdims=True)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="class", xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names, rotation=90)
    axes.set_yticklabels(names)
    if len(names) <= MOST_NUMBERED:
        for (row, column), count in zip(_cells(len(names)), found.confusion.flatten().tolist(), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the class")
    figure.savefig(path, dpi=120)


def _cells(count: int) -> list[tuple[int, int]]:
    """The cells of a square, row by row."""
    return [(row, column) for row in range(count) for column in range(count)]
