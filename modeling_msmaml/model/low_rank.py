"""Low-rank factors beside the weights of layers, for an inner loop that adapts them in place of the weights."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init

from .inner_rates import key_of

# What LoRA stands beside where a config names no layers.
LAYERS = ("convolutions", "projection")
DEFAULT_RANK = 4


class LowRankFactors(nn.Module):
    """
    The factors of LoRA (Hu et al. 2022, arXiv 2106.09685, section 4.1) for a weight W, of a linear or convolutional
    layer, whose dimensions after the first are taken as one:

        W + up @ down

    `up` starts at zero, so that the layer is exactly the same at first, and `down` as the weight of a linear layer
    does. There is no constant factor: `inner_lr` has its place.

    Args:
        weight: whose shape it is.
        rank: number of columns of `up`; not more than the weight has rows or columns.
    """

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        outputs, inputs = len(weight), weight[0].numel()
        rank = min(rank, outputs, inputs)
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.empty(outputs, rank))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.down, a=math.sqrt(5))
        init.zeros_(self.up)


def low_rank_layers(network: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Module]:
    """
    The linear and convolutional layers of a task network that get factors, by name.

    Args:
        names: of layers, or of what contains them; by default all above the embeddings. The classifier, which is
            adapted as a whole, is not among them.

    Raises:
        `ValueError`: a name without such a layer.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    layers = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    layers.pop("classifier", None)
    found: dict[str, nn.Module] = {}
    for wanted in LAYERS if names is None else names:
        own = {name: layer for name, layer in layers.items() if f"{name}.".startswith(f"{wanted}.")}
        if not own and names is not None:
            raise ValueError(
                f"lora_layers={list(names)} has {wanted!r}, but the linear and convolutional layers are "
                f"{', '.join(layers)}: give names of these, or their beginnings"
            )
        found |= own
    return found


def make_factors(layers: dict[str, nn.Module], rank: int) -> nn.ModuleDict:
    """The factors of layers, by `key_of`."""
    return nn.ModuleDict(
        {key_of(name): LowRankFactors(cast(Tensor, layer.weight), rank) for name, layer in layers.items()}
    )


def with_factors(
    parameters: dict[str, Float[Tensor, "T ..."]], layers: Sequence[str]
) -> dict[str, Float[Tensor, "T ..."]]:
    """The parameters of tasks, with the product of its factors added to the weight of each of these layers."""
    changed = {}
    for layer in layers:
        name, key = f"{layer}.weight", f"factors.{key_of(layer)}"
        if name in parameters:  # tasks of one modality have no embeddings of another
            weight = parameters[name]
            changed[name] = weight + (parameters[f"{key}.up"] @ parameters[f"{key}.down"]).reshape(weight.shape)
    return parameters | changed
