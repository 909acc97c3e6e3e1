"""The class folders of emoji and clip art are made from packages as these are laid out."""

import json

import numpy as np
import pytest
from PIL import Image

from scripts import make_drawings


def drawing(path, size=(20, 10), colour=(255, 0, 0, 255)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", size, colour).save(path)


def test_emoji_of_two_vendors_in_their_subcategories(tmp_path):
    entries = [
        {"category": "Animals", "subcategory": "animal-bird", "unified": "1F426", "image": "1f426.png"},
        {"category": "Travel", "subcategory": "sky & weather", "unified": "1F31E", "image": "1f31e.png"},
        {"category": "Flags", "subcategory": "flag", "unified": "1F3F3", "image": "1f3f3.png"},
        {"category": "Animals", "subcategory": "animal-bird", "unified": "1F427", "image": "lacking.png"},
    ]
    for vendor in ("twitter", "google"):
        package = tmp_path / vendor / "package"
        for name in ("1f426.png", "1f31e.png", "1f3f3.png"):
            drawing(package / "img" / vendor / "64" / name)
        (package / "emoji.json").write_text(json.dumps(entries))
    found = [(c, n) for c, n, _ in make_drawings.emoji_drawings([tmp_path / "twitter", tmp_path / "google"])]
    assert found == [
        (label, f"{name}.{vendor}")
        for vendor in ("twitter", "google")
        for label, name in (("animal-bird", "1F426"), ("sky-and-weather", "1F31E"))
    ]


def test_clip_art_in_its_folders_but_for_what_is_not_listed_or_too_large(tmp_path, monkeypatch):
    root = tmp_path / "package" / "usr" / "share" / "openclipart" / "png"
    for number in range(3):
        drawing(root / "food" / "fruit" / f"{number}.png", size=(200, 100 + number))
    drawing(root / "unsorted" / "x.png")
    drawing(root / "food" / "fruit" / "poster.png", size=(300, 300))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    make_drawings.write_data_set("clipart", make_drawings.clipart_drawings(tmp_path / "package"), tmp_path / "out")
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/**/*.png"))
    assert made == [f"clipart/food-fruit/{number}.png" for number in range(3)]
    for path in tmp_path.glob("out/**/*.png"):
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((make_drawings.SIDE,) * 2, "RGB")


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (7, 7)])
def test_a_drawing_of_any_form_is_seen_as_a_whole(size):
    red = Image.new("RGBA", size, (255, 0, 0, 255))
    pictures = [np.asarray(make_drawings.seen(red, np.random.default_rng(seed))) for seed in range(12)]
    assert {picture.shape for picture in pictures} == {(128, 128, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 12
