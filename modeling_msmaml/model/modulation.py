"""What a modulation does to a layer of the task network, and the linear map that emits it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init


def modulation_factors(modulation: Float[Tensor, "T size"], conditioning: str) -> tuple[Tensor, Tensor | float]:
    """Scale and shift of activations that one layer's modulation stands for, see `conditioning` in [`MSMAMLConfig`]."""
    if conditioning == "affine":
        scale, shift = modulation.chunk(2, dim=1)
        return 1 + scale, shift
    if conditioning == "sigmoid":
        return torch.sigmoid(modulation), 0.0
    if conditioning == "softmax":
        return torch.softmax(modulation, dim=1), 0.0
    if conditioning == "kernel":
        return 1.0, 0.0
    raise ValueError(f"conditioning={conditioning!r} has no formula for a modulation")


def modulated_kernel(
    weight: Float[Tensor, "T out_channels in_channels kernel"], modulation: Float[Tensor, "T size"]
) -> Float[Tensor, "T out_channels in_channels kernel"]:
    """`conditioning="kernel"`: rows first, then columns."""
    rows, columns = modulation.split(weight.shape[1:3], dim=1)
    return weight * (1 + rows[:, :, None] + columns[:, None])[..., None]


class ModulationLayer(nn.Linear):
    """Task representation -> modulation of one layer. With `starts_as_identity` it is zero at first."""

    def __init__(self, in_features: int, out_features: int, starts_as_identity: bool):
        super().__init__(in_features, out_features)
        self.starts_as_identity = starts_as_identity

    def reset_parameters(self) -> None:
        if getattr(self, "starts_as_identity", False):
            init.zeros_(self.weight)
            init.zeros_(self.bias)
        else:
            super().reset_parameters()
