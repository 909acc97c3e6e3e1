"""Drawings of the Open Clip Art Library 0.18, classed by its folders, such as `food-fruit` (dedicated to the public
domain).

`scripts/make_drawings.py` makes the class folders, which `data_dir` holds in a folder `clipart`, from the package that
holds the drawings. `listed_classes.py` describes the options.
"""

from __future__ import annotations

from functools import partial

from ..splits.protocols import read_protocols
from ..storage.class_folders import ClassFolders
from .listed_classes import IMAGE_OPTIONS, load_listed

OPTIONS = IMAGE_OPTIONS
PROTOCOLS = tuple(read_protocols("clipart"))

LAYOUT = ClassFolders(
    title="Open Clip Art",
    modality="image",
    roots=("clipart",),
    example="food-fruit",
    origin="https://openclipart.org, by scripts/make_drawings.py, which says from which package",
    counts=(12, 60),
)

load = partial(load_listed, "clipart", LAYOUT, image_size=84)
