"""Makes the data sets `emoji` and `clipart` from the packages that hold their drawings: class folders of pictures.

Both are drawings that everyone may use, also commercially, of things that have names: animals, food, tools, vehicles,
faces, signs. Each drawing becomes one picture of 128 by 128 pixels, as it would be seen somewhere: a third of them on
white, the others in front of a plain or textured ground, at various places, sizes and light, some blurred.

    npm pack emoji-datasource-twitter@16.0.0 emoji-datasource-google@16.0.0     # two .tgz
    apt-get download openclipart-png=1:0.18+dfsg-19                              # a .deb
    tar xzf / dpkg-deb -x, each into a folder of its own
    python -m scripts.make_drawings DATA --emoji FOLDER FOLDER --clipart FOLDER

Licences: Twemoji CC BY 4.0, Noto Emoji Apache-2.0, Open Clip Art Library 0.18 dedicated to the public domain.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_builders import read_protocols
from data_builders.data_sets.procedural_scenes import Texture

SIDE = 128  # pixels
MOST_OF_A_CLASS = 60
WITHOUT_CLASSES = ("Flags", "Component")  # categories of emoji: flags and skin tones


def emoji_drawings(packages: Sequence[Path]) -> Iterator[tuple[str, str, Path]]:
    """Yields the class, the name and the file of each emoji, one vendor after the other."""
    for package in packages:
        (listing,) = package.rglob("emoji.json")
        (images,) = listing.parent.glob("img/*/64")
        for entry in json.loads(listing.read_text("utf-8")):
            path = images / entry["image"]
            if entry["category"] not in WITHOUT_CLASSES and path.is_file():
                yield entry["subcategory"].replace(" & ", "-and-"), f"{entry['unified']}.{images.parent.name}", path


def clipart_drawings(package: Path) -> Iterator[tuple[str, str, Path]]:
    """Yields the class, the name and the file of each drawing; a class is a folder of the library."""
    (root,) = package.rglob("openclipart/png")
    folders: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.png")):
        folders.setdefault("-".join(path.parent.relative_to(root).parts), []).append(path)
    for name, paths in folders.items():
        for path in paths:
            yield name, path.stem, path


def seen(drawing: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Returns a picture in which the drawing is seen somewhere."""
    kind = rng.choice(["on white", "plain", "textured"])
    side = SIDE if kind == "on white" else round(SIDE * rng.uniform(0.5, 1))
    scale = side / max(drawing.size)
    drawing = drawing.resize([max(1, round(length * scale)) for length in drawing.size])
    if rng.random() < 0.5:
        drawing = drawing.rotate(rng.normal(0, 8), resample=Image.Resampling.BICUBIC)
    texture = Texture.draw(rng)
    ground = {
        "on white": lambda: np.full((SIDE, SIDE, 3), 255.0),
        "plain": lambda: np.broadcast_to(texture.colours[0], (SIDE, SIDE, 3)),
        "textured": lambda: texture.paint(rng, SIDE),
    }[kind]()
    picture = _picture(ground).convert("RGBA")
    room = [SIDE - length for length in drawing.size]
    picture.alpha_composite(drawing, tuple(r // 2 if kind == "on white" else int(rng.integers(r + 1)) for r in room))
    picture = picture.convert("RGB")
    if kind != "on white":
        light = 1 + (np.mgrid[:SIDE, :SIDE].transpose(1, 2, 0) / SIDE - 0.5) @ rng.normal(0, 0.3, 2)
        pixels = np.asarray(picture) * light[..., None] * rng.uniform(0.75, 1.2)
        picture = _picture(pixels + rng.normal(0, rng.uniform(0, 8), pixels.shape))
    if rng.random() < 0.4:  # as if enlarged from fewer pixels
        fewer = int(rng.integers(28, 96))
        picture = picture.resize((fewer, fewer), Image.Resampling.BILINEAR).resize((SIDE, SIDE))
    return picture


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_data_set(name: str, drawings: Iterator[tuple[str, str, Path]], folder: Path) -> None:
    """Writes the pictures of the listed classes of one data set into class folders, at most 60 a class, drawn at random
    from all of a class."""
    listed = {label for split in read_protocols(name)["class_disjoint"].values() for label in split["classes"]}
    classes: dict[str, list[tuple[str, Path]]] = {}
    for label, stem, path in drawings:
        if label in listed:
            classes.setdefault(label, []).append((stem, path))
    _write(classes, folder / name)


def _write(classes: Mapping[str, Sequence[tuple[str, Path]]], folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label, members in tqdm(sorted(classes.items()), desc=folder.name):
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        chosen = sorted(rng.permutation(len(members))[:MOST_OF_A_CLASS])
        for stem, path in (members[i] for i in chosen):
            try:
                with Image.open(path) as drawing:
                    drawing.thumbnail((4 * SIDE, 4 * SIDE))
                    seen(drawing.convert("RGBA"), rng).save(place / f"{stem}.png")
            except Image.DecompressionBombError:  # a few are as large as posters
                continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, help="folder in which emoji and clipart are made")
    parser.add_argument("--emoji", type=Path, nargs="+", help="folders of the unpacked packages of emoji")
    parser.add_argument("--clipart", type=Path, help="folder of the unpacked package of the clip art library")
    options = parser.parse_args()
    if not options.emoji and not options.clipart:
        parser.error("name the folders of packages: --emoji or --clipart")
    if options.emoji:
        write_data_set("emoji", emoji_drawings(options.emoji), options.data_dir)
    if options.clipart:
        write_data_set("clipart", clipart_drawings(options.clipart), options.data_dir)


if __name__ == "__main__":
    main()
