"""The log of tasks: what a row says, which files there are, and what of them a kill or another run leaves."""

import dataclasses
import json
import math
import signal
from pathlib import Path

import datasets
import pandas as pd
import pyarrow.parquet
import pytest
import torch

from data_builders import EpisodeDataset
from modeling_msmaml.training import task_log
from modeling_msmaml.training.task_facts import class_names
from modeling_msmaml.training.task_log import SCHEMA, TaskLog

from ..toys import K_SHOT, N_QUERY, N_WAY, tiny_splits
from ..training_worker import run_process
from .test_trainer import make_trainer

NAMES = ("lark", "owl", "wren", "kite", "rook", "teal")
EPISODES = 7


def named_episodes(num_episodes: int = EPISODES, **options) -> EpisodeDataset:
    splits = [dataclasses.replace(split, class_names=NAMES, split="test") for split in tiny_splits()]
    return EpisodeDataset(splits, N_WAY, K_SHOT, N_QUERY, num_episodes, seed=3, **options)


def table(output_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(output_dir / "task_log").sort_values(["phase", "step", "episode"], ignore_index=True)


def names_of_files(output_dir: Path) -> list[str]:
    return sorted(path.name for path in (output_dir / "task_log").iterdir())


def test_a_row_says_what_the_model_makes_of_its_task(tmp_path):
    trainer, episodes = make_trainer(tmp_path, log_tasks="evaluation"), named_episodes()
    metrics = trainer.predict(episodes, metric_key_prefix="test").metrics
    rows = table(tmp_path)
    assert rows.episode.tolist() == list(range(EPISODES))
    assert set(rows.phase) == {"test"} and set(rows.step) == {0} and set(rows.split) == {"test"}
    assert rows.accuracy.mean() == pytest.approx(metrics["test_accuracy"])
    for number, row in rows.iterrows():
        episode = episodes[number]
        batch = {name: episode[name][None] for name in ("support", "support_labels", "query", "query_labels")}
        output, labels = trainer.model.eval()({row.modality: batch}), episode["query_labels"]
        assert (row.modality, row.data_set, row.n_way) == (episode["modality"], episode["data_set"], N_WAY)
        assert list(row.class_names) == [NAMES[number] for number in episode["class_ids"]]
        assert list(row.class_shots) == [K_SHOT] * N_WAY
        right = output.logits[row.modality][0].argmax(dim=1) == labels
        assert list(row.class_accuracies) == [right[labels == c].float().mean().item() for c in range(N_WAY)]
        assert row.query_loss == pytest.approx(output.loss.item(), rel=1e-5)
        torch.testing.assert_close(torch.tensor(row.support_losses), output.support_loss[row.modality][0])
        for own, expected in zip(row.modulation, output.modulation[row.modality], strict=True):
            torch.testing.assert_close(torch.tensor(own), expected[0].detach())


def test_the_files_are_read_by_datasets_and_pandas_alike(tmp_path):
    trainer = make_trainer(tmp_path, log_tasks="all", max_steps=2)
    trainer.train()
    trainer.evaluate()
    trainer.predict(named_episodes())
    folder = tmp_path / "task_log"
    read = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in read.items()} == {"train": 6, "validation": 12, "test": EPISODES}
    one = datasets.Dataset.from_parquet(str(next(folder.glob("test-*"))), cache_dir=str(tmp_path / "cache"))
    assert one.column_names == SCHEMA.names
    assert (
        read["test"]["class_names"][:]
        == one["class_names"][:]
        == [list(own) for own in table(tmp_path).query("phase == 'test'").class_names]
    )


def test_training_is_logged_on_request_and_not_changed_by_it(tmp_path):
    plain, logged = (make_trainer(tmp_path / name, log_tasks=name, max_steps=3) for name in ("evaluation", "all"))
    for trainer in (plain, logged):
        trainer.train()
    assert not (tmp_path / "evaluation" / "task_log").exists()
    rows = table(tmp_path / "all")
    assert rows.step.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3] and rows.episode.tolist() == list(range(9))
    losses = [[e["loss"] for e in trainer.state.log_history if "loss" in e] for trainer in (plain, logged)]
    assert losses[0] == losses[1] == pytest.approx(rows.groupby("step").query_loss.mean().tolist(), rel=1e-5)


OPTIONS = {"log_tasks": "all", "max_steps": 6, "save_strategy": "steps", "save_steps": 2}
OPTIONS |= {"eval_strategy": "steps", "eval_steps": 3, "episodes": 3}


@pytest.mark.parametrize(("killed", "left"), [(1, None), (5, 4)])
def test_a_killed_run_leaves_whole_files_and_goes_on_without_repeating_itself(tmp_path, killed, left):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run_process(straight, **OPTIONS)[0] == 0
    assert run_process(stopped, kill=("between steps", killed), **OPTIONS)[0] == -signal.SIGKILL
    assert list((stopped / "_task_log").glob("train-*")), "the file that was being written"
    if left is None:
        assert not (stopped / "task_log").exists()
    else:
        assert table(stopped).query("phase == 'train'").step.max() == left
    code, output = run_process(stopped, resume="last", **OPTIONS)
    assert code == 0, output
    assert not list((stopped / "_task_log").iterdir())
    pd.testing.assert_frame_equal(table(stopped), table(straight))


