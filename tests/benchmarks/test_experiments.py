"""The grid of experiments and the report that is made from its JSONs."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

import run_meta
from benchmarks import pages
from benchmarks.data import DATA_SETS, MODALITIES
from benchmarks.experiments import analysis, grid, pictures, report, result_tables, runner
from benchmarks.experiments.grid import RUNS, Job, Run
from data_builders.episodes.task_augmentation import NEW_CLASSES
from modeling_msmaml import MSMAMLConfig
from msmaml.runs.run_arguments import parse_arguments

from ..conftest import REPOSITORY

SMALL = {
    "max_steps": "4",
    "per_device_train_batch_size": "3",
    "logging_steps": "2",
    "eval_strategy": "steps",
    "eval_steps": "2",
    "num_eval_episodes": "2",
    "num_inner_steps": "2",
    "n_query": "3",
    "use_cpu": "true",
    "disable_tqdm": "true",
}


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of results/experiments/."""
    monkeypatch.setattr(grid, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def value_of(words: list[str], option: str, default=None):
    return words[len(words) - words[::-1].index(option)] if option in words else default


def fake_run(words: list[str], log: Path) -> None:
    """Leaves what a run leaves, with made-up accuracies, at once."""
    accuracy = 0.3 + sum(map(ord, " ".join(words))) % 97 / 300
    numbers = {"accuracy": accuracy, "accuracy_ci95": 0.01}
    if words[:2] == ["-m", "benchmarks.studies.nearest_centroid"]:
        row = {"method": "nearest centroid, pixels", "modality": "image", **numbers}
        path = Path(value_of(words, "--json"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([row]))
        return
    arguments, data, args = parse_arguments([*words[1:], "--use_cpu", "true"])
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    modalities = [{"esc50": "audio", "brown": "text", "cifar100": "image"}[name] for name in data.datasets]
    settings = {name: getattr(args, name) for name in ("n_way", "k_shot", "n_query", "seed", "tasks_per_step")}
    settings |= {name: getattr(data, name) for name in ("protocol", "eval_seed", "datasets")}
    settings |= {"source_disjoint": data.protocol != "original", "training_steps": args.max_steps, "best_step": None}
    settings |= {"transductive": arguments.front_ends != "fitted", "commit": "0123456789abcdef"}
    found = {"test_accuracy": 0.5}
    for modality in modalities:
        found |= {f"test_{modality}_{name}": value for name, value in numbers.items()}
        found[f"test_{modality}_episodes"] = data.num_test_episodes
    content = json.dumps({**found, "settings": settings})
    (folder / "test_results.json").write_text(content)
    (folder / "all_results.json").write_text(content)
    log_history = [{"step": 50, "image_accuracy": 0.4}, {"step": 200, "eval_image_accuracy": 0.3}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log_history}))


def fake_data(result: dict, data_dir: str | None) -> dict:
    modalities = [m for m in MODALITIES if f"test_{m}_accuracy" in result]
    data = {m: {"name": m, "classes_and_samples": {"test": [10, 100]}} for m in modalities}
    counts = {"episodes": 600, "leaking_episodes": 300, "same_sample": 4, "same_source": 9}
    overlap = {m: {"classes_of_training_in_test": 10, **counts} for m in modalities}
    return {"data": data} | ({"overlap": overlap} if "original" in result["groups"] else {})


@pytest.fixture
def quick(results, monkeypatch) -> list[str]:
    """Runs end at once; the list holds their command lines."""
    commands = []

    def run(words: list[str], log: Path) -> None:
        commands.append(shlex.join(words))
        fake_run(words, log)

    monkeypatch.setattr(runner, "run_command", run)
    monkeypatch.setattr(runner, "describe_data", fake_data)
    return commands


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run.config is not None])
def test_every_run_is_a_valid_command_that_differs_from_its_config(name, tmp_path):
    run, job = RUNS[name], Job(name, 3)
    arguments, data, args = parse_arguments([*job.command("DATA", tmp_path)[1:], "--use_cpu", "true"])
    modalities = [m for m in MODALITIES if DATA_SETS[m] in data.datasets]
    overrides = {name: value for name, value in args.model_overrides().items() if value is not None}
    classes = {"auxiliary_classes": dict.fromkeys(modalities, 9)} if arguments.auxiliary else {}
    MSMAMLConfig(modalities=modalities, n_way=args.n_way, **arguments.given(), **overrides, **classes)
    tasks = 1 if name.endswith("_third") else 3
    assert (args.max_steps, args.tasks_per_step, args.seed) == (1 if name == "untrained" else 1000, tasks, 3)
    assert data.num_test_episodes >= 600
    assert {NEW_CLASSES[new].modality for new in args.new_classes or []} <= set(modalities)
    plain = parse_arguments([run.config, "--use_cpu", "true", "--output_dir", str(tmp_path)])
    values = [{k: v for part in parsed for k, v in vars(part).items()} for parsed in (plain, (arguments, data, args))]
    for option in run.options:
        assert values[0][option] != values[1][option], f"{option} is that of {run.config} already: {name} shows nothing"


