"""Which model is the default, where it lies, and what somebody without one is told to do."""

import importlib
import json
import re
import shlex
import sys

import numpy as np
import pytest

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference import base_model
from msmaml.runs.run_arguments import parse_arguments

from ..own_data import picture, tiny_processor
from ..toys import tiny_config

# Somebody's own: logits are multiplied by an option and by a trained number.
SCALED = """
import torch
from modeling_msmaml import MSMAMLConfig, MSMAMLModel

class ScaledConfig(MSMAMLConfig):
    model_type = "msmaml_scaled"
    factor: float = 1.0

class ScaledModel(MSMAMLModel):
    config_class = ScaledConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def classify(self, adapted, query):
        return self.config.factor * self.scale * super().classify(adapted, query)
"""


@pytest.fixture
def scaled(tmp_path, monkeypatch):
    """The module, which is imported, and its model with values of its own, saved in `tmp_path / "model"`."""
    (tmp_path / "scaled.py").write_text(SCALED)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("scaled")
    model = module.ScaledModel(module.ScaledConfig(**{**tiny_config().own_values(), "factor": 3.0}))
    model.scale.data.fill_(0.25)
    model.save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    yield model
    del sys.modules["scaled"]


def test_the_command_to_train_a_model_exists(tmp_path, monkeypatch):
    monkeypatch.delenv("MSMAML_MODEL", raising=False)
    monkeypatch.setattr(base_model, "SHIPPED", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as raised:
        base_model.default_model()
    found = re.search(r"`msmaml train ([^`]+)`", str(raised.value))
    assert found is not None
    _, data, args = parse_arguments(shlex.split(found[1]))
    assert args.do_train and args.output_dir == "outputs/quickstart" and len(data.datasets) == 3


def test_the_shipped_model_is_known_by_its_name_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pretrained/msmaml-base", "./pretrained/msmaml-base/"):
        assert base_model.shipped_or_given(name) == str(base_model.SHIPPED)
    for other in ("someone/msmaml-base", "msmaml-base", str(tmp_path)):
        assert base_model.shipped_or_given(other) == other
    assert FewShotClassifier.from_pretrained("pretrained/msmaml-base").model == str(base_model.SHIPPED)
    (tmp_path / "pretrained" / "msmaml-base").mkdir(parents=True)
    assert base_model.shipped_or_given("pretrained/msmaml-base") == "pretrained/msmaml-base"


def test_a_derived_model_is_read_as_what_it_is(tmp_path, scaled):
    """With its own options, weights and methods, wherever it may be named; never as the class that it derives from."""
    pictures, labels = [picture(kind, number) for kind in range(3) for number in range(2)], [0, 0, 1, 1, 2, 2]
    expected = FewShotClassifier(model=scaled, processor=tiny_processor()).fit(pictures, labels).predict_proba(pictures)
    named = FewShotClassifier(model=tmp_path / "model").fit(pictures, labels)
    named.save_pretrained(tmp_path / "classifier")
    for classifier in (named, FewShotClassifier.from_pretrained(tmp_path / "classifier")):
        read, _ = classifier.base_model()
        assert type(read) is type(scaled) and read.config.factor == 3.0 and read.scale.item() == 0.25
        np.testing.assert_array_equal(classifier.predict_proba(pictures), expected)


def test_a_model_of_an_unknown_class_is_refused(tmp_path, scaled):
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["Theirs"]}))
    with pytest.raises(
        ValueError, match=r"of the class Theirs, .*import the module.* Theirs.from_pretrained\(\.\.\.\)"
    ):
        FewShotClassifier(model=tmp_path / "model").base_model()
