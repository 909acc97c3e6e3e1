"""
Made-up sounds: tones, noises, struck bodies, frequency modulation and grains, once or repeated.

A class is a way to make a sound: its source, pitch, spectrum, envelope, modulation and rhythm. Its sounds differ in
pitch, duration, timing, loudness, room and background noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int16

SAMPLING_RATE = 16_000  # Hz
LONGEST = 3.0  # s; zeros follow
HARMONICS = 24
HIGHEST = 7_800  # Hz
GRAIN = 400  # samples
MOST_EVENTS = 40

Band = tuple[float, float, float]  # centre in Hz, width in the logarithm, height


class SoundMaker:
    """One class of sounds, drawn at random."""

    def __init__(self, rng: np.random.Generator):
        self.make = [self._tone, self._noise, self._struck, self._modulated, self._grains, self._buzz][rng.integers(6)]
        self.pitch, self.duration = log_uniform(rng, 60, 2500), log_uniform(rng, 0.05, 1.5)
        self.rate = log_uniform(rng, 0.8, 14) if rng.random() < 0.5 else 0.0  # of repetitions, Hz; 0 for none
        self.irregularity = rng.uniform(0, 0.15)
        self.attack, self.decay = log_uniform(rng, 0.001, 0.2), log_uniform(rng, 0.02, 1.0)
        self.sustain = rng.random() if rng.random() < 0.5 else 0.0
        self.harmonics = rng.random(HARMONICS) ** 2 * np.exp(-np.arange(HARMONICS) * rng.uniform(0, 0.5))
        self.modes = np.stack([np.sort(np.exp(rng.uniform(0, np.log(9), 8))), rng.random(8)], axis=1)
        self.glide = rng.normal() if rng.random() < 0.5 else 0.0
        self.vibrato = (rng.uniform(3, 9), rng.uniform(0.005, 0.08) if rng.random() < 0.5 else 0.0)
        self.tremolo = (log_uniform(rng, 2, 60), rng.random() if rng.random() < 0.5 else 0.0)
        self.bands = [(log_uniform(rng, 80, 7000), rng.uniform(0.1, 1.2), rng.exponential()) for _ in _few(rng)]
        self.formants = [(rng.uniform(200, 4000), rng.uniform(0.08, 0.3), rng.exponential()) for _ in _few(rng)]
        self.slope = rng.uniform(-1.5, 0.5)
        self.breath = rng.uniform(0, 0.5) if rng.random() < 0.5 else 0.0  # share of noise
        self.modulation = (log_uniform(rng, 0.25, 6), log_uniform(rng, 0.3, 8))

    def event(self, rng: np.random.Generator, pitch: float, duration: float) -> Float64[np.ndarray, " samples"]:
        """Returns the sound once, at `pitch` times its own."""
        time = np.arange(max(int(SAMPLING_RATE * duration), GRAIN // 2)) / SAMPLING_RATE
        speed, depth = self.vibrato
        bend = np.exp(0.7 * self.glide * time / duration)
        wobble = 1 + depth * np.sin(2 * np.pi * speed * time + rng.uniform(0, 6))
        phase = 2 * np.pi * np.cumsum(self.pitch * pitch * bend * wobble) / SAMPLING_RATE
        sound = self.make(rng, time, phase, pitch)
        sound = sound / (np.std(sound) + 1e-9)
        sound = (1 - self.breath) * sound + self.breath * band_noise(rng, len(time), self.bands, self.slope)
        speed, depth = self.tremolo
        sound = sound * (1 - depth * (1 + np.sin(2 * np.pi * speed * time + rng.uniform(0, 6))) / 2)
        return sound * self._envelope(time, duration)

    def starts(self, rng: np.random.Generator, duration: float) -> list[float]:
        """Returns the times, in seconds, at which a sound of `duration` begins anew."""
        if not self.rate:
            return [rng.uniform(0, max(0.05, duration - self.duration))]
        found, time = [], rng.uniform(0, 0.5 / self.rate)
        while time < duration and len(found) < MOST_EVENTS:
            found.append(time)
            time += np.exp(rng.normal(0, self.irregularity)) / self.rate
        return found

    def _envelope(self, time: np.ndarray, duration: float) -> np.ndarray:
        rise = np.minimum(time / self.attack, 1)
        fall = np.exp(-np.maximum(time - self.attack, 0) / (self.decay * duration / self.duration))
        end = np.clip((time[-1] - time) / 0.02, 0, 1)
        return (1 - self.sustain) * rise * fall + self.sustain * rise * end

    def _tone(self, rng: Any, time: np.ndarray, phase: np.ndarray, pitch: float) -> np.ndarray:
        orders = np.arange(1, HARMONICS + 1)
        frequencies = self.pitch * pitch * orders
        heights = self.harmonics * (bands_at(frequencies, self.formants) + 0.1) * (frequencies < HIGHEST)
        heights[0] += 0.05
        return heights @ np.sin(orders[:, None] * phase + rng.uniform(0, 6, (HARMONICS, 1)))

    def _noise(self, rng: Any, time: np.ndarray, phase: np.ndarray, pitch: float) -> np.ndarray:
        return band_noise(rng, len(time), [(f * pitch**0.5, w, a) for f, w, a in self.bands], self.slope)

    def _struck(self, rng: Any, time: np.ndarray, phase: np.ndarray, pitch: float) -> np.ndarray:
        ratios, heights = self.modes.T[:, :, None]
        waves = np.sin(2 * np.pi * np.minimum(self.pitch * pitch * ratios, HIGHEST) * time + rng.uniform(0, 6, (8, 1)))
        return (heights * np.exp(-time * (3 + ratios) / self.decay / 2) * waves).sum(axis=0)

    def _modulated(self, rng: Any, time: np.ndarray, phase: np.ndarray, pitch: float) -> np.ndarray:
        ratio, depth = self.modulation
        return np.sin(phase + depth * np.sin(ratio * phase))

    def _grains(self, rng: Any, time: np.ndarray, phase: np.ndarray, pitch: float) -> np.ndarray:
        sound = np.zeros(len(time) + GRAIN)
        grain = band_noise(rng, GRAIN, self.bands, self.slope) * np.exp(-np.arange(GRAIN) / 80)
        for place in rng.integers(0, len(time), max(1, int(len(time) / SAMPLING_RATE * self.tremolo[0] * 4))):
            sound[place : place + GRAIN] += grain * rng.exponential()
        return sound[: len(time)]

    def _buzz(self, rng: Any, time: np.ndarray, phase: np.ndarray, pitch: float) -> np.ndarray:
        return (np.sign(np.sin(phase)) + band_noise(rng, len(time), self.bands, self.slope)) / 2


class SoundEventFamily:
    """Made-up sounds of 1 to 3 s, followed by zeros up to `samples`."""

    modality = "audio"

    def __init__(self, rng: np.random.Generator, n_classes: int, samples: int):
        self.row_shape = (samples,)
        self.makers = [SoundMaker(rng) for _ in range(n_classes)]

    def sample(self, rng: np.random.Generator, class_id: int) -> Int16[np.ndarray, " samples"]:
        """Draws one sound."""
        maker, duration = self.makers[class_id], rng.uniform(1.0, LONGEST)
        number, pitch = int(duration * SAMPLING_RATE), np.exp(rng.normal(0, 0.12))
        sound = np.zeros(number)
        for start in maker.starts(rng, duration):
            event = maker.event(rng, pitch * np.exp(rng.normal(0, 0.04)), maker.duration * np.exp(rng.normal(0, 0.2)))
            place = int(start * SAMPLING_RATE)
            length = min(len(event), number - place)
            sound[place : place + length] += event[:length] * np.exp(rng.normal(0, 0.3))
        if rng.random() < 0.5:
            sound = _in_a_room(rng, sound)
        background = band_noise(rng, number, [(log_uniform(rng, 100, 4000), 1.0, 1.0)], -1.0)
        sound = sound / (np.abs(sound).max() + 1e-9) + background * 10 ** (rng.uniform(-50, -18) / 20)
        sound = sound / np.abs(sound).max() * 10 ** (rng.uniform(-20, 0) / 20)
        row = np.zeros(self.row_shape, dtype=np.int16)
        row[:number] = np.round(sound * 32767)[: len(row)]
        return row


def band_noise(rng: np.random.Generator, number: int, bands: Sequence[Band], slope: float) -> np.ndarray:
    """Returns noise of deviation 1, loud in some bands, over a spectrum that falls with the frequency."""
    frequencies = np.fft.rfftfreq(number, 1 / SAMPLING_RATE) + 1
    gain = bands_at(frequencies, bands) + 0.05 * (frequencies / 1000) ** slope
    sound = np.fft.irfft(np.fft.rfft(rng.standard_normal(number)) * gain, number)
    return sound / (sound.std() + 1e-9)


def bands_at(frequencies: np.ndarray, bands: Sequence[Band]) -> np.ndarray:
    """Returns the sum of the bands' heights at some frequencies, in Hz."""
    centres, widths, heights = np.array(bands).T[:, :, None]
    return (heights * np.exp(-0.5 * (np.log(frequencies / centres) / widths) ** 2)).sum(axis=0)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draws a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _few(rng: np.random.Generator) -> range:
    return range(rng.integers(1, 4))


def _in_a_room(rng: np.random.Generator, sound: np.ndarray) -> np.ndarray:
    length = int(0.3 * SAMPLING_RATE)
    response = rng.standard_normal(length) * np.exp(-np.arange(length) / (SAMPLING_RATE * rng.uniform(0.02, 0.12)))
    response[0] = 8
    size = 2 * len(sound)
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
