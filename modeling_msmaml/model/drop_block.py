"""DropBlock (Ghiasi, Lin and Le 2018, arXiv 1810.12890): squares of positions that a training step drops together."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .samples import mixed_bits, random_numbers


def kept_factors(
    seeds: Int[Tensor, " T"],
    layer: int,
    shape: tuple[int, int, int],
    rate: float,
    size: int,
    dtype: torch.dtype,
) -> Float[Tensor, "T samples channels side side"]:
    """
    What the output of a layer is multiplied with: 0 where it is dropped and, elsewhere, one number that keeps the
    mean of the task's samples.

    A square is dropped with probability

        rate / size^2 * side^2 / (side - size + 1)^2

    for each place where all of it lies within the output. `size=1` drops single positions. What is dropped follows
    from the seed of the task, not from a global state: no chunk, process or resume changes it.

    Args:
        seeds: of the tasks, see `task_seeds`.
        layer: its number; different layers drop other positions.
        shape: samples, channels, and the height and width of the output.
        rate: the share of positions that is dropped, in [0, 1), as far as squares do not overlap.
        size: height and width of a square; no more than those of the output count.
        dtype: of the factors.
    """
    samples, channels, side = shape
    size = min(size, side)
    places = side - size + 1
    numbers = random_numbers(mixed_bits(seeds ^ (layer + 1)), samples * channels * places**2)
    centres = numbers < int(rate / size**2 * side**2 / places**2 * 2**32)
    centres = centres.view(len(seeds) * samples, channels, places, places).to(torch.float32)
    # Every square is the maximum over those that begin up to `size - 1` positions above and to the left.
    dropped = F.max_pool2d(F.pad(centres, [size - 1] * 4), size, stride=1)
    kept = (1 - dropped).unflatten(0, (len(seeds), samples))
    shares = kept.mean(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1 / kept[0].numel())
    return (kept / shares).to(dtype)
