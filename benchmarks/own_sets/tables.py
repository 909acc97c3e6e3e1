"""The tables of our own small sets, for docs/results.md."""

from typing import Any

import numpy as np

from ..pages import table
from .runner import OURS, REGRESSION, SIMPLE, against, best_other, stored_results


def own_sets_tables() -> str:
    """Markdown: a row for each set, 1 and 5 shots."""
    if not (stored := stored_results()):
        return "Nothing has been measured yet."
    by_set: dict[str, list[dict[str, Any]]] = {}
    for own in stored:
        by_set.setdefault(own["set"], []).append(own)
    rows = []
    for name, results in by_set.items():
        first = results[0]
        regressions = [method for method in first["accuracies"] if method.startswith(REGRESSION)]
        simple = [f"logistic regression on {features}" for features in SIMPLE[first["modality"]]]
        groups = [[OURS], regressions, simple]
        cells = [" / ".join(_best(own, methods) for own in results) if methods else "" for methods in groups]
        gains = [against(own, best_other(own)) for own in results]
        cells.append(" / ".join(f"{100 * mean:+.1f} ± {100 * half_width:.1f}" for mean, half_width in gains))
        rows.append([name, str(len(first["classes"])), *cells])
    head = [
        "set",
        "classes",
        OURS,
        "regression on the encoder, best C",
        "on pixels, HOG or log-mel",
        "gain over the best",
    ]
    return (
        f"1 / 5 shots, {stored[0]['draws']} random support sets each, the same for all methods; mean accuracy in %, "
        "and ± the 95 % interval over draws of a paired difference.\n\n" + table(head, rows)
    )


def _best(own: dict[str, Any], methods: list[str]) -> str:
    return f"{100 * max(np.mean(own['accuracies'][method]) for method in methods):.1f}"
