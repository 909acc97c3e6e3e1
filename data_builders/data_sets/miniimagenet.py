"""miniImageNet: 600 images of each of 100 classes of ImageNet (Vinyals et al. 2016), with the split of Ravi and
Larochelle (2017) into 64, 16 and 20 classes.

`data_dir` holds the class folders, which are named by WordNet ids, side by side or in `train`, `val` and `test`. The
published lists name 600 images of every class, which a copy of miniImageNet consists of; the folders of the whole
ImageNet hold up to 1,300, which gives a warning. The licence of ImageNet rules out a download by this project.
`listed_classes.py` describes the options.
"""

from __future__ import annotations

from functools import partial

from ..splits.protocols import read_protocols
from ..storage.class_folders import ClassFolders
from .listed_classes import IMAGE_OPTIONS, load_listed

OPTIONS = IMAGE_OPTIONS
PROTOCOLS = tuple(read_protocols("miniimagenet"))

LAYOUT = ClassFolders(
    title="miniImageNet",
    modality="image",
    roots=(
        *("miniimagenet", "mini-imagenet", "mini_imagenet", "miniImageNet", "miniImagenet"),
        *("mini-imagenet/images", "mini_imagenet/images", "images"),
    ),
    example="n01532829",
    origin=(
        "https://www.image-net.org (the images) and https://github.com/renmengye/few-shot-ssl-public (the lists of the "
        "600 images of each class, in fewshot/data/mini_imagenet_split/Ravi)"
    ),
    counts=(600, 600),
)

load = partial(load_listed, "miniimagenet", LAYOUT, image_size=84)
