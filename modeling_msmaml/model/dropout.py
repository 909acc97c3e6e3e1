"""Dropout for an inner loop: one mask a sample for all inner steps, and a function of the task alone."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

_BYTES_OF_A_SEED = 4096
_32_BITS = 0xFFFFFFFF


def drop_channels(
    sequences: Float[Tensor, "T samples channels length"], rate: float, raw: Shaped[Tensor, "T samples ..."]
) -> Float[Tensor, "T samples channels length"]:
    """
    Sets each channel of each sample to zero with probability `rate`, in [0, 1), and scales the others by
    1 / (1 - rate) (Srivastava et al. 2014; of whole channels: Tompson et al. 2015, arXiv 1411.4280).

    The sequences are those that every inner step starts from, so that all inner gradients are of one function. What is
    dropped follows from the raw samples, not from a global state: neither chunks, processes nor a resume change it, and
    no device makes another choice.
    """
    return sequences * (_kept(sequences, rate, task_seeds(raw)).to(sequences) / (1 - rate))[..., None]


def task_seeds(raw: Shaped[Tensor, "T samples ..."]) -> Int[Tensor, " T"]:
    """A number from 0 to 2^32 - 1 for each task, exact integer arithmetic on (at most 8192) bytes of its samples."""
    content = raw.detach().flatten(1).contiguous().view(torch.uint8)
    every = max(1, content.shape[1] // _BYTES_OF_A_SEED) | 1  # odd, to meet each byte of a number
    content = content[:, ::every].long()
    return _mixed(content + 256 * torch.arange(content.shape[1], device=content.device)).sum(dim=1) & _32_BITS


def _kept(sequences: Tensor, rate: float, seeds: Int[Tensor, " T"]) -> Bool[Tensor, "T samples channels"]:
    """Which channels stay: each with a number from 0 to 2^32 - 1 of its own that is not below `rate` of them."""
    samples, channels = sequences.shape[1:3]
    places = _mixed(torch.arange(samples * channels, device=sequences.device))
    numbers = _mixed((_mixed(seeds)[:, None] + places) & _32_BITS)
    return (numbers >= int(rate * 2**32)).unflatten(1, (samples, channels))


def _mixed(numbers: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A permutation of 0 to 2^32 - 1 without visible order: MurmurHash3's last step (Appleby 2011, fmix32)."""
    numbers = ((numbers ^ (numbers >> 16)) * 0x85EBCA6B) & _32_BITS
    numbers = ((numbers ^ (numbers >> 13)) * 0xC2B2AE35) & _32_BITS
    return numbers ^ (numbers >> 16)
