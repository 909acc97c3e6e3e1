"""The rates that a sound may have, and what resampling costs."""

import resource
import time
from fractions import Fraction

import numpy as np
import pytest

from modeling_msmaml import MSMAMLFeatureExtractor
from modeling_msmaml.inputs.notes import UnreadableInput
from modeling_msmaml.inputs.resampling import (
    HIGHEST_RATE,
    LARGEST_PRODUCT,
    LOWEST_RATE,
    TOLERANCE,
    checked_rate,
    resampled,
    resampling_ratio,
)

TARGET = 16_000
ORDINARY = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)


def primes() -> np.ndarray:
    """The prime numbers among the rates, which have no factor in common with any target."""
    is_prime = np.ones(HIGHEST_RATE + 1, bool)
    for number in range(2, int(HIGHEST_RATE**0.5) + 1):
        is_prime[number * number :: number] = False
    return LOWEST_RATE + np.flatnonzero(is_prime[LOWEST_RATE:])


def test_ordinary_rates_are_resampled_by_their_exact_ratio():
    for rate in (*ORDINARY, 5_512, 37_800, 384_000, HIGHEST_RATE, LOWEST_RATE):
        for target in (8_000, TARGET, 22_050, 44_100, 48_000):
            if target == TARGET or rate in ORDINARY:
                assert resampling_ratio(rate, target) == Fraction(target, rate)


@pytest.mark.parametrize("target", [8_000, TARGET, 22_050, 44_100])
def test_no_rate_needs_a_large_filter_and_none_is_far_off(target):
    beside = [
        round(target * factor) + off for factor in (1 / 4, 1 / 3, 1 / 2, 1, 3 / 2, 2, 3) for off in range(-40, 41)
    ]
    for rate in (*primes()[::100].tolist(), *range(LOWEST_RATE, 2_000), *beside):
        ratio = resampling_ratio(rate, target)
        assert ratio.numerator * ratio.denominator <= LARGEST_PRODUCT, rate
        assert abs(ratio * rate / target - 1) <= TOLERANCE, rate


@pytest.mark.parametrize("rate", [1_009, 7_993, 16_001, 22_254, 96_001, 767_957])
def test_odd_rates_keep_pitch_level_and_length(rate):
    seconds, frequency = 0.5, 200
    wave = (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)
    found = resampled(wave, rate, TARGET)
    length = len(wave) * TARGET / rate
    assert abs(len(found) - length) <= 1 + length * TOLERANCE
    expected = 0.5 * np.sin(2 * np.pi * frequency * np.arange(len(found)) / TARGET)
    assert np.abs(found - expected)[500:-500].max() < 0.12, "the phase is off by the tolerance at most"


def test_every_odd_rate_is_quick_and_small():
    extractor, rng = MSMAMLFeatureExtractor(), np.random.default_rng(0)
    extractor.row(rng.normal(0, 0.1, 100), 8_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for rate in (*primes()[:20].tolist(), *primes()[20::6_000].tolist()):
        wave = rng.normal(0, 0.1, round(5.2 * rate))
        start = time.process_time()
        assert extractor.row(wave, rate).any()
        assert time.process_time() - start < 1, rate
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20 < 0.5


@pytest.mark.parametrize(
    "rate", [16_000, 16_000.0, np.int32(16_000), np.float32(16_000), np.array(16_000), Fraction(16_000)]
)
def test_rates_are_numbers(rate):
    assert checked_rate(rate) == 16_000 and type(checked_rate(rate)) is int


@pytest.mark.parametrize("rate", [0, -16_000, 999, 768_001, float("nan"), float("inf"), "16000", True, [16_000], 1j])
def test_rates_that_are_none(rate):
    with pytest.raises(UnreadableInput, match="is not possible; that of a sound is a number from 1,000 to 768,000 Hz"):
        checked_rate(rate)
