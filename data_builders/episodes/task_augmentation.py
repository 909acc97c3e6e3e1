"""Task augmentation: changed training classes as new classes, against meta-overfitting on few of them.

A rotated image, or a sound at another speed, is not one more example of its class but one of another class (Santoro et
al. 2016, arXiv 1605.06065, section 4.1; Rajendran et al. 2020, arXiv 2007.05549): a training split of C classes becomes
one of several times C. The result is a split like any other: episodes draw from it under the same rules, a row never
changes, and the source of a changed row is that of the row it was made from, so that `source_disjoint` also keeps a
sample and its changed twin out of one episode's two sides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int16, Int32, Int64, Shaped, UInt8
from torch import Tensor
from torchaudio.functional import resample

from ..storage.few_shot_split import FewShotSplit

FASTER = (3, 2)  # 3 samples become 2: 1.5 times as fast, a fifth higher; beyond the speeds of `augmentation.py`
SLOWER = (2, 3)

KEPT_BYTES = 2**28  # of changed rows that take long to make

_Change = Callable[[np.ndarray], np.ndarray]


class NewClasses(NamedTuple):
    """One way to make classes.

    Attributes:
        modality: whose classes.
        changes: what stands behind a class's name -> what is done to its rows; one more class each.
        slow: whether that takes so long that changed rows are kept.
    """

    modality: str
    changes: dict[str, _Change]
    slow: bool = False


def _turned(quarters: int) -> _Change:
    def turn(rows: UInt8[np.ndarray, "m 3 side side"]) -> UInt8[np.ndarray, "m 3 side side"]:
        return np.rot90(rows, quarters, axes=(-2, -1))

    return turn


def _at_speed(old: int, new: int) -> _Change:
    """Plays faster or slower, pitch and tempo together; a shortened clip begins again, a lengthened one is cut."""

    def change(rows: Int16[np.ndarray, "m samples"]) -> Int16[np.ndarray, "m samples"]:
        samples = rows.shape[1]
        # float64: what rounding could differ by between machines is far from the next integer.
        sound = resample(torch.from_numpy(rows).double(), old, new)
        sound = sound.repeat(1, -(-samples // sound.shape[1]))[:, :samples]
        return sound.round().clamp(-32767, 32767).to(torch.int16).numpy()

    return change


def _reversed(rows: Int16[np.ndarray, "m samples"]) -> Int16[np.ndarray, "m samples"]:
    return rows[:, ::-1]


NEW_CLASSES = {
    "rotate": NewClasses("image", {f"turned by {90 * n} degrees": _turned(n) for n in (1, 2, 3)}),
    "speed": NewClasses("audio", {"faster": _at_speed(*FASTER), "slower": _at_speed(*SLOWER)}, slow=True),
    "reverse": NewClasses("audio", {"backwards": _reversed}),
}


def add_new_classes(splits: Sequence[FewShotSplit], names: Sequence[str]) -> list[FewShotSplit]:
    """The same splits, with further classes where a name says so.

    Args:
        splits: of training.
        names: `"rotate"` (images by 90, 180 and 270 degrees: four times the classes), `"speed"` (sounds 1.5 times as
            fast and as slow: three times) and `"reverse"` (sounds backwards: twice; with `"speed"` four times).

    Returns:
        A split for each one given. First come its own rows and classes with their numbers as they were, then for every
        change all rows again, as rows of further classes such as `"apple, turned by 90 degrees"`.

    Raises:
        ValueError: an unknown name, one given twice, one whose modality no split has, a split of evaluation, rows that
            are features, or images that are not square.
    """
    unknown = [name for name in names if name not in NEW_CLASSES]
    if unknown or len(set(names)) != len(names):
        raise ValueError(f"new_classes={list(names)}: give each of {', '.join(NEW_CLASSES)} once, or leave it out")
    modalities = [split.modality for split in splits]
    for name in names:
        if NEW_CLASSES[name].modality not in modalities:
            raise ValueError(
                f"new_classes={list(names)}: {name!r} makes {NEW_CLASSES[name].modality} classes, but the data are "
                f"{', '.join(modalities)}; leave it out"
            )
    return [
        _with_classes(split, [name for name in names if NEW_CLASSES[name].modality == split.modality])
        for split in splits
    ]


def plain_rows(split: FewShotSplit) -> int:
    """How many rows of a split, its first ones, were not made by `add_new_classes`."""
    return len(split) if split.num_plain_rows is None else split.num_plain_rows


def _with_classes(split: FewShotSplit, names: list[str]) -> FewShotSplit:
    if not names:
        return split
    if split.split != "train" or split.num_plain_rows is not None:
        raise ValueError(f"new_classes={names} is for training on samples as they are, but this is {split!r}")
    if split.rows(np.arange(min(1, len(split)))).dtype.kind == "f":
        raise ValueError(f"new_classes={names} is for raw rows, but those of {split!r} are features of an encoder")
    if "rotate" in names and split.row_shape[-1] != split.row_shape[-2]:
        raise ValueError(f"new_classes={names}: rotate needs square images, but those of {split!r} are not")
    changes = {said: change for name in names for said, change in NEW_CLASSES[name].changes.items()}
    times = len(changes) + 1
    own = len(split.class_names)
    return dataclasses.replace(
        split,
        class_names=(*split.class_names, *(f"{c}, {said}" for said in changes for c in split.class_names)),
        labels=np.concatenate([split.labels + own * n for n in range(times)]),
        source_ids=np.tile(split.source_ids, times),
        num_plain_rows=len(split),
        _data=ChangedRows(split, list(changes)),
        _row_numbers=np.arange(times * len(split)),
    )


class ChangedRows:
    """Rows of a split, then for every change all of them changed; made when they are taken.

    Of slow changes, the rows that were taken first are kept, as many as fit in `KEPT_BYTES`: a sound at another speed
    takes longer to make than the rest of its way into a meta-batch.

    Args:
        split: has the rows.
        changes: by their names in `NEW_CLASSES`.
    """

    def __init__(self, split: FewShotSplit, changes: list[str]):
        self.split, self.changes = split, changes
        self._kept: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_kept": {}}  # which another process makes again

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """See `Rows.take`."""
        which, numbers = np.divmod(indices, len(self.split))
        taken = self.split.rows(numbers)
        for n, said in enumerate(self.changes, start=1):
            chosen = np.flatnonzero(which == n)
            if len(chosen):
                taken[chosen] = self._changed(said, indices[chosen], taken[chosen])
        return taken

    def _changed(self, said: str, indices: Int64[np.ndarray, " m"], rows: np.ndarray) -> np.ndarray:
        new = next(new for new in NEW_CLASSES.values() if said in new.changes)
        if not new.slow:
            return new.changes[said](rows)
        missing = np.asarray([index not in self._kept for index in indices.tolist()])
        for position in np.flatnonzero(~missing):
            rows[position] = self._kept[int(indices[position])]
        if missing.any():
            rows[missing] = new.changes[said](rows[missing])
            self._keep(indices[missing], rows[missing])
        return rows

    def _keep(self, indices: Int64[np.ndarray, " m"], rows: np.ndarray) -> None:
        room = KEPT_BYTES // max(rows[:1].nbytes, 1) - len(self._kept)
        for index, row in zip(indices[: max(room, 0)].tolist(), rows, strict=False):
            self._kept[index] = row.copy()


def mix(
    first: Shaped[Tensor, "samples ..."], second: Shaped[Tensor, "samples ..."], modality: str
) -> Shaped[Tensor, "samples ..."]:
    """Sample i of one mixed with sample i of the other; a pure function, nothing is random.

    Args:
        first, second: raw integers of one shape.
        modality: `"audio"` (the sum of both at equal loudness), `"text"` (the first half of one passage, then that of
            the other) or `"image"` (the upper half of one above the lower half of the other).

    Raises:
        ValueError: another modality, or features of an encoder instead of raw integers.
    """
    if modality not in _MIXERS:
        raise ValueError(f"mix_classes knows no way to mix {modality!r}; it has {', '.join(_MIXERS)}")
    if first.is_floating_point():
        raise ValueError(f"mix_classes mixes raw {modality} rows, but these are features of an encoder")
    return torch.stack([_MIXERS[modality](a, b) for a, b in zip(first, second, strict=True)])


def _sounds(a: Int16[Tensor, " samples"], b: Int16[Tensor, " samples"]) -> Int16[Tensor, " samples"]:
    # float64, so that no machine rounds to another integer.
    sounds = [sound.double() for sound in (a, b)]
    levels = [float(sound.square().mean().sqrt()) for sound in sounds]
    if 0 in levels:
        return torch.where(a != 0, a, b)  # silence and the other one
    mixed = sounds[0] / levels[0] + sounds[1] / levels[1]
    loudness = min(sum(levels) / 2, 32767 / float(mixed.abs().max().clamp(min=1e-9)))
    return (mixed * loudness).round().to(a.dtype)


def _passages(a: Int32[Tensor, " tokens"], b: Int32[Tensor, " tokens"]) -> Int32[Tensor, " tokens"]:
    halves = [words[: (len(words) + 1) // 2] for words in (a[a != 0], b[b != 0])]
    mixed = torch.cat(halves)[: len(a)]
    return torch.nn.functional.pad(mixed, (0, len(a) - len(mixed)))


def _pictures(
    a: UInt8[Tensor, "colours height width"], b: UInt8[Tensor, "colours height width"]
) -> UInt8[Tensor, "colours height width"]:
    half = a.shape[1] // 2
    return torch.cat([a[:, :half], b[:, half:]], dim=1)


_MIXERS = {"audio": _sounds, "text": _passages, "image": _pictures}
