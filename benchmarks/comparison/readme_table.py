"""
Writes the short table of the README from the first table of docs/results.md, which `benchmarks.comparison.report`
writes: that program ends with this one.

    python -m benchmarks.comparison.readme_table
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ..pages import command_line, parts_of, publish, table
from .results import REPOSITORY

README, RESULTS = REPOSITORY / "README.md", REPOSITORY / "docs" / "results.md"
# Column of the README -> column of the results, whose header may be continued by that of its left neighbour.
COLUMNS = {
    "this project": "this project",
    "nearest centroid": "nearest centroid, centred",
    "logistic regression": "logistic regression, centred",
    "SetFit": "SetFit",
    "gain over the best of eleven": "gain over the best base",
}
KINDS = {
    "brown": "passages of books and papers",
    "banking77": "requests to a bank",
    "clinc150": "requests to an assistant",
    "esc50": "everyday sounds",
    "cifar100": "photographs, 32 x 32 pixels",
    "omniglot": "handwritten characters",
    "fsdd": "spoken digits",
    "fsdd, other speakers": "spoken digits, other speakers in the queries",
}


def first_table(page: Path) -> list[dict[str, str]]:
    """
    The rows of the first table of the results, by the names of their columns.

    Raises:
        ValueError: the table lacks a column that the README shows.
    """
    _, content, _ = parts_of(page, "comparison")
    lines = [line.strip("|").split("|") for line in content.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in cells] for cells in lines]
    for column, name in enumerate(head):
        if name in ("raw", "centred"):  # of the same base as its left neighbour
            head[column] = f"{head[column - 1].split(',')[0]}, {name}"
    missing = [name for name in COLUMNS.values() if name not in head]
    if missing:
        raise ValueError(f"the first table of {page} has the columns {head}; the README's needs {missing}, too")
    return [{"": cells[0], **dict(zip(head, cells, strict=True))} for cells in rows]


def judged(rows: Iterable[dict[str, str]], shot: int) -> dict[str, list[str]]:
    """Which sets this project is ahead on, level on and behind on, by whether the interval of the gain holds 0."""
    found: dict[str, list[str]] = {"ahead": [], "level": [], "behind": []}
    for row in rows:
        gains = row[COLUMNS["gain over the best of eleven"]].split(" / ")
        matched = re.fullmatch(r"([+-][\d.]+) ± ([\d.]+)", gains[shot]) if len(gains) == 2 else None
        if matched and not row[""].startswith("mean"):
            gain, half_width = map(float, matched.groups())
            word = "level" if abs(gain) <= half_width else "ahead" if gain > 0 else "behind"
            found[word].append(row[""])
    return found


def sentence(rows: list[dict[str, str]]) -> str:
    """Where it is ahead and where it is not, in words."""
    parts = []
    for shot, title in enumerate(("one example", "five examples")):
        found = judged(rows, shot)
        words = {"ahead": "ahead on", "level": "not distinguishable on", "behind": "behind on"}
        said = [f"{words[word]} {_listed(sets)}" for word, sets in found.items() if sets]
        parts.append(f"With {title} a class it is {'; '.join(said)}.")
    return "\n".join(parts)


def _listed(names: list[str]) -> str:
    """Names in a sentence; one with a comma stands in parentheses behind its set."""
    names = [re.sub(r", (.*)", r" (\1)", name) for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def short_table(page: Path = RESULTS) -> str:
    """The table of the README and the sentences below it."""
    rows = first_table(page)
    # Of the short names of sets, the README says what is in them.
    titles = [f"{row['']}: {KINDS[row['']]}" if row[""] in KINDS else row[""] for row in rows]
    cells = [[title, *(row[name] for name in COLUMNS.values())] for title, row in zip(titles, rows, strict=True)]
    return f"{table(['5 classes, 1 / 5 examples of each', *COLUMNS], cells)}\n\n{sentence(rows)}"


def main(argv: list[str] | None = None) -> None:
    command_line(__doc__ or "", page=False).parse_args(argv)
    publish("comparison_short", short_table(), README)


if __name__ == "__main__":
    main()
