"""Clocks that are set forwards and backwards, and files of a time to come, change no result."""

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.utils.hub import PushToHubMixin

from data_builders import load_few_shot
from modeling_msmaml.model.uploads import UploadsEncoders
from msmaml.web import page_downloads

from ..data_builders.test_builders import tiny_archive
from .test_trainer import make_trainer, parameters

YEAR = 365 * 24 * 3600.0
STEPS = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 1, "save_total_limit": 1}


@pytest.fixture
def jumping(monkeypatch):
    """The clock goes a year forwards and two backwards in turn, whoever asks for the time."""
    really, jumps = time.time, itertools.cycle([YEAR, -YEAR])
    monkeypatch.setattr(time, "time", lambda: really() + next(jumps))


def set_times(folder: Path, seconds: float) -> None:
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() + seconds, time.time() + seconds))


@pytest.mark.parametrize("years", [10, -10])
def test_a_run_resumes_bit_identically_whatever_the_clock_says(tmp_path, jumping, years):
    straight = make_trainer(tmp_path / "straight", max_steps=6, **STEPS)
    straight.train()
    folder = tmp_path / "resumed"
    make_trainer(folder, max_steps=4, lr_scheduler_type="constant", **STEPS).train()
    set_times(folder, years * YEAR)
    resumed = make_trainer(folder, max_steps=6, **STEPS)
    resumed.train(resume_from_checkpoint="last")
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-6"]
    found, expected = parameters(resumed), parameters(straight)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_a_cache_of_a_time_to_come_is_used_or_built_again(tmp_path):
    (tmp_path / "brown").mkdir()
    tiny_archive("brown", tmp_path / "brown")

    def rows() -> np.ndarray:
        split = load_few_shot("brown", "train", data_dir=tmp_path / "brown", cache_dir=tmp_path / "cache")
        return split.rows(np.arange(len(split)))

    expected = rows()
    for folder in ("cache", "brown"):
        for years in (10, -10):
            set_times(tmp_path / folder, years * YEAR)
            np.testing.assert_array_equal(rows(), expected)


@pytest.mark.parametrize("seconds", [1000.0, -1000.0])
def test_a_file_that_was_written_after_the_clock_was_set_is_uploaded(tmp_path, monkeypatch, seconds):
    for name in ("changed", "same"):
        (tmp_path / name).write_text("old")
    mixin, asked = UploadsEncoders(), {}
    before = mixin._get_files_timestamps(tmp_path)
    (tmp_path / "changed").write_text("new")
    os.utime(tmp_path / "changed", (before["changed"] + seconds,) * 2)

    def original(self, folder, repository, timestamps, **options):
        later = {name: os.path.getmtime(tmp_path / name) for name in os.listdir(tmp_path)}
        asked["files"] = [name for name in later if name not in timestamps or later[name] > timestamps[name]]

    monkeypatch.setattr(PushToHubMixin, "_upload_modified_files", original)
    mixin._upload_modified_files(tmp_path, "someone/model", before)
    assert asked["files"] == ["changed"]


@pytest.mark.parametrize(("age", "stays"), [(60, True), (-60, True), (YEAR, False), (-YEAR, False)])
def test_downloads_of_the_page_are_deleted_after_a_while_whatever_the_clock_says(tmp_path, age, stays):
    (tmp_path / "old").mkdir()
    os.utime(tmp_path / "old", (time.time() - age,) * 2)
    page_downloads.results_file("table", tmp_path)
    assert (tmp_path / "old").exists() == stays
