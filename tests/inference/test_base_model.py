"""What somebody without a model is told to do."""

import re
import shlex

import pytest

from modeling_msmaml.inference import base_model
from msmaml.runs.run_arguments import parse_arguments

from ..conftest import REPOSITORY


@pytest.mark.parametrize("is_installed", [False, True], ids=["checkout", "installed package"])
def test_the_command_to_train_a_model_exists_where_it_is_told(is_installed, tmp_path, monkeypatch):
    monkeypatch.delenv("MSMAML_MODEL", raising=False)
    monkeypatch.setattr(base_model, "SHIPPED", tmp_path)
    if is_installed:
        monkeypatch.setattr(base_model, "REPOSITORY", tmp_path)
    with pytest.raises(FileNotFoundError) as raised:
        base_model.default_model()
    found = re.search(r"`([^`]+)`", str(raised.value))
    assert found is not None
    program, _, rest = found[1].partition(" train " if is_installed else " run_meta.py ")
    assert program == ("msmaml" if is_installed else "accelerate launch")
    words = shlex.split(rest)
    arguments, data, args = parse_arguments(words if is_installed else [str(REPOSITORY / words[0]), *words[1:]])
    assert args.do_train and args.output_dir == "outputs/quickstart" and len(data.datasets) == 3
    assert ("checkout of the repository" in str(raised.value)) == is_installed
