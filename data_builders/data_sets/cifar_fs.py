"""CIFAR-FS: the 600 images of each of the 100 classes of CIFAR-100, with the split of Bertinetto et al. (2019) into 64,
16 and 20 classes.

`data_dir` holds the official archive `cifar-100-binary.tar.gz` or its extracted folder, or class folders of pictures,
such as `cifar100/data` of the archive of Bertinetto et al. Without `data_dir` the official archive is downloaded.
`listed_classes.py` describes the options.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..splits.protocols import read_protocols
from ..storage.archives import find_store
from ..storage.class_folders import ClassFolders, check_counts
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from .cifar100 import Cifar100
from .listed_classes import IMAGE_OPTIONS, load_listed

OPTIONS = IMAGE_OPTIONS
PROTOCOLS = tuple(read_protocols("cifar_fs"))

LAYOUT = ClassFolders(
    title="CIFAR-FS",
    modality="image",
    roots=("cifar100/data", "cifar-fs", "cifar_fs", "CIFAR-FS", "cifar100", "data"),
    example="apple",
    origin=(
        f"{Cifar100.OFFICIAL.source} (put {Cifar100.OFFICIAL.archives[0]} into data_dir), or from "
        "https://github.com/bertinetto/r2d2 as pictures"
    ),
    counts=(600, 600),
)


class CifarFs(Cifar100):
    """Builds the rows of CIFAR-100 for the class lists of CIFAR-FS."""


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    image_size: int = 32,
    min_samples: int | None = None,
    skip_unreadable: bool = False,
) -> FewShotSplit:
    """Loads one split of CIFAR-FS, for `load_few_shot`; see `load_listed` for the options.

    Raises:
        ValueError: `skip_unreadable` is chosen for the official archive, whose images cannot be unreadable one by one.
    """
    if data_dir is not None and not _is_official(data_dir):
        return load_listed(
            "cifar_fs",
            LAYOUT,
            split,
            protocol,
            data_dir,
            cache_dir,
            min_samples=min_samples,
            skip_unreadable=skip_unreadable,
            image_size=image_size,
        )
    if skip_unreadable:
        raise ValueError(
            "skip_unreadable=True has no effect on the official archive of CIFAR-100, which is read as a whole: leave "
            "it out"
        )
    builder = CifarFs(cache_dir=cache_dir, data_dir=data_dir, image_size=image_size)
    loaded = split_of_builder(builder, split, protocol, preprocessor=builder.preprocessor)
    counts = np.bincount(loaded.labels, minlength=len(loaded.class_names)).tolist()
    place = Path(builder.cache_dir if data_dir is None else data_dir)
    check_counts(LAYOUT, place, dict(zip(loaded.class_names, counts, strict=True)), min_samples)
    return loaded


def _is_official(data_dir: str | os.PathLike) -> bool:
    """Whether the folder holds the official archive of CIFAR-100 or its extracted folder."""
    try:
        find_store(Cifar100.OFFICIAL, data_dir)
    except FileNotFoundError:
        return False
    return True
