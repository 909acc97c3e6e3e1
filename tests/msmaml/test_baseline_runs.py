"""Baselines as a user runs them: by the command line, on frozen levels, and one from outside the package."""

import json
import sys
from pathlib import Path

import pytest
import torch

import run_meta
from modeling_msmaml import FewShotClassifier, MSMAMLModel
from modeling_msmaml.model import task_networks

from ..baselines.tiny_baselines import METHODS, OPTIONS
from ..saved_levels import save_encoders
from ..test_docs import blocks
from .test_run_meta import options

PAGE = Path(__file__).resolve().parents[2] / "docs" / "baselines.md"
CONFIG = str(PAGE.parents[1] / "configs" / "quickstart.yaml")
TINY = {"datasets": "synthetic:image", "max_steps": 2, "n_query": 3, "num_test_episodes": 4, "num_channels": 4}
OF_SUPERVISED = ("--auxiliary", "true", "--episode_weight", "0")


def run(folder: Path, name: str, *more: str, **changes) -> dict:
    small = {**TINY, "output_dir": folder, "task_network": name, **changes}
    given = options(**small)
    for option in ("--num_inner_steps",):  # which most of them refuse
        place = given.index(option)
        del given[place : place + 2]
    supervised = OF_SUPERVISED if OPTIONS.get(name, {}).get("auxiliary_classes") and small.get("do_train", True) else ()
    return run_meta.main([CONFIG, *given, *supervised, *more])


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_run(name, tmp_path):
    results = run(tmp_path / "run", name, do_eval=True)
    stored = json.loads((tmp_path / "run" / "all_results.json").read_text())
    for key in ("eval_accuracy", "test_accuracy_ci95"):
        assert 0 <= stored[key] == results[key] <= 1
    assert ("inner_lr" in stored["settings"]) is (name == "baseline_plus_plus")
    card = (tmp_path / "run" / "README.md").read_text()
    assert task_networks.task_network_kind(name).description in card and "MAML, [arXiv" not in card
    again = run(tmp_path / "again", name, do_train=False, model_name_or_path=tmp_path / "run")
    assert again["test_loss"] == results["test_loss"]


@pytest.mark.parametrize("option", ["inner_lr", "num_inner_steps", "multi_step_loss_steps", "first_order_steps"])
def test_options_of_an_inner_loop_are_refused_also_of_a_checkpoint(option, tmp_path):
    value = {"inner_lr": "0.01"}.get(option, "3")
    message = f"{option}={value} has no effect with task_network='prototypical'"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "new", "prototypical", f"--{option}", value)
    run(tmp_path / "run", "prototypical")
    with pytest.raises(ValueError, match=message):
        given = {"do_train": option.endswith("steps"), "model_name_or_path": tmp_path / "run"}
        run(tmp_path / "again", "prototypical", f"--{option}", value, **given)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return save_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.mark.parametrize("name", METHODS)
def test_a_run_on_frozen_levels(name, encoders, tmp_path):
    """Its last level is read from a cache; a classifier reads pictures of another size."""
    given = {"level_encoders": json.dumps({"image": encoders["image"]}), "feature_size": 6, "cache_features": True}
    small = {name: value for name, value in TINY.items() if name != "num_channels"}
    words = options(**{**small, **given, "output_dir": tmp_path / "run", "task_network": name})
    place = words.index("--num_inner_steps")
    del words[place : place + 2]
    supervised = OF_SUPERVISED if OPTIONS[name].get("auxiliary_classes") else ()
    results = run_meta.main([CONFIG, *words, *supervised])
    assert 0 <= results["test_accuracy"] <= 1
    model = MSMAMLModel.from_pretrained(tmp_path / "run")
    assert model.reads_levels and model.config.norm_statistics == "support"
    standard = model.task_network.features.standards["image"]
    assert standard.mean.abs().sum() > 0 and standard.deviation != 1
    assert (tmp_path / "run" / "encoders" / "image" / "encoder.safetensors").is_file()
    images = torch.randint(0, 256, (4, 3, 40, 24), dtype=torch.uint8).permute(0, 2, 3, 1).numpy()
    classifier = FewShotClassifier.from_pretrained(tmp_path / "run", modality="image").fit(list(images), list("aabb"))
    assert set(classifier.predict(list(images))) <= {"a", "b"}


def test_a_baseline_from_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(task_networks, "_REGISTRY", dict(task_networks._REGISTRY))
    (code,) = blocks(PAGE, "python")
    (tmp_path / "my_baseline.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_baseline", raising=False)
    own = ("--import_module", "my_baseline")
    results = run(tmp_path / "run", "nearest_example", *own)
    assert "The class of the nearest example wins." in (tmp_path / "run" / "README.md").read_text()
    again = run(tmp_path / "again", "nearest_example", do_train=False, model_name_or_path=tmp_path / "run")
    assert again["test_loss"] == results["test_loss"]


def test_the_page_names_every_baseline():
    for name in METHODS:
        assert f"| `{name}` |" in PAGE.read_text()


def test_nothing_to_train_is_said(encoders, tmp_path):
    given = {"level_encoders": json.dumps({"image": encoders["image"]}), "output_dir": tmp_path}
    small = {name: value for name, value in TINY.items() if name != "num_channels"}
    words = options(**{**small, **given, "task_network": "prototypical"})
    place = words.index("--num_inner_steps")
    del words[place : place + 2]
    with pytest.raises(ValueError, match="there is nothing to train: task_network='prototypical'.*feature_size"):
        run_meta.main([CONFIG, *words])
