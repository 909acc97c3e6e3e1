"""CUB-200-2011: 11,788 photographs of 200 species of birds (Wah et al. 2011; for non-commercial research only), with
the split of Chen et al. (2019, "A Closer Look at Few-shot Classification") into 100, 50 and 50 species.

`data_dir` holds the extracted folder `CUB_200_2011`, whose `images` has the class folders. The whole photographs are
used, without their bounding boxes. `listed_classes.py` describes the options.
"""

from __future__ import annotations

from functools import partial

from ..splits.protocols import read_protocols
from ..storage.class_folders import ClassFolders
from .listed_classes import IMAGE_OPTIONS, load_listed

OPTIONS = IMAGE_OPTIONS
PROTOCOLS = tuple(read_protocols("cub200"))

LAYOUT = ClassFolders(
    title="CUB-200-2011",
    modality="image",
    roots=("CUB_200_2011/images", "images", "CUB_200_2011", "CUB/images", "CUB", "cub200/images", "cub200"),
    example="001.Black_footed_Albatross",
    origin="https://www.vision.caltech.edu/datasets/cub_200_2011 (extract CUB_200_2011.tgz)",
    counts=(41, 60),
)

load = partial(load_listed, "cub200", LAYOUT, image_size=84)
