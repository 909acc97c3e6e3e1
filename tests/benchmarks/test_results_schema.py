"""Every stored result has the fields that tables rest on, of their types and in their ranges."""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "results"
COMMIT = re.compile(r"[0-9a-f]{7,40}\+?")


def whole(at_least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def shares(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(share, value))


def is_queries(value: Any) -> bool:
    numbers = value.values() if isinstance(value, dict) else [value]
    return all(map(whole(1), numbers))


def truth(value: Any) -> bool:
    return isinstance(value, bool)


def words(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def is_commit(value: Any) -> bool:
    return isinstance(value, str) and COMMIT.fullmatch(value) is not None


EPISODES = {"n_way": whole(2), "k_shot": whole(1)}
MEASURED = {"accuracy": share, "accuracy_ci95": share, "episodes": whole(1), "commit": is_commit}
CELL = EPISODES | MEASURED | {"data_set": words, "n_query": is_queries, "method": words, "protocol": words}
CELL |= {"source_disjoint": truth, "transductive": truth, "seed": whole(0), "rows": words}
RUN = EPISODES | {"name": words, "what": words, "config": words, "split": words, "protocol": words, "commit": is_commit}
RUN |= {"source_disjoint": truth, "transductive": truth, "n_query": is_queries, "seed": whole(0), "eval_seed": whole(0)}
RUN |= {"test_accuracy": share, "test_accuracy_ci95": share, "test_episodes": whole(1), "training_steps": whole(0)}
ROW = EPISODES | MEASURED | {"method": words, "n_query": is_queries, "transductive": truth, "eval_seed": whole(0)}
OWN_SET = {"set": words, "k_shot": whole(1), "draws": whole(2), "seed": whole(0), "commit": is_commit, "classes": list}
LAYER = {"layer": whole(0), "method": words, "k_shot": whole(1), "accuracy": share, "draws": shares}
REPRODUCTION = (
    EPISODES | MEASURED | {"name": words, "method": words, "config": words, "protocol": words, "command": words}
)
REPRODUCTION |= {"source_disjoint": truth, "transductive": truth, "n_query": is_queries, "seed": whole(0)}
REPRODUCTION |= {"eval_seed": whole(0), "training_steps": whole(1), "developed_on": words}
ANALYSIS = EPISODES | {"name": words, "command": words, "split": words, "protocol": words, "commit": is_commit}


def entries(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The entries of a file, each with its schema."""
    content, place = json.loads(path.read_text()), path.relative_to(RESULTS)
    if place.parts[0] == "comparison":
        yield from ((own, CELL) for own in content)
    elif place.parts[:2] == ("experiments", "analysis"):
        yield content, ANALYSIS
    elif place.parts[0] == "experiments":
        yield from ((own, ROW) for own in content["rows"]) if "rows" in content else [(content, RUN)]
    elif place.parts[0] == "reproductions":
        yield content, REPRODUCTION
    elif place.name == "own_sets.json":
        yield from ((own, OWN_SET) for own in content)
    elif place.name == "encoder_layers.json":
        yield from ((own, LAYER) for own in content["results"])
    elif place.name == "pretrained_text.json":
        yield from ((own, ROW) for own in content)
    else:
        pytest.fail(f"{path} has no schema: add one to {__file__}")


def problems(own: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """What is wrong with an entry."""
    missing = [f"{name} is missing" for name in schema if name not in own]
    wrong = [
        f"{name}={own[name]!r}"
        for name, check in schema.items()
        if name in own and not (isinstance(own[name], check) if isinstance(check, type) else check(own[name]))
    ]
    wrong += [
        f"{name}={value!r}" for name, value in own.items() if isinstance(value, float) and not math.isfinite(value)
    ]
    if "right" in own and not missing:
        queries = own["n_way"] * own["n_query"]
        mean = sum(own["right"]) / queries / len(own["right"])
        if len(own["right"]) != own["episodes"] or not math.isclose(mean, own["accuracy"], abs_tol=1e-9):
            wrong.append(f"accuracy={own['accuracy']} is not the mean of its {len(own['right'])} episodes, {mean}")
    for name, value in own.get("accuracies", {}).items() if isinstance(own.get("accuracies"), dict) else ():
        if not shares(value) or len(value) != own.get("draws"):
            wrong.append(f"accuracies of {name}: {value!r}")
    return missing + wrong


FILES = sorted(RESULTS.rglob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(RESULTS).as_posix())
def test_results_have_their_fields_in_their_ranges(path):
    found = list(entries(path))
    assert found
    for number, (own, schema) in enumerate(found):
        assert problems(own, schema) == [], f"entry {number}"


def test_what_is_wrong_is_found():
    own = json.loads((RESULTS / "comparison" / "levels.json").read_text())[0]
    assert problems(own, CELL) == []
    for name, value in [("accuracy", 1.5), ("accuracy", own["accuracy"] + 0.001), ("n_way", True), ("commit", "main")]:
        assert problems(own | {name: value}, CELL), name
    assert problems({key: value for key, value in own.items() if key != "seed"}, CELL) == ["seed is missing"]
