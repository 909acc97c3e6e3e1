"""Random changes of raw training rows that do not change their class. They are pure functions of rows and a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Int16, Int32, Shaped, UInt8
from torch import Tensor

from .affine_augmentation import affine
from .random_bits import RandomBits

_STEPS = 10_000  # number of values that a random fraction can take
MAX_GAIN_DB = 12.0
MAX_SPEED_CHANGE = 0.15
MAX_SILENCE = 0.25  # fraction of the clip
TOKEN_DROPOUT = 0.3  # probability of each token
MAX_CROP = 0.5  # largest fraction of the passage that is left out
IMAGE_PADDING = 4  # pixels


def augment(
    modality: str, rows: Shaped[Tensor, "samples ..."], bits: RandomBits, names: Sequence[str] = ("basic",)
) -> Shaped[Tensor, "samples ..."]:
    """Returns changed rows of the same shape and dtype.

    Args:
        modality: `"audio"`, `"text"` or `"image"`.
        rows: raw integers of one episode.
        bits: random numbers that decide how each row is changed.
        names: names of the changes. `"basic"` changes the speed and the gain of sounds, shifts them circularly and
            silences a span; it crops passages and drops tokens; it mirrors images and shifts them by up to 4 pixels.
            `"affine"` (images) is in `affine_augmentation.py`; `"spec_augment"` (sounds), `"random_resized_crop"`,
            `"rand_augment"` and `"random_erasing"` (images) are in `library_augmentation.py`. The changes are made in
            the order of `CHANGES`, whatever the order of the names, and those of other modalities are skipped.

    Raises:
        ValueError: the modality or a name does not exist.
    """
    if modality not in CHANGES["basic"]:
        known = ", ".join(CHANGES["basic"])
        raise ValueError(f"modality={modality!r} cannot be augmented; the modalities are {known}")
    check_names(names, [*CHANGES["basic"]])
    for name, changes in CHANGES.items():
        if name in names and modality in changes:
            rows = changes[modality](rows, bits)
    return rows


def check_names(names: Sequence[str], modalities: Sequence[str]) -> None:
    """Checks the names of changes.

    Args:
        names: names of changes, as for `augment`.
        modalities: modalities of the data.

    Raises:
        ValueError: a name does not exist, is given twice, or changes none of the modalities.
    """
    unknown = [name for name in names if name not in CHANGES]
    if unknown or len(set(names)) != len(names):
        raise ValueError(f"augment={list(names)}: give each of {', '.join(CHANGES)} once, or leave it out")
    for name in names:
        if not set(CHANGES[name]) & set(modalities):
            raise ValueError(
                f"augment={list(names)}: {name!r} changes {', '.join(CHANGES[name])} samples, but the data are "
                f"{', '.join(modalities)}; leave it out"
            )


def _fraction(bits: RandomBits) -> float:
    """Returns a uniformly distributed number in [0, 1)."""
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
    # For speed, one random number decides which tokens are dropped.
    generator = torch.Generator().manual_seed(bits.below(2**31))
    stays = torch.rand(len(words), generator=generator) >= TOKEN_DROPOUT
    stays[0] |= not stays.any()
    words = words[stays]
    return F.pad(words, (0, len(row) - len(words)))


def _picture(row: UInt8[Tensor, "colours height width"], bits: RandomBits) -> UInt8[Tensor, "colours height width"]:
    from torchvision.transforms.v2 import functional as transforms  # this import takes a second

    height, width = row.shape[1:]
    if bits.below(2):
        row = transforms.horizontal_flip(row)
    padded = transforms.pad(row, [IMAGE_PADDING], padding_mode="reflect")
    top, left = bits.below(2 * IMAGE_PADDING + 1), bits.below(2 * IMAGE_PADDING + 1)
    return transforms.crop(padded, top, left, height, width)


def _each(change: Callable[[Tensor, RandomBits], Tensor]) -> Callable[[Tensor, RandomBits], Tensor]:
    """Returns a change of all rows that applies a change of one row to each of them."""
    return lambda rows, bits: torch.stack([change(row, bits) for row in rows])


def _library(name: str) -> Callable[[Tensor, RandomBits], Tensor]:
    """Returns a change of `library_augmentation.py`, which is imported at its first use because it takes seconds."""

    def change(rows: Tensor, bits: RandomBits) -> Tensor:
        from . import library_augmentation

        return getattr(library_augmentation, name)(rows, bits)

    return change


CHANGES = {
    "random_resized_crop": {"image": _library("random_resized_crop")},
    "rand_augment": {"image": _library("rand_augment")},
    "affine": {"image": affine},
    "basic": {"audio": _each(_sound), "text": _each(_passage), "image": _each(_picture)},
    "spec_augment": {"audio": _library("spec_augment")},
    "random_erasing": {"image": _library("random_erasing")},
}
