"""
Writes the comparison's tables of docs/results.md from the JSON files of `results/comparison/` alone, and the short one
of the README from the first of them.

    python -m benchmarks.comparison.report [--page docs/results.md]
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from modeling_msmaml.training.metrics import stratified_mean_and_ci95

from ..own_sets.tables import own_sets_tables
from ..pages import publish, table
from . import readme_table, results
from .baselines import STRENGTHS, bases
from .cells import DATA_SETS, cells
from .results import best_of, difference

Key = tuple[str, int, int]
Stored = dict[str, Any]
OURS, EVERYTHING, OWN, WITHOUT = "levels", "levels_everything", "levels_own", "levels_without"
BASES = tuple(base.name for base in bases())
# Of the means, in which sets whose gains are many times the others' would hide these.
APART = ("fsdd", "fsdd, other speakers", "omniglot")
REGRESSIONS = {space: [f"regression_{space}_{c}" for c in STRENGTHS] for space in ("unscaled", "raw", "centred")}


class Found:
    """All stored results, by method and cell."""

    def __init__(self, folder: Path = results.RESULTS):
        self.all = {path.stem: results.read(path.stem, folder) for path in sorted(folder.glob("*.json"))}

    def get(self, method: str, key: Key) -> Stored | None:
        return self.all.get(method, {}).get(key)

    def some(self, methods: Iterable[str], key: Key) -> list[Stored]:
        return [own for method in methods if (own := self.get(method, key)) is not None]

    def best(self, methods: Iterable[str], key: Key) -> Stored | None:
        found = self.some(methods, key)
        return best_of(found) if found else None


def joined(parts: Iterable[str]) -> str:
    """Several numbers in one cell; an empty cell where there are none."""
    parts = [part or "–" for part in parts]
    return " / ".join(parts) if any(part != "–" for part in parts) else ""


def accuracy(own: Stored | None) -> str:
    return "" if own is None else f"{100 * own['accuracy']:.1f}"


def gain(one: Stored | None, other: Stored | None) -> str:
    """The paired difference of two results with its interval, in points."""
    if one is None or other is None:
        return ""
    mean, half_width, _ = difference(one, other)
    return f"{100 * mean:+.1f} ± {100 * half_width:.1f}"


def mean_gain(
    found: Found, method: str, titles: list[str], shape: tuple[int, int], others: Iterable[str] = BASES
) -> str:
    """The mean over data sets of paired differences to the best of other methods; its interval is stratified."""
    strata, others = [], tuple(others)
    for title in titles:
        one, other = found.get(method, (title, *shape)), found.best(others, (title, *shape))
        if one is None or other is None:
            return ""
        number, queries = min(one["episodes"], other["episodes"]), one["n_way"] * one["n_query"]
        pairs = zip(one["right"][:number], other["right"][:number], strict=True)
        strata.append([(a - b) / queries for a, b in pairs])
    means = [sum(own) / len(own) for own in strata]
    half_widths = [stratified_mean_and_ci95([own])[1] for own in strata]
    half_width = sum(width**2 for width in half_widths) ** 0.5 / len(strata)
    return f"{100 * sum(means) / len(means):+.1f} ± {100 * half_width:.1f}"


def first_screen(found: Found) -> str:
    """Sets by methods, 5-way, 1 and 5 shots."""
    shapes = [(5, 1), (5, 5)]
    columns: list[tuple[str, Callable[[Key], str]]] = [
        ("this project", lambda key: accuracy(found.get(OURS, key))),
        ("nearest centroid, raw", lambda key: accuracy(found.get("centroid_raw", key))),
        ("centred", lambda key: accuracy(found.get("centroid_centred", key))),
        ("logistic regression, raw", lambda key: accuracy(found.best(REGRESSIONS["raw"], key))),
        ("centred", lambda key: accuracy(found.best(REGRESSIONS["centred"], key))),
        ("SetFit", lambda key: accuracy(found.get("setfit", key))),
        ("from scratch (0.1)", lambda key: accuracy(found.get("from_scratch", key))),
        ("gain over the best base", lambda key: gain(found.get(OURS, key), found.best(BASES, key))),
        ("trained on all, own statistics", lambda key: gain(found.get(OWN, key), found.best(BASES, key))),
    ]
    rows = [[title, *(joined(make((title, *shape)) for shape in shapes) for _, make in columns)] for title in DATA_SETS]
    for name, titles in (
        ("mean", list(DATA_SETS)),
        ("mean without fsdd and omniglot", [title for title in DATA_SETS if title not in APART]),
    ):
        gains = [joined(mean_gain(found, method, titles, shape) for shape in shapes) for method in (OURS, OWN)]
        rows.append([name, *(_mean_cells(found, titles, shapes, columns[:-2])), *gains])
    return table(["5-way, 1 / 5 shots", *(name for name, _ in columns)], rows)


def _mean_cells(found: Found, titles: list[str], shapes: list[tuple[int, int]], columns: list) -> list[str]:
    """The mean over data sets of each column of accuracies, where all have one."""
    cells_of = []
    for _, make in columns:
        means = []
        for shape in shapes:
            values = [make((title, *shape)) for title in titles]
            means.append(f"{sum(map(float, values)) / len(values):.1f}" if all(values) else "")
        cells_of.append(joined(means))
    return cells_of


def other_shapes(found: Found) -> str:
    """The same for the other numbers of classes and shots, a cell a row."""
    rows = []
    for cell in cells():
        if cell.n_way == 5 and cell.k_shot in (1, 5):
            continue
        ours, best = found.get(OURS, cell.key), found.best(BASES, cell.key)
        own = found.get(OWN, cell.key)
        parts = [accuracy(found.get(name, cell.key)) for name in ("centroid_raw", "centroid_centred")]
        parts += [accuracy(found.best(REGRESSIONS[space], cell.key)) for space in ("raw", "centred")]
        shape = [cell.data_set, f"{cell.n_way}", f"{cell.k_shot}"]
        rows.append([*shape, accuracy(ours), accuracy(own), *parts, gain(ours, best), gain(own, best)])
    head = ["set", "classes", "shots", "this project", "on all, own statistics", "centroid, raw", "centred"]
    head += ["regression, raw", "centred", "gain over the best base", "on all, own statistics"]
    return table(head, rows)


def left_out(found: Found) -> str:
    """The model trained without each set, beside the shipped one and the bases that know nothing of the set."""
    blind = [name for name in BASES if not name.endswith("centred") and "_centred_" not in name]
    shapes, rows = [(5, 1), (5, 5), (5, 20)], []
    for title in DATA_SETS:
        keys = [next((cell.key for cell in cells() if _shape(cell.key) == (title, *shape)), None) for shape in shapes]
        parts = [[found.get(method, key) if key else None for key in keys] for method in (WITHOUT, OURS)]
        raw = [found.best(blind, key) if key else None for key in keys]
        best = [found.best(BASES, key) if key else None for key in keys]
        if not any(parts[0]):
            continue
        gains = [joined(gain(one, other) for one, other in zip(parts[0], bases, strict=True)) for bases in (raw, best)]
        rows.append([title, *(joined(map(accuracy, own)) for own in (*parts, raw)), *gains])
    head = ["5-way, 1 / 5 / 20 shots", "trained without the set", "shipped", "best raw base", "gain over it"]
    return table([*head, "gain over the best of all"], rows)


def _shape(key: Key) -> Key:
    """Omniglot has 15 shots in place of 20."""
    return (key[0], key[1], 20 if key[2] == 15 else key[2])


def calibration(found: Found) -> str:
    """Calibration error, and what `reject_below=0.6` keeps."""
    rows = []
    for cell in cells():
        ours, other = found.get(OURS, cell.key), found.get("regression_raw_10", cell.key)
        if ours is None:
            continue
        row = [cell.data_set, f"{cell.n_way}", f"{cell.k_shot}", f"{100 * ours['calibration_error']:.1f}"]
        row += ["" if other is None else f"{100 * other['calibration_error']:.1f}", f"{100 * ours['kept']:.0f}"]
        kept = ours["accuracy_of_kept"]
        rows.append([*row, "" if kept is None else f"{100 * kept:.1f}", accuracy(ours)])
    head = ["set", "classes", "shots", "calibration error, %", "of regression, C = 10", "kept, %"]
    return table([*head, "accuracy of these", "of all"], rows)


def on_everything(found: Found) -> str:
    """What training on free data alone costs: the shipped model beside one that is trained on all sets."""
    shapes, rows = [(5, 1), (5, 5)], []
    for title in DATA_SETS:
        pairs = [[found.get(method, (title, *shape)) for method in (OURS, EVERYTHING)] for shape in shapes]
        parts = [joined(accuracy(pair[i]) for pair in pairs) for i in (0, 1)]
        rows.append([title, *parts, joined(gain(more, ours) for ours, more in pairs)])
    costs = [mean_gain(found, EVERYTHING, list(DATA_SETS), shape, [OURS]) for shape in shapes]
    rows.append(["mean", "", "", joined(costs)])
    return table(["5-way, 1 / 5 shots", "shipped", "trained on all sets", "difference"], rows)


def all_bases(found: Found) -> str:
    """Each base by itself, 5-way."""
    rows, shapes = [], [(5, 1), (5, 5)]
    for base in bases():
        rows.append(
            [base.title, *(joined(accuracy(found.get(base.name, (title, *s))) for s in shapes) for title in DATA_SETS)]
        )
    return table(["5-way, 1 / 5 shots", *DATA_SETS], rows)


def setfit(found: Found) -> str:
    """SetFit beside the model on levels, with seconds of fit and predict."""
    rows = []
    for key, own in sorted(found.all.get("setfit", {}).items(), key=lambda item: (item[0][2], item[0][0])):
        ours, base = found.get(OURS, key), found.best(REGRESSIONS["raw"], key)
        same = ["" if other is None else f"{100 * _of_first(other, own['episodes']):.1f}" for other in (ours, base)]
        times = f"{own['seconds'] / own['seconds_of_levels']:.0f}"
        seconds = [f"{own['seconds']:.1f}", f"{own['seconds_of_levels']:.2f}", times]
        rows.append([key[0], str(key[2]), str(own["episodes"]), accuracy(own), *same, gain(ours, own), *seconds])
    head = ["set", "shots", "episodes", "SetFit", "this project", "regression", "this project - SetFit"]
    return table([*head, "SetFit, CPU s", "this project, CPU s", "times slower"], rows)


def _of_first(own: Stored, number: int) -> float:
    right = own["right"][:number]
    return sum(right) / len(right) / (own["n_way"] * own["n_query"])


def conditions(found: Found) -> str:
    """How the numbers were measured; whatever differs between cells is listed."""
    stored = [own for name in (OURS, EVERYTHING, OWN, WITHOUT, *BASES) for own in found.all.get(name, {}).values()]
    if not stored:
        return "Nothing has been measured yet."

    def values(name: str) -> str:
        return ", ".join(map(str, sorted({own[name] for own in stored})))

    commits = ", ".join(sorted({str(own["commit"])[:8] for own in stored}))
    numbers = [own["episodes"] for own in stored]
    most, least = max(numbers), min(numbers)
    fewer = [f"{least} in some"] if least < most else []
    for method, title in (("from_scratch", "from scratch"), ("setfit", "SetFit")):
        if own_numbers := sorted({own["episodes"] for own in found.all.get(method, {}).values()}):
            fewer.append(f"{' or '.join(map(str, own_numbers))} {title}")
    limits = f" ({', '.join(fewer)})" if fewer else ""
    return (
        f"Protocol {values('protocol')}: no test class was seen in training. Support and query come from different "
        "documents (brown), recordings (esc50) and, where the row says so, speakers. 15 queries a class; esc50 has 5 "
        f"at 1 shot and 3 at 5, omniglot 5 at 15. {most} episodes a cell{limits}, the same for all "
        f"methods (seed {values('seed')}); inductive; mean, and ± the 95 % interval over episodes, paired for "
        f"differences; commit {commits}. Test classes of all sets were looked at in 5-way episodes while the method "
        "was developed; cells with more classes were not."
    )


def parts(found: Found) -> dict[str, str]:
    """Name of the place on the page -> its content."""
    return {
        "comparison": f"{first_screen(found)}\n\n{conditions(found)}",
        "comparison_shapes": other_shapes(found),
        "comparison_without": left_out(found),
        "comparison_everything": on_everything(found),
        "comparison_calibration": calibration(found),
        "comparison_setfit": setfit(found),
        "comparison_bases": all_bases(found),
        "comparison_own_sets": own_sets_tables(),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--page", type=Path, default=results.REPOSITORY / "docs" / "results.md")
    page = parser.parse_args(argv).page
    for name, content in parts(Found()).items():
        publish(name, content, page)
    if page == readme_table.RESULTS:
        readme_table.main([])


if __name__ == "__main__":
    main()
