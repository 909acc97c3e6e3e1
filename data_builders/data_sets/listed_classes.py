"""How the data sets that lie in class folders are loaded: the rows of all listed classes are stored once.

Options of all of them:
    min_samples: least number of samples of a class. By default it is the smallest number in the complete data set, so
        that an incomplete copy is an error; with a smaller number, a part of the data set can be used.
    skip_unreadable: whether files that cannot be read are left out, with a warning that names them. By default they are
        an error.
    image_size: height and width of images in pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from ..splits.protocols import NoSuchSplit, check_protocol, read_protocols
from ..storage.class_folders import ClassFolders, list_class_folders
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from .own_rows import ENCODINGS, OwnRows

OPTIONS = ("min_samples", "skip_unreadable")
IMAGE_OPTIONS = ("image_size", *OPTIONS)


def load_listed(
    name: str,
    layout: ClassFolders,
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    lists: str | None = None,
    class_names: Iterable[str] | None = None,
    source_of: Callable[[str], str] | None = None,
    min_samples: int | None = None,
    skip_unreadable: bool = False,
    **encoding_options: Any,
) -> FewShotSplit:
    """Loads one split of a data set that lies in class folders.

    Args:
        name: name of the data set.
        layout: description of its folders.
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        lists: name of the file of class lists in `splits`; by default the name of the data set.
        class_names: names of all classes whose rows are stored; by default the classes of all splits.
        source_of: see `list_class_folders`.
        min_samples, skip_unreadable: options, which the docstring of this module describes.
        **encoding_options: options of the encoding of the modality, such as `image_size`.

    Raises:
        NoSuchSplit: the published lists have no such split.
        FileNotFoundError: see `list_class_folders`.
        ValueError: see `list_class_folders`; or files cannot be read.
    """
    protocols = read_protocols(lists or name)
    check_protocol(protocol, tuple(protocols))
    descriptions = protocols[protocol]
    if split not in descriptions:
        raise NoSuchSplit(
            f"split={split!r} does not exist for {lists or name} under protocol={protocol!r}; its splits: "
            f"{', '.join(descriptions)}"
        )
    if class_names is None:
        class_names = [label for description in descriptions.values() for label in description["classes"]]
    collection = list_class_folders(layout, data_dir, class_names, min_samples, source_of)
    encoding = ENCODINGS[layout.modality](collection, cache_dir, **encoding_options)
    builder = OwnRows(collection, encoding, descriptions, skip_unreadable, cache_dir)
    return split_of_builder(builder, split, protocol, name=name, preprocessor=encoding.preprocessor, **encoding.fields)
