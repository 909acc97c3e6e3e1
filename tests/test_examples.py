"""The scripts in examples/ run as they stand, and do what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str):
    """What `main` of an example returns."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)["main"]()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An example needs nothing of the folder that it is started in."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_use_public_names_alone(path):
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) < 60
    for package in ("modeling_msmaml", "data_builders", "msmaml"):
        assert not [line for line in lines if line.startswith((f"from {package}.", f"import {package}."))]


@pytest.mark.filterwarnings("ignore:the model's vocabulary lacks")
def test_own_inputs_are_classified():
    assert run("classify_own_inputs") == {
        "sounds": ["low", "high"],
        "texts": ["recipe", "politics"],
        "pictures": ["red", "blue"],
    }


def test_a_model_is_meta_trained():
    results = run("meta_train")
    for modality in ("audio", "image"):
        assert results[f"eval_{modality}_accuracy"] - results[f"eval_{modality}_accuracy_ci95"] > 0.2


def test_a_modality_is_added():
    results = run("add_modality")
    assert results["eval_motion_accuracy"] - results["eval_motion_accuracy_ci95"] > 1 / 3


def test_sine_curves_are_learned_from_ten_points():
    errors = run("sine_regression")
    assert errors[2] < 0.75 * errors[0]
