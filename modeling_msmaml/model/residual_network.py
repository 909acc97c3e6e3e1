"""ResNet-12, the residual network of few-shot learning, as a task network over pictures."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .conv_norm import ConvNormLayer
from .convolution2d import conv2d, max_pool
from .modulation import modulation_factors
from .norms import NormStatistics
from .picture_network import PictureNetwork

CONVOLUTIONS = 3  # of a layer
SLOPE = 0.1  # of the leaky ReLU below zero


class ResidualNetwork(PictureNetwork):
    """
    `num_layers` x [three 3 x 3 convolutions with norms, and leaky ReLUs between them -> modulation -> plus the norm of
    a 1 x 1 convolution of the layer's input -> leaky ReLU -> maximum over squares of 2 x 2 -> DropBlock in training] ->
    pooling over positions -> classifier.

    With its widths 64, 160, 320 and 640 it is the ResNet-12 of MetaOptNet (Lee et al. 2019, arXiv 1904.03758), after
    that of TADAM (Oreshkin et al. 2018, arXiv 1805.10123); the modulation of a whole layer is ours. Norms have a scale
    and a shift of their own, and convolutions no bias.
    """

    always_affine = True

    def make_convolutions(self, config: MSMAMLConfig) -> nn.ModuleList:
        channels = [self.first_channels(config), *config.layer_channels]
        pairs = list(zip(channels, channels[1:], strict=False))
        self.shortcuts = nn.ModuleList(nn.Conv2d(before, after, 1, bias=False) for before, after in pairs)
        return nn.ModuleList(
            nn.Conv2d(before if number == 0 else after, after, 3, padding=1, bias=False)
            for before, after in pairs
            for number in range(CONVOLUTIONS)
        )

    def norm_sizes(self, config: MSMAMLConfig) -> list[int]:
        """Those of a layer's convolutions, then that of its shortcut."""
        return [size for size in config.layer_channels for _ in range(CONVOLUTIONS + 1)]

    def side_after(self, side: int, layer: int, config: MSMAMLConfig) -> int:
        return side // 2

    def _layers(self, parameters: dict[str, Tensor], modulation: tuple[Tensor, ...]) -> list[ConvNormLayer]:
        """The convolutions of each layer, then its shortcut; the last convolution's norm has the modulation."""
        found = []
        for layer in range(len(self.shortcuts)):
            kernels = [f"convolutions.{CONVOLUTIONS * layer + number}.weight" for number in range(CONVOLUTIONS)]
            for number, name in enumerate([*kernels, f"shortcuts.{layer}.weight"]):
                norm = (CONVOLUTIONS + 1) * layer + number
                scale, shift = (parameters[f"affine_norm.{norm}.{kind}"] for kind in ("weight", "bias"))
                if modulation and number == CONVOLUTIONS - 1:
                    factor, summand = modulation_factors(modulation[layer], self.conditioning)
                    scale, shift = scale * factor, shift * factor + summand
                weight = parameters[name]
                bias = weight.new_zeros(weight.shape[:2])  # they have none
                found.append(ConvNormLayer(weight, bias, scale, shift, padding=weight.shape[-1] // 2))
        return found

    def through_layers(
        self,
        layers: list[ConvNormLayer],
        hidden: Float[Tensor, "T batch colours height width"],
        parameters: dict[str, Tensor],
        statistics: list[NormStatistics] | None,
        found: list[NormStatistics] | None,
        kept: tuple[Float[Tensor, "T batch channels side side"], ...],
    ) -> Float[Tensor, "T batch channels positions"]:
        def convolved(inputs: Tensor, number: int) -> Tensor:
            layer = layers[number]
            hidden = conv2d(inputs, layer.weight, None, padding=layer.padding)
            factors = number, layer.scale, layer.shift
            flat = self.normalised(hidden.flatten(3), *factors, parameters, statistics, found)
            return flat.unflatten(3, hidden.shape[3:])

        for layer, first in enumerate(range(0, len(layers), CONVOLUTIONS + 1)):
            inputs = hidden
            for number in range(CONVOLUTIONS):
                hidden = convolved(F.leaky_relu(hidden, SLOPE) if number else hidden, first + number)
            hidden = max_pool(F.leaky_relu(hidden + convolved(inputs, first + CONVOLUTIONS), SLOPE))
            if kept:
                hidden = hidden * kept[layer]
        return hidden.flatten(3)
