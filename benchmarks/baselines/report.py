"""The tables of docs/baselines.md, from the JSONs of `results/baselines/` alone."""

import json
from pathlib import Path

from modeling_msmaml.training.metrics import mean_and_ci95

from ..pages import percent, publish, table
from .contenders import CONTENDERS, SETTINGS, SHOTS, result_path

OURS = "ms_maml"
# What a test has in common with those that it is paired with.
CONDITIONS = ("n_way", "k_shot", "queries", "protocol", "source_disjoint", "eval_seed")


def difference(one: dict, other: dict) -> tuple[float, float]:
    """
    The mean difference of the accuracies of two tests on the same episodes, and the half-width of its 95 % interval.

    Raises:
        ValueError: the tests are not of the same episodes.
    """
    for key in CONDITIONS:
        if one[key] != other[key]:
            raise ValueError(f"tests with {key}={one[key]} and {key}={other[key]} have no episodes in common")
    if len(one["right"]) != len(other["right"]):
        raise ValueError(f"tests of {len(one['right'])} and {len(other['right'])} episodes: measure both again")
    pairs = zip(one["right"], other["right"], strict=True)
    return mean_and_ci95([(a - b) / one["queries"] for a, b in pairs])


def stored(setting: str, seed: int) -> dict[str, dict]:
    """What is there of a setting, by contender, in the order of the table."""
    paths = {name: result_path(setting, name, seed) for name in CONTENDERS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def table_of(setting: str, seed: int) -> str:
    """The table of a setting, below what a reader must know of its numbers."""
    found = stored(setting, seed)
    if not found:
        return "Nothing was measured yet."
    head, rows = ["method"], []
    for k_shot in SHOTS:
        head += [f"5-way {k_shot}-shot", "less MS-MAML"]
    for name, result in found.items():
        row = [CONTENDERS[name].title]
        for number, test in enumerate(result["tests"]):
            row.append(percent(test["accuracy"], test["accuracy_ci95"]))
            others = found[OURS]["tests"][number] if OURS in found and name != OURS else None
            row.append("" if others is None else percent(*difference(test, others), sign="+"))
        rows.append([*row, f"{result['tests'][0]['parameters']:,}"])
    return f"{SETTINGS[setting].title}. {conditions(list(found.values()))}\n\n{table([*head, 'trained numbers'], rows)}"


def conditions(results: list[dict]) -> str:
    """How the numbers of a table were measured; whatever differs between rows is listed."""
    shared = {True: "support and query from different sources", False: "support and query may share sources"}
    how = {True: "transductive", False: "inductive"}
    tests = [test for result in results for test in result["tests"]]
    sources = " or ".join(shared[kind] for kind in sorted({test["source_disjoint"] for test in tests}))
    kinds = " or ".join(how[kind] for kind in sorted({test["transductive"] for test in tests}))
    commits = ", ".join(sorted({str(result["commit"])[:9] for result in results}))

    def values(key: str) -> str:
        return " or ".join(dict.fromkeys(str(result[key]) for result in results))

    def of_tests(key: str) -> str:
        return " or ".join(dict.fromkeys(str(test[key]) for test in tests))

    queries = " or ".join(dict.fromkeys(str(test["queries"] // test["n_way"]) for test in tests))
    episodes = " or ".join(dict.fromkeys(str(len(test["right"])) for test in tests))
    return (
        f"Protocol {of_tests('protocol')}, {of_tests('test_classes')} test classes; {sources}; {queries} queries per "
        f"class; {episodes} test episodes (seed {of_tests('eval_seed')}), the same for all; each trained once (seed "
        f"{values('seed')}) for {SHOTS[0]} shot with {values('steps')} meta-steps of {values('tasks')} tasks; no "
        f"setting was chosen by these results, and none on test classes; {kinds}; mean and 95 % interval over "
        f"episodes, of differences paired by episode, in %; commit {commits}."
    )


def publish_tables(settings: list[str], seed: int, page: Path | None) -> None:
    """Prints the tables, and puts them into their places on a page if there is one."""
    for setting in settings:
        publish(setting, table_of(setting, seed), page)
