"""Small sets of pictures and sounds, drawn and synthesised from a seed: nothing is downloaded, nothing stored."""

import colorsys
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, Int16, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

SIZE = 96  # pixels
SAMPLING_RATE = 16_000
PER_CLASS = 25

Picture = UInt8[np.ndarray, "3 96 96"]
Wave = Float[np.ndarray, " samples"]
Random = np.random.Generator


def coloured_shapes(label: str, random: Random) -> Picture:
    """Draws a shape of a colour, such as `"red circle"`, of any size, place and angle on any pale background."""
    colour, shape = label.split()
    hue = {"red": 0.0, "green": 0.33, "blue": 0.62}[colour] + random.uniform(-0.03, 0.03)
    picture = Image.new("RGB", (SIZE, SIZE), _colour(random.random(), random.uniform(0, 0.3), random.uniform(0.75, 1)))
    radius, turn = random.uniform(14, 32), random.uniform(0, 2 * math.pi)
    x, y = random.uniform(radius, SIZE - radius, 2)
    fill = _colour(hue, random.uniform(0.6, 1), random.uniform(0.5, 0.95))
    draw = ImageDraw.Draw(picture)
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    else:
        corners = {"triangle": 3, "square": 4}[shape]
        angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
        draw.polygon([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], fill=fill)
    return _array(picture)


def digits(label: str, random: Random) -> Picture:
    """Writes a digit in one of many fonts, sizes, places and colours, turned a little."""
    ground, ink = random.uniform(0.75, 1), random.uniform(0, 0.4)
    if random.random() < 0.3:
        ground, ink = ink, ground
    picture = Image.new("RGB", (SIZE, SIZE), _colour(random.random(), random.uniform(0, 0.4), ground))
    font = ImageFont.truetype(random.choice(_fonts()), int(random.uniform(36, 72)))
    place = tuple(SIZE / 2 + random.uniform(-12, 12, 2))
    ImageDraw.Draw(picture).text(place, label, _colour(random.random(), random.uniform(0, 1), ink), font, anchor="mm")
    return _array(
        picture.rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR, fillcolor=picture.getpixel((0, 0)))
    )


def textures(label: str, random: Random) -> Picture:
    """Draws a texture of any scale, angle and two colours, with some noise."""
    scale, turn, phase = random.uniform(6, 16), random.uniform(0, math.pi), random.uniform(0, 2 * math.pi, 2)
    v, u = np.mgrid[:SIZE, :SIZE] * 1.0
    x = (u * math.cos(turn) + v * math.sin(turn)) * 2 * math.pi / scale + phase[0]
    y = (v * math.cos(turn) - u * math.sin(turn)) * 2 * math.pi / scale + phase[1]
    if label == "stripes":
        pattern = (np.sin(x) > 0) * 1.0
    elif label == "checks":
        pattern = (np.sin(x) * np.sin(y) > 0) * 1.0
    elif label == "dots":
        pattern = (np.cos(x) + np.cos(y) > 0.8) * 1.0
    elif label == "rings":
        centre = random.uniform(0, SIZE, 2)
        pattern = (np.sin(np.hypot(u - centre[0], v - centre[1]) * 2 * math.pi / scale) > 0) * 1.0
    elif label == "clouds":
        pattern = _smooth(random.standard_normal((SIZE, SIZE)), scale / 2)
    else:
        pattern = (_smooth(random.standard_normal((SIZE, SIZE)), scale / 4) > 0.5) * 1.0
    one, other = (np.asarray(_colour(random.random(), random.uniform(0, 0.8), random.uniform(0.1, 1))) for _ in "ab")
    mixed = pattern[..., None] * one + (1 - pattern[..., None]) * other
    noisy = mixed + random.normal(0, random.uniform(4, 16), mixed.shape)
    return noisy.clip(0, 255).astype(np.uint8).transpose(2, 0, 1)


