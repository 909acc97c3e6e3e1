"""Runs that are killed with SIGKILL and resumed, in real processes; checkpoints that are torn."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_builders import EpisodeDataset, FewShotSplit
from modeling_msmaml.training import checkpoints
from modeling_msmaml.training.training_record import TrainingRecord

from ..training_worker import run_process, start_process
from .test_trainer import make_trainer

REPOSITORY = Path(__file__).resolve().parents[2]
# Log entries and checkpoints do not coincide; rates change; checkpoints are deleted; evaluation falls between.
OPTIONS = {
    "max_steps": 12,
    "logging_steps": 2,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 2,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 4,
    "alternating_steps": 5,
    "log_inner_loop": True,
    "gradient_accumulation_steps": 2,
    "episodes": 3,
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """The folder of a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    code, output = run_process(folder, **OPTIONS)
    assert code == 0, output
    return folder


def assert_same_end(folder: Path, expected: Path, step: int = 12) -> None:
    """Parameters, optimizer, schedule and log entries are equal to the last bit."""
    ours, theirs = load_file(folder / "final.safetensors"), load_file(expected / "final.safetensors")
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name
    for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        ours, theirs = (torch.load(f / f"checkpoint-{step}" / file, weights_only=False) for f in (folder, expected))
        assert_equal(ours, theirs, file)
    assert json.loads((folder / "log.json").read_text()) == json.loads((expected / "log.json").read_text())


def assert_equal(ours, theirs, where: str) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_equal(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), where
        for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(our, their, f"{where}[{index}]")
    elif hasattr(theirs, "shape"):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs)), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize(
    ("moment", "step", "used", "said"),
    [
        ("between steps", 2, None, ["has no checkpoint; starting anew"]),
        ("between steps", 8, 6, ["resuming from {folder}/checkpoint-6"]),
        (
            "in the midst of a file",
            6,
            3,
            [
                "_unfinished/checkpoint-6 was not written to its end",
                "last complete checkpoint is {folder}/checkpoint-3",
            ],
        ),
        ("in the midst of a file", 3, None, ["checkpoint-3 was not written to its end", "no checkpoint is complete"]),
        ("before the list", 9, 6, ["_unfinished/checkpoint-9 was not written to its end (it has no checkpoint_compl"]),
        ("before the rename", 9, 9, ["resuming from {folder}/checkpoint-9"]),
        (
            "in the midst of a deletion",
            9,
            9,
            ["checkpoint-3 was not written to its end", "resuming from {folder}/checkpoint-9"],
        ),
    ],
)
def test_killed_run_ends_like_one_that_was_not(straight, tmp_path, moment, step, used, said):
    code, output = run_process(tmp_path, kill=(moment, step), **OPTIONS)
    assert code == -signal.SIGKILL, output
    code, output = run_process(tmp_path, resume="last", **OPTIONS)
    assert code == 0, output
    for text in said:
        assert text.format(folder=tmp_path) in output, output
    assert f"checkpoint-{used}" in output or used is None
    assert_same_end(tmp_path, straight)


def test_run_killed_at_random_moments_ends_like_one_that_was_not(straight, tmp_path):
    """Killed from outside, whatever it is doing, until it gets to the end."""
    moments = random.Random(0)
    kills = 0
    while not (tmp_path / "log.json").exists():
        process = start_process(tmp_path, resume="last", **OPTIONS)
        if kills < 5:
            while process.is_alive() and not list(tmp_path.glob("*/optimizer.pt")):
                time.sleep(0.001)
            process.join(timeout=moments.uniform(0.0, 0.6))
        else:
            process.join(timeout=120)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), (tmp_path / "output.txt").read_text()
    assert kills
    assert_same_end(tmp_path, straight)


def test_checkpoint_that_gives_way_is_not_lost(tmp_path):
    """A run goes on from an early checkpoint while later ones are there, and is killed as it replaces one of them."""
    assert run_process(tmp_path, **OPTIONS | {"save_total_limit": None})[0] == 0
    shutil.rmtree(tmp_path / "checkpoint-12")
    (tmp_path / "log.json").unlink()
    code, output = run_process(
        tmp_path, kill=("between two renames", 9), resume=str(tmp_path / "checkpoint-6"), **OPTIONS
    )
    assert code == -signal.SIGKILL, output
    assert not (tmp_path / "checkpoint-9").exists()
    code, output = run_process(tmp_path, resume="last", **OPTIONS)
    assert code == 0 and f"resuming from {tmp_path}/checkpoint-9" in output, output


