"""Task augmentation: classes mixed in pairs into classes that do not exist, against meta-overfitting on few of them.

The classes of two episodes are mixed label by label, the samples of a label in pairs (Yao et al. 2022, arXiv
2106.02695, there in the features; here in the raw rows, as Tokozume et al. 2018, arXiv 1711.10282, mix sounds and Yun
et al. 2019, arXiv 1905.04899, put images together). Every sample of a label is mixed in the same way, so a label stays
one concept: this sound behind that one, this thing above that one, a passage that goes from one category to another.
"""

from __future__ import annotations

import torch
from jaxtyping import Int16, Int32, Shaped, UInt8
from torch import Tensor


def mix(
    first: Shaped[Tensor, "samples ..."], second: Shaped[Tensor, "samples ..."], modality: str
) -> Shaped[Tensor, "samples ..."]:
    """Sample i of one mixed with sample i of the other; a pure function, nothing is random.

    Args:
        first, second: raw integers of one shape.
        modality: `"audio"` (the sum of both at equal loudness), `"text"` (the first half of one passage, then that of
            the other) or `"image"` (the upper half of one above the lower half of the other).

    Raises:
        ValueError: another modality, or features of an encoder instead of raw integers.
    """
    if modality not in _MIXERS:
        raise ValueError(f"mix_classes knows no way to mix {modality!r}; it has {', '.join(_MIXERS)}")
    if first.is_floating_point():
        raise ValueError(f"mix_classes mixes raw {modality} rows, but these are features of an encoder")
    return torch.stack([_MIXERS[modality](a, b) for a, b in zip(first, second, strict=True)])


def _sounds(a: Int16[Tensor, " samples"], b: Int16[Tensor, " samples"]) -> Int16[Tensor, " samples"]:
    # float64, so that no machine rounds to another integer.
    sounds = [sound.double() for sound in (a, b)]
    levels = [float(sound.square().mean().sqrt()) for sound in sounds]
    if 0 in levels:
        return torch.where(a != 0, a, b)  # silence and the other one
    mixed = sounds[0] / levels[0] + sounds[1] / levels[1]
    loudness = min(sum(levels) / 2, 32767 / float(mixed.abs().max().clamp(min=1e-9)))
    return (mixed * loudness).round().to(a.dtype)


def _passages(a: Int32[Tensor, " tokens"], b: Int32[Tensor, " tokens"]) -> Int32[Tensor, " tokens"]:
    halves = [words[: (len(words) + 1) // 2] for words in (a[a != 0], b[b != 0])]
    mixed = torch.cat(halves)[: len(a)]
    return torch.nn.functional.pad(mixed, (0, len(a) - len(mixed)))


def _pictures(
    a: UInt8[Tensor, "colours height width"], b: UInt8[Tensor, "colours height width"]
) -> UInt8[Tensor, "colours height width"]:
    half = a.shape[1] // 2
    return torch.cat([a[:, :half], b[:, half:]], dim=1)


_MIXERS = {"audio": _sounds, "text": _passages, "image": _pictures}
