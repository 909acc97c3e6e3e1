"""The kind `task_network="resnet12"`: residual layers over pictures, with DropBlock in training."""

from __future__ import annotations

from typing import cast

from jaxtyping import Shaped
from torch import Tensor

from .configuration_msmaml import MSMAMLConfig
from .drop_block import kept_factors
from .loading import MSMAMLPreTrainedModel
from .picture_tasks import PictureTasks
from .residual_network import ResidualNetwork
from .samples import Samples, task_seeds
from .task_networks import register_task_network

_WITH_SQUARES = 2  # the number of last layers that drop squares; those before drop single positions


class ResidualTasks(PictureTasks):
    """[`ResidualNetwork`] with its task encoder, inner rates and frontend."""

    network_class = ResidualNetwork
    without_effect = (
        *(name for name in PictureTasks.without_effect if name != "drop_block"),
        *("kernel_size", "stride", "padding", "max_pooling", "norm_affine"),
    )

    def read(
        self, model: MSMAMLPreTrainedModel, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float
    ) -> Samples:
        samples, config = super().read(model, modality, raw, dropout), model.config
        if model.training and config.drop_block:
            step = cast(int, model.training_turn)
            samples.kept = _kept(config, model, raw, step)
        return samples


def _kept(
    config: MSMAMLConfig, model: MSMAMLPreTrainedModel, raw: Shaped[Tensor, "T samples ..."], step: int
) -> tuple[Tensor, ...]:
    """What each layer's output is multiplied with in a training step of this number."""
    rising = min(step / config.drop_block_steps, 1.0) if config.drop_block_steps else 1.0
    seeds, found = task_seeds(raw), []
    sides = cast(ResidualNetwork, model.task_network).sides(config)
    for layer, (channels, side) in enumerate(zip(config.layer_channels, sides, strict=True)):
        has_squares = layer >= config.num_layers - _WITH_SQUARES
        rate, size = (rising * config.drop_block, config.drop_block_size) if has_squares else (config.drop_block, 1)
        found.append(kept_factors(seeds, layer, (raw.shape[1], channels, side), rate, size, model.dtype))
    return tuple(found)


register_task_network("resnet12", ResidualTasks())
