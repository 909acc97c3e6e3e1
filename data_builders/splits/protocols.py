"""Which rows belong to which split, computed by pure functions of labels, source ids and class names.

The class lists, fractions and seeds are in `splits/<data set>.json`, where they can be read without running anything.
Its `"source"` says where published lists come from.
The description of a split has one of these forms:

- `{"classes": [...]}` takes every row of these classes;
- `{"classes": [...], "share": [start, stop], "seed": s}` takes, from every class, only the sources whose position in a
  seeded order lies between the two fractions (`[0.0, 0.25]` is the first quarter). `"min_sources"` is the least number
  of sources before any fraction other than 0.

The order is computed with SHA-256 from the seed, the class and the source, so that it depends neither on versions of
libraries nor on the order of the rows. A source that occurs in several classes goes into the split that the first of
these classes (in the order of `class_names`) puts it in. So it is never in two splits.

A protocol need not have all splits. A file may be shorter than what `read_protocols` returns: its `"groups"` map the
names of groups, such as alphabets, to their classes, or to the number of classes whose names are then made from
`"class_name"`, such as `"{group}/character{number:02d}"`. A split with `"groups": [...]` has the classes of these
groups, and one with `"classes": "all"` has all classes that the splits of `class_disjoint` have.

With `"by": "row"` (protocol `original`) the fractions refer to all rows together, whatever their classes and sources
are. A row is then identified by its source and its number among the rows of this source.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from modeling_msmaml.inputs.labelled_inputs import SPLITS

PROTOCOLS = ("class_disjoint", "sample_disjoint", "original")
# The warning that belongs to every figure of the protocol `original`, by modality.
ORIGINAL_WARNINGS = {
    **dict.fromkeys(
        ("audio", "text"),
        "protocol 'original' repeats the published set-up, only to reproduce its figure: samples are split without "
        "regard to class and source, so the test classes and some of the test recordings also occur in training; a "
        "class with too few samples is drawn with replacement, so support and query overlap; and word vectors are "
        "fitted on the test texts, too. Such a figure says nothing about new classes; do not compare it with figures "
        "of class_disjoint",
    ),
    "image": "protocol 'original' has disjoint classes for images, as published (FC100), and is the same as "
    "class_disjoint; but the published audio and text episodes beside it mix support and query",
}
_FOLDER = Path(__file__).parent


class NoSuchSplit(ValueError):
    """Raised for a split that a data set does not have under a protocol, such as `train` of a set made for tests."""


def check_protocol(protocol: str, available: Sequence[str] = PROTOCOLS) -> None:
    """Checks a protocol.

    Raises:
        ValueError: the protocol does not exist, or it is not among the available ones.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} does not exist; the protocols are {', '.join(PROTOCOLS)}")
    if protocol not in available:
        raise ValueError(
            f"protocol={protocol!r} is not available for this data set; what works: {', '.join(available)}"
        )


