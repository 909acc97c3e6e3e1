"""Random changes of raw training rows that leave their class as it is; a pure function of the rows and a seed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Int16, Int32, Shaped, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from .source_partition import RandomBits

_STEPS = 10_000  # of a random fraction
MAX_GAIN_DB = 12.0
MAX_SPEED_CHANGE = 0.15
MAX_SILENCE = 0.25  # of the clip
TOKEN_DROPOUT = 0.3
MAX_CROP = 0.5  # of the passage that is left out at most
IMAGE_PADDING = 4  # pixels


def augment(modality: str, rows: Shaped[Tensor, "samples ..."], bits: RandomBits) -> Shaped[Tensor, "samples ..."]:
    """New rows of the same shape and dtype.

    Args:
        modality: `"audio"` (speed, circular shift, gain, a silenced span), `"text"` (a crop of the passage, tokens left
            out) or `"image"` (mirroring, a shift of up to 4 pixels).
        rows: raw integers of one episode.
        bits: decides what happens to each row.

    Raises:
        ValueError: another modality.
    """
    if modality not in _CHANGES:
        raise ValueError(f"augment=True knows no change for modality {modality!r}; it has {', '.join(_CHANGES)}")
    return torch.stack([_CHANGES[modality](row, bits) for row in rows])


def _fraction(bits: RandomBits) -> float:
    """Uniform in [0, 1)."""
    return bits.below(_STEPS) / _STEPS


def _sound(row: Int16[Tensor, " samples"], bits: RandomBits) -> Int16[Tensor, " samples"]:
    samples = len(row)
    sound = row.float()
    # Speed perturbation (Ko et al. 2015) by linear interpolation: pitch and tempo change together.
    length = round(samples * (1 + MAX_SPEED_CHANGE * (2 * _fraction(bits) - 1)))
    sound = F.interpolate(sound[None, None], size=length, mode="linear")[0, 0]
    sound = F.pad(sound, (0, max(samples - length, 0)))[:samples].roll(bits.below(samples))
    sound = sound * 10 ** (MAX_GAIN_DB * (2 * _fraction(bits) - 1) / 20)
    silence = int(MAX_SILENCE * _fraction(bits) * samples)
    start = bits.below(samples - silence)
    sound[start : start + silence] = 0
    return sound.round().clamp(-32767, 32767).to(row.dtype)


def _passage(row: Int32[Tensor, " tokens"], bits: RandomBits) -> Int32[Tensor, " tokens"]:
    words = row[row != 0]
    if not len(words):
        return row.clone()
    kept = max(1, round(len(words) * (1 - MAX_CROP * _fraction(bits))))
    start = bits.below(len(words) - kept + 1)
    words = words[start : start + kept]
    # Which tokens go is a function of one number, for speed.
    generator = torch.Generator().manual_seed(bits.below(2**31))
    stays = torch.rand(len(words), generator=generator) >= TOKEN_DROPOUT
    stays[0] |= not stays.any()
    words = words[stays]
    return F.pad(words, (0, len(row) - len(words)))


def _picture(row: UInt8[Tensor, "colours height width"], bits: RandomBits) -> UInt8[Tensor, "colours height width"]:
    height, width = row.shape[1:]
    if bits.below(2):
        row = transforms.horizontal_flip(row)
    padded = transforms.pad(row, IMAGE_PADDING, padding_mode="reflect")
    top, left = bits.below(2 * IMAGE_PADDING + 1), bits.below(2 * IMAGE_PADDING + 1)
    return transforms.crop(padded, top, left, height, width)


_CHANGES = {"audio": _sound, "text": _passage, "image": _picture}
