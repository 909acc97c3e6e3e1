"""Labelled inputs that are listed and not read yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from .fingerprints import text_hash


@dataclass(frozen=True)
class LabelledInputs:
    """Labelled inputs that have not been read yet; the lists have one entry an input.

    Attributes:
        name: of the data set.
        modality: `"audio"`, `"text"` or `"image"`.
        names: what to call an input in an error.
        labels: names of classes.
        sources: the recording or document that an input comes from.
        splits: the split that it comes in; None when the data have no splits.
        read: number of an input -> what the processor takes: a path or bytes, and the string itself of a text. Raises
            ValueError or OSError when it cannot be read.
        fingerprint: changes when an input does.
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
        """All labels, sorted."""
        return sorted(set(self.labels))

    def part(self, numbers: Sequence[int]) -> LabelledInputs:
        """Some of the inputs."""
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


def few(names: Iterable[str], limit: int = 5) -> str:
    """The first few of many names, sorted, and how many more there are."""
    ordered = sorted(str(PurePosixPath(name)) for name in names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
