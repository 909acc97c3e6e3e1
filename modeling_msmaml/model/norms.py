"""Batch, group and task norm: the formulas for T tasks with statistics of their own, and the modules."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init

# Mean and biased variance of each channel and task, as a layer normalised with them: two tensors (T, 1, C_l, 1). With
# task norm also the share that they have (T,).
NormStatistics = tuple[Tensor, ...]
GROUP_SIZE = 8  # channels a group of the group norms


def batch_statistics(inputs: Float[Tensor, "T batch channels length"]) -> NormStatistics:
    """Mean and biased variance of each task's channels over batch and length."""
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
    (inputs - mean) / sqrt(variance + eps) * scale + shift, with statistics that are given, folded into one
    multiplication and one addition an element.
    """
    mean, variance = statistics
    scale = torch.rsqrt(variance + eps) * (scale[:, None, :, None] if isinstance(scale, Tensor) else scale)
    shift = shift[:, None, :, None] if isinstance(shift, Tensor) else shift
    return torch.addcmul(shift - mean * scale, inputs, scale)


def make_group_norm(channels: int) -> nn.GroupNorm:
    """Of about `GROUP_SIZE` channels a group."""
    return nn.GroupNorm(channels // GROUP_SIZE if channels % GROUP_SIZE == 0 else 1, channels)


def group_norm(
    inputs: Float[Tensor, "T batch channels length"],
    scale: Float[Tensor, "T channels"] | float,
    shift: Float[Tensor, "T channels"] | float,
    eps: float,
) -> Float[Tensor, "T batch channels length"]:
    """Group norm (Wu and He 2018, arXiv 1803.08494) of every sample by itself, then the task's scale and shift."""
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
    Mean and variance of TaskNorm-I (Bronskill et al. 2020, arXiv 2003.03284, section 4.2): `share` of those of the
    support set, the rest of those of each sample by itself over its length.

        mean = a mean_S + (1 - a) mean_i
        variance = a (variance_S + (mean_S - mean)^2) + (1 - a) (variance_i + (mean_i - mean)^2)
    """
    share = share[:, None, None, None]
    own = inputs.mean(dim=3, keepdim=True)
    own_variance = (inputs - own).square().mean(dim=3, keepdim=True)
    of_set, set_variance = statistics
    mean = share * of_set + (1 - share) * own
    of_set_part = share * (set_variance + (of_set - mean).square())
    return mean, of_set_part + (1 - share) * (own_variance + (own - mean).square())


class TaskNormShare(nn.Module):
    """How far a layer's task norm rests on the support set: sigmoid(scale * samples + offset), half at first."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        init.zeros_(self.scale)
        init.zeros_(self.offset)


class NormParameters(nn.Module):
    """Scale and shift of a batch norm that always uses the statistics of its batch and keeps no running ones."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.weight = nn.Parameter(Tensor(num_channels).fill_(1.0))
        self.bias = nn.Parameter(Tensor(num_channels).fill_(0.0))
