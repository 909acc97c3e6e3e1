"""MMAML on pictures by the command line, and task networks and encoders from outside the package."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import run_meta
from modeling_msmaml import FewShotClassifier, MSMAMLModel
from modeling_msmaml.model import task_encoder, task_networks

from ..test_docs import blocks
from .test_run_meta import options

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "model.md"


def test_mmaml_trains_and_is_evaluated_on_two_data_sets_of_pictures(data_dir, cache_dir, tmp_path):
    shared = options(data_dir=data_dir, cache_dir=cache_dir, max_steps=2, num_test_episodes=2, num_eval_episodes=2)
    fewer = ("--layer_widths", "[4, 4, 4, 4]", "--eval_steps", "1", "--save_steps", "1", "--num_inner_steps", "1")
    results = run_meta.main(["configs/mmaml.yaml", *shared, *fewer, "--output_dir", str(tmp_path / "run")])
    assert (results["test_cifar100_episodes"], results["test_omniglot_episodes"]) == (2, 2)
    assert {"eval_cifar100_accuracy", "eval_omniglot_accuracy"} <= results.keys()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["task_network"], config["task_encoder"]) == ("conv2d", "conv_gru")
    saved = ("--model_name_or_path", str(tmp_path / "run"), "--do_train", "false", "--do_eval", "false")
    again = run_meta.main(["configs/mmaml.yaml", *shared, *fewer, *saved, "--output_dir", str(tmp_path / "again")])
    assert again["test_loss"] == results["test_loss"]
    light, dark = ([np.full((40, 40, 3), value, np.uint8)] * 2 for value in (230, 20))
    classifier = FewShotClassifier.from_pretrained(tmp_path / "run").fit([*light, *dark], ["light"] * 2 + ["dark"] * 2)
    assert set(classifier.predict([*light, *dark])) <= {"light", "dark"}


def test_a_residual_network_trains_with_drop_block(tmp_path):
    small = {"datasets": "synthetic:image", "max_steps": 2, "num_test_episodes": 2, "adapted_parameters": "head"}
    given = {"task_network": "resnet12", "conditioning": "none", "drop_block": 0.2, "drop_block_steps": 2}
    argv = ["configs/quickstart.yaml", *options(**small, **given, output_dir=tmp_path / "run")]
    results = run_meta.main([*argv, "--layer_widths", "[4, 4, 4, 4]"])
    saved = {**small, "model_name_or_path": tmp_path / "run", "do_train": False, "output_dir": tmp_path / "again"}
    assert run_meta.main(["configs/quickstart.yaml", *options(**saved)])["test_loss"] == results["test_loss"]


@pytest.fixture
def my_networks(tmp_path, monkeypatch):
    """The module of the page, which is not part of the package; returns its name."""
    for module in (task_encoder, task_networks):
        monkeypatch.setattr(module, "_REGISTRY", dict(module._REGISTRY))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    (code,) = (code for code in blocks(PAGE, "python") if "register_task_encoder" in code)
    (tmp_path / "my_networks.py").write_text(code)
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    return "my_networks"


def test_a_task_network_and_a_task_encoder_from_outside(my_networks, tmp_path):
    small = {"datasets": "synthetic:image", "max_steps": 2, "num_test_episodes": 2, "num_channels": 4}
    own = {"import_module": my_networks, "task_network": "soft_maximum", "task_encoder": "colours"}
    results = run_meta.main(["configs/quickstart.yaml", *options(**small, **own, output_dir=tmp_path / "run")])
    model = MSMAMLModel.from_pretrained(tmp_path / "run")
    assert type(model.task_network).__name__ == "SoftMaximum" and type(model.task_encoder).__name__ == "Colours"
    saved = {**small, "model_name_or_path": tmp_path / "run", "do_train": False, "output_dir": tmp_path / "again"}
    del saved["num_channels"]
    assert run_meta.main(["configs/quickstart.yaml", *options(**saved)])["test_loss"] == results["test_loss"]


def test_other_data_than_pictures_are_refused(tmp_path):
    given = options(datasets="synthetic:audio", task_network="conv2d", output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"task_network='conv2d' reads pictures alone, but modalities=\['audio'\]"):
        run_meta.main(["configs/quickstart.yaml", *given])
