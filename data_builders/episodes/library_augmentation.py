"""Random changes of raw training rows with torchaudio and timm, as pure functions of the rows and a seed.

SpecAugment (Park et al. 2019, arXiv 1904.08779) masks a log-mel spectrogram. Here `torchaudio.transforms` draws the
masks on the mel scale and in time, but they are applied to the waveform: the sound loses the band and the span before a
front end reads it. Therefore a sample has the same mask in all passes of the inner loop, whichever front end reads the
sound, and an episode remains a function of its index. The masked parts are silent, whereas in the paper they take the
mean value of the spectrogram.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from jaxtyping import Int16, UInt8
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchaudio.functional import melscale_fbanks
from torchaudio.transforms import FrequencyMasking, TimeMasking

from .random_bits import RandomBits

SAMPLING_RATE = 16_000  # Hz
MASKED_MELS, MELS = 20, 80  # fewer than 20 of 80 bands are masked; the policy LB of SpecAugment has 27 of 80
MASKED_TIME, TIMES = 20, 100  # fewer than 20 of 100 equal parts of the clip are masked
RAND_AUGMENT = "rand-m9-n2-mstd0.5"  # configuration of timm: two changes with a magnitude of about 9 of 10
CROP_SCALE = (0.5, 1.0)  # fractions of the area; images of 32 pixels need more than the 0.08 usual for ImageNet


@contextmanager
def seeded(bits: RandomBits) -> Iterator[None]:
    """Seeds the global random states, from which the libraries draw, from `bits`, and restores them at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed = bits.below(2**32)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


@lru_cache(maxsize=2)
def _bands(frequencies: int) -> Tensor:
    """Returns, for each frequency of a spectrum, the mel band with the largest weight at it."""
    return melscale_fbanks(frequencies, 20.0, SAMPLING_RATE / 2, MELS, SAMPLING_RATE).argmax(dim=1)


def spec_augment(rows: Int16[Tensor, "m samples"], bits: RandomBits) -> Int16[Tensor, "m samples"]:
    """Silences up to 19 adjacent ones of the 80 mel bands, and a span of up to 19 % of the clip, in every sound."""
    samples = rows.shape[1]
    whole = torch.ones(len(rows), 1, MELS, TIMES)
    with seeded(bits):
        # `iid_masks` are drawn over the first two dimensions.
        bands = FrequencyMasking(MASKED_MELS, iid_masks=True)(whole)[:, 0, :, 0]
        times = TimeMasking(MASKED_TIME, iid_masks=True)(whole)[:, 0, 0]
    # In float64 the differences between machines are too small to change the rounded integers.
    spectra = torch.fft.rfft(rows.double())
    sounds = torch.fft.irfft(spectra * bands[:, _bands(spectra.shape[1])], n=samples)
    sounds = sounds * times[:, torch.arange(samples) * TIMES // samples]
    return sounds.round().clamp(-32767, 32767).to(rows.dtype)


def random_resized_crop(rows: UInt8[Tensor, "m 3 height width"], bits: RandomBits) -> UInt8[Tensor, "m 3 height width"]:
    """Crops at least half of every image at random and resizes it, as timm's `RandomResizedCropAndInterpolation`."""
    change = RandomResizedCropAndInterpolation(tuple(rows.shape[2:]), scale=CROP_SCALE)
    with seeded(bits):
        # The annotation in timm says that the change returns a tensor, but it returns an image for an image.
        return torch.stack([_pixels(cast(Image.Image, change(_picture(row)))) for row in rows])


def rand_augment(rows: UInt8[Tensor, "m 3 height width"], bits: RandomBits) -> UInt8[Tensor, "m 3 height width"]:
    """Applies RandAugment (Cubuk et al. 2019, arXiv 1909.13719) as implemented in timm; empty areas become grey."""
    change = rand_augment_transform(RAND_AUGMENT, {"img_mean": (128, 128, 128), "translate_const": 4})
    with seeded(bits):
        return torch.stack([_pixels(change(_picture(row))) for row in rows])


def random_erasing(rows: UInt8[Tensor, "m 3 height width"], bits: RandomBits) -> UInt8[Tensor, "m 3 height width"]:
    """Erases a rectangle of 2 % to 33 % of an image with probability 0.5, as `timm.data.RandomErasing`.

    The rectangle becomes black (Zhong et al. 2017, arXiv 1708.04896).
    """
    with seeded(bits):
        return RandomErasing(0.5, device="cpu")(rows.clone())


def _picture(row: UInt8[Tensor, "3 height width"]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(row.permute(1, 2, 0).numpy()))


def _pixels(picture: Image.Image) -> UInt8[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
