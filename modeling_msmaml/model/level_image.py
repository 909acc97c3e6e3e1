"""The level encoder of images: a convolutional network of timm, read after each of its stages in several views."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .level_views import SMALLEST_SIDE, VIEWS, ViewedImages, mean_and_deviation


class TimmLevels(ViewedImages):
    """
    Maps images (batch, 3, H, W), uint8 or floats in [0, 1], of any size to the levels of a network of timm that is made
    of stages, as EfficientNet is (Tan and Le 2019, arXiv 1905.11946; Lite0 is its form without squeeze-and-excitation):

    - `B<i>`: mean and standard deviation over the positions of stage i, counted from 0.
    - `B<i>g`: the map of a stage, averaged over the cells of a grid; channel by channel, row by row.
    - `H`: the mean of the last feature map over its positions, the network's own embedding. `Hx`: its maximum.

    Levels are means over the views of an image, see [`ViewedImages`].

    Args:
        architecture: name of a network of timm with `conv_stem`, `blocks` and `conv_head`.
        input_size: side in pixels of a square view.
        stages: numbers of the stages that give a level.
        grids: pairs of a stage and the number of cells along each side of its grid.
        views: names of the views, of `whole`, `mirrored`, `top_left` and `bottom_right`.
        mean, std: of the pixel values of each colour, in [0, 1], that the network was trained on.
        levels: names of the levels to return, see `LevelEncoder.set_levels`.
    """

    def __init__(
        self,
        architecture: str = "tf_efficientnet_lite0",
        input_size: int = 128,
        stages: Sequence[int] = (2, 3, 4, 5, 6),
        grids: Sequence[tuple[int, int]] = ((2, 4), (4, 3)),
        views: Sequence[str] = tuple(VIEWS),
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        levels: Sequence[str] | None = None,
    ):
        import timm  # imported here because only models with an image encoder need it

        super().__init__(input_size, views, mean, std)
        try:
            self.model = timm.create_model(architecture, pretrained=False, num_classes=0)
        except RuntimeError as error:
            raise ValueError(f"timm cannot build architecture={architecture!r}: {error}") from error
        if missing := [part for part in ("conv_stem", "blocks", "conv_head") if not hasattr(self.model, part)]:
            raise ValueError(
                f"architecture={architecture!r} has no {' and no '.join(missing)}, so that its stages cannot be read; "
                "networks of the EfficientNet family have them; the encoder 'timm_features' reads others"
            )
        self.model.to(memory_format=torch.channels_last)  # as its inputs are, so that no call reorders the weights
        self.grids: dict[int, int] = dict(grids)
        channels = self._stage_widths()
        sizes = {}
        for stage in sorted({*stages, *self.grids}):
            if not 0 <= stage < len(channels):
                raise ValueError(f"stage {stage}: {architecture!r} has stages 0 to {len(channels) - 1}")
            if stage in stages:
                sizes[f"B{stage}"] = 2 * channels[stage]
            if stage in self.grids:
                sizes[f"B{stage}g"] = channels[stage] * self.grids[stage] ** 2
        width = self.model.num_features
        self.set_levels({**sizes, "H": width, "Hx": width}, "H", levels)

    def read(self, pixels: Float[Tensor, "batch colours rows columns"]) -> dict[str, Float[Tensor, "batch size"]]:
        """The levels of single views."""
        network, found = self.network, {}
        stages = stage_maps(network, pixels)
        for number, hidden in enumerate(stages):
            if f"B{number}" in self.level_sizes:
                found[f"B{number}"] = mean_and_deviation(hidden)
            if f"B{number}g" in self.level_sizes:
                found[f"B{number}g"] = F.adaptive_avg_pool2d(hidden.float(), self.grids[number]).flatten(1)
        head = network.bn2(network.conv_head(stages[-1])).float()
        return {**found, "H": head.mean(dim=(2, 3)), "Hx": head.amax(dim=(2, 3))}

    @torch.no_grad()
    def _stage_widths(self) -> list[int]:
        self.model.eval()
        blank = torch.zeros(1, 3, SMALLEST_SIDE, SMALLEST_SIDE)
        return [hidden.shape[1] for hidden in stage_maps(self.model, blank)]


def stage_maps(
    network: Any, pixels: Float[Tensor, "batch colours rows columns"]
) -> list[Float[Tensor, "batch channels r s"]]:
    """Returns the map after each stage of a network."""
    hidden, found = network.bn1(network.conv_stem(pixels)), []
    for stage in network.blocks:
        hidden = stage(hidden)
        found.append(hidden)
    return found
