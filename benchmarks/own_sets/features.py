"""What one would try before any encoder: pixels, histograms of oriented gradients, statistics of log-mel bands."""

import numpy as np
import torch
import torchaudio
from jaxtyping import Float, Int16, UInt8
from torch import Tensor
from torch.nn import functional as F

from .media import SAMPLING_RATE

Features = Float[Tensor, "n d"]
BINS, CELLS = 9, 8  # orientations from 0 to 180 degrees; cells a side


def pixels(pictures: UInt8[np.ndarray, "n 3 h w"]) -> Features:
    """Returns the pixels of pictures of 32 x 32."""
    small = F.interpolate(torch.from_numpy(pictures).float() / 255, (32, 32), mode="area")
    return small.flatten(1)


def oriented_gradients(pictures: UInt8[np.ndarray, "n 3 h w"]) -> Features:
    """
    Returns histograms of oriented gradients (Dalal and Triggs 2005) of the grey picture in 8 x 8 cells, each block of
    2 x 2 cells of unit length.
    """
    grey = torch.from_numpy(pictures).float().mean(dim=1) / 255
    down, right = torch.gradient(grey, dim=(1, 2))
    strength, angle = torch.hypot(down, right), torch.atan2(down, right) % torch.pi
    place = angle / torch.pi * BINS - 0.5  # between the middles of two bins, of which each gets its share
    lower = place.floor()
    share = place - lower
    hot = [F.one_hot((lower.long() + step) % BINS, BINS).float() for step in (0, 1)]
    votes = (hot[0] * (1 - share)[..., None] + hot[1] * share[..., None]) * strength[..., None]
    cells = F.adaptive_avg_pool2d(votes.permute(0, 3, 1, 2), CELLS)
    blocks = F.unfold(cells, 2)  # (n, 4 * BINS, blocks)
    return (blocks / (blocks.norm(dim=1, keepdim=True) + 1e-3)).flatten(1)


def log_mel_statistics(waves: Int16[np.ndarray, "n samples"]) -> Features:
    """Returns the mean and the standard deviation over time of 64 log-mel bands, up to the end of each sound."""
    mel = torchaudio.transforms.MelSpectrogram(SAMPLING_RATE, n_fft=1024, hop_length=256, n_mels=64)
    found = []
    for wave in torch.from_numpy(waves).float() / 32767:
        sounding = wave[: int(wave.nonzero().max()) + 1]
        bands = (mel(sounding) + 1e-6).log()
        found.append(torch.cat([bands.mean(dim=1), bands.std(dim=1)]))
    return torch.stack(found)
