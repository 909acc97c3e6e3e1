"""Parts of the inner loop that are written outside the package and used by run_meta.py, as docs/inner_loop.md says."""

import json
import sys
from pathlib import Path

import pytest

import run_meta
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.model import adapted_parameters, inner_optimizers, task_loss

from ..test_docs import blocks
from .test_run_meta import options

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inner_loop.md"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Writes a module of the page, which is not part of the package; returns its name."""
    for module in (adapted_parameters, inner_optimizers, task_loss):
        monkeypatch.setattr(module, "_REGISTRY", dict(module._REGISTRY))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(PAGE.parents[1])

    def write(name: str, word: str) -> str:
        (code,) = (code for code in blocks(PAGE, "python") if word in code)
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def run(folder: Path, *more: str, **changes) -> dict:
    small = {"datasets": "synthetic:image", "max_steps": 2, "num_test_episodes": 2, "output_dir": folder, **changes}
    return run_meta.main(["configs/quickstart.yaml", *options(**small), *more])


def test_an_optimiser_from_outside_trains_and_is_loaded_again(tmp_path, outside):
    module = outside("own_optimizer", "register_inner_optimizer")
    given = ("--import_module", module, "--inner_optimizer", "sign_momentum", "--inner_lr", "0.01")
    kwargs = ("--inner_optimizer_kwargs", '{"momentum": 0.5}')
    results = run(tmp_path / "own", *given, *kwargs, "--inner_rates", "per_layer_per_step")
    assert json.loads((tmp_path / "own" / "config.json").read_text())["inner_optimizer_kwargs"] == {"momentum": 0.5}
    model = MSMAMLModel.from_pretrained(tmp_path / "own")
    assert model.inner_rates.rates["classifier_weight"].shape == (2,)
    again = run(tmp_path / "again", model_name_or_path=tmp_path / "own", do_train=False)
    assert again["test_loss"] == results["test_loss"]
    settings = json.loads((tmp_path / "own" / "all_results.json").read_text())["settings"]
    assert settings["inner_optimizer"] == "sign_momentum"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ('{"momentum": 1.5}', r"momentum=1.5 must be in \[0, 1\)"),
        ('{"velocity": 1}', "has 'velocity', but inner_optimizer='sign_momentum' takes momentum"),
        ("0.5", "must be a dict"),
        ("momentum=0.5", "is not JSON such as"),
    ],
)
def test_wrong_options_of_an_optimiser_are_refused_before_a_run(tmp_path, outside, kwargs, message):
    module = outside("own_optimizer_again", "register_inner_optimizer")
    given = ("--import_module", module, "--inner_optimizer", "sign_momentum")
    with pytest.raises((ValueError, SystemExit), match=message):
        run(tmp_path, *given, "--inner_optimizer_kwargs", kwargs)


def test_a_choice_from_outside_of_what_is_adapted(tmp_path, outside):
    module = outside("own_choice", "register_adapted_parameters")
    given = ("--import_module", module, "--adapted_parameters", "body", "--inner_rates", "per_element")
    results = run(tmp_path / "own", *given)
    rates = MSMAMLModel.from_pretrained(tmp_path / "own").inner_rates.rates
    assert rates and all(name.startswith("convolutions_") for name in rates)
    again = run(tmp_path / "again", model_name_or_path=tmp_path / "own", do_train=False)
    assert again["test_loss"] == results["test_loss"]


def test_low_rank_factors_in_a_run(tmp_path):
    given = ("--adapted_parameters", "lora", "--lora_layers", '["convolutions.0"]', "--lora_rank", "2")
    run(tmp_path, *given)
    model = MSMAMLModel.from_pretrained(tmp_path)
    assert [name for name, _ in model.task_network.factors.named_parameters()] == [
        f"convolutions_0.{part}" for part in ("down", "up")
    ]


def test_a_loss_from_outside_and_more_steps_in_evaluation(tmp_path, outside):
    given = ("--import_module", outside("own_loss", "register_task_loss"), "--task_loss", "margin")
    results = run(tmp_path / "own", *given, "--first_order", "true", num_eval_inner_steps=4)
    model = MSMAMLModel.from_pretrained(tmp_path / "own")
    assert (model.config.task_loss, model.config.num_inner_steps, model.config.num_eval_inner_steps) == ("margin", 2, 4)
    again = run(tmp_path / "again", model_name_or_path=tmp_path / "own", do_train=False)
    assert again["test_loss"] == results["test_loss"]
    none = run(tmp_path / "none", model_name_or_path=tmp_path / "own", do_train=False, num_eval_inner_steps=0)
    assert none["test_loss"] != results["test_loss"]


def test_a_loss_of_numbers_is_refused_before_anything_is_read(tmp_path):
    message = "task_loss='squared_error' has numbers for targets, but the data sets of a run have classes: train"
    with pytest.raises((ValueError, SystemExit), match=message):
        run(tmp_path / "run", "--task_loss", "squared_error")
    assert not (tmp_path / "run").exists()
