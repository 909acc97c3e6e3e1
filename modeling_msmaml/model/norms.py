"""
Batch norm, group norm and TaskNorm, written out for T tasks at once, each with its own statistics, and the modules that
hold their parameters.

The formulas are written out because `torch.vmap` over `F.batch_norm` gives wrong second-order gradients.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init

# The mean and the biased variance of each channel and task, with which a layer normalised: two tensors (T, 1, C_l, 1).
# With task norm a third tensor (T,) is the share of these statistics, see `mixed_statistics`.
NormStatistics = tuple[Tensor, ...]
GROUP_SIZE = 8  # number of channels in each group of the group norms


def batch_statistics(inputs: Float[Tensor, "T batch channels length"]) -> NormStatistics:
    """Returns the mean and the biased variance of each task's channels over batch and length, (T, 1, channels, 1)."""
    mean = inputs.mean(dim=(1, 3), keepdim=True)
    return mean, (inputs - mean).square().mean(dim=(1, 3), keepdim=True)


def affine_norm(
    inputs: Float[Tensor, "T batch channels length"],
    statistics: NormStatistics,
    scale: Float[Tensor, "#T channels"] | float,
    shift: Float[Tensor, "#T channels"] | float,
    eps: float,
) -> Float[Tensor, "T batch channels length"]:
    """
    Returns (inputs - mean) / sqrt(variance + eps) * scale + shift for the given statistics, computed with one
    multiplication and one addition per element.
    """
    mean, variance = statistics
    scale = torch.rsqrt(variance + eps) * (scale[:, None, :, None] if isinstance(scale, Tensor) else scale)
    shift = shift[:, None, :, None] if isinstance(shift, Tensor) else shift
    return torch.addcmul(shift - mean * scale, inputs, scale)


def make_group_norm(channels: int) -> nn.GroupNorm:
    """Returns a group norm with `GROUP_SIZE` channels per group, or with one group if that does not divide them."""
    return nn.GroupNorm(channels // GROUP_SIZE if channels % GROUP_SIZE == 0 else 1, channels)


def group_norm(
    inputs: Float[Tensor, "T batch channels length"],
    scale: Float[Tensor, "T channels"] | float,
    shift: Float[Tensor, "T channels"] | float,
    eps: float,
) -> Float[Tensor, "T batch channels length"]:
    """
    Applies group norm (Wu and He 2018, arXiv 1803.08494), with the groups of `make_group_norm`, to every sample, then
    the task's scale and shift.
    """
    channels = inputs.shape[2]
    groups = channels // GROUP_SIZE if channels % GROUP_SIZE == 0 else 1
    hidden = F.group_norm(inputs.flatten(0, 1), groups, eps=eps).unflatten(0, inputs.shape[:2])
    if isinstance(scale, Tensor):
        hidden = hidden * scale[:, None, :, None]
    return hidden + shift[:, None, :, None] if isinstance(shift, Tensor) else hidden


def mixed_statistics(
    inputs: Float[Tensor, "T batch channels length"],
    statistics: NormStatistics,
    share: Float[Tensor, " T"],
) -> tuple[Float[Tensor, "T batch channels 1"], Float[Tensor, "T batch channels 1"]]:
    """
    The mean and variance of TaskNorm-I (Bronskill et al. 2020, arXiv 2003.03284, section 4.2), which mix the statistics
    of the support set, S, with those that each sample i has over its length:

        mean = a mean_S + (1 - a) mean_i
        variance = a (variance_S + (mean_S - mean)^2) + (1 - a) (variance_i + (mean_i - mean)^2)

    Args:
        inputs: activations of the samples.
        statistics: mean_S and variance_S.
        share: a, from 0 to 1, one per task.
    """
    share = share[:, None, None, None]
    sample_mean = inputs.mean(dim=3, keepdim=True)
    sample_variance = (inputs - sample_mean).square().mean(dim=3, keepdim=True)
    set_mean, set_variance = statistics
    mean = share * set_mean + (1 - share) * sample_mean
    set_part = share * (set_variance + (set_mean - mean).square())
    return mean, set_part + (1 - share) * (sample_variance + (sample_mean - mean).square())


class TaskNormShare(nn.Module):
    """
    The parameters of a layer's share of support set statistics, which is sigmoid(scale * number of support samples +
    offset) and 1/2 at first.
    """

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        init.zeros_(self.scale)
        init.zeros_(self.offset)


class NormParameters(nn.Module):
    """The scale and shift of a batch norm that always uses the statistics of its batch and keeps no running ones."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.weight = nn.Parameter(Tensor(num_channels).fill_(1.0))
        self.bias = nn.Parameter(Tensor(num_channels).fill_(0.0))