def test_runs_of_some_modalities_leave_out_what_the_config_gives_to_others(monkeypatch):
    own = {"network_gain": '{"audio": 1.0, "text": 0.3}', "descriptor_whitening": {"audio": "class", "text": "source"}}
    monkeypatch.setattr(grid, "_yaml", lambda config: own)
    few = grid._of_its_modalities("any.yaml", {"datasets": ["esc50"]})
    assert few == {"network_gain": '{"audio": 1.0}', "descriptor_whitening": '{"audio": "class"}'}
    given = {"datasets": ["esc50"], "network_gain": "1.0", "descriptor_whitening": "total"}
    assert grid._of_its_modalities("any.yaml", given) == {}
    own.update(network_gain=0.3, descriptor_whitening="source")
    assert grid._of_its_modalities("any.yaml", {"datasets": ["esc50"]}) == {}


def test_groups_hold_what_they_are_about():
    groups = {group: set(result_tables.in_group(group)) for group in grid.GROUPS}
    assert {group for run in RUNS.values() for group in run.groups} == set(grid.GROUPS)
    assert groups["modalities"] == set(result_tables.SETS)
    for name, modalities in result_tables.SETS.items():
        sets = [DATA_SETS[m] for m in modalities]
        assert RUNS[name].options.get("datasets", sets) == sets
    assert {"protonet", "supervised", "nearest_centroid", "no_modulation", "first_order"} <= groups["baselines"]
    assert {run.options.get("protocol") for name, run in RUNS.items() if "original" in run.groups} == {"original", None}


def test_plan_takes_runs_and_groups_and_puts_second_seeds_behind_the_first():
    jobs = runner.plan([], [])
    assert {job.name for job in jobs} == set(RUNS) and len({job.label for job in jobs}) == len(jobs)
    specialists = ["audio", "text", "image", "audio_third", "text_third", "image_third"]
    second = ["flagship", "no_modulation", "protonet", "supervised", *specialists, "first_order"]
    assert [job.name for job in jobs if job.seed == 1] == second
    assert [job.name for job in jobs if job.seed > 1] == 2 * ["flagship", *specialists[3:]]
    labels = [job.label for job in jobs]
    assert (
        labels.index("reference-5w1s-seed0") < labels.index("flagship-5w1s-seed1") < labels.index("meta_sgd-5w1s-seed0")
    )
    assert {job.name for job in runner.plan(["reference"], ["modalities"])} == {"reference", *result_tables.SETS}
    assert [job.seed for job in runner.plan(["text", "nearest_centroid"], [], [4, 5])] == [0, 4, 5]


def test_finished_runs_are_skipped_and_one_training_serves_all_shots(quick, results, tmp_path, capsys):
    command = ["--runs", "flagship", "text", "--seeds", "0", "--outputs", str(tmp_path / "models")]
    assert runner.main(command) == 0
    assert len(quick) == 4 and sum("--do_train false" in line for line in quick) == 2
    stored = json.loads((results / "flagship-5w5s-seed0.json").read_text())
    assert stored["k_shot"] == 5 and stored["trained"]["k_shot"] == 1 and stored["training_steps"] == 1000
    assert stored["command"].startswith("python run_meta.py configs/flagship.yaml --output_dir OUTPUT")
    assert stored["command"].endswith("--model_name_or_path TRAINED") and str(tmp_path) not in json.dumps(stored)
    assert stored["learning_curve"] == {"train": {"image": [[50, 0.4]]}, "validation": {"image": [[200, 0.3]]}}
    assert runner.main(command) == 0
    assert len(quick) == 4 and "2 of 2 runs are done" in capsys.readouterr().out
    (results / "flagship-5w5s-seed0.json").unlink()
    assert runner.main([*command, "--workers", "2"]) == 0
    assert len(quick) == 5 and "--do_train false" in quick[-1]


