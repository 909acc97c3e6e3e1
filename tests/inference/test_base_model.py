"""Which model is the default, where it lies, and what somebody without one is told to do."""

import re
import shlex

import pytest

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference import base_model
from msmaml.runs.run_arguments import parse_arguments


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
