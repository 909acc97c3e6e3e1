"""
The level encoder of images that reads nearly any network of timm after each of its blocks or stages: vision
transformers such as those of DINOv2, and convolutional networks such as ResNet and ConvNeXt.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .level_views import ViewedImages, mean_and_deviation, view_size

MOST_STAGES = 6  # of a network that is read after each stage by default; one of more blocks is read after every third


class TimmFeatures(ViewedImages):
    """
    Maps images (batch, 3, H, W), uint8 or floats in [0, 1], of any size to the levels of a network of timm that has
    `forward_intermediates`:

    - `B<i>`: mean and standard deviation over the positions of block i of a transformer, or stage i of a convolutional
      network, counted from 0.
    - `B<i>g`: its map, averaged over the cells of a grid; channel by channel, row by row.
    - `C<i>`: the class token after block i, where the network has one.
    - `H`: what the network gives to its classifier, its own embedding.

    Levels are means over the views of an image, see [`ViewedImages`]. Sides are multiples of the patches of a vision
    transformer, whose position embeddings are interpolated. A network that reads images of one size only, such as
    BEiT, reads square views of this size.

    Args:
        architecture: name of a network of timm.
        model_args: further arguments of `timm.create_model`, such as `{"img_size": 224}`.
        input_size: side in pixels of a square view, by default 224, or the only one that the network reads.
        blocks: numbers of the blocks or stages that give levels. By default all, of more than six every third, up to
            the last.
        grids: pairs of a block and the number of cells along each side of its grid.
        views: names of the views.
        mean, std: of the pixel values of each colour, in [0, 1]; by default those that timm knows for the network.
        levels: names of the levels to return, see `LevelEncoder.set_levels`.
    """

    def __init__(
        self,
        architecture: str,
        model_args: dict[str, Any] | None = None,
        input_size: int | None = None,
        blocks: Sequence[int] | None = None,
        grids: Sequence[tuple[int, int]] = (),
        views: Sequence[str] = ("whole", "mirrored"),
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        levels: Sequence[str] | None = None,
    ):
        model = create(architecture, model_args or {})
        known = model.pretrained_cfg
        only_size = None  # side of the images that the network reads, if it reads no others
        if known.get("fixed_input_size") and not dynamic(model):
            only_size = (model_args or {}).get("img_size", known["input_size"][-1])
            if input_size not in (None, only_size):
                raise ValueError(f"input_size={input_size}: {architecture!r} reads images of {only_size} pixels only")
        super().__init__(only_size or input_size or 224, views, mean or known["mean"], std or known["std"])
        self.model, self.fixed = model.to(memory_format=torch.channels_last), only_size is not None
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
        self.patch: int = max(patch) if isinstance(patch, (tuple, list)) else patch
        options = inspect.signature(model.forward_intermediates).parameters
        self.options = {"return_prefix_tokens": True} if "return_prefix_tokens" in options else {}
        self.grids: dict[int, int] = dict(grids)
        self.set_levels(*self._sizes(architecture, blocks), levels)

    def view_size(self, height: int, width: int) -> tuple[int, int]:
        if self.fixed:
            return self.input_size, self.input_size
        rows, columns = view_size(height, width, self.input_size)
        return self._whole_patches(rows), self._whole_patches(columns)

    def _whole_patches(self, length: int) -> int:
        return max(1, round(length / self.patch)) * self.patch

    def read(self, pixels: Float[Tensor, "batch colours rows columns"]) -> dict[str, Float[Tensor, "batch size"]]:
        network = self.network
        last, maps = network.forward_intermediates(pixels, indices=self.blocks, **self.options)
        found = {}
        for number, hidden in zip(self.blocks, maps, strict=True):
            if isinstance(hidden, tuple):
                hidden, prefix = hidden
                if prefix.shape[1]:
                    found[f"C{number}"] = prefix[:, 0].float()
            found[f"B{number}"] = mean_and_deviation(hidden)
            if number in self.grids:
                found[f"B{number}g"] = F.adaptive_avg_pool2d(hidden.float(), self.grids[number]).flatten(1)
        return {**found, "H": network.forward_head(last, pre_logits=True).float()}

    @torch.no_grad()
    def _sizes(self, architecture: str, blocks: Sequence[int] | None) -> tuple[dict[str, int], str]:
        """The size of every level, and the name of the last, as a blank image shows them."""
        self.model.eval()
        side = self.input_size if self.fixed else max(2 * self.patch, 32 // self.patch * self.patch)
        blank = torch.zeros(1, 3, side, side)
        number = len(self.model.forward_intermediates(blank)[1])
        if blocks is None:
            blocks = range(number)[:: -1 if number <= MOST_STAGES else -3]
        self.blocks = sorted({*blocks, *self.grids})
        if wrong := [block for block in self.blocks if not 0 <= block < number]:
            raise ValueError(f"block {wrong[0]}: {architecture!r} has blocks 0 to {number - 1}")
        sizes = {name: level.shape[1] for name, level in self.read(blank).items()}
        return {**{name: size for name, size in sizes.items() if name != "H"}, "H": sizes["H"]}, "H"


def dynamic(model: Any) -> bool:
    """Whether a network of timm was told to read images of any size."""
    return any(getattr(part, "dynamic_img_size", False) for part in (model, getattr(model, "patch_embed", None)))


def create(architecture: str, model_args: dict[str, Any]) -> Any:
    """
    Builds a network of timm with random weights and without classifier, which takes images of any size where it can.

    Raises:
        `ValueError`: timm cannot build it, or it gives no intermediate maps.
    """
    import timm  # imported here because only models with an image encoder need it

    arguments = {"pretrained": False, "num_classes": 0, **model_args}
    try:
        try:
            model = timm.create_model(architecture, **arguments, dynamic_img_size=True)
        except TypeError:  # of networks that know no such option
            model = timm.create_model(architecture, **arguments)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"timm cannot build architecture={architecture!r}: {error}") from error
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(f"architecture={architecture!r} has no forward_intermediates, so that no level can be read")
    return model
