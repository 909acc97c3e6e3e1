"""Runs on level encoders: what they leave is complete, and serves as the source of encoders for others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import run_meta
from modeling_msmaml import FewShotClassifier, MSMAMLModel, MSMAMLProcessor

from ..saved_levels import MODALITIES, save_encoders
from .test_run_meta import REPOSITORY, options

RUN = {
    "task_network": "levels",
    "dataset_options": json.dumps({"folder:topics": {"shares": [0.5, 0, 0.5], "passage_length": 10}}),
    "n_way": 3,
    "k_shot": 2,
    "n_query": 2,
    "do_train": True,
    "do_predict": True,
    "report_to": "none",
    "num_inner_steps": 2,
    "cache_features": True,
}


DATA_SETS = {"audio": "synthetic:audio", "text": "folder:topics", "image": "synthetic:image"}


def run(data_dir: Path, modalities=MODALITIES, **changes) -> dict:
    datasets = [DATA_SETS[modality] for modality in modalities]
    return run_meta.main(["--datasets", *datasets, *options(data_dir=data_dir, **{**RUN, **changes})])


def write_topics(folder: Path) -> None:
    """Eight classes of six short texts in the words of the tiny encoder."""
    for topic in range(8):
        (folder / f"topic{topic}").mkdir(parents=True)
        for number in range(6):
            words = [f"word{(5 * topic + number * step) % 40}" for step in (1, 2, 3)]
            (folder / f"topic{topic}" / f"{number}.txt").write_text(" ".join(words))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with checkpoints whose encoders are gone when it is used."""
    folder = tmp_path_factory.mktemp("levels")
    encoders = save_encoders(folder / "encoders")
    write_topics(folder / "data" / "topics")
    run(
        folder / "data",
        output_dir=folder / "run",
        level_encoders=json.dumps(encoders),
        save_steps=2,
        save_strategy="steps",
    )
    (folder / "encoders").rename(folder / "moved")
    return folder


def test_its_folder_and_checkpoints_are_complete(trained):
    for folder in (trained / "run", trained / "run" / "checkpoint-2"):
        assert {path.name for path in (folder / "encoders").iterdir()} == set(MODALITIES)
        for name in ("config.json", "README.md"):
            assert str(trained) not in (folder / name).read_text().replace(str(trained / "run"), "")
    weights = [path.stat().st_ino for path in trained.rglob("encoders/text/encoder.safetensors")]
    assert len(weights) == 3 and len(set(weights)) == 1, "hard links"


def test_a_classifier_reads_all_modalities(trained):
    inputs = {
        "text": ["word1 word2", "word8 word9"],
        "image": list(np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)),
        "audio": list(np.random.default_rng(0).uniform(-1, 1, (2, 8_000)).astype("float32")),
    }
    tokenizer = MSMAMLProcessor.from_pretrained(trained / "run").tokenizer
    assert tokenizer is not None and tokenizer.get_vocab()["word1"] == 5
    for modality, samples in inputs.items():
        classifier = FewShotClassifier.from_pretrained(trained / "run", modality=modality, sampling_rate=16_000)
        assert classifier.fit(samples, ["a", "b"]).predict(samples).tolist() == ["a", "b"], modality


def test_it_is_evaluated_again_with_the_options_of_its_training(trained, tmp_path):
    recorded = json.loads((trained / "run" / "all_results.json").read_text())
    again = run(
        trained / "data",
        output_dir=tmp_path,
        do_train=False,
        model_name_or_path=trained / "run",
        level_encoders=json.dumps({name: str(trained / "moved" / name) for name in MODALITIES}),
    )
    assert again["test_accuracy"] == recorded["test_accuracy"]


def test_another_encoder_than_that_of_the_checkpoint_is_refused(trained, tmp_path):
    config = trained / "moved" / "text" / "config.json"
    shutil.copytree(trained / "moved" / "text", tmp_path / "text")
    (tmp_path / "text" / "config.json").write_text(config.read_text().replace('"window": 12', '"window": 11'))
    with pytest.raises(ValueError, match="the encoder of text is .*'window': 11.* but the checkpoint .*'window': 12"):
        run(
            trained / "data",
            output_dir=tmp_path / "run",
            do_train=False,
            model_name_or_path=trained / "run",
            level_encoders=json.dumps({"text": str(tmp_path / "text")}),
        )


def test_its_encoders_serve_a_run_with_some_of_the_modalities(trained, tmp_path):
    run(trained / "data", ["text"], output_dir=tmp_path / "run", level_encoders=str(trained / "run"))
    model = MSMAMLModel.from_pretrained(tmp_path / "run")
    assert list(model.config.level_encoders or {}) == ["text"]
    assert {path.name for path in (tmp_path / "run" / "encoders").iterdir()} == {"text"}


def test_a_resumed_run_goes_on_with_the_encoders_elsewhere(trained, tmp_path):
    shutil.copytree(trained / "run" / "checkpoint-2", tmp_path / "run" / "checkpoint-2")
    encoders = {name: str(trained / "moved" / name) for name in MODALITIES}
    results = run(
        trained / "data",
        output_dir=tmp_path / "run",
        level_encoders=json.dumps(encoders),
        save_steps=2,
        save_strategy="steps",
        resume_from_checkpoint="last",
    )
    recorded = json.loads((trained / "run" / "all_results.json").read_text())
    assert results["test_accuracy"] == recorded["test_accuracy"]


def test_two_processes_load_and_save_it(trained, tmp_path):
    """Both read the encoders from the saved model, and one writes them."""
    words = options(
        **{**RUN, "output_dir": tmp_path / "run", "data_dir": trained / "data", "level_encoders": trained / "run"}
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(REPOSITORY / "run_meta.py"), "--datasets", DATA_SETS["text"], DATA_SETS["image"], *words]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in (tmp_path / "run" / "encoders").iterdir()} == {"text", "image"}
    assert "torchrun --nproc_per_node 2" in (tmp_path / "run" / "README.md").read_text()
