"""ESC-10: the ten classes of ESC-50 whose clips are free for commercial use (Piczak 2015, CC BY).

`class_disjoint` is that of ESC-50: seven of the ten classes are in its training split, and the others in validation or
test, so that a model that is trained on ESC-10 has seen no test class of ESC-50.

`data_dir` is that of `esc50`.
"""

from __future__ import annotations

import dataclasses
import os

from ..splits.protocols import NoSuchSplit
from ..storage.few_shot_split import FewShotSplit
from . import esc50

OPTIONS = esc50.OPTIONS
PROTOCOLS = ("class_disjoint",)
CLASSES = (
    *("chainsaw", "clock_tick", "crackling_fire", "crying_baby", "dog"),
    *("helicopter", "rain", "rooster", "sea_waves", "sneezing"),
)


def load(
    split: str, protocol: str, data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None
) -> FewShotSplit:
    """Loads one split of ESC-10, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.

    Raises:
        NoSuchSplit: none of the ten classes is in that split of ESC-50.
    """
    whole = esc50.load(split, protocol, data_dir, cache_dir)
    numbers = [number for number, name in enumerate(whole.class_names) if name in CLASSES]
    if not numbers:
        raise NoSuchSplit(f"none of the classes of ESC-10 is in the {split} split of ESC-50 under {protocol!r}")
    return dataclasses.replace(whole.of_classes(numbers), name="esc10")
