"""What level encoders of images share: views of an image, which are resized in its aspect and standardised."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from .folded_norms import FoldedNorms
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


class ViewedImages(LevelEncoder):
    """
    Base class of level encoders that map images (batch, 3, H, W), uint8 or floats in [0, 1], of any size to levels.

    Levels are means over the views of an image: the whole, its mirror image, and two crops of four fifths of its sides,
    one at the top left and one at the bottom right. Each view is resized by bicubic interpolation to the area of
    `input_size` x `input_size` pixels. Images keep their aspect, where the network reads any: a long one is
    not squeezed, nor padded, and costs no more than a square one.

    A subclass sets `model`, a network of timm, and implements `read`, in which it uses `network`.

    Args:
        input_size: side in pixels of a square view.
        views: names of the views, of `whole`, `mirrored`, `top_left` and `bottom_right`.
        mean, std: of the pixel values of each colour, in [0, 1], that the network was trained on.
    """

    modality = "image"
    sample_dims = 3
    model: Any
    chunk_size = 4  # small maps stay in the cache: twice as fast as chunks of 16 on two cores

    def __init__(self, input_size: int, views: Sequence[str], mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.input_size = checked("input_size", input_size, at_least(SMALLEST_SIDE))
        if unknown := [name for name in views if name not in VIEWS] or not views:
            raise ValueError(f"views={list(views)}: choose one or more of {', '.join(VIEWS)}, not {unknown}")
        self.views, self.mean, self.std = list(views), list(mean), list(std)
        self.scale = ScaleIntegers()
        self._folded = FoldedNorms()

    @property
    def network(self) -> Any:
        """The model as it computes fastest on views of this size."""
        return self._folded.of(self.model, self._example)

    def _example(self, model: Any) -> Tensor:
        rows, columns = self.view_size(self.input_size, self.input_size)
        noise = torch.randn(1, 3, rows, columns, generator=torch.Generator().manual_seed(0))
        return model.forward_features(noise.to(self.device, self.dtype, memory_format=torch.channels_last))

    def check(self, raw: Shaped[Tensor, "batch colours height width"]) -> None:
        if raw.shape[1] != 3 or 0 in raw.shape[2:]:
            raise ValueError(f"an image has shape {tuple(raw.shape[1:])}, but the encoder takes (3, height, width)")

    def encode(self, raw: Shaped[Tensor, "batch colours height width"]) -> dict[str, Float[Tensor, "batch size"]]:
        views = self._views(self.scale(raw, torch.float32))
        return {name: level.unflatten(0, (-1, len(raw))).mean(dim=0) for name, level in self.read(views).items()}

    def read(self, pixels: Float[Tensor, "batch colours rows columns"]) -> dict[str, Float[Tensor, "batch size"]]:
        """Computes the levels of single views, which are standardised."""
        raise NotImplementedError

    def view_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width of the views of an image in pixels."""
        return view_size(height, width, self.input_size)

    def _views(self, pixels: Float[Tensor, "batch colours height width"]) -> Float[Tensor, "views rows columns"]:
        """All views of some images, standardised, view by view."""
        height, width = pixels.shape[2:]
        size = self.view_size(height, width)
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


def mean_and_deviation(maps: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch 2*channels"]:
    """Returns the mean and the standard deviation of each channel over the positions."""
    if maps.device.type == "cpu":  # `std_mean` takes many times as long there, and a tenth of a small network's time
        values = maps.permute(0, 2, 3, 1).flatten(1, 2).float()
        mean = values.mean(dim=1)
        deviation = (values - mean[:, None]).square_().mean(dim=1).sqrt_()
    else:
        deviation, mean = torch.std_mean(maps.float(), dim=(2, 3), correction=0)
    return torch.cat([mean, deviation], dim=1).float()
