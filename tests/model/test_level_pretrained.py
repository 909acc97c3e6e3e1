"""Level encoders that are made of models of transformers and timm: local folders, the Hub, short names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from modeling_msmaml.inputs.processing_msmaml import MSMAMLProcessor
from modeling_msmaml.model import level_pretrained
from modeling_msmaml.model.level_encoder import CONFIG_FILE, WEIGHTS_FILE, read_level_encoder, save_level_encoder
from modeling_msmaml.model.level_pretrained import KNOWN, find_level_encoder, level_encoder_from_pretrained

from ..fake_hub import FakeHub
from .level_encoders import raw_rows, tiny
from .test_level_text_families import FAMILIES, TEXTS, library, make_tokenizer, make_whole_model

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(level_pretrained, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "msmaml" / "level_encoders"


def save_text(folder: Path, family: str = "roberta"):
    tokenizer = make_tokenizer(FAMILIES[family][1])
    model = make_whole_model(family, tokenizer)
    model.save_pretrained(folder)
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    tokenizer.save_pretrained(folder)
    return tokenizer, model


def save_image(folder: Path, architecture: str = "test_vit", pickled: bool = False):
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=7).eval()
    save_for_hf(model, folder, safe_serialization=not pickled)
    return model


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "distilbert", "t5"])
def test_a_model_of_transformers_becomes_an_encoder(family, tmp_path):
    tokenizer, model = save_text(tmp_path / family, family)
    encoder = level_encoder_from_pretrained("text", tmp_path / family)
    assert encoder.config["special_tokens"] == [[tokenizer.cls_token_id], [tokenizer.sep_token_id]]
    rows = MSMAMLProcessor(tokenizer=tokenizer)(text=TEXTS[:3], return_tensors="pt")["input_ids"]
    found = encoder.split(encoder.levels(rows))[encoder.last_level]
    for number, text in enumerate(TEXTS[:3]):
        torch.testing.assert_close(found[number], library(tokenizer, model, text)[-1].mean(dim=0), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
@torch.no_grad()
def test_a_model_of_timm_becomes_an_encoder(architecture, pickled, tmp_path):
    model = save_image(tmp_path, architecture, pickled)
    encoder = level_encoder_from_pretrained("image", tmp_path, views=["whole"], input_size=64)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(model.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    expected = model.forward_head(model.forward_features((images / 255 - mean) / std), pre_logits=True)
    torch.testing.assert_close(encoder.encode(images)["H"], expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_is_made_once_with_its_tokenizer_and_checksums(tmp_path, home):
    tokenizer, _ = save_text(tmp_path / "model")
    folder = find_level_encoder("text", str(tmp_path / "model"))
    assert folder.parent == home and [path.name for path in home.iterdir()] == [folder.name]
    description = json.loads((folder / CONFIG_FILE).read_text())
    sums = description["source"]["sha256"]
    assert list(sums) == ["model.safetensors"] and len(sums["model.safetensors"]) == len(description["sha256"]) == 64
    assert type(tokenizer).from_pretrained(folder)("a cat")["input_ids"] == tokenizer("a cat")["input_ids"]
    written = (folder / WEIGHTS_FILE).stat().st_mtime_ns
    assert find_level_encoder("text", str(tmp_path / "model")) == folder
    assert (folder / WEIGHTS_FILE).stat().st_mtime_ns == written
    chosen = find_level_encoder("text", {"name": str(tmp_path / "model"), "levels": ["L2", "L0"], "window": 9})
    assert list(read_level_encoder(chosen).level_sizes) == ["L0", "L2"] and chosen != folder
    weights = load_file(tmp_path / "model" / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "model" / "model.safetensors")
    assert find_level_encoder("text", str(tmp_path / "model")) not in (folder, chosen)


def test_a_folder_of_an_encoder_stays_itself_unless_options_change_it(tmp_path, home):
    save_level_encoder(tiny("text"), tmp_path)
    assert find_level_encoder("text", tmp_path) is tmp_path and not home.exists()
    changed = find_level_encoder("text", {"name": str(tmp_path), "levels": ["L2"]})
    rows = raw_rows("text")
    assert torch.equal(
        read_level_encoder(changed).levels(rows), read_level_encoder(tmp_path, levels=["L2"]).levels(rows)
    )


def test_what_names_no_model_is_left_to_others(tmp_path):
    for spec in (str(tmp_path), {"folder": "x"}, "no folder at all"):
        assert find_level_encoder("text", spec) is spec
    assert find_level_encoder("motion", "somewhere") == "somewhere"


@pytest.mark.parametrize(
    ("told", "level"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "C"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "L2"),
        ({"pooling_mode": "cls"}, "C"),
        ({"pooling_mode": "mean"}, "L2"),
    ],
)
def test_pooling_is_that_of_sentence_transformers(told, level, tmp_path):
    save_text(tmp_path, "bert")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / CONFIG_FILE).write_text(json.dumps({"embedding_dimension": 16, **told}))
    assert level_encoder_from_pretrained("text", tmp_path).last_level == level


def test_another_pooling_has_to_be_replaced(tmp_path):
    save_text(tmp_path, "bert")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / CONFIG_FILE).write_text(json.dumps({"pooling_mode": "lasttoken"}))
    with pytest.raises(ValueError, match="is pooled by lasttoken: give pooling='mean' or 'cls'"):
        level_encoder_from_pretrained("text", tmp_path)
    assert level_encoder_from_pretrained("text", tmp_path, pooling="cls").last_level == "C"


def test_a_prompt_is_put_before_each_text(tmp_path):
    tokenizer, _ = save_text(tmp_path, "bert")
    encoder = level_encoder_from_pretrained("text", tmp_path, prompt="the cat ", window=24)
    with_prompt, bare = (
        MSMAMLProcessor(tokenizer=tokenizer)(text=text, return_tensors="pt")["input_ids"]
        for text in ("the cat dogs", "dogs")
    )
    plain = level_encoder_from_pretrained("text", tmp_path, window=24)
    assert torch.equal(encoder.levels(bare), plain.levels(with_prompt))


def lacking(folder: Path) -> None:
    save_text(folder, "bert")
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.0.output.dense.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without_tokenizer(folder: Path) -> None:
    make_whole_model("bert", make_tokenizer(FAMILIES["bert"][1])).save_pretrained(folder)


def without_weights(folder: Path) -> None:
    save_image(folder)
    (folder / "model.safetensors").unlink()


def of_another_size(folder: Path) -> None:
    save_image(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "norm.weight": weights["norm.weight"][:3].clone()}, folder / "model.safetensors")


class Evil:
    def __reduce__(self):
        return print, ("this must never be called",)


def malicious(folder: Path) -> None:
    save_image(folder, pickled=True)
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")


def foreign_code(folder: Path) -> None:
    folder.joinpath(CONFIG_FILE).write_text(json.dumps({"model_type": "x", "auto_map": {"AutoConfig": "a.B"}}))


@pytest.mark.parametrize(
    ("modality", "make", "kind", "message"),
    [
        ("text", lacking, ValueError, "lacks 1 of the weights of its model, such as encoder.layer.0.output"),
        ("text", without_tokenizer, ValueError, "has no tokenizer: none of tokenizer.json"),
        ("text", save_image, ValueError, "is a model of timm, of which there is no encoder of text"),
        ("text", foreign_code, ValueError, "cannot be read as a model of transformers"),
        ("image", save_text, ValueError, "is a model of transformers, of which there is no encoder of image"),
        ("image", without_weights, FileNotFoundError, "has neither model.safetensors nor pytorch_model.bin"),
        ("image", of_another_size, ValueError, "(?s)the weights of .* do not fit its model: .*norm.weight"),
        ("image", malicious, ValueError, "pytorch_model.bin cannot be read"),
        ("image", lambda folder: (folder / CONFIG_FILE).write_text("{}"), ValueError, "neither model_type nor arch"),
        ("image", lambda folder: None, FileNotFoundError, "holds no model: it has no config.json"),
        ("motion", save_image, ValueError, "modality='motion': pretrained encoders are there for text, image, audio"),
    ],
)
def test_models_that_cannot_be_used_are_refused(modality, make, kind, message, tmp_path, capsys):
    make(tmp_path)
    with pytest.raises(kind, match=message):
        level_encoder_from_pretrained(modality, tmp_path)
    assert "never" not in capsys.readouterr().out


def test_an_option_that_does_not_exist_is_refused(tmp_path):
    save_text(tmp_path)
    with pytest.raises(ValueError, match="has no option colour"):
        find_level_encoder("text", {"name": str(tmp_path), "colour": 1})


CODE = """
import torch
from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.level_pretrained import KNOWN, find_level_encoder

