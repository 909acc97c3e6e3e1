"""The level encoder of images: a convolutional network of timm, read after each of its stages in several views."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from .level_encoder import LevelEncoder
from .modalities import ScaleIntegers
from .options import at_least, checked

CROP = 0.8  # side of a crop, as a part of the image's
SMALLEST_SIDE, LARGEST_SIDE = 32, 4  # pixels; times the side of a square image of the same area
# The parts of an image that its views show, as first and last row and column in parts of its height and width.
VIEWS = {
    "whole": (0.0, 1.0, 0.0, 1.0),
    "mirrored": (0.0, 1.0, 0.0, 1.0),
    "top_left": (0.0, CROP, 0.0, CROP),
    "bottom_right": (1 - CROP, 1.0, 1 - CROP, 1.0),
}


class TimmLevels(LevelEncoder):
    """
    Maps images (batch, 3, H, W), uint8 or floats in [0, 1], of any size to the levels of a network of timm that is made
    of stages, as EfficientNet is (Tan and Le 2019, arXiv 1905.11946; Lite0 is its form without squeeze-and-excitation):

    - `B<i>`: mean and standard deviation over the positions of stage i, counted from 0.
    - `B<i>g`: the map of a stage, averaged over the cells of a grid; channel by channel, row by row.
    - `H`: the mean of the last feature map over its positions, the network's own embedding. `Hx`: its maximum.

    Levels are means over the views of an image: the whole, its mirror image, and two crops of four fifths of its sides,
    one at the top left and one at the bottom right. Each view is resized by bicubic interpolation to the area of
    `input_size` x `input_size` pixels. Images keep their aspect, since the network reads any: a long one is
    not squeezed, nor padded, and costs no more than a square one.

    Args:
        architecture: name of a network of timm with `conv_stem`, `blocks` and `conv_head`.
        input_size: side in pixels of a square view.
        stages: numbers of the stages that give a level.
        grids: pairs of a stage and the number of cells along each side of its grid.
        views: names of the views, of `whole`, `mirrored`, `top_left` and `bottom_right`.
        mean, std: of the pixel values of each colour, in [0, 1], that the network was trained on.
        levels: names of the levels to return, see `LevelEncoder.set_levels`.
    """

    modality = "image"
    sample_dims = 3
    chunk_size = 4  # small maps stay in the cache: twice as fast as chunks of 16 on two cores

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

        super().__init__()
        self.input_size = checked("input_size", input_size, at_least(SMALLEST_SIDE))
        if unknown := [name for name in views if name not in VIEWS] or not views:
            raise ValueError(f"views={list(views)}: choose one or more of {', '.join(VIEWS)}, not {unknown}")
        self.views, self.mean, self.std = list(views), list(mean), list(std)
        try:
            self.model: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
        except RuntimeError as error:
            raise ValueError(f"timm cannot build architecture={architecture!r}: {error}") from error
        if missing := [part for part in ("conv_stem", "blocks", "conv_head") if not hasattr(self.model, part)]:
            raise ValueError(
                f"architecture={architecture!r} has no {' and no '.join(missing)}, so that its stages cannot be read; "
                "networks of the EfficientNet family have them"
            )
        self.scale = ScaleIntegers()
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

    def check(self, raw: Shaped[Tensor, "batch colours height width"]) -> None:
        if raw.shape[1] != 3 or 0 in raw.shape[2:]:
            raise ValueError(f"an image has shape {tuple(raw.shape[1:])}, but the encoder takes (3, height, width)")

    def encode(self, raw: Shaped[Tensor, "batch colours height width"]) -> dict[str, Float[Tensor, "batch size"]]:
        views = self._views(self.scale(raw, torch.float32))
        return {name: level.unflatten(0, (-1, len(raw))).mean(dim=0) for name, level in self._read(views).items()}

    def _views(self, pixels: Float[Tensor, "batch colours height width"]) -> Float[Tensor, "views rows columns"]:
        """All views of some images, standardised, view by view."""
        height, width = pixels.shape[2:]
        size = view_size(height, width, self.input_size)
        whole, found = None, []
        for name in self.views:
            if name in ("whole", "mirrored"):
                whole = _resized(pixels, size) if whole is None else whole
                found.append(whole if name == "whole" else whole.flip(3))
            else:
                top, bottom, left, right = VIEWS[name]
                rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
                columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
                found.append(_resized(pixels[:, :, rows, columns], size))
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        # Channels last, since convolutions of one channel each take up to twice as long otherwise.
        return ((torch.cat(found) - mean) / std).to(self.dtype, memory_format=torch.channels_last)

    def _stages(self, pixels: Float[Tensor, "batch colours rows columns"]) -> list[Float[Tensor, "batch c r s"]]:
        """The map after each stage."""
        hidden, found = self.model.bn1(self.model.conv_stem(pixels)), []
        for stage in self.model.blocks:
            hidden = stage(hidden)
            found.append(hidden)
        return found

    def _read(self, pixels: Float[Tensor, "batch colours rows columns"]) -> dict[str, Float[Tensor, "batch size"]]:
        """The levels of single views."""
        stages, found = self._stages(pixels), {}
        for number, hidden in enumerate(stages):
            if f"B{number}" in self.level_sizes:
                deviation, mean = torch.std_mean(hidden.float(), dim=(2, 3), correction=0)
                found[f"B{number}"] = torch.cat([mean, deviation], dim=1)
            if f"B{number}g" in self.level_sizes:
                found[f"B{number}g"] = F.adaptive_avg_pool2d(hidden.float(), self.grids[number]).flatten(1)
        head = self.model.bn2(self.model.conv_head(stages[-1])).float()
        return {**found, "H": head.mean(dim=(2, 3)), "Hx": head.amax(dim=(2, 3))}

    @torch.no_grad()
    def _stage_widths(self) -> list[int]:
        self.model.eval()
        return [hidden.shape[1] for hidden in self._stages(torch.zeros(1, 3, SMALLEST_SIDE, SMALLEST_SIDE))]


def view_size(height: int, width: int, side: int) -> tuple[int, int]:
    """
    Returns the height and width of an image's views in pixels: as many pixels as in a square of `side`, in the aspect
    of the image as far as neither is below 32 or above four times `side`.
    """
    ratio = (height / width) ** 0.5
    rows, columns = (
        min(max(round(length), SMALLEST_SIDE), LARGEST_SIDE * side) for length in (side * ratio, side / ratio)
    )
    return rows, columns


def _resized(pixels: Float[Tensor, "batch colours height width"], size: tuple[int, int]) -> Tensor:
    if tuple(pixels.shape[2:]) == size:
        return pixels
    return F.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 1)
