"""Parts of the inner loop that are written outside the package and used by run_meta.py, as docs/inner_loop.md says."""

import json
import sys
from pathlib import Path

import pytest

import run_meta
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.model import inner_optimizers

from ..test_docs import blocks
from .test_run_meta import options

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inner_loop.md"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Writes a module of the page, which is not part of the package; returns its name."""
    monkeypatch.setattr(inner_optimizers, "_REGISTRY", dict(inner_optimizers._REGISTRY))
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
