"""The task network over pictures: a 2-D convolutional classifier, modulated and adapted as that over sequences is."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .conv_norm import ConvNormLayer
from .convolution2d import conv2d, max_pool, size_after
from .modalities import ModalityEmbedding
from .modality_image import check_image_shape
from .norms import NormStatistics
from .task_network import TaskNetwork


class Pictures(ModalityEmbedding):
    """The embedding of pictures that are read as they are; it has no parameters."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.image_shape = (config.image_channels, config.image_size, config.image_size)

    def forward(
        self, inputs: Float[Tensor, "batch colours height width"]
    ) -> Float[Tensor, "batch colours height width"]:
        check_image_shape(tuple(inputs.shape[1:]), self.image_shape)
        return inputs


class PictureNetwork(TaskNetwork):
    """
    `num_layers` x [convolution -> norm -> modulation -> ReLU -> maximum over squares, with `max_pooling`] -> pooling
    over positions -> classifier: the four layers of MAML (arXiv 1703.03400, section 5.2) and, with a modulation, the
    task network of MMAML (arXiv 1910.13616).
    """

    convolution = nn.Conv2d

    def __init__(self, config: MSMAMLConfig):
        self.max_pooling, self.flattens = config.max_pooling, config.pooling == "flatten"
        super().__init__(config)

    def make_embeddings(self, config: MSMAMLConfig) -> nn.ModuleDict:
        return nn.ModuleDict({"image": Pictures(config)})

    def first_channels(self, config: MSMAMLConfig) -> int:
        return config.image_channels

    def pooled_size(self, config: MSMAMLConfig) -> int:
        side = self.sides(config)[-1]
        return config.layer_channels[-1] * side**2 if self.flattens else super().pooled_size(config)

    def through_layers(
        self,
        layers: list[ConvNormLayer],
        hidden: Float[Tensor, "T batch colours height width"],
        parameters: dict[str, Tensor],
        statistics: list[NormStatistics] | None,
        found: list[NormStatistics] | None,
        kept: tuple[Float[Tensor, "T batch ..."], ...],
    ) -> Float[Tensor, "T batch channels positions"]:
        for number, layer in enumerate(layers):
            hidden = conv2d(hidden, layer.weight, layer.bias, layer.stride, layer.padding)
            factors = number, layer.scale, layer.shift
            flat = self.normalised(hidden.flatten(3), *factors, parameters, statistics, found)
            hidden = F.relu_(flat).unflatten(3, hidden.shape[3:])
            if self.max_pooling:
                hidden = max_pool(hidden)
        return hidden.flatten(3)

    def pooled(self, hidden: Float[Tensor, "T batch channels positions"]) -> Float[Tensor, "T batch pooled"]:
        return hidden.flatten(2) if self.flattens else super().pooled(hidden)

    def sides(self, config: MSMAMLConfig) -> list[int]:
        """
        The height and width of the output of each layer.

        Raises:
            `ValueError`: pictures are too small for that many layers.
        """
        sides = [config.image_size]
        for layer in range(config.num_layers):
            side = self.side_after(sides[-1], layer, config)
            if side < 1:
                raise ValueError(
                    f"image_size={config.image_size} is too small for layer {layer}, of pictures of {sides[-1]} x "
                    f"{sides[-1]} positions: give larger pictures or fewer layers, or smaller kernels and strides"
                )
            sides.append(side)
        return sides[1:]

    def side_after(self, side: int, layer: int, config: MSMAMLConfig) -> int:
        """The height and width of what a layer makes of a picture; 0 if that is too small for it."""
        kernel, stride, padding = (config.per_layer(name)[layer] for name in ("kernel_size", "stride", "padding"))
        return size_after(side, kernel, stride, padding) // (2 if config.max_pooling else 1)
