"""
Pictures of made-up objects: textured shapes of several parts, in front of other shapes and textures.

A class is an object: the outlines, textures, colours and places of its parts. Its pictures differ in pose, size, light,
background, other shapes, sharpness and noise.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from PIL import Image, ImageDraw, ImageFilter

CORNERS = 64  # of a smooth outline
BACKGROUND_SHAPES = 8  # fewer than these


@dataclass
class Outline:
    """A polygon, a star, or a smooth closed curve of a few harmonics, around the origin at a radius of about 1."""

    kind: str
    corners: int
    amplitudes: np.ndarray
    phases: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Outline:
        """Draws an outline."""
        harmonics = int(rng.integers(2, 7))
        amplitudes = rng.exponential(0.25, harmonics) / np.sqrt(np.arange(1, harmonics + 1))
        kind = str(rng.choice(["polygon", "star", "smooth", "smooth"]))
        return cls(kind, int(rng.integers(3, 9)), amplitudes, rng.uniform(0, 2 * np.pi, harmonics))

    def points(self, centre: np.ndarray, radius: float, turn: float, stretch: float) -> list[tuple[float, float]]:
        """Returns the corners in pixels, turned by `turn` radians, `stretch` times as wide as high."""
        number = {"polygon": self.corners, "star": 2 * self.corners, "smooth": CORNERS}[self.kind]
        angles = np.linspace(0, 2 * np.pi, number, endpoint=False)
        radii = np.ones(number)
        if self.kind == "star":
            radii[1::2] = 0.45
        elif self.kind == "smooth":
            orders = np.arange(1, len(self.amplitudes) + 1)
            waves = np.cos(angles[:, None] * orders + self.phases) @ self.amplitudes
            radii = np.clip(1 + waves, 0.15, 2.0)
        x, y = radii * np.cos(angles) * stretch, radii * np.sin(angles) / stretch
        moved = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], axis=1)
        return [(float(a), float(b)) for a, b in centre + radius * moved]


@dataclass
class Texture:
    """Two colours in a pattern."""

    kind: str
    colours: np.ndarray  # (2, 3), from 0 to 255
    frequency: float  # periods across the picture
    angle: float
    slope: float  # of the spectrum of a cloud

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Texture:
        """Draws a texture."""
        kind = str(rng.choice(["cloud", "stripes", "checks", "dots", "plain"]))
        colours = np.stack([_colour(rng), _colour(rng)])
        return cls(kind, colours, rng.uniform(2, 12), rng.uniform(0, np.pi), rng.uniform(0.6, 1.8))

    def paint(
        self, rng: np.random.Generator, side: int, turn: float = 0.0, shift: np.ndarray | float = 0.0
    ) -> Float64[np.ndarray, "side side 3"]:
        """Returns a picture full of it, with a phase, a grain and a frequency of its own."""
        y, x = np.mgrid[:side, :side] / side
        frequency = 2 * np.pi * self.frequency * rng.uniform(0.8, 1.2)
        angle, phases = self.angle + turn, rng.uniform(0, 2 * np.pi, 2)
        along = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phases[0])
        across = np.sin(frequency * (y * np.cos(angle) - x * np.sin(angle)) + phases[1])
        pattern = {
            "cloud": lambda: cloud(rng, side, self.slope) / 2,
            "stripes": lambda: along,
            "checks": lambda: np.sign(along * across),
            "dots": lambda: np.where(along * across > 0.5, 1.0, -1.0),
            "plain": lambda: np.zeros((side, side)),
        }[self.kind]()
        share = (np.clip(pattern + cloud(rng, side, 1.0) / 4, -1, 1)[..., None] + 1) / 2
        first, second = self.colours + shift
        return first * (1 - share) + second * share


@dataclass
class Part:
    """A part of an object: where it is, in parts of the object's radius, and how large."""

    outline: Outline
    texture: Texture
    place: np.ndarray
    size: float
    stretch: float
    turn: float

    @classmethod
    def draw(cls, rng: np.random.Generator, first: bool) -> Part:
        """Draws a part; the first one is the body."""
        place = np.zeros(2) if first else rng.uniform(-0.55, 0.55, 2)
        size = 1.0 if first else rng.uniform(0.2, 0.6)
        outline, texture = Outline.draw(rng), Texture.draw(rng)
        return cls(outline, texture, place, size, rng.uniform(0.6, 1.5), rng.uniform(0, 2 * np.pi))


