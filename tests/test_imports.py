"""What `import modeling_msmaml` loads and how long it takes, and that every public name is there when asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import data_builders
import modeling_msmaml

REPOSITORY = Path(__file__).parents[1]
# What only those pay for who use it.
LATE = ("matplotlib", "sklearn", "evaluate", "gradio", "pandas", "timm", "transformers.trainer")
SLOWDOWN = 1.15
TRIES = 5


def in_new_process(code: str) -> dict:
    """What code that runs in a Python of its own prints as JSON in its last line."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def loaded_by(statement: str) -> set[str]:
    """Which of `LATE` a statement loads."""
    code = f"import json, sys\n{statement}\nprint(json.dumps({{name: name in sys.modules for name in {LATE!r}}}))"
    return {name for name, is_loaded in in_new_process(code).items() if is_loaded}


def test_import_loads_nothing_before_it_is_used():
    assert loaded_by("import data_builders, modeling_msmaml, msmaml") == set()


def test_pipeline_and_auto_classes_are_known_at_once():
    statement = """
import modeling_msmaml
from transformers import AutoConfig
from transformers.pipelines import PIPELINE_REGISTRY
_, task, _ = PIPELINE_REGISTRY.check_task("few-shot-classification")
assert task["impl"] is modeling_msmaml.FewShotClassificationPipeline
assert type(AutoConfig.for_model("msmaml")) is modeling_msmaml.MSMAMLConfig
"""
    assert loaded_by(statement) == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("FewShotClassifier", {"sklearn"}), ("write_model_card", set()), ("plot_learning_curves", {"matplotlib"})],
)
def test_a_name_loads_what_it_needs(name, expected):
    # scikit-learn loads pandas where it is installed.
    assert loaded_by(f"from modeling_msmaml import {name}") - {"pandas"} == expected


def test_import_takes_little_longer_than_that_of_transformers():
    code = """
import json, time
start = time.perf_counter()
from transformers import AutoProcessor, PreTrainedModel
there = time.perf_counter()
import modeling_msmaml
print(json.dumps({"transformers": there - start, "all": time.perf_counter() - start}))
"""
    ratios = []
    while len(ratios) < TRIES and (not ratios or min(ratios) > SLOWDOWN):
        seconds = in_new_process(code)
        ratios.append(seconds["all"] / seconds["transformers"])
    assert min(ratios) <= SLOWDOWN, ratios


@pytest.mark.parametrize("package", [modeling_msmaml, data_builders], ids=lambda package: package.__name__)
def test_every_public_name_is_there(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        value = getattr(package, name)
        # A constant has no `__module__`: the package's own table says where it stands.
        place = value.__module__ if hasattr(value, "__module__") else package._PLACES[name]
        assert place.startswith(("modeling_msmaml.", "data_builders."))
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        package.Classifier  # noqa: B018
    with pytest.raises(ImportError):
        exec(f"from {package.__name__} import Classifier")
