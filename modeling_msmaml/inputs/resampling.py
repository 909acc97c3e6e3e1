"""The sampling rates that a sound may have, and resampling at a bounded cost."""

import math
import numbers
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torchaudio
from jaxtyping import Float32

from .notes import UnreadableInput

# Rates (Hz) of what is a sound: from telephone speech with room below to ultrasound.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
# A resampling filter has at least as many taps as numerator times denominator of the reduced ratio of the rates:
# 22,254 Hz to 16 kHz would take gigabytes. This product is bounded; the rates in use (11,025 Hz, 44.1 kHz, ...) are
# below it, and others get the nearest ratio that is.
LARGEST_PRODUCT = 2_000_000
# What the nearest ratio is off by, relatively, at most: less than a hundredth of a semitone.
TOLERANCE = 4e-4
_FILTER_ZEROS = 6  # zero crossings of torchaudio's filter on either side


def checked_rate(sampling_rate: Any) -> int:
    """A sampling rate (Hz) as an integer.

    Raises:
        UnreadableInput: it is no number, or not the rate of a sound.
    """
    rate = sampling_rate
    if getattr(rate, "shape", None) == () and hasattr(rate, "item"):
        rate = rate.item()  # a value in an array or a tensor
    if not isinstance(rate, numbers.Real) or not LOWEST_RATE <= float(rate) <= HIGHEST_RATE:
        raise UnreadableInput(
            f"sampling_rate={sampling_rate!r} is not possible; that of a sound is a number from {LOWEST_RATE:,} to "
            f"{HIGHEST_RATE:,} Hz"
        )
    return round(float(rate))


def resampling_ratio(sampling_rate: int, target_rate: int) -> Fraction:
    """The ratio of the target rate to the sampling rate, or the nearest one that is cheap: see `LARGEST_PRODUCT`."""
    ratio = Fraction(target_rate, sampling_rate)
    if ratio.numerator * ratio.denominator <= LARGEST_PRODUCT:
        return ratio
    # Of two integers whose quotient is about `smaller` and whose product is bounded, the larger one is bounded by this.
    smaller = min(ratio, 1 / ratio)
    near = smaller.limit_denominator(math.isqrt(int(LARGEST_PRODUCT / smaller)))
    return near if ratio < 1 else 1 / near


def resampled(
    samples: Float32[np.ndarray, " samples"], sampling_rate: int, target_rate: int
) -> Float32[np.ndarray, " resampled"]:
    """One channel at another rate (Hz)."""
    if sampling_rate == target_rate:
        return samples
    return _resampler(sampling_rate, target_rate)(torch.from_numpy(samples)).numpy()


@lru_cache(maxsize=8)
def _resampler(sampling_rate: int, target_rate: int) -> torchaudio.transforms.Resample:
    ratio = resampling_ratio(sampling_rate, target_rate)
    return torchaudio.transforms.Resample(ratio.denominator, ratio.numerator, lowpass_filter_width=_FILTER_ZEROS)