def test_every_result_has_what_an_accuracy_is_worth_nothing_without(quick, results, tmp_path):
    runner.main(["--groups", "original", "--outputs", str(tmp_path)])
    stored = grid.stored_results()
    assert {result["name"] for result in stored} == set(result_tables.in_group("original"))
    needed = ("protocol", "n_way", "k_shot", "n_query", "eval_seed", "datasets", "data", "training_steps", "seed")
    needed += ("tasks_per_step", "transductive", "commit", "training_commit", "learning_curve", "command", "overlap")
    for result in stored:
        assert not [name for name in needed if result.get(name) is None]
        assert [f"test_{m}_accuracy_ci95" in result for m in result["data"]] == [True] * len(result["data"])


def test_another_grid_is_told_from_what_is_stored(quick, results, tmp_path, monkeypatch, capsys):
    command = ["--runs", "first_order", "--outputs", str(tmp_path)]
    runner.main(command)
    runner.main([*command, "--list"])
    assert re.search("first order: done$", capsys.readouterr().out.strip())
    monkeypatch.setitem(grid.BUDGET, "max_steps", "2000")
    runner.main([*command, "--list"])
    assert "done with other max_steps: delete first_order-5w1s-seed0.json" in capsys.readouterr().out


def test_no_run_is_started_that_would_end_after_the_budget(quick, results, tmp_path, capsys):
    command = ["--runs", "text", "image", "audio_text", "--seeds", "0", "--outputs", str(tmp_path), "--budget", "5"]
    assert runner.main(command[:2] + command[4:]) == 0
    path = results / "text-5w1s-seed0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "wall_s": 400.0}))
    assert runner.expected_seconds(Job("image", 0)) == 400
    assert runner.expected_seconds(Job("reference", 0)) == 400, "of another config, which is all that is known"
    assert runner.expected_seconds(Job("nearest_centroid", 0)) == 0
    assert runner.main(command) == 0
    assert "the budget of 5 minutes leaves 2 runs for later" in capsys.readouterr().out
    assert not (results / "image-5w1s-seed0.json").is_file()


