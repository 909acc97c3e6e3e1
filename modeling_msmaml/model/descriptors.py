"""
The descriptor of a sample: statistics of its feature map, projected on principal components and partially whitened. It
is fitted to training samples, not trained, and stands beside the features of the task network.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import initialization as init


class DescriptorStatistics(NamedTuple):
    """
    Which statistics form the descriptor of a modality, and how they are scaled.

    Args:
        function: computes the statistics (batch, number) of feature maps (batch, ...).
        number: number of statistics.
        standardise: whether each statistic is divided by its standard deviation over the training samples before
            principal components are computed. It should be, if the statistics are of different kinds.
        whitening: power of its standard deviation by which each principal component is divided. 0 leaves the components
            as they are, so that the first ones dominate; 1 whitens them fully, although most are noise. Not used where
            groups of samples are given, see `Descriptor.fit_statistics`.
    """

    function: Callable[[Tensor], Tensor]
    number: int
    standardise: bool = True
    whitening: float = 0.5


def fixed_normal(shape: torch.Size) -> Float[Tensor, "..."]:
    """Normal numbers that depend on the shape alone, for buffers that every model is to begin with."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")


class Descriptor(nn.Module):
    """
    Computes the descriptor of feature maps: their statistics, projected on principal components over the training
    samples, partially whitened, and scaled to unit length.

    Args:
        statistics: which statistics are computed.
        size: number of components. Those beyond the rank of the statistics are zero.
    """

    mean: Float[Tensor, " number"]
    projection: Float[Tensor, "number size"]

    def __init__(self, statistics: DescriptorStatistics, size: int):
        super().__init__()
        self.statistics = statistics
        self.register_buffer("mean", torch.zeros(statistics.number))
        self.register_buffer("projection", torch.zeros(statistics.number, size))
        self.reset_parameters()

    @property
    def size(self) -> int:
        """The number of components."""
        return self.projection.shape[1]

    def reset_parameters(self) -> None:
        """Takes a random projection, the same in every model, which serves until the descriptor is fitted."""
        init.zeros_(self.mean)
        init.copy_(self.projection, fixed_normal(self.projection.shape) * self.projection.shape[0] ** -0.5)

    def fit(self, maps: Float[Tensor, "samples ..."], groups: Int[Tensor, " samples"] | None = None) -> None:
        """
        Fits the descriptor to the feature maps of training samples, see `fit_statistics` for the arguments and errors.
        """
        self.fit_statistics(torch.cat([self.statistics.function(part) for part in maps.split(256)]), groups)

    def fit_statistics(
        self, values: Float[Tensor, "samples number"], groups: Int[Tensor, " samples"] | None = None
    ) -> None:
        """
        Fits the descriptor to the statistics of training samples: computes their principal components and whitens them.
        Components beyond the rank of the statistics become zero.

        Args:
            values: statistics of the training samples.
            groups: number of the group of each sample, such as its source. If given, components are whitened by their
                covariance within groups, see `within_group_whitening`, instead of by the power `whitening`.

        Raises:
            `ValueError`: no group has two samples.
        """
        values = values.double()
        mean, std = values.mean(dim=0), values.std(dim=0).clamp(min=1e-6)
        if not self.statistics.standardise:
            std = torch.ones_like(std)
        scores, singular, components = torch.linalg.svd((values - mean) / std, full_matrices=False)
        deviations = singular / max(len(values) - 1, 1) ** 0.5
        kept = min(self.size, int((deviations > 1e-6 * deviations[0]).sum()))
        if groups is None:
            projection = components[:kept].T / deviations[:kept] ** self.statistics.whitening
        else:
            projection = components[:kept].T @ within_group_whitening(scores[:, :kept] * singular[:kept], groups)
        self.mean.copy_(mean)
        self.projection.zero_()
        self.projection[:, :kept] = (projection / std[:, None]).to(self.projection)

    @torch.no_grad()
    def forward(self, maps: Float[Tensor, "..."]) -> Float[Tensor, "... size"]:
        """Returns the descriptors, which are unit vectors."""
        values = self.statistics.function(maps)
        projection = self.projection.to(values.dtype)
        return F.normalize((values - self.mean.to(values.dtype)) @ projection, dim=-1)


def within_group_whitening(
    values: Float[Tensor, "samples size"], groups: Int[Tensor, " samples"]
) -> Float[Tensor, "size size"]:
    """
    Returns (W / w + I) ** -1/2, where W is the covariance of samples about the mean of their group and w is the mean of
    its eigenvalues.

    Directions in which samples of the same group differ are scaled down. This is within-class covariance normalisation
    of principal components (Hatch, Kajarekar and Stolcke 2006, "Within-Class Covariance Normalization for SVM-based
    Speaker Recognition", Interspeech, pp. 1471-1474), regularised by an identity with as much variance as W, so that a
    few samples suffice.

    Args:
        values: principal components of the samples.
        groups: number of the group of each sample.

    Raises:
        `ValueError`: no group has two samples.
    """
    _, numbers, sizes = groups.to(values.device).unique(return_inverse=True, return_counts=True)
    if len(sizes) == len(values):
        raise ValueError(
            f"each of the {len(values)} samples is a group of its own, so nothing varies within groups: give groups of "
            "which some have two samples"
        )
    means = values.new_zeros(len(sizes), values.shape[1]).index_add_(0, numbers, values) / sizes[:, None]
    within = values - means[numbers]
    covariance = within.T @ within / (len(values) - len(sizes))
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0)
    mean = variances.mean()
    scale = (variances / torch.where(mean > 0, mean, 1) + 1).rsqrt()
    return (directions * scale) @ directions.T


def check_groups(
    modality: str, kind: str, has_descriptor: bool, samples: int, groups: Int[Tensor, " samples"] | None
) -> None:
    """
    Checks that the groups of samples fit the way in which the modality's descriptor is to be whitened.

    Args:
        modality: name of the modality.
        kind: value of `descriptor_whitening` for the modality: `"total"`, `"source"` or `"class"`.
        has_descriptor: whether the modality has a descriptor.
        samples: number of samples.
        groups: number of the source or of the class of each sample; `None` if they are not given.

    Raises:
        `ValueError`: groups are missing, have another shape, or are given where none are used; no two samples share a
            group; or groups are needed for a modality without descriptor.
    """
    is_kind = f"descriptor_whitening is {kind!r} for {modality}"
    if kind == "total":
        if groups is not None:
            raise ValueError(f"{is_kind}, so groups[{modality!r}] has no effect: omit it")
        return
    if not has_descriptor:
        raise ValueError(f"{is_kind}, which has no descriptor: give descriptor_whitening for the others alone")
    if groups is None:
        raise ValueError(f"{is_kind}: give groups[{modality!r}], a number for the {kind} of each sample")
    if not isinstance(groups, Tensor) or groups.shape != (samples,):
        given = tuple(groups.shape) if isinstance(groups, Tensor) else type(groups).__name__
        raise ValueError(
            f"groups[{modality!r}] must be a tensor of shape ({samples},), one number per sample, not {given}"
        )
    if len(groups.unique()) == samples:
        other = "class" if kind == "source" else "source"
        raise ValueError(f"{is_kind}, but no two of {samples} samples share their {kind}: use {other!r} or 'total'")
