"""Level encoders of audio from transformers and torchaudio, beside the libraries' own paths."""

import json
from typing import Any

import pytest
import torch
import torchaudio
import transformers
from transformers import AutoConfig, AutoModel

from modeling_msmaml.model.level_encoder import build_level_encoder, read_level_encoder, save_level_encoder
from modeling_msmaml.model.level_pretrained import level_encoder_from_pretrained
from modeling_msmaml.model.level_sounds import build_sound_model

from .level_encoders import sounds

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {"conv_dim": [8] * 3, "conv_stride": [5, 8, 8], "conv_kernel": [10, 8, 8], "num_feat_extract_layers": 3}
CONVOLUTIONS |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
WHISPER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "vocab_size": 60}
WHISPER |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
WHISPER |= {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")}
CLAP = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 16}
CLAP |= {"projection_dim": 8, "num_hidden_layers": 2}
MODELS: dict[str, tuple[dict[str, Any], Any]] = {
    "wav2vec2": ({**SIZE, **CONVOLUTIONS}, transformers.Wav2Vec2FeatureExtractor()),
    "hubert": ({**SIZE, **CONVOLUTIONS}, transformers.Wav2Vec2FeatureExtractor()),
    "audio-spectrogram-transformer": ({**SIZE, "time_stride": 64}, transformers.ASTFeatureExtractor()),
    "whisper": (WHISPER, transformers.WhisperFeatureExtractor()),
    "clap_audio_model": (CLAP, transformers.ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")),
}
TORCHAUDIO: dict[str, Any] = {**torchaudio.pipelines.WAV2VEC2_BASE._params, "encoder_num_layers": 2}
TORCHAUDIO |= {"encoder_embed_dim": 16, "encoder_num_heads": 2, "encoder_ff_interm_features": 16}
TORCHAUDIO |= {"encoder_pos_conv_groups": 2, "extractor_conv_layer_config": [(8, 10, 5), (8, 8, 8), (8, 8, 8)]}

KINDS = [*MODELS, "torchaudio"]


def describe(name: str, **options) -> dict[str, Any]:
    if name == "torchaudio":
        return {"encoder": "torchaudio", "config": TORCHAUDIO, **options}
    config, extractor = MODELS[name]
    told = {**json.loads(extractor.to_json_string()), "feature_extractor_type": type(extractor).__name__}
    return {"encoder": "transformers_audio", "config": {"model_type": name, **config}, "extractor": told, **options}


def tiny(name: str, **options) -> Any:
    torch.manual_seed(0)
    return build_level_encoder(describe(name, **options))


def noise(length: int, width: int) -> torch.Tensor:
    """A sound whose end is heard, followed by padding."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.randint(1000, 8000, (length,), generator=generator) * (1 - 2 * (torch.arange(length) % 3 == 0).int())
    return torch.nn.functional.pad(wave, (0, width - length)).short()[None]


def statistics(state: torch.Tensor) -> torch.Tensor:
    """Of (positions, features)."""
    return torch.cat([state.mean(dim=0), state.std(dim=0, correction=0)])


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_levels_are_statistics_of_the_hidden_states_of_transformers(name):
    encoder, extractor = tiny(name), MODELS[name][1]
    wave = noise(24_000, width=30_000)
    heard = torchaudio.functional.resample(wave[:, :24_000] / 32768, 16_000, extractor.sampling_rate)
    inputs = extractor(list(heard.numpy()), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    if name == "clap_audio_model":
        inputs["is_longer"] = torch.tensor([[False]])
    found = encoder.model(**inputs, output_hidden_states=True)
    levels = encoder.encode(wave)
    assert list(levels) == ["L0", "L1", "L2", "E"] == list(encoder.level_sizes) and encoder.last_level == "E"
    for number, state in enumerate(found.hidden_states):
        sequence = state[0].flatten(1).T if state.dim() == 4 else state[0]
        if name == "whisper":
            sequence = sequence[:75]  # of 1500 positions in 30 s
        torch.testing.assert_close(levels[f"L{number}"][0], statistics(sequence), rtol=1e-3, atol=1e-4)
    own = {"clap_audio_model": "audio_embeds", "audio-spectrogram-transformer": "pooler_output"}
    expected = found[own[name]][0] if name in own else levels["L2"][0, :16]
    torch.testing.assert_close(levels["E"][0], expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_levels_are_statistics_of_the_layers_of_torchaudio():
    encoder, wave = tiny("torchaudio", normalize=True), noise(24_000, width=30_000)
    heard = wave[:, :24_000] / 32768
    states, _ = encoder.model.extract_features(torch.nn.functional.layer_norm(heard, heard.shape[1:]))
    levels = encoder.encode(wave)
    assert list(levels) == ["L1", "L2", "E"]
    for number, state in enumerate(states, start=1):
        torch.testing.assert_close(levels[f"L{number}"][0], statistics(state[0]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_sound_does_not_depend_on_the_others_nor_on_padding(name):
    encoder, waves = tiny(name), sounds([0, 700, 9000, 9000, 24_000], width=24_000)
    together = encoder.levels(waves)
    assert together.isfinite().all() and together[1:].std(dim=0).max() > 1e-3
    alone = torch.cat([encoder.levels(wave[None]) for wave in waves])
    torch.testing.assert_close(alone, together, rtol=2e-3, atol=2e-4)
    padded = torch.nn.functional.pad(waves, (0, 8000))
    torch.testing.assert_close(encoder.levels(padded), together, rtol=2e-3, atol=2e-4)
    torch.testing.assert_close(encoder.levels(waves / 32768), together, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", [kind for kind in KINDS if kind != "clap_audio_model"])  # which resamples
def test_a_long_sound_is_the_mean_over_its_blocks_by_their_lengths(name):
    encoder, waves = tiny(name, block=0.5, sampling_rate=16_000), noise(14_000, width=14_000)
    parts = encoder.encode(waves[:, :7000]), encoder.encode(waves[:, 7000:])
    for level, value in encoder.encode(waves).items():
        torch.testing.assert_close(value, (parts[0][level] + parts[1][level]) / 2, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_encoder_is_the_same(name, tmp_path):
    encoder, waves = tiny(name, levels=["L2", "E"]), sounds([9000, 16_000], width=16_000)
    save_level_encoder(encoder, tmp_path)
    read = read_level_encoder(tmp_path)
    assert list(read.level_sizes) == ["L2", "E"]
    assert torch.equal(read.levels(waves), encoder.half().float().levels(waves))


@pytest.mark.parametrize("name", ["wav2vec2", "audio-spectrogram-transformer", "whisper", "clap"])
def test_a_model_of_transformers_becomes_an_encoder(name, tmp_path):
    torch.manual_seed(1)
    if name == "clap":
        text = {**SIZE, "vocab_size": 60, "projection_dim": 8, "num_hidden_layers": 1}
        config = AutoConfig.for_model("clap", audio_config=CLAP, text_config=text, projection_dim=8)
        AutoModel.from_config(config).save_pretrained(tmp_path)
    else:
        AutoModel.from_config(AutoConfig.for_model(name, **MODELS[name][0])).save_pretrained(tmp_path)
    MODELS["clap_audio_model" if name == "clap" else name][1].save_pretrained(tmp_path)
    encoder: Any = level_encoder_from_pretrained("audio", tmp_path)
    weights = AutoModel.from_pretrained(tmp_path)
    expected = weights.audio_model.state_dict() if name == "clap" else weights.state_dict()
    stored = {key.removeprefix("audio_model."): value for key, value in encoder.model.state_dict().items()}
    shared = [key for key in stored if key in expected or f"encoder.{key}" in expected]
    assert len(shared) > 20
    for key in shared:
        assert torch.equal(stored[key], expected[key] if key in expected else expected[f"encoder.{key}"]), key


def test_a_bundle_of_torchaudio_becomes_an_encoder(monkeypatch):
    torch.manual_seed(1)
    weights = torchaudio.models.wav2vec2_model(**TORCHAUDIO).state_dict()
    asked = []

    class Bundle(torchaudio.pipelines.Wav2Vec2Bundle):
        def _get_state_dict(self, dl_kwargs):
            asked.append(dl_kwargs)
            return weights

    bundle = Bundle("tiny.pth", TORCHAUDIO, 16_000, True, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "TINY", bundle, raising=False)
    encoder: Any = level_encoder_from_pretrained("audio", "TINY", levels=["E"])
    assert encoder.normalize and asked == [{"weights_only": True}]
    for key, value in encoder.model.state_dict().items():
        assert torch.equal(value, weights[key])
    with pytest.raises(FileNotFoundError, match="torchaudio has no bundle NOTHING .*WAV2VEC2_BASE"):
        level_encoder_from_pretrained("audio", "NOTHING")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("whisper", {"block": 31.0}, "block=31.0: the model reads at most 30 seconds at once"),
        ("clap_audio_model", {"block": 11.0}, "block=11.0: the model reads at most 10 seconds"),
        ("audio-spectrogram-transformer", {"block": 11.0}, "reads at most 10.23 seconds"),
        ("wav2vec2", {"block": 0.01}, "block=0.01 must be at least 0.1 seconds"),
        ("wav2vec2", {"extractor": {}}, "must name its feature_extractor_type"),
        ("wav2vec2", {"levels": ["L9", "E"]}, "has no 'L9'"),
        ("torchaudio", {"model": "other"}, "model='other': choose one of wav2vec2, wavlm"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        tiny(name, **options)


def test_the_tower_of_clap_is_built_alone():
    names = build_sound_model({"model_type": "clap_audio_model", **CLAP}).state_dict()
    assert not [key for key in names if "text" in key]
