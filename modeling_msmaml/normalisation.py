"""Batch norm of T tasks, each with statistics of its own, as a formula."""

import torch
from jaxtyping import Float
from torch import Tensor

from .adapted_tasks import Statistics


def batch_statistics(inputs: Float[Tensor, "T batch channels length"]) -> Statistics:
    """Mean and biased variance of each task's channels over batch and length."""
    mean = inputs.mean(dim=(1, 3), keepdim=True)
    return mean, (inputs - mean).square().mean(dim=(1, 3), keepdim=True)


def affine_norm(
    inputs: Float[Tensor, "T batch channels length"],
    statistics: Statistics,
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
