"""tieredImageNet: the training images of 608 classes of ImageNet, split by super-category into 351, 97 and 160 classes
(Ren et al. 2018).

`data_dir` holds the class folders, which are named by WordNet ids, side by side or in `train`, `val` and `test`, or an
extracted ImageNet, whose other classes are left out. The cache of its 779,165 images takes 16.5 GB at 84x84 pixels. The
licence of ImageNet rules out a download by this project. `listed_classes.py` describes the options.
"""

from __future__ import annotations

from functools import partial

from ..splits.protocols import read_protocols
from ..storage.class_folders import ClassFolders
from .listed_classes import IMAGE_OPTIONS, load_listed

OPTIONS = IMAGE_OPTIONS
PROTOCOLS = tuple(read_protocols("tieredimagenet"))

LAYOUT = ClassFolders(
    title="tieredImageNet",
    modality="image",
    roots=(
        *("tieredimagenet", "tiered-imagenet", "tiered_imagenet", "tieredImageNet"),
        *("tiered-imagenet/images", "tiered_imagenet/images", "images", "ILSVRC/Data/CLS-LOC/train"),
    ),
    example="n01530575",
    origin=(
        "https://www.image-net.org (the training images of ILSVRC 2012) or "
        "https://github.com/renmengye/few-shot-ssl-public"
    ),
    counts=(732, 1300),
)

load = partial(load_listed, "tieredimagenet", LAYOUT, image_size=84)
