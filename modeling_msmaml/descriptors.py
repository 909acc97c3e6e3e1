"""A sample's descriptor: pooled statistics of its feature map, partially whitened; fitted, not trained."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init


class Statistics(NamedTuple):
    """
    What a modality's descriptor is made of.

    Args:
        function: maps (batch, ...) -> statistics (batch, number).
        number: how many.
        standardise: whether each is divided by its standard deviation over the training samples before principal
            components are taken: for statistics of different kinds.
        whitening: every component is divided by its standard deviation to this power: 0 leaves principal components
            as they are (the first ones drown the others), 1 whitens them (most are noise).
    """

    function: Callable[[Tensor], Tensor]
    number: int
    standardise: bool = True
    whitening: float = 0.5


def spectrum_statistics(maps: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 4*mels"]:
    """Of each mel band over time: mean, standard deviation, mean absolute change from frame to frame, maximum."""
    change = maps.diff(dim=2).abs().mean(dim=2)
    return torch.cat([maps.mean(dim=2), maps.std(dim=2), change, maps.amax(dim=2)], dim=1)


def sum_over_positions(maps: Float[Tensor, "batch size positions"]) -> Float[Tensor, "batch size"]:
    """The sample's latent semantic representation, see `WeightedWordsFrontend`."""
    return maps.sum(dim=2)


def quadrant_means(maps: Float[Tensor, "batch features rows columns"]) -> Float[Tensor, "batch 4*features"]:
    """Mean over each quarter of the image."""
    return F.adaptive_avg_pool2d(maps, 2).flatten(1)


class Descriptor(nn.Module):
    """
    Statistics of a map, projected on their principal components over the training samples, partially whitened, and
    scaled to unit length.

    Args:
        statistics: of which maps.
        size: components that are kept; those beyond the number of statistics are zero.
    """

    def __init__(self, statistics: Statistics, size: int):
        super().__init__()
        self.statistics = statistics
        self.register_buffer("mean", torch.zeros(statistics.number))
        self.register_buffer("projection", torch.zeros(statistics.number, size))

    @property
    def size(self) -> int:
        return self.projection.shape[1]

    def reset_parameters(self) -> None:
        """A random projection, until it is fitted."""
        init.zeros_(self.mean)
        init.normal_(self.projection, std=self.projection.shape[0] ** -0.5)

    def fit(self, maps: Float[Tensor, "samples ..."]) -> None:
        """Principal components of the training samples' statistics; components beyond their rank become zero."""
        self.fit_statistics(torch.cat([self.statistics.function(part) for part in maps.split(256)]))

    def fit_statistics(self, values: Float[Tensor, "samples number"]) -> None:
        """The same, from the statistics themselves."""
        values = values.double()
        mean, std = values.mean(dim=0), values.std(dim=0).clamp(min=1e-6)
        if not self.statistics.standardise:
            std = torch.ones_like(std)
        _, singular, components = torch.linalg.svd((values - mean) / std, full_matrices=False)
        deviations = singular / max(len(values) - 1, 1) ** 0.5
        kept = min(self.size, int((deviations > 1e-6 * deviations[0]).sum()))
        projection = components[:kept].T / deviations[:kept] ** self.statistics.whitening
        self.mean.copy_(mean)
        self.projection.zero_()
        self.projection[:, :kept] = (projection / std[:, None]).to(self.projection)

    @torch.no_grad()
    def forward(self, maps: Float[Tensor, "..."]) -> Float[Tensor, "... size"]:
        """Unit vectors."""
        values = self.statistics.function(maps)
        projection = self.projection.to(values.dtype)
        return F.normalize((values - self.mean.to(values.dtype)) @ projection, dim=-1)