def test_a_failed_run_leaves_no_result_is_reported_and_stops_no_other(results, tmp_path, monkeypatch, capsys):
    real = runner.run_command

    def run(words: list[str], log: Path) -> None:
        if "configs/image.yaml" in words or "cifar100" in words:
            real(["-c", "print('first'); raise ValueError('n_way=99 is too many')"], log)
        fake_run(words, log)

    monkeypatch.setattr(runner, "run_command", run)
    monkeypatch.setattr(runner, "describe_data", fake_data)
    assert runner.main(["--runs", "image", "reference_text", "--outputs", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    said = r"image-5w1s-seed0: failed: ValueError: n_way=99 is too many \(exit status 1; all of it in .*log.txt\)"
    assert len(re.findall(said, printed)) == 2
    assert "first" in (tmp_path / "image-5w1s-seed0" / "log.txt").read_text()
    assert [path.name for path in results.iterdir()] == ["reference_text-5w1s-seed0.json"]


def test_a_real_run_on_synthetic_tasks(results, tmp_path, monkeypatch):
    """Training, a second test with other shots, the description of the data, and what the analyses make of it."""
    options = {"datasets": ["synthetic:audio", "synthetic:image"]}
    run = Run("tiny", ("ablation", "original"), "configs/quickstart.yaml", options, shots=(1, 2), test_episodes=4)
    monkeypatch.setitem(RUNS, "tiny", run)
    monkeypatch.setattr(grid, "BUDGET", SMALL)
    monkeypatch.setattr(runner, "run_command", lambda words, log: run_meta.main(words[1:]))
    assert runner.main(["--runs", "tiny", "--outputs", str(tmp_path / "models")]) == 0
    one, two = (json.loads((results / f"tiny-5w{k}s-seed0.json").read_text()) for k in (1, 2))
    assert (one["test_audio_episodes"], two["test_image_episodes"], two["k_shot"]) == (4, 4, 2)
    assert [step for step, _ in one["learning_curve"]["validation"]["image"]] == [2, 4]
    assert one["overlap"]["audio"]["episodes"] == 4 and one["overlap"]["audio"]["classes_of_training_in_test"] == 0
    trained = str(tmp_path / "models" / "tiny-5w1s-seed0")
    analysis.main(["inner_steps", trained, "--steps", "0", "3", "--num_episodes", "3"])
    analysis.main(["task_codes", trained, "--sets", "2", "--tasks", "3"])
    found = result_tables.Results()
    (steps,), (codes,) = found.analysis("inner_steps"), found.analysis("task_codes")
    assert [point["steps"] for point in steps["curve"]] == [0, 3] and steps["trained_steps"] == 2
    assert [(group["modality"], group["set"]) for group in codes["groups"]] == [
        (modality, number) for modality in ("audio", "image") for number in (0, 1)
    ]
    assert all(np.shape(group[plane]) == (3, 2) for group in codes["groups"] for plane in ("pca", "tsne"))
    assert [name for name, _ in report.figures()] == [
        "experiments_inner_steps.svg",
        "experiments_task_codes_tiny-5w1s-seed0.svg",
    ]


def test_analyses_refuse_what_they_cannot_use(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        analysis.main(["inner_steps", str(tmp_path)])


def test_report_is_a_function_of_the_jsons(quick, results, tmp_path):
    runner.main(["--data_dir", "DATA", "--outputs", str(tmp_path / "models")])
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text("# Title\n\n<!-- experiments: begin -->\nstale\n<!-- experiments: end -->\n\nprose\n")
    report.write(page)
    first = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert {"experiments_sets.svg", "experiments_learning_curves.svg", "results.md"} == first.keys()
    text = page.read_text()
    assert text.startswith("# Title\n\n") and text.endswith("\n\nprose\n") and "stale" not in text
    for heading in (
        "Seven modality sets",
        "Baselines",
        "reference architecture",
        "published",
        "Ablation",
        "Literature",
    ):
        assert heading in text
    assert "| audio, text, image | 1 | " in text
    for as_many in ("meta-steps", "tasks of it"):
        assert f"| a specialist a modality (Multi-MAML), as many {as_many} | 0 | " in text
    assert "| audio | original | audio | " in text and "| 54 | 10 of 10 | 50.0 % | 4 of 9 |" in text
    assert "not the same data or budget" in text
    report.write(page)
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == first


def test_stored_report_is_what_the_stored_jsons_give(tmp_path):
    """docs/results.md and its pictures, generated again without a difference."""
    assert pages.parts_of(report.PAGE, report.PART)[1].strip("\n") == report.report()
    names = set()
    for name, figure in report.figures():
        names.add(name)
        pictures.save(figure, tmp_path / name)
        assert (tmp_path / name).read_text() == (report.PAGE.parent / name).read_text(), name
    assert {path.name for path in report.PAGE.parent.glob("experiments_*.svg")} == names


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n")
    with pytest.raises(ValueError, match="no place for this"):
        pages.replace_between(page, report.PART, "text")


def test_stored_results_tell_no_folders_of_a_machine():
    for path in grid.RESULTS.rglob("*.json"):
        words = shlex.split(json.loads(path.read_text())["command"])
        assert not [word for word in words if word.startswith("/")], path.name


@pytest.mark.parametrize("k_shot", [1, 5])
def test_ten_way_text_of_unseen_classes_is_refused(k_shot, data_dir, cache_dir, tmp_path):
    """Five test categories make no 10-way episode; this holds for the default and for the reference architecture."""
    (tmp_path / "model").mkdir()  # without a processor; nothing else of it is read before the data
    for command in (
        Job("text", 0, 10, k_shot).command(str(data_dir), tmp_path),
        Job("reference_text", 0, 10, k_shot).command(str(data_dir), tmp_path),
    ):
        alone = ["--do_train", "false", "--do_eval", "false", "--model_name_or_path", str(tmp_path / "model")]
        with pytest.raises(ValueError, match=r"n_way=10"):
            run_meta.main([*command[1:], "--cache_dir", str(cache_dir), "--use_cpu", "true", *alone])


@pytest.mark.parametrize("wrong", [["--n_way", "1"], ["--workers", "0"], ["--runs", "nothing"], ["--groups", "all"]])
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        runner.main(wrong)
    assert wrong[0].strip("-") in capsys.readouterr().err


def documented(module: str) -> list[str]:
    """Command lines of a benchmark in the pages of docs/, without `python -m`."""
    pattern = rf"^python -m benchmarks\.experiments\.{module}(.*?)(?:#.*)?$"
    pages_of_docs = sorted((REPOSITORY / "docs").glob("*.md"))
    return [line for page in pages_of_docs for line in re.findall(pattern, page.read_text(), flags=re.MULTILINE)]


def test_documented_commands_of_the_grid_run_up_to_the_training(results, capsys):
    lines = documented("runner")
    assert len(lines) >= 5
    for line in lines:
        assert runner.main([*shlex.split(line), "--list"]) == 0
        assert "to do" in capsys.readouterr().out


def test_documented_analyses_parse():
    for line in documented("analysis"):
        words = shlex.split(line)
        with pytest.raises(FileNotFoundError, match="holds no finished run"):
            analysis.main([*words[:1], f"not/{words[1]}", *words[2:]])
    assert len(documented("analysis")) == 2


def test_configs_of_the_grid_exist():
    for run in RUNS.values():
        assert run.config is None or yaml.safe_load((REPOSITORY / run.config).read_text())
