"""
The audio modality: how a waveform becomes a sequence of features.

In order:

1. The raw front end (`AudioEmbedding`): linear patches of samples.
2. The fitted front end: a log-mel spectrogram (`LogMelFrontend`), read by a convolutional embedding (`AudioStem`) and
   summarised for the descriptor by `spectrum_statistics`.
3. The pretrained front end: a frozen encoder of transformers (`PretrainedAudioFrontend`), read by the embedding
   `PretrainedAudioStem`; pretrained_encoder.py has its descriptor statistics.
4. The registration of the three.
"""

import torch
import torchaudio
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .descriptors import DescriptorStatistics
from .encoder_registry import feature_extractor
from .execution import autocast
from .modalities import FittedFrontend, ModalityEmbedding, ScaleIntegers, SequencePatches, register_modality
from .norms import make_group_norm
from .pretrained_encoder import PretrainedFrontend, PretrainedStem, build_transformer, hidden_states

SAMPLING_RATE = 16_000  # Hz
WINDOW_SAMPLES, HOP_SAMPLES = 512, 400  # of the spectrogram: 32 ms and 25 ms
MEL_FLOOR = 1e-4  # added to the mel power before the logarithm is taken; full scale is 1


class AudioEmbedding(ModalityEmbedding):
    """Maps waveforms (batch, samples) at 16 kHz in [-1, 1] to sequences (batch, C, samples // audio_patch_size)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.proj = SequencePatches(1, config.num_channels, config.audio_patch_size)

    def forward(self, inputs: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch channels length"]:
        return self.proj(inputs[..., None])


class LogMelFrontend(FittedFrontend):
    """
    Maps waveforms (.., samples) at 16 kHz, int16 or in [-1, 1], to log-mel spectrograms (.., mels, frames): the
    logarithm of the power in mel bands from 20 Hz to 8 kHz, in windows of 32 ms every 25 ms, standardised per band.
    """

    sample_dims = 1
    window: Float[Tensor, " samples"]
    mel_filters: Float[Tensor, "frequencies mels"]

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config.num_mels)
        self.scale = ScaleIntegers()
        self.register_buffer("window", torch.zeros(WINDOW_SAMPLES))
        self.register_buffer("mel_filters", torch.zeros(WINDOW_SAMPLES // 2 + 1, config.num_mels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        bands, mels = self.mel_filters.shape
        with torch.device("cpu"):  # a model may be built on a device without values
            window = torch.hann_window(WINDOW_SAMPLES)
            filters = torchaudio.functional.melscale_fbanks(bands, 20.0, SAMPLING_RATE / 2, mels, SAMPLING_RATE)
        init.copy_(self.window, window)
        init.copy_(self.mel_filters, filters)

    def maps(self, inputs: Shaped[Tensor, "batch samples"], dtype: torch.dtype) -> Float[Tensor, "batch mels frames"]:
        # Spectra and their logarithms need at least float32, whatever dtype the model computes in.
        precision = torch.promote_types(dtype, torch.float32)
        with autocast(inputs.device.type, enabled=False):
            spectrum = torchaudio.functional.spectrogram(
                self.scale(inputs, precision),
                pad=0,
                window=self.window.to(precision),
                n_fft=WINDOW_SAMPLES,
                hop_length=HOP_SAMPLES,
                win_length=WINDOW_SAMPLES,
                power=None,
                normalized=False,
            )
            # torchaudio's power=2 would take a root and square it, which takes more than twice as long.
            power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
            mel_power = power.transpose(1, 2) @ self.mel_filters.to(precision)
            return (mel_power + MEL_FLOOR).log().transpose(1, 2).to(dtype)


class AudioStem(ModalityEmbedding):
    """Maps log-mel spectrograms (batch, mels, frames) to sequences (batch, C, about frames / 4)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            make_group_norm(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            make_group_norm(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=(2, 1), padding=1),
            make_group_norm(32),
            nn.ReLU(),
        )
        bands = config.num_mels
        for _ in range(3):
            bands = (bands + 1) // 2
        self.projection = nn.Conv1d(32 * bands, config.num_channels, 1)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return LogMelFrontend(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> DescriptorStatistics:
        return DescriptorStatistics(spectrum_statistics, 4 * config.num_mels)

    def forward(self, inputs: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch channels length"]:
        return self.projection(self.convolutions(inputs[:, None]).flatten(1, 2))


def spectrum_statistics(maps: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 4*mels"]:
    """
    Returns four statistics of each mel band over time: mean, standard deviation, mean absolute change from frame to
    frame, and maximum.
    """
    change = maps.diff(dim=2).abs().mean(dim=2)
    return torch.cat([maps.mean(dim=2), maps.std(dim=2), change, maps.amax(dim=2)], dim=1)


class PretrainedAudioFrontend(PretrainedFrontend):
    """
    Maps waveforms (.., samples) at 16 kHz, int16 or float32 in [-1, 1], to the hidden states of a frozen encoder
    (.., features, positions).

    The encoder's own feature extractor, which normalises the waveform or computes its spectrogram, runs on the CPU.
    """

    modality = "audio"
    sample_dims = 1

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.scale = ScaleIntegers()
        self.extractor = feature_extractor(self.recorded["feature_extractor"])

    def build(self, pretrained: bool) -> nn.Module:
        return build_transformer(self.spec["transformers"], self.recorded, pretrained)

    def encode(self, inputs: Shaped[Tensor, "batch samples"]) -> Float[Tensor, "batch features positions"]:
        sounds = list(self.scale(inputs, torch.float32).cpu().numpy())
        prepared = self.extractor(sounds, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        name = self.extractor.model_input_names[0]
        values = prepared[name].to(inputs.device, self.encoder_dtype)
        return hidden_states(self.encoder, self.layer, **{name: values}).transpose(1, 2)


class PretrainedAudioStem(PretrainedStem):
    """Maps the hidden states of the encoder to sequences, see `PretrainedStem`."""

    frontend_class = PretrainedAudioFrontend


register_modality("audio", AudioEmbedding)
register_modality("audio", AudioStem, front_ends="fitted")
register_modality("audio", PretrainedAudioStem, front_ends="pretrained")
