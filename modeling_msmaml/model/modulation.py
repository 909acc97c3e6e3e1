"""
Modulation: how the vector that the task encoder emits for a layer changes that layer of the task network (by default a
scale and shift, as in FiLM), and the linear layer that emits it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init


def modulation_factors(
    modulation: Float[Tensor, "T size"], conditioning: str
) -> tuple[Float[Tensor, "T channels"] | float, Float[Tensor, "T channels"] | float]:
    """
    Returns the scale and shift of a layer's activations for its modulation vector.

    Args:
        modulation: what the task encoder emits for the layer.
        conditioning: `"affine"` (FiLM, arXiv 1709.07871), `"sigmoid"`, `"softmax"` or `"kernel"`, see `conditioning` in
            [`MSMAMLConfig`].

    Raises:
        `ValueError`: no such `conditioning`.
    """
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
    """
    Returns the kernels for `conditioning="kernel"`: each element is multiplied by 1 + the modulation of its output
    channel + that of its input channel.

    Args:
        weight: kernels of the layer.
        modulation: one value per output channel, then one per input channel.
    """
    rows, columns = modulation.split(weight.shape[1:3], dim=1)
    return weight * (1 + rows[:, :, None] + columns[:, None])[..., None]


class ModulationLayer(nn.Linear):
    """
    The linear layer from the task representation to the modulation of one layer of the task network. With
    `starts_as_identity` its weights start at zero, so that the modulation changes nothing at first.
    """

    def __init__(self, in_features: int, out_features: int, starts_as_identity: bool):
        super().__init__(in_features, out_features)
        self.starts_as_identity = starts_as_identity

    def reset_parameters(self) -> None:
        if getattr(self, "starts_as_identity", False):
            init.zeros_(self.weight)
            init.zeros_(self.bias)
        else:
            super().reset_parameters()
