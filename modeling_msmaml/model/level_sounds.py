"""
Level encoders of audio from other libraries: models of transformers (CLAP, the audio spectrogram transformer, wav2vec
2.0, HuBERT, WavLM, the encoder of Whisper) and the bundles of torchaudio.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchaudio
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, ClapAudioConfig, ClapAudioModelWithProjection

from .encoder_registry import feature_extractor
from .level_encoder import WaveformEncoder
from .level_text import windows

MODEL_INPUTS = ("input_values", "input_features", "is_longer")
SHORTEST = 0.1  # s; a shorter sound is filled up with silence, since models need a few frames
BATCH_SECONDS = 40  # of sound that a model reads at once on the CPU
ACCELERATOR_BATCH_SECONDS = 640  # the same on an accelerator


class SoundsInBlocks(WaveformEncoder):
    """
    Base class of level encoders that map waveforms (batch, samples), int16 or floats in [-1, 1], to levels. Zeros at
    the end are padding.

    A waveform is resampled to what the model reads and split into as few blocks as possible, of equal length except for
    the last. Levels are means over the blocks, by their lengths:

    - `L0` to `Ln`: mean and standard deviation over the positions of the input of the first layer, and of the output of
      each layer. Models without `L0` begin with `L1`.
    - `E`: the model's own embedding: what it pools itself, or the mean over the positions of its output.

    A subclass implements `read` and calls `set_sizes` once it has its model.

    Args:
        sampling_rate: of the waveforms, in Hz.
        model_rate: that of the model, in Hz.
        block: the most seconds that are read at once.
    """

    def __init__(self, sampling_rate: int, model_rate: int, block: float):
        super().__init__(sampling_rate)
        self.model_rate, self.block = model_rate, int(block * model_rate)
        if block < SHORTEST:
            raise ValueError(f"block={block} must be at least {SHORTEST} seconds")

    def encode(self, raw: Shaped[Tensor, "batch samples"]) -> dict[str, Float[Tensor, "batch size"]]:
        waves = self.scale(raw, torch.float32)
        lengths = self.lengths(waves, self.model_rate).tolist()
        waves = torchaudio.functional.resample(waves, self.sampling_rate, self.model_rate)
        blocks = windows(lengths, self.block)
        by_length: dict[int, list[int]] = {}
        for number, (_, start, end) in enumerate(blocks):
            by_length.setdefault(end - start, []).append(number)
        seconds = BATCH_SECONDS if waves.device.type == "cpu" else ACCELERATOR_BATCH_SECONDS
        shortest = int(SHORTEST * self.model_rate)
        totals: dict[str, Tensor] = {}
        for length, numbers in by_length.items():
            for batch in torch.tensor(numbers).split(max(1, seconds * self.model_rate // max(length, shortest))):
                chosen = [blocks[number] for number in batch.tolist()]
                parts = torch.stack([waves[row, start:end] for row, start, end in chosen])
                found = self.read(F.pad(parts, (0, max(0, shortest - length))))
                rows = torch.tensor([row for row, _, _ in chosen], device=waves.device)
                for name, level in found.items():
                    target = totals.setdefault(name, level.new_zeros(len(raw), level.shape[1], dtype=torch.float32))
                    target.index_add_(0, rows, level.float() * max(length, 1))
        counts = waves.new_tensor(lengths).clamp(min=1)[:, None]
        return {name: total / counts for name, total in totals.items()}

    def read(self, waves: Float[Tensor, "blocks samples"]) -> dict[str, Float[Tensor, "blocks size"]]:
        """Computes the levels of blocks of equal length, at the model's sampling rate."""
        raise NotImplementedError

    @torch.no_grad()
    def set_sizes(self, levels: Sequence[str] | None) -> None:
        """Sets the levels as a block of silence shows them; the model is there."""
        self.eval()
        self.level_sizes = {}
        found = self.read(torch.zeros(1, int(SHORTEST * self.model_rate)))
        self.set_levels({name: level.shape[1] for name, level in found.items()}, "E", levels)


def statistics(hidden: Float[Tensor, "blocks ..."], positions: int | None = None) -> Float[Tensor, "blocks size"]:
    """
    Returns mean and standard deviation over the first positions of sequences (blocks, positions, features), or over
    maps (blocks, features, rows, columns).
    """
    values = hidden.flatten(2) if hidden.dim() == 4 else hidden[:, :positions].transpose(1, 2)
    deviation, mean = torch.std_mean(values.float(), dim=2, correction=0)
    return torch.cat([mean, deviation], dim=1)


