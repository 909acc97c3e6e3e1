"""Data sets whose samples lie in one folder per class, for the classes of published lists.

`list_class_folders` finds the folders of the listed classes in `data_dir` and lists their files, without reading them.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modeling_msmaml.inputs.fingerprints import files_fingerprint, text_hash
from modeling_msmaml.inputs.folder_walk import walk
from modeling_msmaml.inputs.kinds import listed_suffixes, modality_of_file
from modeling_msmaml.inputs.label_values import printable
from modeling_msmaml.inputs.labelled_inputs import SPLIT_OF_NAME, LabelledInputs, few
from modeling_msmaml.model.options import at_least, checked


@dataclass(frozen=True)
class ClassFolders:
    """Describes how to recognise the class folders of a data set in `data_dir`, and where they come from.

    The class folders lie side by side in one folder, or in its sub-folders `train`, `val` and `test` (or other names
    that `labelled_inputs.SPLIT_NAMES` lists). These names do not matter: the class lists decide which class is in which
    split.

    Attributes:
        title: title of the data set.
        modality: modality of its files.
        roots: possible paths, relative to `data_dir`, of the folder that holds the class folders, which are tried in
            this order. `data_dir` itself is tried last.
        example: path of a class folder, for messages.
        origin: phrase that says where to get the data.
        counts: the smallest and the largest number of samples of a class in the complete data set.
    """

    title: str
    modality: str
    roots: tuple[str, ...]
    example: str
    origin: str
    counts: tuple[int, int]

    @property
    def remedy(self) -> str:
        """A phrase that says where to get the data and how to lay them out."""
        return (
            f"get it from {self.origin}, and pass as data_dir the folder that holds the class folders (like "
            f"{self.example}) side by side or in train, val and test, or a folder that holds them in "
            f"{' or '.join(self.roots)}"
        )


def list_class_folders(
    layout: ClassFolders,
    data_dir: str | os.PathLike | None,
    class_names: Iterable[str],
    min_samples: int | None = None,
    source_of: Callable[[str], str] | None = None,
) -> LabelledInputs:
    """Lists the files of the listed classes, class by class, without reading them. Other folders are left out.

    Args:
        layout: description of the data set.
        data_dir: folder with the data.
        class_names: names of the class folders, which become the labels.
        min_samples: see `check_counts`.
        source_of: function that maps the path of a file, relative to the parent of its class folder, to its source. By
            default this path is the source, so that every file is its own source.

    Raises:
        FileNotFoundError: `data_dir` is None or no folder, or it holds none of the classes.
        ValueError: folders of classes are missing, there twice or the same by a link, a class has too few samples (see
            `check_counts`), or `source_of` cannot tell the source of a file.
        OSError: a folder must not be read.
    """
    if data_dir is None:
        raise FileNotFoundError(f"{layout.title} is not downloaded: {layout.remedy}")
    folder = Path(data_dir).expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"data_dir={str(data_dir)!r} is not a folder. For {layout.title}, {layout.remedy}")
    names = sorted(set(class_names))
    found = next(filter(None, (_class_folders(root, names) for root in _candidates(layout, folder))), None)
    if found is None:
        raise FileNotFoundError(f"{layout.title} is not in data_dir={str(data_dir)!r}: {layout.remedy}")
    _check_folders(layout, found, names)
    paths, labels, sources = [], [], []
    for name in names:
        first: dict[str, str] = {}  # by its real path, so that a file counts once, however many links lead to it
        for file in walk(found[name][0]).files:
            if modality_of_file(file.name) == layout.modality:
                first.setdefault(file.real, file.name)
        inside = list(first.values())
        paths += [found[name][0] / file for file in inside]
        labels += [name] * len(inside)
        sources += [printable(f"{name}/{file}") for file in inside]
    if source_of is not None:
        sources = [source_of(path) for path in sources]
    counts = Counter(labels)
    check_counts(layout, folder, {name: counts[name] for name in names}, min_samples)
    return LabelledInputs(
        name=layout.title,
        modality=layout.modality,
        names=[printable(str(path)) for path in paths],
        labels=labels,
        sources=sources,
        splits=None,
        read=paths.__getitem__,
        fingerprint=text_hash(files_fingerprint(paths), *labels, *sources),
    )


def check_counts(layout: ClassFolders, place: Path, counts: Mapping[str, int], min_samples: int | None = None) -> None:
    """Checks the number of samples of each class against that in the complete data set.

    Args:
        layout: description of the data set.
        place: where the samples are, for messages.
        counts: the number of samples by class.
        min_samples: least number of samples of a class; by default the smallest of the complete data set.

    Raises:
        ValueError: a class has fewer samples, or `min_samples` is not a positive integer.

    Warns:
        UserWarning: a class has more samples than the complete data set has.
    """
    least, most = layout.counts
    needed = least if min_samples is None else checked("min_samples", min_samples, at_least(1))
    scarce = {name: count for name, count in counts.items() if count < needed}
    if scarce:
        smallest = min(scarce.values())
        raise ValueError(
            f"{len(scarce)} classes of {layout.title} in {place} have too few samples ({_counted(scarce)}); it needs "
            f"{needed} {layout.modality} files ({listed_suffixes(layout.modality)}) in each: fetch the data again"
            + (f", or pass min_samples={smallest} to go on with a part of them" if smallest else "")
        )
    if plenty := {name: count for name, count in counts.items() if count > most}:
        warnings.warn(
            f"{len(plenty)} classes of {layout.title} in {place} have more than {most} samples ({_counted(plenty)}): "
            "this is another selection than the published one, and figures are not comparable with published ones",
            UserWarning,
            stacklevel=2,
        )


def _counted(counts: Mapping[str, int]) -> str:
    return few(f"{name}: {count}" for name, count in counts.items())


def _candidates(layout: ClassFolders, folder: Path) -> list[Path]:
    return [place for place in (*(folder / root for root in layout.roots), folder) if place.is_dir()]


def _class_folders(root: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """Returns the folders of each class that has any.

    Folders inside those of splits come first, since a class may have the name of a split: CIFAR-100 has a class train.
    """
    splits = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in SPLIT_OF_NAME)
    for places in (splits, [root]):
        present = [{path.name for path in place.iterdir() if path.is_dir()} for place in places]
        folders = {
            name: [place / name for place, inside in zip(places, present, strict=True) if name in inside]
            for name in names
        }
        if any(folders.values()):
            return {name: found for name, found in folders.items() if found}
    return {}


def _check_folders(layout: ClassFolders, found: Mapping[str, Sequence[Path]], names: Sequence[str]) -> None:
    """Raises an error if a class has no folder, several ones, or that of another class."""
    for name, folders in found.items():
        if len(folders) > 1:
            raise ValueError(
                f"class {name} of {layout.title} is there twice, in {folders[0]} and in {folders[1]}: keep one of the "
                "two, or pass as data_dir the folder that holds the right ones"
            )
    first: dict[str, str] = {}
    for name, folders in found.items():
        if (other := first.setdefault(os.path.realpath(folders[0]), name)) != name:
            raise ValueError(
                f"the classes {other} and {name} of {layout.title} in {folders[0].parent} are the same folder by a "
                "link: remove the link, and fetch the class again"
            )
    if missing := [name for name in names if name not in found]:
        place = next(iter(found.values()))[0].parent
        raise ValueError(
            f"{len(missing)} of the {len(names)} classes of {layout.title} have no folder beside those in {place}: "
            f"{few(missing)}. Fetch the data again"
        )
