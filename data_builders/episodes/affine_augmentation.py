"""Small affine maps of training images, which suit what must not be mirrored, such as characters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from .random_bits import RandomBits

MAX_ANGLE = 10.0  # degrees
MAX_SHEAR = 0.15
MAX_SCALING = 0.1  # of width and height, each for itself
MAX_SHIFT = 0.05  # fraction of the side


def affine(rows: UInt8[Tensor, "m 3 height width"], bits: RandomBits) -> UInt8[Tensor, "m 3 height width"]:
    """Turns, shears, scales and shifts every image a little, all four at random.

    An image is turned by at most 10 degrees, sheared by at most 0.15, scaled by 0.9 to 1.1 in width and in height, and
    shifted by at most 5 % of its sides. What comes in from outside has the colour of the nearest edge.
    """
    generator = torch.Generator().manual_seed(bits.below(2**31))
    # In float64 the differences between machines are too small to change the rounded integers.
    drawn = 2 * torch.rand(len(rows), 6, generator=generator, dtype=torch.float64) - 1
    angle, shear = drawn[:, 0] * math.radians(MAX_ANGLE), drawn[:, 1] * MAX_SHEAR
    width, height = (1 + drawn[:, 2:4] * MAX_SCALING).unbind(dim=1)
    shift = 2 * MAX_SHIFT * drawn[:, 4:]  # `affine_grid` takes a side as 2
    across = torch.stack([angle.cos() * width, (shear - angle.sin()) * height, shift[:, 0]], dim=1)
    down = torch.stack([angle.sin() * width, angle.cos() * height, shift[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(rows.shape), align_corners=False)
    moved = F.grid_sample(rows.double(), grid, padding_mode="border", align_corners=False)
    return moved.round().clamp(0, 255).to(rows.dtype)