KNOWN["text"]["e5"] = ("someone/words", {"window": 9})
encoders = {"text": "e5", "image": {"name": "timm/tiny", "levels": ["B1", "H"], "input_size": 64}}
model = MSMAMLModel(MSMAMLConfig(task_network="levels", modalities=["text", "image"], level_encoders=encoders))
text, image = (model.frontends[name].encoder(torch.device("cpu")) for name in ("text", "image"))
print(text.window, list(text.level_sizes), list(image.level_sizes), image.config["source"]["name"])
print(find_level_encoder("text", "someone/encoder"), find_level_encoder("image", "someone/nothing"))
"""


def test_encoders_are_fetched_from_the_hub_as_a_config_names_them(tmp_path):
    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    save_text(tmp_path / "words")
    save_image(tmp_path / "tiny", pickled=True)
    save_level_encoder(tiny("text"), tmp_path / "encoder")
    with FakeHub() as hub:
        hub.commit("someone/words", {**files(tmp_path / "words"), "pytorch_model.bin": b"", "onnx/model.onnx": b""})
        hub.commit("timm/tiny", files(tmp_path / "tiny"))
        hub.commit("someone/encoder", files(tmp_path / "encoder"))
        environment = {**os.environ, **hub.environment(tmp_path / "hub_home")}
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=environment, cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.strip().splitlines()
        assert first == "9 ['L0', 'L1', 'L2'] ['B1', 'H'] timm/tiny"
        assert second == "someone/encoder someone/nothing"
        assert not {"pytorch_model.bin", "onnx/model.onnx"} & set(hub.downloads("someone/words"))
        assert "pytorch_model.bin" in hub.downloads("timm/tiny")
        offline = {**environment, "HF_HUB_OFFLINE": "1"}
        again = subprocess.run(
            [sys.executable, "-c", CODE], env=offline, cwd=REPOSITORY, capture_output=True, text=True
        )
        assert again.stdout == done.stdout, again.stderr


def test_short_names_are_those_of_the_documentation():
    names = level_encoder_from_pretrained.__doc__ or ""
    for modality, known in KNOWN.items():
        assert f"{modality}: {', '.join(known)}" in " ".join(names.split())
