"""
Writes the tables of docs/reproductions.md from the records in `results/reproductions/`.

    python -m benchmarks.reproductions.report
"""

import json
from pathlib import Path

from ..pages import command_line, percent, replace_between, table
from .runs import REPOSITORY, RESULTS, RUNS, Reproduction

PAGE = REPOSITORY / "docs" / "reproductions.md"
PART = "reproductions"


def records() -> list[dict]:
    """The stored records, in the order of the runs."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    order = list(RUNS)
    return sorted(found, key=lambda record: (order.index(record["name"]), record["seed"]))


def conditions(record: dict) -> str:
    """One line on how a figure was measured."""
    data = "; ".join(
        f"{name} ({', '.join(f'{part} {sizes[0]} classes' for part, sizes in own['classes_and_samples'].items())})"
        for name, own in record["data"].items()
    )
    kind = "transductive" if record["transductive"] else "inductive"
    at = f", the best on validation at {record['best_step']}" if record["best_step"] else ""
    steps = record["num_eval_inner_steps"] or record["num_inner_steps"]
    commit = (record["commit"] or "unknown")[:8]
    return (
        f"{record['protocol']}; {data}; {record['n_way']}-way {record['k_shot']}-shot, {record['n_query']} queries a "
        f"class, {record['episodes']} test episodes (seed {record['eval_seed']}); {record['training_steps']} "
        f"meta-steps of {record['tasks_per_step']} tasks{at}; {steps} inner steps in the test; {kind}; training seed "
        f"{record['seed']}; commit {commit}; {record['wall_s'] / 60:.0f} minutes on one thread, beside other programs; "
        f"looked at during development: {record['developed_on']}"
    )


def overview(found: list[dict]) -> str:
    """Published figures beside ours; an empty cell is a run that has not been made."""
    rows = []
    for name, run in RUNS.items():
        own = [record for record in found if record["name"] == name]
        ours = [percent(record["accuracy"], record["accuracy_ci95"]) for record in own]
        held_out = [percent(**_mean_and_interval(record["validation"])) for record in own]
        for published in run.published:
            rows.append([run.method, _link(run), published.setting, published.accuracy, published.source])
            rows[-1] += [", ".join(held_out), ", ".join(ours)]
    head = ["method", "config", "published on", "published, %", "source", "ours, validation, %", "ours, test, %"]
    return table(head, rows, words=(0, 1, 2, 4))


def details(found: list[dict]) -> str:
    """What differs from the published run, and under which conditions ours was measured."""
    lines = []
    for name, run in RUNS.items():
        own = [record for record in found if record["name"] == name]
        lines.append(f"**{run.method}, `{name}`.** " + " ".join(_sentences(run)))
        lines += [f"Ours: {conditions(record)}." for record in own]
        if not own:
            lines.append("No run of it is stored.")
    return "\n\n".join(lines)


def report() -> str:
    """What stands between the marks of the page."""
    found = records()
    return f"{overview(found)}\n\n{details(found)}"


def _sentences(run: Reproduction) -> list[str]:
    reduced = [f"Reduced: {run.reduced}."] if run.reduced else []
    return reduced + ([f"Absent: {run.absent}."] if run.absent else [])


def _mean_and_interval(numbers: dict) -> dict[str, float]:
    return {"mean": numbers["accuracy"], "half_width": numbers["accuracy_ci95"]}


def _link(run: Reproduction) -> str:
    return f"[{Path(run.config).stem}](../{run.config})"


def main(argv: list[str] | None = None) -> None:
    command_line(__doc__, page=False).parse_args(argv)
    replace_between(PAGE, PART, report())
    print(f"{PAGE} is written, from {len(records())} records")


if __name__ == "__main__":
    main()
