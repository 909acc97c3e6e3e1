"""How results are written: as a table for reading, as CSV, or as JSON lines. Each result is one line."""

from __future__ import annotations

import csv
import io
import json
from typing import NamedTuple, Protocol

import numpy as np

from modeling_msmaml.inference.explanations import Neighbour
from modeling_msmaml.inference.few_shot_classifier import UNREADABLE, UNSURE
from modeling_msmaml.inference.streamed_predictions import Prediction

from .queries import written

_LONGEST_EXAMPLE = 40  # characters of an example in a table


class Explanation(NamedTuple):
    """
    What results rest on.

    Args:
        level_weights: how much each level of the encoder counts in this task, by its name.
        num_nearest: the number of examples that are named for each query.
    """

    level_weights: dict[str, float]
    num_nearest: int


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
    """
    Objects with `file`, `class` and `probabilities`, and with `error` in place of these if it cannot be read.

    Args:
        classes: in the order of the probabilities.
        explanation: `level_weights` and `nearest` are added.
    """

    def __init__(self, classes: list[str], explanation: Explanation | None = None):
        self.classes = classes
        self.explanation = explanation

    def header(self) -> str:
        return ""

    def line(self, prediction: Prediction, guess: str) -> str:
        row: dict[str, object] = {"file": prediction.name, "class": guess, "probabilities": None}
        if prediction.error is None:
            row["probabilities"] = dict(zip(self.classes, prediction.probabilities.tolist(), strict=True))
        else:
            row["error"] = prediction.error
        if self.explanation is not None:
            row["level_weights"] = {name: round(weight, 4) for name, weight in self.explanation.level_weights.items()}
            row["nearest"] = [
                {
                    "example": _name(one),
                    "position": one.position,
                    "class": str(one.label),
                    "similarity": round(one.similarity, 4),
                }
                for one in prediction.nearest
            ]
        return json.dumps(row) + "\n"

    def read(self, line: str) -> tuple[str, bool]:
        try:
            found = json.loads(line)
        except RecursionError as error:
            raise ValueError("it has too many levels of nesting") from error
        if not isinstance(found, dict) or not isinstance(found.get("file"), str):
            raise ValueError("there is no 'file' in it")
        return found["file"], "error" in found


class Csv:
    """
    The columns `file`, `class` and `error`, and `p_<class>` for each class, which is blank if it cannot be read.

    Args:
        classes: in the order of the probabilities.
        explanation: `level_<name>` is added for each level, and `nearest_1`, `nearest_1_position`, `nearest_1_class`,
            `nearest_1_similarity` and so on for the nearest examples.
    """

    def __init__(self, classes: list[str], explanation: Explanation | None = None):
        self.classes = classes
        self.explanation = explanation
        self._columns = ["file", "class", "error", *(f"p_{name}" for name in classes)]
        if explanation is not None:
            self._columns += [f"level_{name}" for name in explanation.level_weights]
            for rank in range(1, explanation.num_nearest + 1):
                self._columns += [f"nearest_{rank}{fact}" for fact in ("", "_position", "_class", "_similarity")]

    def header(self) -> str:
        return self._written(self._columns)

    def line(self, prediction: Prediction, guess: str) -> str:
        is_read = prediction.error is None
        values = [f"{value:.6f}" if is_read else "" for value in prediction.probabilities.tolist()]
        if self.explanation is not None:
            values += [f"{weight:.4f}" for weight in self.explanation.level_weights.values()]
            for one in prediction.nearest:
                values += [_name(one) or "", str(one.position), str(one.label), f"{one.similarity:.4f}"]
        found = [prediction.name, guess, prediction.error or "", *values]
        return self._written([*found, *[""] * (len(self._columns) - len(found))])

    def read(self, line: str) -> tuple[str, bool]:
        (values,) = csv.reader([line], strict=True)
        if len(values) != len(self._columns):
            raise ValueError(f"there are {len(values)} values for {len(self._columns)} columns")
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
        explanation: a line of the weights is added above, and a column of the nearest examples.
    """

    def __init__(self, classes: list[str], longest_name: int, explanation: Explanation | None = None):
        self.classes = classes
        self.explanation = explanation
        longest = max(map(len, [*classes, "class", UNREADABLE, UNSURE]))
        self._widths = [max(longest_name, len("file")), longest, *(max(len(name), 5) for name in classes)]

    def header(self) -> str:
        titles = self._aligned(["file", "class", *self.classes])
        if self.explanation is None:
            return titles
        weights = (f"{name} {100 * weight:.0f} %" for name, weight in self.explanation.level_weights.items())
        return f"level weights: {', '.join(weights)}\n{self._with(titles, 'nearest examples')}"

    def line(self, prediction: Prediction, guess: str) -> str:
        values = [f"{value:.3f}" for value in prediction.probabilities.tolist()]
        line = self._aligned([prediction.name, guess, *values])
        return self._with(line, ", ".join(map(_shortly, prediction.nearest))) if prediction.nearest else line

    @staticmethod
    def _with(line: str, explained: str) -> str:
        return f"{line.removesuffix(chr(10))}  {explained}\n"

    def read(self, line: str) -> tuple[str, bool]:
        raise ValueError("a table is for reading; its columns cannot be told apart again")

    def _aligned(self, cells: list[str]) -> str:
        left = [cell.ljust(width) for cell, width in zip(cells[:2], self._widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(cells[2:], self._widths[2:], strict=True)]
        return "  ".join([*left, *right]) + "\n"


def _name(example: Neighbour) -> str | None:
    """The path or the text of an example, in one line; `None` where it is not known."""
    return None if example.name is None else written(example.name)


def _shortly(example: Neighbour) -> str:
    """An example with its class and its similarity, for people."""
    name = " ".join((_name(example) or f"example {example.position + 1}").split())
    name = name if len(name) <= _LONGEST_EXAMPLE else f"...{name[3 - _LONGEST_EXAMPLE :]}"
    return f"{name} ({written(str(example.label))}, {example.similarity:.2f})"


def lines_of(format: Format, predictions: list[Prediction], decided: np.ndarray) -> str:
    """The lines of predictions and of the classes that were decided on."""
    return "".join(format.line(one, str(guess)) for one, guess in zip(predictions, decided.tolist(), strict=True))