def test_run_that_early_stopping_ended_does_not_go_on(tmp_path):
    """Killed after its last checkpoint: the resumed run stops where the first one had."""
    options = {
        **OPTIONS,
        **{"max_steps": 30, "eval_steps": 3, "early_stopping_patience": 1, "learning_rate": 0.0, "save_total_limit": 9},
    }
    assert run_process(tmp_path / "once", **options)[0] == 0
    assert json.loads((tmp_path / "once" / "log.json").read_text())[-1]["step"] == 6
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    code, output = run_process(tmp_path / "twice", resume="last", **options)
    assert code == 0, output
    assert_same_end(tmp_path / "twice", tmp_path / "once", step=6)


def test_killed_command_is_resumed(tmp_path):
    """`run_meta.py` killed from outside after its first checkpoint, and resumed by the same command."""

    def command(folder: str, *more: str) -> list[str]:
        sizes = ("--max_steps", "6", "--save_steps", "2", "--logging_steps", "3", "--per_device_train_batch_size", "3")
        options = ("--save_strategy", "steps", "--num_inner_steps", "2", "--use_cpu", "true", "--do_predict", "false")
        start = [sys.executable, "run_meta.py", "configs/quickstart.yaml", "--output_dir", str(tmp_path / folder)]
        return [*start, *sizes, *options, "--disable_tqdm", "true", *more]

    run = {"cwd": REPOSITORY, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    with subprocess.Popen(command("killed"), **run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "killed" / "checkpoint-2").exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
    resumed = subprocess.run(
        command("killed", "--resume_from_checkpoint", "true"), **run, stderr=subprocess.PIPE, timeout=200
    )
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming from {tmp_path}/killed/checkpoint-" in resumed.stderr
    subprocess.run(command("straight"), **run, check=True, stderr=subprocess.DEVNULL, timeout=200)
    ours, theirs = (load_file(tmp_path / folder / "model.safetensors") for folder in ("killed", "straight"))
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name
    ours, theirs = (
        json.loads((tmp_path / folder / "train_results.json").read_text()) for folder in ("killed", "straight")
    )
    assert ours["train_loss"] == theirs["train_loss"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "optimizer.pt").unlink(), "it lacks optimizer.pt"),
        (lambda path: os.truncate(path / "model.safetensors", 10), "its model.safetensors has 10 bytes instead of"),
        (lambda path: (path / checkpoints.FILE_LIST).unlink(), "it has no checkpoint_complete.json"),
        (shutil.rmtree, "there is no such folder"),
    ],
)
def test_incomplete_checkpoint_is_refused_with_the_reason(straight, tmp_path, damage, reason):
    shutil.copytree(straight, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoint-12")
    trainer = make_trainer(tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match=f"is no complete checkpoint: {reason}.*complete ones are .*checkpoint-9"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-12"))


def test_folder_of_a_run_is_no_checkpoint(straight):
    with pytest.raises(ValueError, match="complete ones are .*checkpoint-9, .*checkpoint-12"):
        make_trainer(straight, **OPTIONS).train(resume_from_checkpoint=str(straight))


def test_checkpoint_without_optimizer_is_refused(tmp_path):
    make_trainer(tmp_path, save_strategy="steps", save_steps=2, save_only_model=True).train()
    with pytest.raises(ValueError, match="holds no optimizer.pt, as with save_only_model=True"):
        make_trainer(tmp_path).train(resume_from_checkpoint="last")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate was 0.001 and is 0.5"),
        ({"seed": 7}, "seed was 42 and is 7"),
        ({"gradient_accumulation_steps": 4}, "tasks_per_step was 6 and is 12"),
        ({"num_inner_steps": 1}, "num_inner_steps was 3 and is 1"),
    ],
)
def test_checkpoint_of_other_settings_is_refused(straight, changes, message):
    with pytest.raises(ValueError, match=f"other settings: {message}.*model_name_or_path"):
        make_trainer(straight, **{**OPTIONS, **changes}).train(resume_from_checkpoint="last")


def episodes(n_classes=6, rows=6, sets=("a", "b"), protocol="class_disjoint", **options):
    """Episodes of pictures whose rows are numbers."""
    labels = np.repeat(np.arange(n_classes), rows)
    blank = np.zeros((len(labels), 3, 4, 4), np.uint8)
    splits = [FewShotSplit.from_arrays(blank, labels, name=name, protocol=protocol) for name in sets]
    given = {
        "n_way": 2,
        "k_shot": [1, 2],
        "n_query": 1,
        "num_episodes": 9,
        "weights": dict.fromkeys(sets, 1),
        **options,
    }
    return EpisodeDataset(splits, **given)


