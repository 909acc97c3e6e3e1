"""
Classifies sounds, texts and pictures of one's own from three examples per class.

Run it with `python examples/classify_own_inputs.py`. It needs neither data nor a network: it makes its own inputs, and
the model comes with the code. Paths of files can be given in place of the arrays, strings and pictures below.
"""

import numpy as np
from PIL import Image

from modeling_msmaml import FewShotClassifier

SAMPLING_RATE = 16_000  # Hz
RNG = np.random.default_rng(0)


def make_tone(frequency: float) -> np.ndarray:
    """One second of a tone in noise, as float samples in [-1, 1]."""
    time = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    return 0.5 * np.sin(2 * np.pi * frequency * time) + RNG.normal(0, 0.05, SAMPLING_RATE)


def make_picture(colour: tuple[int, int, int]) -> Image.Image:
    """A noisy picture of one colour, 48 x 48 pixels."""
    pixels = np.array(colour) + RNG.integers(-40, 41, size=(48, 48, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main() -> dict[str, list[str]]:
    """Prints and returns the classes that are predicted for two new inputs of each modality."""
    # The name of a folder or of a repository on the Hub may be given; the sampling rate is that of the arrays below.
    classifier = FewShotClassifier.from_pretrained(sampling_rate=SAMPLING_RATE)

    low, high = [220.0, 260.0, 300.0], [2_000.0, 2_400.0, 2_800.0]
    classifier.fit([make_tone(frequency) for frequency in low + high], ["low"] * 3 + ["high"] * 3)
    sounds = classifier.predict([make_tone(240.0), make_tone(2_600.0)])

    recipes = ["Add salt and butter to the flour.", "Boil the potatoes with the meat.", "Bake the pie in a hot oven."]
    reports = ["The governor signed the bill.", "The committee voted on the tax.", "The senator spoke to the court."]
    classifier.fit(recipes + reports, ["recipe"] * 3 + ["politics"] * 3)
    texts = classifier.predict(
        ["Stir the butter into the hot potatoes.", "The court and the governor discussed the tax."]
    )

    red, blue = (200, 40, 40), (40, 40, 200)
    classifier.fit([make_picture(colour) for colour in [red] * 3 + [blue] * 3], ["red"] * 3 + ["blue"] * 3)
    pictures = classifier.predict([make_picture((220, 60, 50)), make_picture((50, 60, 220))])

    predicted = {"sounds": sounds.tolist(), "texts": texts.tolist(), "pictures": pictures.tolist()}
    for name, classes in predicted.items():
        print(f"{name}: {', '.join(classes)}")
    return predicted


if __name__ == "__main__":
    main()