def check_split(split: str) -> None:
    """Checks the name of a split.

    Raises:
        ValueError: the split does not exist.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} does not exist; the splits are {', '.join(SPLITS)}")


def read_protocols(name: str | Path) -> dict[str, dict[str, dict]]:
    """Reads the protocols of a data set: it maps each protocol to its splits, and each split to its description.

    Args:
        name: name of a data set of this package, or the path of a JSON file in the form of those in `splits`.
    """
    path = name if isinstance(name, Path) else _FOLDER / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    groups = {group: _classes(group, classes, content) for group, classes in content.get("groups", {}).items()}
    found = {protocol: splits for protocol, splits in content.items() if protocol in PROTOCOLS}
    for description in (description for splits in found.values() for description in splits.values()):
        if "groups" in description:
            description["classes"] = [name for group in description["groups"] for name in groups[group]]
    disjoint = found.get("class_disjoint", {}).values()
    for description in (description for splits in found.values() for description in splits.values()):
        if description["classes"] == "all":
            description["classes"] = sorted({name for split in disjoint for name in split["classes"]})
    return found


def _classes(group: str, classes: list[str] | int, content: dict) -> list[str]:
    """Returns the names of the classes of a group, which are listed or only numbered."""
    if isinstance(classes, list):
        return classes
    return [content["class_name"].format(group=group, number=number + 1) for number in range(classes)]


def described_split(protocols: dict[str, dict[str, dict]], protocol: str, split: str, name: str) -> dict:
    """Returns the description of a split.

    Args:
        protocols: protocols of the data set, as `read_protocols` returns them.
        protocol, split: names of the protocol and of the split.
        name: name of the data set, for the message.

    Raises:
        NoSuchSplit: the protocol has no such split. The message says which protocols have it.
    """
    splits = protocols[protocol]
    if split not in splits:
        others = [other for other in protocols if split in protocols[other]]
        elsewhere = f"; {', '.join(others)} has it" if others else ""
        raise NoSuchSplit(
            f"{name} has no {split} split under protocol={protocol!r}, only {' and '.join(splits)}{elsewhere}"
        )
    return splits[split]


def select_rows(
    description: dict, labels: Int64[np.ndarray, " n"], source_ids: np.ndarray, class_names: Sequence[str]
) -> tuple[Int64[np.ndarray, " m"], list[str]]:
    """Selects the rows of one split.

    Args:
        description: description of the split, as in `read_protocols`.
        labels: (n,) int64 labels of the rows, which index `class_names`.
        source_ids: (n,) strings, each of which names the recording or document that a row comes from.
        class_names: names of all classes of the data set.

    Returns:
        The (m,) indices of the rows in ascending order, and the names of the classes of the split in the order of
        `class_names`.

    Raises:
        ValueError: a class of the description is not in `class_names`.
    """
    unknown = sorted(set(description["classes"]) - set(class_names))
    if unknown:
        raise ValueError(
            f"classes {unknown} of the split do not exist; the classes of the data are {list(class_names)}"
        )
    class_ids = [index for index, class_name in enumerate(class_names) if class_name in set(description["classes"])]
    is_chosen = np.isin(labels, class_ids)
    if description.get("by") == "row":
        is_chosen[is_chosen] = _is_in_share_of_rows(description, source_ids[is_chosen])
    elif "share" in description:
        first_class = {}
        for class_id, source in sorted(set(zip(labels[is_chosen].tolist(), source_ids[is_chosen], strict=True))):
            first_class.setdefault(source, class_names[class_id])
        sources = _share_of_sources(description, first_class)
        is_chosen &= np.asarray([source in sources for source in source_ids], dtype=bool)
    return np.flatnonzero(is_chosen), [class_names[class_id] for class_id in class_ids]


def _share_of_sources(description: dict, class_of_source: dict[str, str]) -> set[str]:
    """Returns the sources that lie between the two fractions of `share` within their classes."""
    by_class: dict[str, list[str]] = {}
    for source, class_name in class_of_source.items():
        by_class.setdefault(class_name, []).append(source)
    chosen = set()
    for class_name, sources in by_class.items():
        ordered = sorted(sources, key=partial(_place, description["seed"], class_name))
        start, stop = (
            _cut(fraction, len(ordered), description.get("min_sources", 0)) for fraction in description["share"]
        )
        chosen.update(ordered[start:stop])
    return chosen


def _is_in_share_of_rows(description: dict, source_ids: np.ndarray) -> np.ndarray:
    """Returns, for every row, whether it lies between the two fractions of `share`."""
    seen: Counter[str] = Counter()
    places = []
    for source in source_ids:
        places.append(_place(description["seed"], f"row {seen[source]}", source))
        seen[source] += 1
    start, stop = (_cut(fraction, len(places), 0) for fraction in description["share"])
    is_in = np.zeros(len(places), dtype=bool)
    is_in[np.argsort(np.asarray(places), kind="stable")[start:stop]] = True
    return is_in


def _cut(fraction: float, n_sources: int, min_sources: int) -> int:
    """Returns the number of sources before a fraction."""
    return min(n_sources, max(round(fraction * n_sources), min_sources)) if fraction else 0


def _place(seed: int, class_name: str, source: str) -> str:
    """Returns a hash by which the sources of a class are sorted."""
    return hashlib.sha256(f"{seed}/{class_name}/{source}".encode()).hexdigest()
