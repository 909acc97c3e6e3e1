"""The programs beside the comparison: time of fit and predict, the own sets with a model, and the floors."""

import json

import numpy as np
import pytest
import torch

from benchmarks.comparison import fit_and_predict, floors, report, results
from benchmarks.comparison.cells import DATA_SETS
from benchmarks.own_sets import media, runner

from ..level_models import save_level_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save_level_model(tmp_path_factory.mktemp("model")))


def test_fit_and_predict_is_timed_beside_the_encoder_on_the_same_inputs(model, monkeypatch, tmp_path):
    monkeypatch.setattr(media, "PER_CLASS", 6)
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {fit_and_predict.PART}: begin -->\n<!-- {fit_and_predict.PART}: end -->\n")
    fit_and_predict.main(["--model", model, "--rounds", "1", "--threads", "1", "--write", str(page)])
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("|")][2:]
    assert [row[:3] for row in rows] == [
        ["short texts", "25", "35"],
        ["pictures of 96 px", "30", "6"],
        ["sounds of 1 s", "20", "4"],
        ["sounds of 5 s", "20", "4"],
    ]
    assert all(float(row[3]) > 0 and float(row[5].split()[0]) > 0 for row in rows)


def test_a_model_is_measured_on_own_sets(model, monkeypatch, tmp_path):
    monkeypatch.setattr(media, "PER_CLASS", 8)
    sets = ["sentiment", "textures", "noise colours"]
    options = ["--model", model, "--draws", "2", "--threads", "1", "--json", str(tmp_path / "own.json")]
    runner.main([*options, "--sets", *sets])
    found = json.loads((tmp_path / "own.json").read_text())
    assert [(own["set"], own["k_shot"]) for own in found] == [(name, k_shot) for name in sets for k_shot in (1, 5)]
    for own in found:
        assert all(len(values) == 2 and 0 <= min(values) <= max(values) <= 1 for values in own["accuracies"].values())
        simple = [f"logistic regression on {name}" for name in runner.SIMPLE[own["modality"]]]
        assert set(simple) < own["accuracies"].keys() and runner.OURS in own["accuracies"]


def test_floors_name_what_is_not_met(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "none.json")
    own, base = [], []
    for title in DATA_SETS:
        more = {"data_set": title, "n_way": 5, "k_shot": 1, "n_query": 2, "episodes": 2, "seed": 0, "rows": "a"}
        right = [5, 4] if title == "brown" else [10, 10]
        own.append({**more, "method": "levels_own", "accuracy": np.mean(right) / 10, "right": right})
        base.append({**more, "method": "regression_raw_10", "accuracy": 0.9, "right": [9, 9]})
    results.write("levels_own", own, tmp_path)
    results.write("regression_raw_10", base, tmp_path)
    found = {text: is_met for text, _, _, is_met in floors.checks(report.Found(tmp_path))}
    assert found["accuracy, own statistics, brown, 1 shots"] and found["accuracy, own statistics, esc50, 1 shots"]
    assert not found["levels_own over the best base, brown, 5-way 1-shot"]
    assert found["levels_own over the best base, esc50, 5-way 1-shot"]
    assert not found["mean gain of levels_own, 1 shots"]
    assert torch.is_grad_enabled()
    floors.main([])
    assert "bounds are met" in capsys.readouterr().out
