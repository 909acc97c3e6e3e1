"""What baselines compare: features of the convolutional network, or of the last level of a frozen encoder."""

import copy
from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import initialization as init

from ..model.configuration_msmaml import MSMAMLConfig
from ..model.encoder_registry import record_encoders
from ..model.level_frontend import LevelFrontend, levels_of, record_level_encoders
from ..model.level_network import Levels
from ..model.loading import MSMAMLPreTrainedModel
from ..model.modalities import build_descriptors, build_frontends
from ..model.norms import NormStatistics
from ..model.samples import Samples, read_samples
from ..model.task_network import TaskNetwork


class ConvolutionalFeatures(nn.Module):
    """The task network of MS-MAML without task encoder, inner loop and classifier: pooled features (T, samples, d)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        own = copy.copy(config)
        own.adapted_parameters, own.conditioning, own.head = "head", "none", "linear"
        self.network = TaskNetwork(own)
        self.network.classifier = None
        self.size = self.network.feature_size + config.descriptor_size

    def read(
        self, model: MSMAMLPreTrainedModel, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float
    ) -> Samples:
        descriptor = dict(model.descriptors).get(modality)
        return read_samples(raw, modality, model.frontends[modality], descriptor, self.network, model.dtype, dropout)

    def statistics(self, samples: Samples, modality: str) -> list[NormStatistics]:
        """Those with which a batch norm or task norm normalises these samples, one tuple a layer."""
        parameters, state = self._prepared(samples, modality, None)
        return self.network.statistics(parameters, state, modality, ())

    def forward(
        self, samples: Samples, modality: str, statistics: list[NormStatistics] | None = None
    ) -> Float[Tensor, "T samples d"]:
        parameters, state = self._prepared(samples, modality, statistics)
        return self.network.features(parameters, state, modality, (), statistics)

    def _prepared(
        self, samples: Samples, modality: str, statistics: list[NormStatistics] | None
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        sequences = cast(Tensor, samples.sequences)  # never `None`, since the embeddings are not adapted
        parameters = self.network.task_parameters(modality, len(sequences))
        inputs = sequences if samples.maps is None else samples.maps  # which it does not read then
        others = (modality, (), statistics)
        return parameters, self.network.prepare(parameters, inputs, sequences, samples.descriptors, *others)


class LevelFeatures(nn.Module):
    """
    The last level of a frozen encoder, less the mean of the training samples and divided by their root mean square
    deviation over all components; with `feature_size`, a trained linear map of it.
    """

    def __init__(self, levels: dict[str, Levels], feature_size: int):
        super().__init__()
        self.places: dict[str, tuple[int, int]] = {}
        for modality, own in levels.items():
            names, sizes = list(own.sizes), list(own.sizes.values())
            start = sum(sizes[: names.index(own.last)])
            self.places[modality] = (start, start + own.sizes[own.last])
        self.standards = nn.ModuleDict({name: Standard(stop - start) for name, (start, stop) in self.places.items()})
        self.projections = nn.ModuleDict()
        if feature_size:
            self.projections.update(
                {name: nn.Linear(stop - start, feature_size) for name, (start, stop) in self.places.items()}
            )
        self.sizes = {name: feature_size or stop - start for name, (start, stop) in self.places.items()}

    @property
    def size(self) -> int:
        """
        The size of the features of all modalities.

        Raises:
            `ValueError`: it differs by modality.
        """
        if len(set(self.sizes.values())) > 1:
            raise ValueError(
                f"the encoders have last levels of different sizes, {self.sizes}: give feature_size, to which all are "
                "mapped"
            )
        return next(iter(self.sizes.values()))

    def last_level(self, modality: str, levels: Float[Tensor, "... total"]) -> Float[Tensor, "... d"]:
        """The last of the flat levels of samples."""
        return levels[..., slice(*self.places[modality])]

    def read(
        self, model: MSMAMLPreTrainedModel, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float
    ) -> Samples:
        return Samples(self.last_level(modality, model.frontends[modality](raw, torch.float32)), None, None)

    def statistics(self, samples: Samples, modality: str) -> None:
        """None, since nothing normalises samples by others."""

    def forward(self, samples: Samples, modality: str, statistics: None = None) -> Float[Tensor, "T samples d"]:
        features = self.standards[modality](cast(Tensor, samples.maps))
        return self.projections[modality](features) if modality in self.projections else features


class Standard(nn.Module):
    """Subtracts a mean and divides by a deviation, which are fitted to training samples; neither is trained."""

    mean: Float[Tensor, " d"]
    deviation: Float[Tensor, ""]

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(()))

    def reset_parameters(self) -> None:
        init.zeros_(self.mean)
        init.ones_(self.deviation)

    @torch.no_grad()
    def fit(self, samples: Float[Tensor, "n d"]) -> None:
        self.mean.copy_(samples.mean(dim=0))
        self.deviation.copy_((samples - self.mean.to(samples)).square().mean().sqrt().clamp(min=1e-6))

    def forward(self, samples: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        return (samples.to(self.mean) - self.mean) / self.deviation


Features = ConvolutionalFeatures | LevelFeatures


def build_features(model: MSMAMLPreTrainedModel, config: MSMAMLConfig) -> Features:
    """
    The backbone of all baselines, by the config; the model gets the `frontends` and `descriptors` that go with it.

    A module has `size`, `read` (raw inputs as [`Samples`]), `statistics` and `forward` (features of samples).
    """
    if config.level_encoders is None:
        if config.embeddings is not None:
            config.embeddings = record_encoders(config.embeddings)
        model.frontends, model.descriptors = build_frontends(config), build_descriptors(config)
        return ConvolutionalFeatures(config)
    recorded = config.level_encoders = record_level_encoders(config.level_encoders, config.modalities)
    model.frontends = nn.ModuleDict({name: LevelFrontend(name, recorded[name]) for name in config.modalities})
    model.descriptors = nn.ModuleDict()
    return LevelFeatures({name: levels_of(name, recorded[name]) for name in config.modalities}, config.feature_size)
