"""Dropout for an inner loop: one mask a sample for all inner steps, and a function of the task alone."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

_BYTES_OF_A_SEED = 4096


def drop_channels(
    sequences: Float[Tensor, "T samples channels length"], rate: float, raw: Shaped[Tensor, "T samples ..."]
) -> Float[Tensor, "T samples channels length"]:
    """
    Sets each channel of each sample to zero with probability `rate`, in [0, 1), and scales the others by
    1 / (1 - rate) (Srivastava et al. 2014; of whole channels: Tompson et al. 2015, arXiv 1411.4280).

    The sequences are those that every inner step starts from, so that all inner gradients are of one function. What is
    dropped is drawn from a generator that the raw samples seed, not from a global state: neither chunks, processes nor
    a resume change it.
    """
    shape = sequences.shape[1:3]
    kept = [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) >= rate for seed in task_seeds(raw)]
    return sequences * (torch.stack(kept).to(sequences) / (1 - rate))[..., None]


def task_seeds(raw: Shaped[Tensor, "T samples ..."]) -> list[int]:
    """A number for each task, exact integer arithmetic on (at most 4096) bytes of its samples."""
    content = raw.detach().flatten(1).contiguous().view(torch.uint8)
    content = content[:, :: max(1, content.shape[1] // _BYTES_OF_A_SEED)].long()
    return (content * torch.arange(1, content.shape[1] + 1, device=content.device)).sum(dim=1).tolist()
