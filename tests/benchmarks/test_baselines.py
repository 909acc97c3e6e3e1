"""The command that compares baselines: same episodes, paired differences, and a table with its conditions."""

import json
import shlex

import pytest

import run_meta
from benchmarks.baselines import contenders, report, runner
from benchmarks.baselines.contenders import CONTENDERS, SETTINGS, Setting, options_of
from modeling_msmaml.training.metrics import mean_and_ci95
from msmaml.runs.run_arguments import parse_arguments


def test_a_table_of_two_contenders(tmp_path, monkeypatch, capsys):
    small = {"datasets": "synthetic:image", "norm": "group", "num_channels": "4"}
    monkeypatch.setitem(SETTINGS, "cifar100", Setting("Synthetic pictures", small))
    monkeypatch.setattr(contenders, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runner, "run_command", lambda words, log: run_meta.main(words[1:]))
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- cifar100: begin -->\nold\n<!-- cifar100: end -->\nAfter.\n")
    words = ["--settings", "cifar100", "--contenders", "ms_maml", "simpleshot", "--steps", "1", "--tasks", "1"]
    words += ["--episodes", "3", "--outputs", str(tmp_path / "models"), "--write", str(page)]
    assert runner.main(words) == 0
    ours, other = (
        json.loads((tmp_path / "results" / f"cifar100-{name}-seed0.json").read_text())
        for name in ("ms_maml", "simpleshot")
    )
    for one, two in zip(ours["tests"], other["tests"], strict=True):
        assert len(one["right"]) == 3 and one["accuracy"] == pytest.approx(sum(one["right"]) / 3 / 75)
        mean, half_width = report.difference(two, one)
        pairs = [(a - b) / 75 for a, b in zip(two["right"], one["right"], strict=True)]
        assert (mean, half_width) == mean_and_ci95(pairs)
        assert f"{100 * mean:+.2f} ± {100 * half_width:.2f}" in page.read_text()
    assert [test["k_shot"] for test in ours["tests"]] == [1, 5]
    for condition in ("class_disjoint", "3 test episodes", "1 meta-steps of 1 tasks", "inductive", "| SimpleShot |"):
        assert condition in page.read_text()
    assert "old" not in page.read_text() and "After." in page.read_text()
    parse_arguments(shlex.split(other["command"].replace("OUTPUT", str(tmp_path / "out")))[2:])
    capsys.readouterr()
    assert runner.main(words) == 0
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"k_shot": 5}, {"right": [1]}, {"eval_seed": 7}])
def test_tests_of_other_episodes_are_not_paired(change):
    test = {"n_way": 5, "k_shot": 1, "queries": 75, "protocol": "class_disjoint", "source_disjoint": True}
    test |= {"eval_seed": 0, "right": [30, 40]}
    with pytest.raises(ValueError, match="no episodes in common|measure both again"):
        report.difference(test, {**test, **change})


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", CONTENDERS)
def test_contenders_differ_in_nothing_but_their_method(setting, name, tmp_path):
    """And every option is one of a run."""
    options = options_of(setting, name, seed=1, steps=10, tasks=4)
    parse_arguments(runner.words_of(options, output_dir=tmp_path, data_dir=tmp_path))
    ours = options_of(setting, "ms_maml", seed=1, steps=10, tasks=4)
    of_method = {"task_network", "feature_size", "auxiliary", "episode_weight", "num_inner_steps", "inner_lr"}
    of_method |= {"learning_rate"} if setting == "clinc150" else set()
    assert {key for key in options.keys() | ours.keys() if options.get(key) != ours.get(key)} <= of_method