def test_a_run_that_starts_anew_drops_what_an_earlier_one_left_but_not_its_own(tmp_path, caplog):
    earlier = make_trainer(tmp_path, log_tasks="all", max_steps=4)
    earlier.train()
    earlier.evaluate()
    trainer = make_trainer(tmp_path, log_tasks="all", max_steps=2)
    trainer.evaluate()
    trainer.train()
    assert "deleted 2 files of an earlier run" in caplog.text
    rows = table(tmp_path)
    assert rows.groupby(["phase", "step"]).size().to_dict() == {("eval", 0): 12, ("train", 1): 3, ("train", 2): 3}


def test_the_step_of_the_best_weights_is_theirs(tmp_path):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    saving = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    trainer = make_trainer(tmp_path, log_tasks="evaluation", learning_rate=0.05, **best, **saving)
    trainer.train()
    assert trainer.state.best_global_step < 4, "the test would not tell the best from the last"
    trainer.predict(named_episodes())
    assert set(table(tmp_path).query("phase == 'test'").step) == {trainer.state.best_global_step}


def test_an_evaluation_that_fails_leaves_no_file(tmp_path):
    log = TaskLog(tmp_path)
    with pytest.raises(FloatingPointError), log.evaluation("eval", 3, lambda: None) as file:
        file.add([row(3)] * 3)
        raise FloatingPointError
    assert not list(tmp_path.rglob("*.parquet"))


def row(step: int) -> dict:
    return {**dict.fromkeys(SCHEMA.names), "phase": "train", "step": step}


def test_rows_are_written_a_few_at_a_time_and_files_end_with_a_step(tmp_path, monkeypatch):
    monkeypatch.setattr(task_log, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(task_log, "ROWS_A_FILE", 5)
    log = TaskLog(tmp_path)
    for step in (1, 2, 3, 4):
        for _ in range(2):
            log.add_training(step, [row(step)] * 2)
    log.end_training()
    files = [pyarrow.parquet.ParquetFile(tmp_path / "task_log" / name) for name in names_of_files(tmp_path)]
    assert [file.read(["step"])["step"].to_pylist() for file in files] == [[1] * 4 + [2] * 4, [3] * 4 + [4] * 4]
    assert all(file.metadata.row_group(n).num_rows == 2 for file in files for n in range(file.num_row_groups))


def test_processes_write_files_of_their_own_and_another_number_of_them_takes_their_place(tmp_path):
    for processes in (2, 1):
        for rank in range(processes):
            with TaskLog(tmp_path, rank, processes).evaluation("eval_my birds", 5, lambda: None) as file:
                file.add([row(5)])
        ranks = [f"validation-my_birds-step00000005-0000{r}-of-0000{processes}.parquet" for r in range(processes)]
        assert names_of_files(tmp_path) == ranks


def test_a_file_takes_its_place_only_when_all_processes_are_done(tmp_path):
    seen = []
    with TaskLog(tmp_path).evaluation("test", 0, lambda: seen.append((tmp_path / "task_log").exists())) as file:
        file.add([row(0)])
    assert seen == [False] and len(table(tmp_path)) == 1


@pytest.mark.parametrize(
    ("episode", "names", "expected"),
    [
        ({"class_ids": [4, 0]}, NAMES, ("rook", "lark")),
        ({"class_ids": [4, 0], "second_class_ids": [1, 2]}, NAMES, ("rook with owl", "lark with wren")),
        ({"class_ids": [4, 0]}, (), ("4", "0")),
        ({}, (), ("0", "1")),
    ],
)
def test_classes_are_called_as_far_as_names_are_known(episode, names, expected):
    tensors = {name: torch.tensor(numbers) for name, numbers in episode.items()}
    assert class_names({"support_labels": torch.tensor([0, 1, 1]), **tensors}, names) == expected


def test_episodes_of_ones_own_are_logged_by_what_they_say(tmp_path):
    """A data set that is no `EpisodeDataset` says neither classes nor numbers."""
    own = ("modality", "support", "support_labels", "query", "query_labels")
    episodes = [{name: episode[name] for name in own} for episode in map(named_episodes().__getitem__, range(2))]
    make_trainer(tmp_path, log_tasks="evaluation").evaluate(episodes)
    rows = json.loads(table(tmp_path).to_json(orient="records"))
    for found, episode in zip(rows, episodes, strict=True):
        assert (found["data_set"], found["split"], found["episode"]) == (episode["modality"], None, None)
        assert found["class_names"] == ["0", "1", "2"] and math.isfinite(found["query_loss"])
