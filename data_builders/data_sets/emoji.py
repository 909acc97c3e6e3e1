"""Emoji as Twitter and Google draw them, classed by Unicode's subcategories, such as `animal-bird` (Twemoji, CC BY 4.0;
Noto Emoji, Apache-2.0). The two drawings of one emoji are of one source.

`scripts/make_drawings.py` makes the class folders, which `data_dir` holds in a folder `emoji`, from the packages that
hold the drawings. `listed_classes.py` describes the options.
"""

from __future__ import annotations

from functools import partial

from ..splits.protocols import read_protocols
from ..storage.class_folders import ClassFolders
from .listed_classes import IMAGE_OPTIONS, load_listed

OPTIONS = IMAGE_OPTIONS
PROTOCOLS = tuple(read_protocols("emoji"))

LAYOUT = ClassFolders(
    title="Emoji",
    modality="image",
    roots=("emoji",),
    example="animal-bird",
    origin="https://github.com/iamcal/emoji-data, by scripts/make_drawings.py, which says from which packages",
    counts=(12, 60),
)


def source_of(path: str) -> str:
    """Returns the emoji that a file such as `animal-bird/1F426.twitter.png` shows, with its class."""
    return path.partition(".")[0]


load = partial(load_listed, "emoji", LAYOUT, source_of=source_of, image_size=84)