def short_sounds(label: str, random: Random) -> Wave:
    """Synthesises a single short sound of any pitch, decay and loudness, after a short silence."""
    time = np.arange(int(random.uniform(0.15, 0.6) * SAMPLING_RATE)) / SAMPLING_RATE
    noise, decay = random.standard_normal(len(time)), np.exp(-time * random.uniform(8, 25))
    if label == "kick":
        wave = np.sin(2 * math.pi * (random.uniform(45, 70) * time - random.uniform(2, 6) * np.exp(-time * 40))) * decay
    elif label == "snare":
        tone = np.sin(2 * math.pi * random.uniform(160, 240) * time)
        wave = (0.4 * tone + 0.6 * noise) * np.exp(-time * random.uniform(15, 35))
    elif label == "hi-hat":
        wave = np.diff(noise, n=2, append=[0, 0]) * np.exp(-time * random.uniform(30, 90))
    elif label == "bell":
        base = random.uniform(350, 900)
        parts = [np.sin(2 * math.pi * base * ratio * time) / ratio for ratio in (1, 2.76, 5.4)]
        wave = sum(parts) * np.exp(-time * random.uniform(3, 8))
    elif label == "rising chirp":
        wave = _chirp(time, *sorted(random.uniform(300, 4000, 2)))
    else:
        wave = _chirp(time, *sorted(random.uniform(300, 4000, 2))[::-1])
    silence = np.zeros(int(random.uniform(0, 0.2) * SAMPLING_RATE))
    return np.concatenate([silence, wave / np.abs(wave).max() * random.uniform(0.2, 0.9)])


def noise_colours(label: str, random: Random) -> Wave:
    """Synthesises noise whose power falls or rises with a power of the frequency, 0.4 to 1 s long."""
    slope = {"brown": -2, "pink": -1, "white": 0, "blue": 1}[label] + random.uniform(-0.2, 0.2)
    samples = int(random.uniform(0.4, 1) * SAMPLING_RATE)
    spectrum = np.fft.rfft(random.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLING_RATE), 20)
    wave = np.fft.irfft(spectrum * frequency ** (slope / 2), samples)
    return wave / np.abs(wave).max() * random.uniform(0.1, 0.9)


PICTURES: dict[str, tuple[Callable[[str, Random], Picture], tuple[str, ...]]] = {
    "coloured shapes": (
        coloured_shapes,
        ("red circle", "blue circle", "green circle", "red square", "blue square", "blue triangle"),
    ),
    "printed digits": (digits, tuple("0123456789")),
    "textures": (textures, ("stripes", "checks", "dots", "rings", "clouds", "patches")),
}
SOUNDS: dict[str, tuple[Callable[[str, Random], Wave], tuple[str, ...]]] = {
    "short sounds": (short_sounds, ("kick", "snare", "hi-hat", "bell", "rising chirp", "falling chirp")),
    "noise colours": (noise_colours, ("brown", "pink", "white", "blue")),
}


def pictures(name: str, seed: int = 0) -> tuple[UInt8[np.ndarray, "n 3 96 96"], list[str]]:
    """Returns the pictures of a set, class by class, and the class of each."""
    draw, classes = PICTURES[name]
    random = np.random.default_rng(seed)
    labels = [label for label in classes for _ in range(PER_CLASS)]
    return np.stack([draw(label, random) for label in labels]), labels


def sounds(name: str, seed: int = 0) -> tuple[Int16[np.ndarray, "n samples"], list[str]]:
    """Returns the sounds of a set, class by class, with zeros after their end, and the class of each."""
    synthesise, classes = SOUNDS[name]
    random = np.random.default_rng(seed)
    labels = [label for label in classes for _ in range(PER_CLASS)]
    waves = [synthesise(label, random) for label in labels]
    rows = np.zeros((len(waves), max(map(len, waves))), np.int16)
    for row, wave in zip(rows, waves, strict=True):
        row[: len(wave)] = np.round(32767 * wave)
    return rows, labels


@cache
def _fonts() -> list[str]:
    """The fonts that come with matplotlib, in which digits are digits."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(str(path) for path in folder.glob("DejaVu*.ttf") if "Display" not in path.name)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


def _array(picture: Image.Image) -> Picture:
    return np.asarray(picture).transpose(2, 0, 1)


def _smooth(noise: Float[np.ndarray, "h w"], radius: float) -> Float[np.ndarray, "h w"]:
    """Noise without its fine parts, from 0 to 1."""
    blurred = gaussian_filter(noise, radius)
    return (blurred - blurred.min()) / (blurred.max() - blurred.min())


def _chirp(time: Float[np.ndarray, " n"], first: float, last: float) -> Wave:
    """A tone that slides from one frequency to another, and fades in and out."""
    frequency = first + (last - first) * time / time[-1]
    return np.sin(2 * math.pi * np.cumsum(frequency) / SAMPLING_RATE) * np.hanning(len(time))
