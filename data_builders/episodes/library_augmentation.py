"""Changes of raw training rows that torchaudio and timm define; pure functions of the rows and a seed, like the others.

SpecAugment (Park et al. 2019, arXiv 1904.08779) masks a log-mel spectrogram. Here the masks are drawn by
`torchaudio.transforms` on the mel scale and on time, and applied to the waveform: the sound loses the band and the span
before any front end sees it. So a sample has one mask for all passes of the inner loop, whatever reads the sound, and
an episode stays a function of its number; what is masked is silent, not at the mean.
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
MASKED_MELS, MELS = 20, 80  # at most so many of so many bands; SpecAugment's policy LB has 27 of 80
MASKED_TIME, TIMES = 20, 100  # parts of the clip
RAND_AUGMENT = "rand-m9-n2-mstd0.5"  # timm's: two changes of magnitude about 9 of 10
CROP_SCALE = (0.5, 1.0)  # of the area; pictures of 32 pixels bear less than ImageNet's 0.08


@contextmanager
def seeded(bits: RandomBits) -> Iterator[None]:
    """The global random states, from which the libraries draw, are a function of `bits` inside and as before after."""
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
    """The mel band that each frequency of a spectrum lies in most."""
    return melscale_fbanks(frequencies, 20.0, SAMPLING_RATE / 2, MELS, SAMPLING_RATE).argmax(dim=1)


def spec_augment(rows: Int16[Tensor, "m samples"], bits: RandomBits) -> Int16[Tensor, "m samples"]:
    """Silences, in every sound, a band of up to 19 of 80 mel bands and a span of up to 19 hundredths of the clip."""
    samples = rows.shape[1]
    whole = torch.ones(len(rows), 1, MELS, TIMES)
    with seeded(bits):
        # `iid_masks` are drawn over the first two dimensions.
        bands = FrequencyMasking(MASKED_MELS, iid_masks=True)(whole)[:, 0, :, 0]
        times = TimeMasking(MASKED_TIME, iid_masks=True)(whole)[:, 0, 0]
    # float64: what rounding could differ by between machines is far from the next integer.
    spectra = torch.fft.rfft(rows.double())
    sounds = torch.fft.irfft(spectra * bands[:, _bands(spectra.shape[1])], n=samples)
    sounds = sounds * times[:, torch.arange(samples) * TIMES // samples]
    return sounds.round().clamp(-32767, 32767).to(rows.dtype)


def random_resized_crop(rows: UInt8[Tensor, "m 3 height width"], bits: RandomBits) -> UInt8[Tensor, "m 3 height width"]:
    """`timm.data.RandomResizedCropAndInterpolation`, of at least half of the picture."""
    change = RandomResizedCropAndInterpolation(tuple(rows.shape[2:]), scale=CROP_SCALE)
    with seeded(bits):
        # The annotations of timm promise a tensor, but a picture comes back for a picture.
        return torch.stack([_pixels(cast(Image.Image, change(_picture(row)))) for row in rows])


def rand_augment(rows: UInt8[Tensor, "m 3 height width"], bits: RandomBits) -> UInt8[Tensor, "m 3 height width"]:
    """RandAugment (arXiv 1909.13719) as timm has it, on a grey ground."""
    change = rand_augment_transform(RAND_AUGMENT, {"img_mean": (128, 128, 128), "translate_const": 4})
    with seeded(bits):
        return torch.stack([_pixels(change(_picture(row))) for row in rows])


def random_erasing(rows: UInt8[Tensor, "m 3 height width"], bits: RandomBits) -> UInt8[Tensor, "m 3 height width"]:
    """`timm.data.RandomErasing` (arXiv 1708.04896): with probability 1/2 a black rectangle of 2 % to a third."""
    with seeded(bits):
        return RandomErasing(0.5, device="cpu")(rows.clone())


def _picture(row: UInt8[Tensor, "3 height width"]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(row.permute(1, 2, 0).numpy()))


def _pixels(picture: Image.Image) -> UInt8[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
