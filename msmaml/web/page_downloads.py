"""What a visitor takes home: the fitted classifier as a zip archive, and the results as a table."""

import csv
import io
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modeling_msmaml import FewShotClassifier

KEPT_SECONDS = 600  # of a file in the folder of downloads; the page has its own copy then
CLASSIFIER_NAME, RESULTS_NAME = "classifier.zip", "results.csv"
INSTRUCTIONS = """A few-shot classifier. Unpack the folder and use it in Python:

    from modeling_msmaml import FewShotClassifier

    classifier = FewShotClassifier.from_pretrained("classifier")
    classifier.predict([{example}])

or on the command line:

    msmaml classify --classifier classifier --query FILE
"""
_EXAMPLES = {"audio": '"sound.wav"', "image": '"picture.png"', "text": '"a text"'}


def what_an_archive_holds(has_features: bool) -> str:
    """Returns the sentence beside the button: what the archive holds of the examples, see [`classifier_archive`]."""
    if not has_features:
        return "The archive holds the adapted model and the names of your classes, and none of your examples."
    return (
        "The archive holds the model, the names of your classes and, of each example, its features: the numbers that "
        "the encoder computes from it, from which the classifier goes on adapting when you add examples. The examples "
        "themselves and the names of their files are not in it."
    )


def classifier_archive(classifier: FewShotClassifier, folder: Path) -> Path:
    """
    Writes what `save_pretrained` stores, the folder `classifier`, as a zip archive. It holds no example: of a model on
    levels only the features of each, without its name.

    Args:
        classifier: a fitted one.
        folder: the folder of downloads; earlier ones that are older than `KEPT_SECONDS` are removed.
    """
    own = _new_folder(folder)
    classifier.save_pretrained(own / "classifier")
    (own / "classifier" / "HOW_TO_USE.txt").write_text(
        INSTRUCTIONS.format(example=_EXAMPLES.get(classifier.modality_, "..."))
    )
    path = own / CLASSIFIER_NAME
    with zipfile.ZipFile(path, "w") as archive:  # weights hardly become smaller
        for file in sorted((own / "classifier").rglob("*")):
            archive.write(file, file.relative_to(own))
    shutil.rmtree(own / "classifier")
    return path


def results_table(
    names: Sequence[str], classes: Sequence[str], probabilities: np.ndarray, guesses: Sequence[str]
) -> str:
    """
    Returns the results as CSV: a line for each query, with its prediction and the probability of each class.

    Args:
        names: the file or the text of each query.
        classes: the names of the classes.
        probabilities: (queries, classes); NaN, which becomes an empty cell, for a query that cannot be read.
        guesses: the predicted class of each query.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["query", "prediction", *(f"probability of {name}" for name in classes)])
    for name, guess, row in zip(names, guesses, probabilities, strict=True):
        writer.writerow([name, guess, *("" if np.isnan(value) else f"{value:.6f}" for value in row)])
    return lines.getvalue()


def results_file(table: str, folder: Path) -> Path:
    """Writes results into the folder of downloads, in which they are kept as [`classifier_archive`] says."""
    path = _new_folder(folder) / RESULTS_NAME
    path.write_text(table, encoding="utf-8-sig", newline="")  # the mark tells spreadsheets the encoding
    return path


def _new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        # Also of a time to come: a clock that was set back would keep them until then.
        if old.is_dir() and abs(time.time() - old.stat().st_mtime) > KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=folder))
