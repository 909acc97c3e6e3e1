"""A saved model on levels is complete in itself: its encoders lie below it, wherever it is moved."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.level_encoder import save_level_encoder
from modeling_msmaml.model.level_frontend import LevelFrontend
from modeling_msmaml.model.level_sources import EncoderSource, put_link

from ..saved_levels import MODALITIES, level_model, save_encoders
from .level_encoders import raw_rows, tiny


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, str]:
    return save_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def saved(encoders, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    level_model(encoders).save_pretrained(folder)
    return folder


CPU = torch.device("cpu")


def frontend(model: Any, modality: str) -> LevelFrontend:
    return model.frontends[modality]


def logits(model: MSMAMLModel, modality: str) -> torch.Tensor:
    """Of a task of raw inputs, which need the encoder."""
    raw = raw_rows(modality)[None]
    return model.classify(model.adapt(modality, raw, torch.tensor([[0, 1, 1, 0, 1]])), raw)


def test_it_works_where_it_was_moved_without_the_folders_that_it_was_made_from(tmp_path):
    folders = save_encoders(tmp_path / "encoders")
    model = level_model(folders)
    expected = {modality: logits(model, modality) for modality in MODALITIES}
    model.save_pretrained(tmp_path / "first")
    shutil.rmtree(tmp_path / "encoders")
    (tmp_path / "first").rename(tmp_path / "second")
    again = MSMAMLModel.from_pretrained(tmp_path / "second")
    for modality in MODALITIES:
        assert torch.equal(logits(again, modality), expected[modality]), modality
    again.save_pretrained(tmp_path / "third")
    shutil.rmtree(tmp_path / "second")
    assert torch.equal(logits(MSMAMLModel.from_pretrained(tmp_path / "third"), "text"), expected["text"])


def test_no_path_of_the_machine_is_saved(saved, encoders, tmp_path):
    again = MSMAMLModel.from_pretrained(saved)
    again.save_pretrained(tmp_path / "again")
    copy.deepcopy(again).config.save_pretrained(tmp_path / "config")
    places = {str(Path(folder).parent) for folder in encoders.values()} | {str(saved), str(tmp_path)}
    for config in (saved / "config.json", tmp_path / "again" / "config.json", tmp_path / "config" / "config.json"):
        text = config.read_text()
        assert not [place for place in places if place in text]
        entries = json.loads(text)["level_encoders"]
        assert {name: entry["folder"] for name, entry in entries.items()} == {n: f"encoders/{n}" for n in MODALITIES}
        assert set(entries["text"]) == {"folder", "encoder", "level_sizes", "last_level"}
    assert str(tmp_path) not in repr(again.config)


def test_a_config_with_folders_of_the_machine_is_not_saved_alone(encoders, tmp_path):
    for given in (encoders, str(Path(encoders["text"]).parent)):
        config = MSMAMLConfig(task_network="levels", level_encoders=given)
        with pytest.raises(ValueError, match="save the MSMAMLModel of this config"):
            config.save_pretrained(tmp_path)


def test_saving_links_weights_and_copies_the_rest(tmp_path):
    folders = save_encoders(tmp_path / "encoders")
    model = level_model(folders)
    for number in (1, 2):
        model.save_pretrained(tmp_path / f"checkpoint-{number}")
    one, two = (tmp_path / f"checkpoint-{number}" / "encoders" / "text" for number in (1, 2))
    assert {path.name for path in one.iterdir()} >= {"config.json", "encoder.safetensors", "tokenizer.json"}
    assert (one / "encoder.safetensors").samefile(two / "encoder.safetensors")
    assert not (one / "tokenizer.json").samefile(two / "tokenizer.json")
    # A new encoder in the folder of the first leaves what was saved as it is.
    before = (one / "encoder.safetensors").read_bytes()
    other = tiny("text")
    for parameter in other.parameters():
        parameter.data += 0.1
    save_level_encoder(other, folders["text"])
    assert (one / "encoder.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="but this model was made for"):
        model.save_pretrained(tmp_path / "checkpoint-3")
    assert torch.isfinite(logits(MSMAMLModel.from_pretrained(tmp_path / "checkpoint-1"), "text")).all()


def test_without_hard_links_weights_are_copied(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")

    def refuse(*arguments):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    put_link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new" and not (tmp_path / "b").samefile(tmp_path / "a")


def test_saving_over_itself_keeps_the_encoders(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    model = MSMAMLModel.from_pretrained(tmp_path / "model")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "model").rglob("encoders/**/*"))
    model.save_pretrained(tmp_path / "model")
    assert before == sorted(
        (path.name, path.stat().st_mtime_ns) for path in (tmp_path / "model").rglob("encoders/**/*")
    )


def test_damaged_weights_are_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    path = tmp_path / "model" / "encoders" / "text" / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="has the checksum"):
        logits(MSMAMLModel.from_pretrained(tmp_path / "model"), "text")


def test_encoders_that_are_not_asked_for_may_be_missing(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "encoders" / "audio")
    model = MSMAMLModel.from_pretrained(tmp_path / "model")
    assert torch.isfinite(logits(model, "text")).all()
    with pytest.raises(FileNotFoundError, match=r"model/encoders/audio is no folder of a level encoder: it has no enc"):
        logits(model, "audio")


def test_copies_share_one_encoder(saved):
    model = MSMAMLModel.from_pretrained(saved)
    copied = copy.deepcopy(model)
    built = MSMAMLModel(copy.deepcopy(model.config))
    for other in (copied, built, MSMAMLModel.from_pretrained(saved)):
        assert frontend(other, "text").encoder(CPU) is frontend(model, "text").encoder(CPU)


def test_some_of_the_modalities_are_loaded(saved, tmp_path):
    whole = MSMAMLModel.from_pretrained(saved)
    loaded: Any = MSMAMLModel.from_pretrained(saved, modalities=["text"], output_loading_info=True)
    part, info = loaded
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(logits(part, "text"), logits(whole, "text"))
    part.save_pretrained(tmp_path / "part")
    assert {path.name for path in (tmp_path / "part" / "encoders").iterdir()} == {"text"}
    assert list(MSMAMLModel.from_pretrained(tmp_path / "part").frontends) == ["text"]


def test_a_working_directory_may_change(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    loaded, expected = MSMAMLModel.from_pretrained("model"), logits(MSMAMLModel.from_pretrained(saved), "text")
    given = level_model({"text": "model/encoders/text"}, ["text"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(logits(loaded, "text"), expected)
    assert torch.isfinite(logits(given, "text")).all()


@pytest.mark.parametrize("kind", ["saved model", "saved model for one", "folder of folders", "folders"])
def test_encoders_are_named_by_folder_or_by_saved_model(kind, saved, encoders):
    given = {
        "saved model": str(saved),
        "saved model for one": {"text": str(saved), "image": encoders["image"]},
        "folder of folders": str(Path(encoders["text"]).parent),
        "folders": {"text": encoders["text"], "image": encoders["image"]},
    }[kind]
    model = level_model(given, ["text", "image"])
    own, expected = (frontend(each, "image") for each in (model, MSMAMLModel.from_pretrained(saved)))
    assert own.recorded["folder"] == "encoders/image" and own.described == expected.described
    raw = raw_rows("image")[None]
    assert torch.equal(own(raw, torch.float32), expected(raw, torch.float32))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"text": "no/such/folder"},
            FileNotFoundError,
            r"level_encoders\['text'\]='no/such/folder': there is no folder",
        ),
        ({"text": "/no/folder"}, FileNotFoundError, r"\['text'\]='/no/folder': there is no folder /no/folder"),
        ({"text": {"folder": "encoders/text"}}, ValueError, r"lacks encoder, level_sizes, last_level: give a folder"),
        ({}, ValueError, r"level_encoders is for \[\], but modalities=\['text'\]"),
        ({"text": "a", "image": "b"}, ValueError, r"is for \['image', 'text'\], but modalities=\['text'\]"),
    ],
)
def test_what_names_no_encoder_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        MSMAMLModel(MSMAMLConfig(task_network="levels", modalities=["text"], level_encoders=given))


def test_a_saved_model_without_such_an_encoder_is_refused(tmp_path, encoders):
    MSMAMLConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no model with one of text"):
        level_model({"text": str(tmp_path)}, ["text"])


@pytest.mark.parametrize("folder", ["/etc", "../elsewhere", 3])
def test_a_config_cannot_name_a_folder_elsewhere(folder, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    content["level_encoders"]["text"]["folder"] = folder
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="which must be a folder of its own, below it"):
        MSMAMLModel.from_pretrained(tmp_path / "model")


def test_a_config_alone_does_not_know_where_encoders_are(saved):
    model = MSMAMLModel(MSMAMLConfig.from_pretrained(saved))
    with pytest.raises(FileNotFoundError, match="built from its config alone: load it with from_pretrained"):
        logits(model, "text")


def test_a_source_of_the_hub_has_the_form_of_a_repository():
    with pytest.raises(FileNotFoundError, match="there is no folder a/b/c"):
        EncoderSource("a/b/c").file("config.json")