def write_record(folder, data, change=lambda settings: None):
    """A checkpoint as far as its settings go, and the trainer whose settings they are."""
    trainer = make_trainer(folder)
    settings = checkpoints.run_settings(trainer.args, trainer.model.config, data)
    change(settings)
    TrainingRecord().save(folder, 0, settings=settings)
    return partial(checkpoints.check_continuation, folder, trainer.args, trainer.model.config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": ("a", "c")}, r"the data sets of training were a \(image\), b \(image\) and are a \(image\), c"),
        ({"sets": ("b", "a")}, r"the data sets of training were a .* and are b \(image\), a \(image\);? ?"),
        ({"rows": 7}, r"rows of a \(image\) was 36 and is 42; rows of b \(image\) was 36 and is 42"),
        ({"n_classes": 5}, r"classes of a \(image\) was 6 and is 5"),
        ({"protocol": "sample_disjoint"}, r"protocol of a \(image\) was 'class_disjoint' and is 'sample_disjoint'"),
        ({"n_way": {"a": 2, "b": 3}}, r"settings: n_way of b \(image\) was \[2, 2\] and is \[3, 3\]\."),
        ({"k_shot": [1, 3]}, r"k_shot of a \(image\) was \[1, 2\] and is \[1, 3\]"),
        ({"n_query": 2}, r"n_query of a \(image\) was 1 and is 2"),
        ({"shots": "unequal"}, r"shots of a \(image\) was 'equal' and is 'unequal'"),
        ({"weights": {"a": 1, "b": 2}}, r"settings: weight of b \(image\) was 1 and is 2\."),
        ({"weights": None}, r"weight of a \(image\) was 1 and is None"),
        ({"seed": 3}, "seed of the training data was 0 and is 3"),
        ({"source_disjoint": False}, "source_disjoint of the training data was True and is False"),
        ({"augment": True}, r"augment of the training data was \[\] and is \['basic'\]"),
        ({"mix_classes": 0.5}, "mix_classes of the training data was {'image': 0.0} and is {'image': 0.5}"),
        ({"num_unlabelled": 1}, "num_unlabelled of the training data was 0 and is 1"),
        ({"num_unlabelled": 1, "num_distractors": 1}, "num_distractors of the training data was 0 and is 1"),
    ],
)
def test_checkpoint_of_other_data_is_refused(tmp_path, changes, message):
    fixed = {"k_shot": 1} if "mix_classes" in changes else {}
    check = write_record(tmp_path, episodes(**fixed))
    check(episodes(**fixed, num_episodes=99))
    with pytest.raises(ValueError, match=message):
        check(episodes(**{**fixed, **changes}))


@pytest.mark.parametrize("name", ["train_shots", "num_unlabelled", "num_distractors"])
def test_what_a_checkpoint_of_an_earlier_version_does_not_say_is_not_compared(name, tmp_path):
    write_record(tmp_path, episodes(), lambda settings: settings["arguments"].pop(name))(episodes())
    write_record(tmp_path, episodes(), lambda settings: settings.pop("data"))(episodes(seed=3))
    check = write_record(tmp_path, episodes(), lambda settings: settings["arguments"].update({name: "other"}))
    with pytest.raises(ValueError, match=f"other settings: {name} was 'other' and is "):
        check(episodes())


def test_data_that_do_not_describe_themselves_are_not_compared(tmp_path):
    check = write_record(tmp_path, datasets.Dataset.from_dict({"a": [1]}))
    check(datasets.Dataset.from_dict({"b": [1]}))
    check(episodes())


def test_new_run_in_the_folder_of_another_is_warned(straight, tmp_path, caplog):
    shutil.copytree(straight, tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path / "run", **OPTIONS | {"max_steps": 1}).train()
    assert "holds checkpoints of an earlier run, up to checkpoint-12" in caplog.text


def fake_checkpoint(folder: Path, step: int, whole: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "optimizer.pt").write_text("x" * step)
    if whole:
        checkpoints.complete(path)
    return path


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_limit_never_deletes_the_last_complete_checkpoint(tmp_path, limit):
    paths = [fake_checkpoint(tmp_path, step) for step in (10, 20, 30)]
    torn = fake_checkpoint(tmp_path, 40, whole=False)
    best, newest = paths[0], paths[2]
    checkpoints.rotate(tmp_path, limit, keep={best, newest})
    assert best.exists() and newest.exists() and torn.exists()
    assert paths[1].exists() == (limit == 3)


def test_model_card_may_change_in_a_complete_checkpoint(tmp_path):
    path = tmp_path / "checkpoint-1"
    path.mkdir()
    (path / "README.md").write_text("first")
    checkpoints.complete(path)
    (path / "README.md").write_text("a longer second")
    assert checkpoints.why_incomplete(path) is None
