"""
The list of a person's labelled inputs before they are read: what labelled_files.py makes of a folder and
labelled_tables.py of a data set, for the data builders to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from .fingerprints import text_hash
from .label_values import printable


@dataclass(frozen=True)
class LabelledInputs:
    """Labelled inputs that have not been read yet. The sequences have one entry per input.

    Attributes:
        name: name of the data set.
        modality: `"audio"`, `"text"` or `"image"`.
        names: name of each input in error messages.
        labels: name of the class of each input.
        sources: the recording or document from which each input comes.
        splits: name of the split of each input; `None` if the data have no splits.
        read: function that takes the index of an input and returns what the processor takes: a path, the content of a
            file, or the string of a text. It raises `ValueError` or `OSError` if the input cannot be read.
        fingerprint: a hash that changes when an input does.
    """

    name: str
    modality: str
    names: Sequence[str]
    labels: Sequence[str]
    sources: Sequence[str]
    splits: Sequence[str] | None
    read: Callable[[int], Any]
    fingerprint: str

    @property
    def class_names(self) -> list[str]:
        """The names of all classes, sorted."""
        return sorted(set(self.labels))

    def part(self, numbers: Sequence[int]) -> LabelledInputs:
        """Returns the inputs with these indices, without their splits."""
        return replace(
            self,
            names=[self.names[i] for i in numbers],
            labels=[self.labels[i] for i in numbers],
            sources=[self.sources[i] for i in numbers],
            splits=None,
            read=lambda position: self.read(numbers[position]),
            fingerprint=text_hash(self.fingerprint, json.dumps(list(numbers))),
        )


SPLITS = ("train", "validation", "test")
# Names of splits, in any case, as `datasets` knows them.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF_NAME = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def few(names: Iterable[str], limit: int = 5) -> str:
    """Returns the first names in sorted order, at most `limit`, and how many more there are, for messages."""
    ordered = sorted(printable(str(PurePosixPath(name))) for name in names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