class SceneFamily:
    """Pictures of made-up objects, `side` pixels wide and high."""

    modality = "image"

    def __init__(self, rng: np.random.Generator, n_classes: int, side: int):
        self.side, self.row_shape = side, (3, side, side)
        self.objects = [[Part.draw(rng, first=i == 0) for i in range(rng.integers(1, 5))] for _ in range(n_classes)]
        self.grounds = [Texture.draw(rng) if rng.random() < 0.5 else None for _ in range(n_classes)]

    def sample(self, rng: np.random.Generator, class_id: int) -> UInt8[np.ndarray, "3 side side"]:
        """Draws one picture."""
        side, ground = self.side, self.grounds[class_id]
        usual = ground is not None and rng.random() < 0.8
        picture = (ground if usual and ground is not None else Texture.draw(rng)).paint(rng, side)
        for _ in range(rng.integers(0, 3 if ground is not None else BACKGROUND_SHAPES)):
            shape = Outline.draw(rng).points(
                rng.uniform(0, side, 2), side * (rng.exponential(0.15) + 0.03), rng.uniform(0, 6), rng.uniform(0.7, 1.4)
            )
            picture = np.where(_inside(shape, side), Texture.draw(rng).paint(rng, side), picture)
        picture = self._with_object(rng, picture, self.objects[class_id])
        light = 1 + np.mgrid[:side, :side].transpose(1, 2, 0) / side @ rng.normal(0, 0.35, 2) - rng.normal(0, 0.1)
        picture = picture * light[..., None] * rng.uniform(0.75, 1.2)
        picture = picture + rng.normal(0, rng.uniform(0, 10), picture.shape)
        image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
        if rng.random() < 0.6:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, side / 80)))
        if rng.random() < 0.5:  # as if enlarged from fewer pixels
            fewer = int(side * rng.uniform(0.25, 0.65))
            image = image.resize((fewer, fewer), Image.Resampling.BILINEAR).resize((side, side))
        return np.asarray(image).transpose(2, 0, 1)

    def _with_object(
        self, rng: np.random.Generator, picture: Float64[np.ndarray, "side side 3"], parts: list[Part]
    ) -> Float64[np.ndarray, "side side 3"]:
        side = self.side
        centre, radius = side * (0.5 + rng.normal(0, 0.1, 2)), side * rng.uniform(0.19, 0.44)
        turn, mirror, shift = rng.normal(0, 0.5), rng.choice([-1, 1]), rng.normal(0, 18, 3)
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        for part in parts:
            place = centre + radius * turned @ (part.place * [mirror, 1])
            points = part.outline.points(place, radius * part.size, part.turn + turn, part.stretch)
            picture = np.where(_inside(points, side), part.texture.paint(rng, side, turn, shift), picture)
        return picture


def cloud(rng: np.random.Generator, side: int, slope: float) -> Float64[np.ndarray, "side side"]:
    """Returns noise whose amplitude falls with the frequency to the power of -`slope`, of deviation 1."""
    rows, columns = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    frequency = np.hypot(rows[:, None], columns)
    frequency[0, 0] = 1
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) * frequency**-slope, s=(side, side))
    return (noise - noise.mean()) / noise.std()


def _colour(rng: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    return 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1.2, 1.5), rng.beta(2, 1.3)))


def _inside(points: list[tuple[float, float]], side: int) -> Bool[np.ndarray, "side side 1"]:
    image = Image.new("L", (side, side))
    ImageDraw.Draw(image).polygon(points, fill=255)
    return np.asarray(image)[..., None] > 127
