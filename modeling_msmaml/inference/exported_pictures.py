"""The level encoder of images without control flow that depends on data, for export."""

import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from ..model.level_image import TimmLevels, stage_maps
from ..model.level_views import LARGEST_SIDE, SMALLEST_SIDE, VIEWS
from .exported_cells import whole_weights

_CUBIC = -0.5  # the slope at 1 of the kernel with which PyTorch, like PIL, interpolates and smooths at once


class ExportedPictures(nn.Module):
    """
    Maps images (batch, 3, H, W) of one size, whatever it is, to the levels of [`TimmLevels`].

    Args:
        encoder: it is copied, since its layers are replaced.
    """

    def __init__(self, encoder: TimmLevels):
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        replace_layers(self.encoder)

    def forward(self, raw: Shaped[Tensor, "batch colours height width"]) -> dict[str, Float[Tensor, "batch size"]]:
        encoder = self.encoder
        pixels = encoder.scale(raw, torch.float32)
        height, width = (torch.full((), side).double() for side in pixels.shape[2:])
        rows, columns = _view_size(height, width, encoder.input_size)
        views = []
        for name in encoder.views:
            top, bottom, left, right = VIEWS[name]
            of_rows = _resizing(*_part(height, top, bottom), pixels.shape[2], rows)
            of_columns = _resizing(*_part(width, left, right), pixels.shape[3], columns)
            view = (of_rows @ pixels @ of_columns.T).clamp(0, 1)
            views.append(view.flip(3) if name == "mirrored" else view)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
        found = self._read(((torch.cat(views) - mean) / std).to(encoder.dtype))
        return {name: level.unflatten(0, (len(views), -1)).mean(dim=0) for name, level in found.items()}

    def _read(self, pixels: Float[Tensor, "views colours rows columns"]) -> dict[str, Float[Tensor, "views size"]]:
        """The levels of single views."""
        encoder, model, found = self.encoder, self.encoder.model, {}
        stages = stage_maps(model, pixels)
        for number, hidden in enumerate(stages):
            hidden = hidden.float()
            if f"B{number}" in encoder.level_sizes:
                deviation, mean = torch.std_mean(hidden, dim=(2, 3), correction=0)
                found[f"B{number}"] = torch.cat([mean, deviation], dim=1)
            if f"B{number}g" in encoder.level_sizes:
                in_rows, in_columns = (whole_weights(side, encoder.grids[number]) for side in hidden.shape[2:])
                found[f"B{number}g"] = (in_rows @ hidden @ in_columns.T).flatten(1)
        head = model.bn2(model.conv_head(stages[-1])).float()
        return {**found, "H": head.mean(dim=(2, 3)), "Hx": head.amax(dim=(2, 3))}


class FixedNorm(nn.Module):
    """
    A batch norm in evaluation mode, with what follows it: its own operator asks whether a map is empty, which an
    exported graph cannot say of a size that depends on data.

    Args:
        norm: a batch norm of PyTorch, or of timm with an activation.
    """

    scale: Float[Tensor, "channels 1 1"]
    shift: Float[Tensor, "channels 1 1"]

    def __init__(self, norm: Any):
        super().__init__()
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.register_buffer("scale", scale.detach()[:, None, None])
        self.register_buffer("shift", (norm.bias - norm.running_mean * scale).detach()[:, None, None])
        self.activation = getattr(norm, "act", nn.Identity())

    def forward(self, maps: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch channels r c"]:
        return self.activation(maps * self.scale + self.shift)


class SamePadded(nn.Module):
    """
    A convolution of timm that pads as TensorFlow does. It computes the same from sizes in as few terms as possible:
    from those of timm an export derives, layer by layer, expressions that it takes minutes to compare.

    Args:
        convolution: its strides are no larger than its kernel, and it has no dilation.
    """

    def __init__(self, convolution: Any):
        super().__init__()
        self.convolution = convolution

    @staticmethod
    def fits(convolution: Any) -> bool:
        """Whether a convolution is of that kind."""
        sides = zip(convolution.kernel_size, convolution.stride, convolution.dilation, strict=True)
        return all(kernel >= stride and dilation == 1 for kernel, stride, dilation in sides)

    def forward(self, maps: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch more r c"]:
        own, padding = self.convolution, []
        for size, kernel, stride in zip(maps.shape[2:], own.kernel_size, own.stride, strict=True):
            missing = stride * ((size + stride - 1) // stride) - size + kernel - stride
            padding = [missing // 2, missing - missing // 2, *padding]
        return F.conv2d(F.pad(maps, padding), own.weight, own.bias, own.stride, groups=own.groups)


def replace_layers(model: nn.Module) -> None:
    """Puts a [`FixedNorm`] in the place of every batch norm of a model, and a [`SamePadded`] where it fits."""
    for name, module in model.named_children():
        if isinstance(module, nn.BatchNorm2d):
            setattr(model, name, FixedNorm(module))
        elif isinstance(module, Conv2dSame) and SamePadded.fits(module):
            setattr(model, name, SamePadded(module))
        else:
            replace_layers(module)


def _view_size(height: Float[Tensor, ""], width: Float[Tensor, ""], side: int) -> tuple[int, int]:
    """The height and width of views, as `level_views.view_size` has them, as sizes that depend on data."""
    ratio = (height / width).sqrt()
    found = []
    for length in (side * ratio, side / ratio):
        size = cast(int, length.round().clamp(SMALLEST_SIDE, LARGEST_SIDE * side).long().item())
        torch._check(size >= SMALLEST_SIDE)
        torch._check(size <= LARGEST_SIDE * side)
        found.append(size)
    return found[0], found[1]


def _part(length: Float[Tensor, ""], first: float, last: float) -> tuple[Int[Tensor, ""], Int[Tensor, ""]]:
    """The start and the end of the part of a side that a view shows, in pixels."""
    start = (first * length).round().long()
    return start, torch.maximum((last * length).round().long(), start + 1)


def _resizing(start: Int[Tensor, ""], end: Int[Tensor, ""], length: int, size: int) -> Float[Tensor, "size length"]:
    """
    What a side of `length` pixels is multiplied with, so that the part from `start` to `end` has `size` pixels: the
    weights of bicubic interpolation with antialiasing, as `torch.nn.functional.interpolate` has them.
    """
    places, scale = torch.arange(length), (end - start).double() / size
    centres = scale * (torch.arange(size) + 0.5)
    distances = ((places - start + 0.5) - centres[:, None]).abs() / scale.clamp(min=1)
    near = ((_CUBIC + 2) * distances - (_CUBIC + 3)) * distances.square() + 1
    far = ((distances - 5) * distances + 8) * distances * _CUBIC - 4 * _CUBIC
    weights = torch.where(distances < 1, near, torch.where(distances < 2, far, 0.0))
    weights = torch.where((places >= start) & (places < end), weights, 0.0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()
