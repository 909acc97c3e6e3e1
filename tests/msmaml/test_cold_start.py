"""What the command loads: of the libraries and of the model only what the files at hand need."""

import pytest

from msmaml.__main__ import main

from ..own_data import write_file
from ..saved_levels import MODALITIES, save_level_model
from ..test_imports import in_new_process

# What no classification needs.
NEVER = (
    *("datasets", "evaluate", "gensim", "gradio", "matplotlib", "tensorboard", "transformers.trainer"),
    *("data_builders", "modeling_msmaml.hub", "modeling_msmaml.training", "sklearn.linear_model"),
)


@pytest.fixture
def model(tmp_path):
    """A model on levels that lies with its encoders in one folder; what it was made of is no longer there."""
    made = tmp_path / "made"
    folder = save_level_model(tmp_path / "model", made)
    made.rename(tmp_path / "elsewhere")
    return folder


@pytest.mark.parametrize("modality", MODALITIES)
def test_other_modalities_are_not_read(modality, model, tmp_path):
    for other in MODALITIES:
        if other != modality:
            (model / "encoders" / other / "encoder.safetensors").unlink()
    for kind in range(2):
        write_file(modality, tmp_path / "examples" / str(kind), kind, 0)
    query = write_file(modality, tmp_path, 0, 1)
    words = ["classify", "--model", str(model), "--support", str(tmp_path / "examples"), "--query", str(query)]
    unwanted = NEVER if modality == "image" else (*NEVER, "timm")
    code = f"""
import json, sys
from msmaml.__main__ import main
assert main({words!r}) == 0
print(json.dumps([name for name in {unwanted!r} if name in sys.modules]))
"""
    assert in_new_process(code) == []


def test_the_encoder_of_the_files_is_read(model, tmp_path):
    """Without its weights nothing is classified, so that the test above shows what it is meant to show."""
    (model / "encoders" / "text" / "encoder.safetensors").unlink()
    for kind in range(2):
        write_file("text", tmp_path / "examples" / str(kind), kind, 0)
    with pytest.raises(SystemExit, match="encoder.safetensors"):
        main(
            ["classify", "--model", str(model), "--support", str(tmp_path / "examples"), "--save", str(tmp_path / "to")]
        )


def test_imports_are_not_held_up_by_looking_for_garbage():
    code = """
import gc, json
seen = []
gc.callbacks.append(lambda phase, facts: seen.append(phase) if facts["generation"] == 2 else None)
from msmaml.commands import quick_imports
with quick_imports():
    import torch, modeling_msmaml
during = len(seen)
with quick_imports():  # everything is there, and other code may have its own ideas of gc
    running = gc.isenabled()
print(json.dumps([during, running, gc.isenabled(), gc.get_freeze_count() > 100_000]))
"""
    assert in_new_process(code) == [0, True, True, True]
