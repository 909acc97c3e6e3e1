"""Three families of synthetic tasks: sounds, token sequences and images, made from a seed without any download.

Each family is a small generative model. A class is defined by parameters that are drawn once and that no other class
shares: the frequency bands that are loud (sounds), the topics of the words (texts), or two fine textures with their
colours (images). Everything else is drawn anew for every sample: the phases, noise, level, envelope and colouring of a
sound; the common words and a distracting theme of a text; the background, contrast, position and illumination of an
image. An untrained network that is adapted to one example per class stays near chance. A trained network has learned
which directions distinguish classes, and is clearly better. Train, validation and test have different classes.

The constants below set the difficulty: a larger nuisance or a smaller signal makes the tasks harder.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int16, Int32, UInt8

from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor
from modeling_msmaml.model.options import any_seed, checked

from ..storage import vocabulary
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from .generated import GeneratedBuilder

OPTION_IN_NAME = "modality"
OPTIONS = ("modality", "seed")
PROTOCOLS = ("class_disjoint",)

CLASSES = {"train": 64, "validation": 16, "test": 20}
SAMPLES_PER_CLASS = 40

# Sounds: 1 s at 16 kHz.
SAMPLING_RATE = 16_000
SOUND_SAMPLES = 16_000
SOUND_BANDS = 12  # bands of equal width on a logarithmic scale
SOUND_RANGE = (150.0, 6_000.0)  # Hz
SOUND_BANDS_PER_CLASS = 3  # loud bands of a class
SOUND_BAND_GAIN = 12.0  # amplitude of a loud band relative to the others; the signal
SOUND_COLOUR_SPREAD = 0.3  # standard deviation of the log-amplitude of every band between samples
SOUND_LEVEL_SPREAD = 0.15  # standard deviation of the log-amplitude of the whole sound
SOUND_NOISE = 0.2  # amplitude of white noise relative to the rest of the sound

# Token sequences.
TEXT_TOKENS = 480
TEXT_TOPICS = 16
TEXT_WORDS_PER_TOPIC = 12
TEXT_TOPICS_PER_CLASS = 3
TEXT_THEMES = 24  # the nuisance; every sample has one theme
TEXT_WORDS_PER_THEME = 12
TEXT_COMMON_WORDS = 200
# Fractions of the tokens; the rest are common words. The fraction of topic words is the signal.
TEXT_SHARES = {"topic": 0.25, "theme": 0.30}

# Images.
IMAGE_SIZE = 32
IMAGE_FREQUENCIES = (
    (0.5, 0.0),
    (0.0, 0.5),
    (0.5, 0.5),
    (0.25, 0.0),
    (0.0, 0.25),
    (0.25, 0.5),
)  # cycles per pixel (y, x)
IMAGE_COLOUR_AXES = ((1, 1, 1), (1, -1, 0), (1, 1, -2), (1, 0, -1), (0, 1, -1), (-2, 1, 1))  # the colours of textures
IMAGE_TEXTURES_PER_CLASS = 2
IMAGE_TEXTURE_CONTRAST = 0.13  # fraction of the range of values; the signal
IMAGE_BACKGROUND_CONTRAST = 0.25  # smooth coloured background, drawn for every sample
IMAGE_NOISE = 0.05


class SoundFamily:
    """Noise whose class is marked by a few loud bands. Every sample has its own colouring, level and envelope."""

    modality = "audio"
    row_shape = (SOUND_SAMPLES,)

    def __init__(self, rng: np.random.Generator, n_classes: int):
        combinations = list(itertools.combinations(range(SOUND_BANDS), SOUND_BANDS_PER_CLASS))
        self.bands = np.asarray(combinations)[rng.permutation(len(combinations))[:n_classes]]
        frequencies = np.fft.rfftfreq(SOUND_SAMPLES, 1 / SAMPLING_RATE)
        edges = np.geomspace(*SOUND_RANGE, SOUND_BANDS + 1)
        # The numbers 0 and SOUND_BANDS + 1 stand for frequencies outside the range.
        self._band_of_bin = np.searchsorted(edges, frequencies, side="right")
        self._unit_gain = 1 / np.sqrt(np.bincount(self._band_of_bin))  # gives all bands the same energy

    def sample(self, rng: np.random.Generator, class_id: int) -> Int16[np.ndarray, " samples"]:
        """Draws one sound, whose level is about -20 dB of full scale on average."""
        log_gain = rng.normal(0.0, SOUND_COLOUR_SPREAD, SOUND_BANDS + 2)
        log_gain[self.bands[class_id] + 1] += np.log(SOUND_BAND_GAIN)
        gain = np.exp(log_gain) * self._unit_gain
        gain[[0, -1]] = 0.0
        spectrum = np.fft.rfft(rng.standard_normal(SOUND_SAMPLES, dtype=np.float32)) * gain[self._band_of_bin]
        sound = np.fft.irfft(spectrum, SOUND_SAMPLES)
        sound += SOUND_NOISE * sound.std() * rng.standard_normal(SOUND_SAMPLES, dtype=np.float32)
        time = np.arange(SOUND_SAMPLES) / SOUND_SAMPLES
        envelope = 1.0 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.5, 4.0) * time + rng.uniform()))
        level = np.exp(rng.normal(np.log(0.1), SOUND_LEVEL_SPREAD))
        sound *= level * envelope / sound.std()
        return np.round(np.clip(sound, -1.0, 1.0) * 32767).astype(np.int16)


class TokenFamily:
    """Sequences of words, some of which belong to the topics of the class. Most words are common or belong to a theme.

    The words of a topic, or of a theme, have similar word vectors.
    """

    modality = "text"
    row_shape = (TEXT_TOKENS,)

    def __init__(self, rng: np.random.Generator, n_classes: int):
        combinations = list(itertools.combinations(range(TEXT_TOPICS), TEXT_TOPICS_PER_CLASS))
        self.topics = np.asarray(combinations)[rng.permutation(len(combinations))[:n_classes]]
        groups = [f"topic{t}" for t in range(TEXT_TOPICS)] + [f"theme{t}" for t in range(TEXT_THEMES)]
        sizes = [TEXT_WORDS_PER_TOPIC] * TEXT_TOPICS + [TEXT_WORDS_PER_THEME] * TEXT_THEMES
        words = [f"{group}word{w}" for group, size in zip(groups, sizes, strict=True) for w in range(size)]
        common = [f"common{w}" for w in range(TEXT_COMMON_WORDS)]
        self.tokens = [vocabulary.PAD_TOKEN, vocabulary.UNK_TOKEN, *words, *common]
        self._first_theme = 2 + TEXT_TOPICS * TEXT_WORDS_PER_TOPIC
        self._first_common = 2 + len(words)
        centres = np.repeat(rng.normal(size=(len(groups), vocabulary.WORD_VECTOR_SIZE)), sizes, axis=0)
        vectors = rng.normal(size=(len(self.tokens), vocabulary.WORD_VECTOR_SIZE))
        vectors[2 : self._first_common] = 0.8 * centres + 0.6 * vectors[2 : self._first_common]
        vectors[0] = 0.0
        self.word_vectors: Float32[np.ndarray, "vocabulary 128"] = vectors.astype(np.float32)

    def sample(self, rng: np.random.Generator, class_id: int) -> Int32[np.ndarray, " tokens"]:
        """Draws one sequence of token ids, without padding."""
        topic_words = rng.choice(self.topics[class_id], TEXT_TOKENS) * TEXT_WORDS_PER_TOPIC
        topic_words = 2 + topic_words + rng.integers(TEXT_WORDS_PER_TOPIC, size=TEXT_TOKENS)
        theme = rng.integers(TEXT_THEMES)
        theme_words = theme * TEXT_WORDS_PER_THEME + rng.integers(TEXT_WORDS_PER_THEME, size=TEXT_TOKENS)
        kind = rng.random(TEXT_TOKENS)
        tokens = self._first_common + rng.integers(TEXT_COMMON_WORDS, size=TEXT_TOKENS)
        tokens = np.where(kind < sum(TEXT_SHARES.values()), self._first_theme + theme_words, tokens)
        return np.where(kind < TEXT_SHARES["topic"], topic_words, tokens).astype(np.int32)


class ImageFamily:
    """Images whose class is marked by faint, fine, coloured textures, under random backgrounds and illumination."""

    modality = "image"
    row_shape = (3, IMAGE_SIZE, IMAGE_SIZE)

    def __init__(self, rng: np.random.Generator, n_classes: int):
        textures = list(itertools.product(IMAGE_FREQUENCIES, IMAGE_COLOUR_AXES))
        pairs = list(itertools.combinations(range(len(textures)), IMAGE_TEXTURES_PER_CLASS))
        chosen = rng.permutation(len(pairs))[:n_classes]
        self.textures = [[textures[t] for t in pairs[pair]] for pair in chosen]
        self._y, self._x = np.meshgrid(np.arange(IMAGE_SIZE), np.arange(IMAGE_SIZE), indexing="ij")

    def sample(self, rng: np.random.Generator, class_id: int) -> UInt8[np.ndarray, "3 height width"]:
        """Draws one image."""
        image = np.full((3, IMAGE_SIZE, IMAGE_SIZE), 0.5)
        for frequency in rng.uniform(-0.06, 0.06, size=(3, 2)):
            colour = rng.normal(size=3) * IMAGE_BACKGROUND_CONTRAST / np.sqrt(3)
            image += colour[:, None, None] * self._wave(frequency, rng.uniform())
        contrast = IMAGE_TEXTURE_CONTRAST * rng.uniform(0.6, 1.4)
        for frequency, axis in self.textures[class_id]:
            colour = np.asarray(axis) / np.linalg.norm(axis) * np.sqrt(3)
            # A pattern of 0.5 cycles per pixel is the finest, and a change of its phase can only invert or weaken it.
            phase = 0.25 * rng.integers(4) if 0.25 in frequency else 0.5 * rng.integers(2)
            image += contrast * colour[:, None, None] * self._wave(frequency, phase + 0.25)
        image = rng.uniform(0.8, 1.2) * image + rng.normal(0.0, 0.1, size=(3, 1, 1))
        image += rng.normal(0.0, IMAGE_NOISE, size=image.shape)
        return np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)

    def _wave(self, frequency: Sequence[float] | np.ndarray, phase: float) -> Float64[np.ndarray, "height width"]:
        return np.sin(2 * np.pi * (frequency[0] * self._y + frequency[1] * self._x + phase))


FAMILIES = {family.modality: family for family in (SoundFamily, TokenFamily, ImageFamily)}


class Synthetic(GeneratedBuilder):
    """Three families of synthetic tasks: sounds, token sequences and images, made from a seed without any download."""

    prefix, classes, samples_per_class, modalities = "synthetic", CLASSES, SAMPLES_PER_CLASS, tuple(FAMILIES)

    def make_family(self, rng: np.random.Generator, n_classes: int) -> SoundFamily | TokenFamily | ImageFamily:
        return FAMILIES[self.modality](rng, n_classes)


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    modality: str = "audio",
    seed: int = 0,
) -> FewShotSplit:
    """Loads one split of a synthetic family, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`. `data_dir` is accepted but not used, so that
            runs that mix data sets can pass the same value to all of them.
        modality: family of the tasks: `"audio"`, `"text"` or `"image"`.
        seed: non-negative seed of all classes and samples.

    Raises:
        ValueError: the modality does not exist, or the seed is not a non-negative integer.
    """
    if modality not in FAMILIES:
        raise ValueError(f"modality={modality!r} does not exist; the synthetic families are {', '.join(FAMILIES)}")
    checked("seed", seed, any_seed)
    builder = Synthetic(cache_dir=cache_dir, modality=modality, seed=seed)
    family = builder.family
    if isinstance(family, TokenFamily):
        tokenizer = vocabulary.word_level_tokenizer(family.tokens, max_length=TEXT_TOKENS)
        fields = {"preprocessor": tokenizer, "tokenizer": tokenizer, "word_vectors": family.word_vectors}
    elif isinstance(family, SoundFamily):
        fields = {"preprocessor": MSMAMLFeatureExtractor(SAMPLING_RATE, SOUND_SAMPLES / SAMPLING_RATE)}
    else:
        fields = {"preprocessor": MSMAMLImageProcessor(IMAGE_SIZE)}
    return split_of_builder(builder, split, protocol, **fields)
