"""Noise in place of levels in training, so that the inner loop has something to mend."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .samples import mixed_bits

_32_BITS = 0xFFFFFFFF


def levels_to_drop(rate: float, seeds: Int[Tensor, " T"], number: int) -> Bool[Tensor, "T levels"]:
    """
    Chooses levels of tasks, each with probability `rate`. The choice follows from the tasks, not from a global state:
    neither chunks, processes nor a resume change it.

    Args:
        seeds: a number from 0 to 2^32 - 1 for each task, see `task_seeds`.
        number: of the levels.
    """
    places = mixed_bits(torch.arange(number, device=seeds.device))
    return mixed_bits((mixed_bits(seeds)[:, None] + places) & _32_BITS) < int(rate * 2**32)


def with_noise(
    channels: Sequence[Float[Tensor, "T samples d"]], dropped: Bool[Tensor, "T C"], seeds: Int[Tensor, " T"]
) -> list[Float[Tensor, "T samples d"]]:
    """
    Puts noise of unit length in place of the dropped channels: random signs, which say nothing of any class.

    Args:
        seeds: of the noise; support and query samples need different ones.
    """
    found = []
    for number, channel in enumerate(channels):
        if channel.device.type == "cpu" and not dropped[:, number].any():  # on an accelerator, asking would stall it
            found.append(channel)
            continue
        samples, size = channel.shape[1:]
        places = mixed_bits(torch.arange(samples * size, device=channel.device))
        bits = mixed_bits((mixed_bits(seeds + number)[:, None] + places) & _32_BITS)
        noise = ((bits >> 31) * 2 - 1).view(channel.shape).to(channel) / size**0.5
        found.append(torch.where(dropped[:, number, None, None], noise, channel))
    return found