class TransformersSounds(SoundsInBlocks):
    """
    Maps waveforms to the levels of a model of transformers, see [`SoundsInBlocks`].

    Args:
        config: the configuration of the model, as a dict with its `"model_type"`. Of a model with encoder and decoder,
            as Whisper, the encoder is read; the audio tower of CLAP has the type `"clap_audio_model"`.
        extractor: the feature extractor, as a dict with its `"feature_extractor_type"`.
        sampling_rate: of the waveforms, in Hz.
        block: the most seconds that are read at once; by default 10, and 30 for Whisper, which fills up less.
        levels: names of the levels to return, see `LevelEncoder.set_levels`.
    """

    def __init__(
        self,
        config: dict[str, Any],
        extractor: dict[str, Any],
        sampling_rate: int = 16_000,
        block: float | None = None,
        levels: Sequence[str] | None = None,
    ):
        if "feature_extractor_type" not in extractor:
            raise ValueError(f"extractor={extractor} must name its feature_extractor_type")
        reader = feature_extractor(extractor)
        rate = reader.sampling_rate
        most = most_samples(reader)
        is_whisper = extractor["feature_extractor_type"] == "WhisperFeatureExtractor"
        standard = most / rate if most and is_whisper else 10.0
        super().__init__(sampling_rate, rate, standard if block is None else block)
        if most and self.block > most:
            raise ValueError(f"block={block}: the model reads at most {most / rate:g} seconds at once")
        self.extractor = reader
        self.filled = most if is_whisper else None  # samples to which every block is filled up with silence
        self.model: Any = build_sound_model(config)
        self.set_sizes(levels)

    def read(self, waves: Float[Tensor, "blocks samples"]) -> dict[str, Float[Tensor, "blocks size"]]:
        padding = getattr(self.extractor, "padding", None)  # that of CLAP repeats a sound
        given = self.extractor(
            list(waves.cpu().numpy()),
            sampling_rate=self.model_rate,
            padding=padding if isinstance(padding, str) else "max_length" if self.filled else False,
            return_tensors="pt",
        )
        inputs = {name: value.to(waves.device) for name, value in given.items() if name in MODEL_INPUTS}
        inputs = {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in inputs.items()}
        if "is_longer" in inputs:  # the extractor calls one of them longer at random
            inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
        found = self.model(**inputs, output_hidden_states=True)
        states = found.hidden_states
        positions = max(1, -(-states[0].shape[1] * waves.shape[1] // self.filled)) if self.filled else None
        levels = {f"L{number}": statistics(state, positions) for number, state in enumerate(states)}
        for name in ("audio_embeds", "pooler_output"):
            if getattr(found, name, None) is not None:
                return {**levels, "E": getattr(found, name)}
        return {**levels, "E": found.last_hidden_state[:, :positions].float().mean(dim=1)}


def most_samples(extractor: Any) -> int | None:
    """Returns how many samples a feature extractor takes at most, or None if it takes any number."""
    for name in ("n_samples", "nb_max_samples"):  # of Whisper, and of CLAP
        if getattr(extractor, name, None):
            return getattr(extractor, name)
    if type(extractor).__name__ == "ASTFeatureExtractor":  # frames of 25 ms, every 10 ms
        return (extractor.max_length - 1) * extractor.sampling_rate // 100
    return None


def build_sound_model(config: dict[str, Any]) -> nn.Module:
    """Builds a model of transformers that reads sounds, with random weights: an encoder without a head."""
    if config.get("model_type") == "clap_audio_model":
        return ClapAudioModelWithProjection(ClapAudioConfig(**config))
    model = AutoModel.from_config(AutoConfig.for_model(**config), dtype=torch.float32, trust_remote_code=False)
    return model.get_encoder() if model.config.is_encoder_decoder else model


class TorchaudioSounds(SoundsInBlocks):
    """
    Maps waveforms to the levels of a model of torchaudio, wav2vec 2.0, HuBERT or WavLM, see [`SoundsInBlocks`].

    Args:
        config: the arguments of `torchaudio.models.wav2vec2_model`, or of `wavlm_model`.
        model: `"wav2vec2"`, HuBERT included, or `"wavlm"`.
        model_rate: the model's sampling rate, in Hz.
        normalize: whether it reads waveforms of mean 0 and variance 1.
        sampling_rate: of the waveforms, in Hz.
        block: the most seconds that are read at once.
        levels: names of the levels to return, see `LevelEncoder.set_levels`.
    """

    def __init__(
        self,
        config: dict[str, Any],
        model: str = "wav2vec2",
        model_rate: int = 16_000,
        normalize: bool = False,
        sampling_rate: int = 16_000,
        block: float = 10.0,
        levels: Sequence[str] | None = None,
    ):
        super().__init__(sampling_rate, model_rate, block)
        builders = {"wav2vec2": torchaudio.models.wav2vec2_model, "wavlm": torchaudio.models.wavlm_model}
        if model not in builders:
            raise ValueError(f"model={model!r}: choose one of {', '.join(builders)}")
        self.normalize = normalize
        self.model: Any = builders[model](**config)
        self.set_sizes(levels)

    def read(self, waves: Float[Tensor, "blocks samples"]) -> dict[str, Float[Tensor, "blocks size"]]:
        if self.normalize:
            waves = F.layer_norm(waves, waves.shape[1:])
        states, _ = self.model.extract_features(waves.to(self.dtype))
        levels = {f"L{number}": statistics(state) for number, state in enumerate(states, start=1)}
        return {**levels, "E": states[-1].float().mean(dim=1)}
