"""scripts/make_base_model.py on a run with tiny encoders."""

import dataclasses
import json
import shutil

import pytest
import torch

from modeling_msmaml import CardContent, MSMAMLModel, write_model_card
from modeling_msmaml.hub import encoder_facts
from modeling_msmaml.inference.base_model import stored_model
from modeling_msmaml.model.level_encoder import save_level_encoder
from scripts import make_base_model

from ..model.level_encoders import tiny
from ..saved_levels import MODALITIES, reads, save_level_model
from ..toys import tiny_model

FACTS = encoder_facts.EncoderFacts("", "a tiny encoder", "https://hub.example/tiny", "CC BY 4.0", "Its makers", True)
DATA_SETS = {"clinc150": "text", "omniglot": "image", "esc10": "audio"}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run's folder, and beside it `encoders`, as the packages give them."""
    folder = save_level_model(tmp_path / "outputs", tmp_path / "encoders")
    model = MSMAMLModel.from_pretrained(folder)
    monkeypatch.setattr(encoder_facts, "_KNOWN", dict(encoder_facts._KNOWN))
    for entry in dict(model.config.level_encoders or {}).values():
        encoder_facts.add_encoder_facts(dataclasses.replace(FACTS, sha256=entry["encoder"]["sha256"]))
    settings = {"train_datasets": list(DATA_SETS), "datasets": [*DATA_SETS, "esc50"], "protocol": "class_disjoint"}
    (folder / "all_results.json").write_text(json.dumps({"test_accuracy": 0.5, "settings": settings}))
    content = CardContent(str(folder), model.config, 5, DATA_SETS, 50, settings, processed=list(MODALITIES))
    write_model_card(content, folder)
    return folder


def make(trained, rank: int = 8):
    """The made model's folder."""
    to = trained.parent / "made"
    make_base_model.make_base_model(trained, to, trained.parent / "encoders", rank)
    return to


def test_the_made_model_is_whole_and_free_of_code_and_paths(trained):
    to = make(trained)
    shutil.rmtree(trained.parent / "encoders")
    files = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "processor_config.json", "results.json"} <= files
    assert {"NOTICE", "README.md", *(f"encoders/{name}/encoder.safetensors" for name in MODALITIES)} <= files
    assert not [name for name in files if name.endswith(".py")]
    assert "auto_map" not in (to / "config.json").read_text() + (to / "processor_config.json").read_text()
    card = (to / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "trust_remote_code" not in card
    for text in (card, (to / "config.json").read_text()):
        assert str(trained) not in text and str(trained.parent / "encoders") not in text
    for words in ("a tiny encoder", "Its makers", "CC BY 4.0", "CC BY 3.0", "Omniglot", "ESC-10"):
        assert words in (to / "NOTICE").read_text() and words in card, words
    model, processor = stored_model(str(to), None, "cpu")
    assert model.config.level_rank == 8 and processor is not None and processor.tokenizer is not None
    assert all(torch.tensor(reads(model, modality)).isfinite().all() for modality in MODALITIES)


def test_whitening_of_full_rank_gives_what_the_run_gives(trained):
    made = MSMAMLModel.from_pretrained(make(trained, rank=10_000))
    assert made.dtype == torch.float32
    for modality in MODALITIES:
        expected = torch.tensor(reads(MSMAMLModel.from_pretrained(trained), modality))
        torch.testing.assert_close(torch.tensor(reads(made, modality)), expected, rtol=0.02, atol=0.2)


def test_a_lower_rank_keeps_the_largest_directions_and_the_mean_of_the_others(trained):
    whole = MSMAMLModel.from_pretrained(trained)
    reduced = make_base_model.with_rank(whole, 3)
    before, after = (model.task_network.statistics["text"]["L1"] for model in (whole, reduced))
    assert torch.equal(after.values, before.values[-3:]) and torch.equal(after.directions, before.directions[:, -3:])
    assert after.rest == pytest.approx(before.values[:-3].mean())
    assert make_base_model.with_rank(reduced, 3) is reduced
    again = make_base_model.with_rank(reduced, 2).task_network.statistics["text"]["L1"]
    assert again.rest == pytest.approx(before.values[:-2].mean())


def other_encoder(trained):
    encoder = tiny("text")
    for parameter in encoder.parameters():
        parameter.data += 0.1
    save_level_encoder(encoder, trained.parent / "encoders" / "text")


def other_network(trained):
    tiny_model(torch.float32).save_pretrained(trained)


def non_commercial(trained):
    results = json.loads((trained / "all_results.json").read_text())
    results["settings"]["train_datasets"] = ["clinc150", "esc50"]
    (trained / "all_results.json").write_text(json.dumps(results))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_encoder, "the encoder of text is .* but the packages give .*: train on what scripts/make_level_enc"),
        (other_network, "task_network='conv1d', not 'levels'"),
        (non_commercial, "was trained on ESC-50, whose licences exclude commercial use"),
        (lambda trained: encoder_facts._KNOWN.clear(), "the encoder of audio has no facts: add them"),
    ],
)
def test_what_cannot_be_shipped_is_refused(trained, change, message):
    change(trained)
    with pytest.raises(ValueError, match=message):
        make(trained)
    assert not (trained.parent / "made").exists()


def test_a_model_that_is_too_large_is_refused(trained, monkeypatch):
    monkeypatch.setattr(make_base_model, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"takes \d+ bytes, more than 1000; the largest file is "):
        make(trained)
