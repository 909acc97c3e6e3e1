"""Embeddings on the features of pretrained encoders: an adapter where one is asked for, and a projection."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .descriptors import Statistics
from .modality_embeddings import ModalityEmbedding, register_modality
from .pretrained_frontends import (
    PretrainedAudioFrontend,
    PretrainedFrontend,
    PretrainedImageFrontend,
    PretrainedTextFrontend,
)
from .stems import group_norm


class Adapter(nn.Module):
    """
    h + up(relu(down(h))) at every position, the bottleneck of Houlsby et al. 2019 (arXiv 1902.00751, section 2.1), on
    the encoder's last hidden states: the encoder's own layers stay as they are, so that its features can be stored.
    Nothing changes at first, since `up` begins at zero.
    """

    def __init__(self, num_features: int, size: int):
        super().__init__()
        # Not nn.Linear, which the task network would start its own way.
        self.down = nn.Parameter(torch.empty(size, num_features))
        self.down_bias = nn.Parameter(torch.zeros(size))
        self.up = nn.Parameter(torch.zeros(num_features, size))
        self.up_bias = nn.Parameter(torch.zeros(num_features))

    def reset_parameters(self) -> None:
        init.normal_(self.down, std=self.down.shape[1] ** -0.5)
        for parameter in (self.down_bias, self.up, self.up_bias):
            init.zeros_(parameter)

    def forward(self, hidden: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch features positions"]:
        inner = F.relu(self.down @ hidden + self.down_bias[:, None])
        return hidden + self.up @ inner + self.up_bias[:, None]


def filled_positions(features: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch 1 positions"]:
    """1, and 0 where a sample has ended: hidden states are zero there and nowhere else."""
    return (features != 0).any(dim=1, keepdim=True).to(features.dtype)


def mean_over_filled(features: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch features"]:
    """Mean over the positions of a sample's own length."""
    return features.sum(dim=2) / filled_positions(features).sum(dim=2).clamp(min=1)


class PretrainedStem(ModalityEmbedding):
    """Features (batch, features, positions) -> (batch, C, positions); zero where a sample has ended."""

    frontend_class: type[PretrainedFrontend]

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        spec = config.embeddings[self.frontend_class.modality]
        num_features = spec["recorded"]["num_features"]
        self.adapter = Adapter(num_features, spec["adapter_size"]) if "adapter_size" in spec else None
        self.projection = nn.Conv1d(num_features, config.num_channels, 1)
        self.norm = group_norm(config.num_channels)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return cls.frontend_class(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> Statistics:
        # Not standardised: an encoder's features are on one scale already.
        recorded = config.embeddings[cls.frontend_class.modality]["recorded"]
        return Statistics(mean_over_filled, recorded["num_features"], standardise=False, whitening=0.25)

    def forward(self, inputs: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch channels positions"]:
        hidden = inputs if self.adapter is None else self.adapter(inputs)
        return F.relu(self.norm(self.projection(hidden))) * filled_positions(inputs)


class PretrainedAudioStem(PretrainedStem):
    frontend_class = PretrainedAudioFrontend


class PretrainedTextStem(PretrainedStem):
    frontend_class = PretrainedTextFrontend


class PretrainedImageStem(PretrainedStem):
    frontend_class = PretrainedImageFrontend


for _stem in (PretrainedAudioStem, PretrainedTextStem, PretrainedImageStem):
    register_modality(_stem.frontend_class.modality, _stem, front_ends="pretrained")
