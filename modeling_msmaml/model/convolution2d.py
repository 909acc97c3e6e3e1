"""A 2-D convolution and the maximum over squares, for pictures of T tasks, each with its own kernel."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def conv2d(
    inputs: Float[Tensor, "T batch in_channels height width"],
    weight: Float[Tensor, "T out_channels in_channels kernel kernel"],
    bias: Float[Tensor, "T out_channels"] | None,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "T batch out_channels new_height new_width"]:
    """
    Computes what `F.conv2d` does, for T tasks that have a kernel each: as a convolution in T groups. It can be
    differentiated twice.

    The fault of `F.conv1d` on the CPU (see `convolution.conv1d`) is one of strided kernels along one dimension, which
    tests find in no layer over pictures.

    Args:
        inputs: pictures, channels first.
        weight: kernels.
        bias: one value per output channel, or `None`.
        stride: distance between windows, in both directions.
        padding: number of zeros on each side of a picture.
    """
    tasks, batch = inputs.shape[:2]
    grouped = F.conv2d(
        inputs.transpose(0, 1).flatten(1, 2),
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride,
        padding,
        groups=tasks,
    )
    return grouped.unflatten(1, (tasks, -1)).transpose(0, 1).view(tasks, batch, -1, *grouped.shape[2:])


def max_pool(
    inputs: Float[Tensor, "T batch channels height width"],
) -> Float[Tensor, "T batch channels height//2 width//2"]:
    """The maximum over squares of 2 x 2 positions; an odd last row or column is left out."""
    return F.max_pool2d(inputs.flatten(0, 1), 2).unflatten(0, inputs.shape[:2])


def size_after(size: int, kernel: int, stride: int, padding: int) -> int:
    """The height and width of what a convolution makes of a square picture; 0 where it is smaller than the kernel."""
    return max((size + 2 * padding - kernel) // stride + 1, 0)
