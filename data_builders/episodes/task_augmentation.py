"""Task augmentation, which makes new classes from training classes and so reduces meta-overfitting on few classes.

`add_new_classes` appends changed copies of the classes of a split. A rotated image, or a sound at another speed, is
then not a further example of its class but an example of a new class (Santoro et al. 2016, arXiv 1605.06065, section
4.1; Rajendran et al. 2020, arXiv 2007.05549), and a training split of C classes becomes one of several times C classes.
The result is a split like any other: episodes are drawn from it by the same rules, and a row never changes. The source
of a changed row is that of the original row, so that with `source_disjoint` a sample and a changed copy of it are never
on different sides of an episode.

`mix` makes the samples of a new class from the samples of two classes, while an episode is drawn.
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

FASTER = (3, 2)  # 3 samples become 2: 1.5 times as fast, which exceeds the speed changes of `augmentation.py`
SLOWER = (2, 3)

KEPT_BYTES = 2**28  # memory for changed rows that take long to make

_Change = Callable[[np.ndarray], np.ndarray]


class NewClasses(NamedTuple):
    """One way to make new classes.

    Attributes:
        modality: modality of the classes.
        changes: functions that change rows, each of which makes one new class from every class. The keys are appended
            to the names of the classes.
        slow: whether the changes take so long that changed rows are kept in memory.
    """

    modality: str
    changes: dict[str, _Change]
    slow: bool = False


def _turned(quarters: int) -> _Change:
    def turn(rows: UInt8[np.ndarray, "m 3 side side"]) -> UInt8[np.ndarray, "m 3 side side"]:
        return np.rot90(rows, quarters, axes=(-2, -1))

    return turn


def _at_speed(old: int, new: int) -> _Change:
    """Returns a change of the speed of sounds, which changes pitch and tempo together.

    A clip that becomes shorter is repeated from its start, and one that becomes longer is cut.
    """

    def change(rows: Int16[np.ndarray, "m samples"]) -> Int16[np.ndarray, "m samples"]:
        samples = rows.shape[1]
        # In float64 the differences between machines are too small to change the rounded integers.
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
    """Appends new classes to training splits.

    Args:
        splits: training splits.
        names: ways to make classes: `"rotate"` (images rotated by 90, 180 and 270 degrees, which gives four times the
            classes), `"speed"` (sounds 1.5 times as fast and 1.5 times as slow, which gives three times the classes)
            and `"reverse"` (sounds played backwards, which gives twice the classes, or four times with `"speed"`).

    Returns:
        One split for each of `splits`. Its own rows and classes come first and keep their indices. Then all rows follow
        again for every change, as rows of new classes such as `"apple, turned by 90 degrees"`.

    Raises:
        ValueError: a name does not exist, is given twice or is for a modality that no split has; a split is not a
            training split or already has new classes; its rows are features; or images to be rotated are not square.
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
    """Returns the number of rows at the start of a split that `add_new_classes` has not made."""
    return len(split) if split.num_plain_rows is None else split.num_plain_rows


def _with_classes(split: FewShotSplit, names: list[str]) -> FewShotSplit:
    if not names:
        return split
    if split.split != "train" or split.num_plain_rows is not None:
        raise ValueError(
            f"new_classes={names} is for training on samples as they are, but this is {split!r}: leave it out"
        )
    if split.rows(np.arange(min(1, len(split)))).dtype.kind == "f":
        raise ValueError(f"new_classes={names} needs raw rows, but those of {split!r} are features of an encoder")
    if "rotate" in names and split.row_shape[-1] != split.row_shape[-2]:
        raise ValueError(f"new_classes={names}: rotate needs square images, but those of {split!r} are not square")
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
    """The rows of a split, followed for every change by all of them with this change, made when they are taken.

    If a change is slow, the changed rows that are taken first are kept, as many as fit into `KEPT_BYTES`, because it
    takes longer to change the speed of a sound than to do all the rest until the sound is in a meta-batch.

    Args:
        split: the split with the original rows.
        changes: names of the changes, as in `NEW_CLASSES`.
    """

    def __init__(self, split: FewShotSplit, changes: list[str]):
        self.split, self.changes = split, changes
        self._kept: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_kept": {}}  # another process makes these rows again

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Returns rows as `Rows.take` does."""
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
    """Mixes sample i of `first` with sample i of `second`. Nothing about it is random.

    Sounds are added at equal loudness. Of two passages, the first half of one is followed by the first half of the
    other. Of two images, the upper half of one is placed above the lower half of the other.

    Args:
        first, second: raw integers of the same shape.
        modality: `"audio"`, `"text"` or `"image"`.

    Raises:
        ValueError: the modality does not exist, or the samples are features of an encoder and not raw integers.
    """
    if modality not in _MIXERS:
        raise ValueError(f"mix_classes knows no way to mix {modality!r}; it has {', '.join(_MIXERS)}")
    if first.is_floating_point():
        raise ValueError(f"mix_classes needs raw {modality} rows, but these are features of an encoder")
    return torch.stack([_MIXERS[modality](a, b) for a, b in zip(first, second, strict=True)])


def _sounds(a: Int16[Tensor, " samples"], b: Int16[Tensor, " samples"]) -> Int16[Tensor, " samples"]:
    # In float64 the differences between machines are too small to change the rounded integers.
    sounds = [sound.double() for sound in (a, b)]
    levels = [float(sound.square().mean().sqrt()) for sound in sounds]
    if 0 in levels:
        return torch.where(a != 0, a, b)  # one of the sounds is silent
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
