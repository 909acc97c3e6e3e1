"""Embeddings on the maps of fitted frontends: a few convolutions that suit the modality, ending in one sequence."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .descriptors import Statistics, quadrant_means, spectrum_statistics, sum_over_positions
from .fitted_frontends import LogMelFrontend, PatchDictionaryFrontend, WeightedWordsFrontend
from .modality_embeddings import ModalityEmbedding, register_modality

GROUP_SIZE = 8  # channels a group of the group norms


def group_norm(channels: int) -> nn.GroupNorm:
    """Of about `GROUP_SIZE` channels a group."""
    return nn.GroupNorm(channels // GROUP_SIZE if channels % GROUP_SIZE == 0 else 1, channels)


class AudioStem(ModalityEmbedding):
    """Log-mel spectrogram (batch, mels, frames) -> (batch, C, about frames / 4)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            group_norm(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            group_norm(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=(2, 1), padding=1),
            group_norm(32),
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
    def statistics(cls, config: MSMAMLConfig) -> Statistics:
        return Statistics(spectrum_statistics, 4 * config.num_mels)

    def forward(self, inputs: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch channels length"]:
        return self.projection(self.convolutions(inputs[:, None]).flatten(1, 2))


class TextStem(ModalityEmbedding):
    """Weighted word vectors (batch, word_vector_size, positions) -> (batch, C, positions)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.projection = nn.Conv1d(config.word_vector_size, config.num_channels, 1)
        self.norm = group_norm(config.num_channels)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return WeightedWordsFrontend(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> Statistics:
        return Statistics(sum_over_positions, config.word_vector_size, standardise=False, whitening=0.25)

    def forward(self, inputs: Float[Tensor, "batch size positions"]) -> Float[Tensor, "batch channels positions"]:
        return F.relu(self.norm(self.projection(inputs)))


class ImageStem(ModalityEmbedding):
    """Patch responses (batch, features, rows, columns) -> (batch, C, rows * columns / 4), row by row."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        hidden = config.num_channels + config.num_channels // 2
        self.convolutions = nn.Sequential(
            nn.Conv2d(2 * config.patch_dictionary_size, hidden, 1),
            group_norm(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, config.num_channels, 3, padding=1),
            group_norm(config.num_channels),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return PatchDictionaryFrontend(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> Statistics:
        return Statistics(quadrant_means, 8 * config.patch_dictionary_size)

    def forward(self, inputs: Float[Tensor, "batch features rows columns"]) -> Float[Tensor, "batch channels length"]:
        return self.convolutions(inputs).flatten(2)


register_modality("audio", AudioStem, front_ends="fitted")
register_modality("text", TextStem, front_ends="fitted")
register_modality("image", ImageStem, front_ends="fitted")
