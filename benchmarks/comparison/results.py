"""Results of the comparison: one JSON file a method in `results/comparison/`, with one entry a cell."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from modeling_msmaml.training.metrics import mean_and_ci95

from ..studies.classifier import calibration_error
from .cells import PROTOCOL, Cell
from .methods import Answers, Method

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "results" / "comparison"
REJECT_BELOW = 0.6


def entry(method: Method, cell: Cell, answers: Answers, source_disjoint: bool, **more: Any) -> dict[str, Any]:
    """What is stored of one method in one cell."""
    queries = cell.n_way * cell.n_query
    accuracy, half_width = mean_and_ci95([right / queries for right in answers.right])
    found = {"data_set": cell.data_set, "n_way": cell.n_way, "k_shot": cell.k_shot, "n_query": cell.n_query}
    found |= {"method": method.name, "accuracy": accuracy, "accuracy_ci95": half_width, "episodes": len(answers.right)}
    if answers.confidence is not None and answers.correct is not None:
        sure = answers.confidence >= REJECT_BELOW
        found["calibration_error"] = calibration_error(answers.confidence, answers.correct)
        found["kept"] = float(sure.mean())
        found["accuracy_of_kept"] = float(answers.correct[sure].mean()) if sure.any() else None
    found |= {"protocol": PROTOCOL, "source_disjoint": source_disjoint, "transductive": False}
    return {**found, "looked_at": cell.looked_at, "statistics": method.statistics, **more, "right": answers.right}


def key_of(stored: dict[str, Any]) -> tuple[str, int, int]:
    """Returns what tells the cells of one method apart."""
    return stored["data_set"], stored["n_way"], stored["k_shot"]


def read(name: str, folder: Path = RESULTS) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Returns the stored cells of a method; none if it has no file."""
    path = folder / f"{name}.json"
    return {key_of(own): own for own in json.loads(path.read_text())} if path.is_file() else {}


def write(name: str, entries: Iterable[dict[str, Any]], folder: Path = RESULTS) -> None:
    """Stores cells of a method, one a line, in place of those of the same cells."""
    whole = read(name, folder) | {key_of(own): own for own in entries}
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(whole[key], allow_nan=False) for key in sorted(whole))
    (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, int]:
    """
    The mean paired difference of accuracies on the episodes that both have, the half-width of its 95 % interval, and
    the number of these episodes.

    Raises:
        ValueError: the two were not measured in the same episodes.
    """
    for name in ("data_set", "n_way", "k_shot", "n_query", "seed", "rows"):
        if one[name] != other[name]:
            raise ValueError(
                f"{one['method']} and {other['method']} differ in {name}, {one[name]!r} and {other[name]!r}: they "
                "cannot be paired. Measure both again"
            )
    number = min(one["episodes"], other["episodes"])
    pairs = np.asarray(one["right"][:number]) - np.asarray(other["right"][:number])
    mean, half_width = mean_and_ci95((pairs / (one["n_way"] * one["n_query"])).tolist())
    return mean, half_width, number


def best_of(stored: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Returns the one of highest accuracy."""
    return max(stored, key=lambda own: own["accuracy"])
