"""How results are written: as a table for reading, as CSV, or as JSON lines. Each result is one line."""

from __future__ import annotations

import csv
import io
import json
from typing import Protocol

import numpy as np

from modeling_msmaml.inference.few_shot_classifier import UNREADABLE, UNSURE
from modeling_msmaml.inference.streamed_predictions import Prediction


class Format(Protocol):
    """
    Writes results as lines, which end with a line break.

    Args:
        classes: in the order of the probabilities.
    """

    def header(self) -> str:
        """The lines before the first result."""
        ...

    def line(self, prediction: Prediction, guess: str) -> str:
        """The line of a result."""
        ...

    def read(self, line: str) -> tuple[str, bool]:
        """
        The name of the query in a line that `line` made, and whether it is one that could not be read.

        Raises:
            ValueError: it is no such line.
        """
        ...


class JsonLines:
    """Objects with `file`, `class` and `probabilities`, and with `error` in place of these if it cannot be read."""

    def __init__(self, classes: list[str]):
        self.classes = classes

    def header(self) -> str:
        return ""

    def line(self, prediction: Prediction, guess: str) -> str:
        row = {"file": prediction.name, "class": guess, "probabilities": None}
        if prediction.error is None:
            row["probabilities"] = dict(zip(self.classes, prediction.probabilities.tolist(), strict=True))
        else:
            row["error"] = prediction.error
        return json.dumps(row) + "\n"

    def read(self, line: str) -> tuple[str, bool]:
        found = json.loads(line)
        if not isinstance(found, dict) or not isinstance(found.get("file"), str):
            raise ValueError("there is no 'file' in it")
        return found["file"], "error" in found


class Csv:
    """The columns `file`, `class` and `error`, and `p_<class>` for each class, which is blank if it cannot be read."""

    def __init__(self, classes: list[str]):
        self.classes = classes

    def header(self) -> str:
        return self._written(["file", "class", "error", *(f"p_{name}" for name in self.classes)])

    def line(self, prediction: Prediction, guess: str) -> str:
        is_read = prediction.error is None
        values = [f"{value:.6f}" if is_read else "" for value in prediction.probabilities.tolist()]
        return self._written([prediction.name, guess, prediction.error or "", *values])

    def read(self, line: str) -> tuple[str, bool]:
        (values,) = csv.reader([line], strict=True)
        if len(values) != len(self.classes) + 3:
            raise ValueError(f"there are {len(values)} values for {len(self.classes) + 3} columns")
        return values[0], bool(values[2])

    @staticmethod
    def _written(values: list[str]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(" ".join(value.splitlines()) for value in values)
        return line.getvalue()


class Table:
    """
    Columns of equal width, for people.

    Args:
        classes: in the order of the probabilities.
        longest_name: characters of the longest name.
    """

    def __init__(self, classes: list[str], longest_name: int):
        self.classes = classes
        longest = max(map(len, [*classes, "class", UNREADABLE, UNSURE]))
        self._widths = [max(longest_name, len("file")), longest, *(max(len(name), 5) for name in classes)]

    def header(self) -> str:
        return self._aligned(["file", "class", *self.classes])

    def line(self, prediction: Prediction, guess: str) -> str:
        return self._aligned([prediction.name, guess, *(f"{value:.3f}" for value in prediction.probabilities.tolist())])

    def read(self, line: str) -> tuple[str, bool]:
        raise ValueError("a table is for reading; its columns cannot be told apart again")

    def _aligned(self, cells: list[str]) -> str:
        left = [cell.ljust(width) for cell, width in zip(cells[:2], self._widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(cells[2:], self._widths[2:], strict=True)]
        return "  ".join([*left, *right]) + "\n"


def lines_of(format: Format, predictions: list[Prediction], decided: np.ndarray) -> str:
    """The lines of predictions and of the classes that were decided on."""
    return "".join(format.line(one, str(guess)) for one, guess in zip(predictions, decided.tolist(), strict=True))
