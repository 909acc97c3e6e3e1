"""The reproductions: their configs, their records, and the page that is made from these."""

import dataclasses
import json
import re
import shlex

import pytest

import run_meta
from benchmarks import pages
from benchmarks.reproductions import report, runner, runs
from benchmarks.reproductions.runs import RUNS
from msmaml.runs.run_arguments import parse_arguments

from ..conftest import REPOSITORY

CONFIGS = sorted((REPOSITORY / "configs" / "reproductions").glob("*.yaml"))
TINY = {
    "max_steps": "2",
    "per_device_train_batch_size": "2",
    "layer_widths": "[4, 4, 4, 4]",
    "n_query": "2",
    "train_n_query": "1",
    "num_eval_episodes": "2",
    "num_test_episodes": "3",
    "eval_steps": "1",
    "save_steps": "1",
    "logging_steps": "1",
    "use_cpu": "true",
    "disable_tqdm": "true",
}
# What a record must say beside the accuracy, each with its type.
SCHEMA = {
    **dict.fromkeys(("name", "method", "config", "protocol", "command", "developed_on"), str),
    **dict.fromkeys(("n_way", "k_shot", "n_query", "episodes", "eval_seed", "seed", "training_steps"), int),
    **dict.fromkeys(("tasks_per_step", "num_inner_steps", "threads"), int),
    **dict.fromkeys(("accuracy", "accuracy_ci95", "wall_s"), float),
    **dict.fromkeys(("data", "options", "trained", "validation", "learning_curve"), dict),
    **dict.fromkeys(("source_disjoint", "transductive"), bool),
}


def words(options: dict) -> list[str]:
    return [
        w for name, value in options.items() for w in (f"--{name}", *([value] if isinstance(value, str) else value))
    ]


def check_record(record: dict) -> None:
    for key, kind in SCHEMA.items():
        assert isinstance(record[key], kind), key
    assert 0 <= record["accuracy"] <= 1 and 0 <= record["accuracy_ci95"] < 1
    assert set(record["validation"]) == {"accuracy", "accuracy_ci95", "episodes"}
    for own in record["data"].values():
        assert set(own["classes_and_samples"]) == {"train", "validation", "test"}
    placeholders = shlex.split(record["command"])
    assert placeholders[placeholders.index("--data_dir") + 1] == "DATA"
    assert placeholders[placeholders.index("--output_dir") + 1] == "OUTPUT"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_runs(path, data_dir, cache_dir, tmp_path):
    """A few tiny steps on real data, by the command line of a user."""
    folders = {"data_dir": str(data_dir), "cache_dir": str(cache_dir), "output_dir": str(tmp_path)}
    results = run_meta.main([str(path), *words({**folders, **TINY})])
    assert results["test_episodes"] == 3 and 0 <= results["test_accuracy"] <= 1
    assert 0 <= results["eval_accuracy"] <= 1


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_a_command_that_differs_from_its_config(name, tmp_path):
    run = RUNS[name]
    plain = parse_arguments([run.config, "--output_dir", str(tmp_path), "--use_cpu", "true"])
    reduced = parse_arguments([*runs.command(name, 3, "DATA", tmp_path)[1:], "--use_cpu", "true"])
    before, after = ({k: v for part in parsed for k, v in vars(part).items()} for parsed in (plain, reduced))
    assert after["seed"] == 3
    for option in run.options:
        assert before[option] != after[option], f"{option} is that of {run.config} already"


def test_there_is_a_run_for_each_config_and_a_row_for_each_in_the_docs():
    assert {REPOSITORY / run.config for run in RUNS.values()} == set(CONFIGS)
    page = report.PAGE.read_text()
    for path in CONFIGS:
        assert f"run_meta.py configs/reproductions/{path.name} " in page


def test_commands_of_the_page_are_those_of_its_programs(tmp_path, monkeypatch, capsys):
    page, ran = report.PAGE.read_text(), []
    monkeypatch.setattr(runs, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr(runner, "execute", lambda *given: ran.append(given) or {"accuracy": 0.5, "accuracy_ci95": 0.1})
    (block,) = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    for line in block.splitlines():
        _, _, module, *argv = shlex.split(line)
        assert not {"runner": runner.main, "report": report.main}[module.removeprefix("benchmarks.reproductions.")](
            argv
        )
    assert [name for name, *_ in ran] == ["maml_omniglot"]
    assert capsys.readouterr().out.count("to do") == len(RUNS)


@pytest.fixture
def tiny(tmp_path, monkeypatch, cache_dir):
    """One run, made tiny, whose record lies in an empty folder."""
    whole = RUNS["maml_omniglot"]
    options = {**whole.options, **TINY, "augment": "false", "max_steps": "1", "cache_dir": str(cache_dir)}
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(RUNS, "maml_omniglot", dataclasses.replace(whole, options=options))
    # In this process, where the options that are parsed are checked as well.
    monkeypatch.setattr(runner, "run_command", lambda words, log: run_meta.main(words[1:]))
    return tmp_path


def test_a_run_leaves_a_record_that_the_page_shows(tiny, data_dir, capsys):
    argv = ["--data_dir", str(data_dir), "--runs", "maml_omniglot", "--outputs", str(tiny / "models")]
    assert runner.main(argv) == 0
    record = json.loads((tiny / "results" / "maml_omniglot-seed0.json").read_text())
    check_record(record)
    assert record["training_steps"] == 1 and record["trained"]["new_classes"] == ["rotate"]
    counts = record["data"]["omniglot"]["classes_and_samples"]
    assert counts == {"train": [74, 1480], "validation": [22, 440], "test": [40, 800]}
    accuracy = pages.percent(record["accuracy"], record["accuracy_ci95"])
    assert f"| {accuracy} |" in report.overview(report.records())
    assert "of 2 tasks" in report.details(report.records())
    capsys.readouterr()
    assert runner.main(argv) == 0
    assert capsys.readouterr().out.split() == ["maml_omniglot", "MAML", "done"], "what is stored is skipped"


def test_a_stopped_run_goes_on_and_a_failed_one_is_named(tiny, data_dir, monkeypatch, capsys):
    commands = []

    def stopped(words, log):
        commands.append(words)
        (tiny / "models" / "maml_omniglot-seed0" / "checkpoint-5").mkdir(parents=True, exist_ok=True)
        raise RuntimeError("killed (exit status 137)")

    monkeypatch.setattr(runner, "run_command", stopped)
    argv = ["--data_dir", str(data_dir), "--runs", "maml_omniglot", "--outputs", str(tiny / "models")]
    assert [runner.main(argv), runner.main(argv)] == [1, 1]
    assert "maml_omniglot: failed: killed (exit status 137)" in capsys.readouterr().out
    assert "--resume_from_checkpoint" not in commands[0]
    assert commands[1][-1].endswith("checkpoint-5") and not (tiny / "results").exists()


def test_stored_records_say_all_that_a_figure_needs_and_the_page_is_made_of_them():
    for record in report.records():
        check_record(record)
        assert len(record["commit"]) == 40
        assert record["options"] == RUNS[record["name"]].options, "the run has changed since: make it again"
    _, content, _ = pages.parts_of(report.PAGE, report.PART)
    assert content.strip() == report.report(), "run python -m benchmarks.reproductions.report"
