"""At which level of its sub-folders a folder has the classes: below splits (train, validation, test), or at once."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .labelled_inputs import SPLIT_NAMES, SPLIT_OF_NAME, few

# Words that go with the name of a split and say nothing of a class: `test set`, `train_images`.
_BESIDE_SPLITS = frozenset(
    ("set", "sets", "data", "dataset", "split", "splits", "part", "parts", "fold", "folds", "subset", "full", "small")
    + ("image", "images", "picture", "pictures", "sound", "sounds", "audio", "clip", "clips", "text", "texts")
    + ("file", "files", "sample", "samples", "example", "examples")
)
# One word of two: `trainset`, `testdata`.
_GLUED = re.compile(rf"\b({'|'.join(SPLIT_OF_NAME)})(set|data|dataset|split|images|files)\b")
# Names of splits where a number follows.
_NUMBERED = frozenset(("fold", "folds", "split", "splits", "partition", "subset", "cv"))
# Words that are no part of the name of a class beside another of them: `birds_train`, `birds_test`. Longer ones are:
# `software development`, `software testing`.
_SHORT = frozenset(("train", "test", "val", "valid", "dev", "validation", "eval"))
# Names of splits that are ordinary words beside each other and others: `design`, `development`, `testing`.
_WORDS = frozenset(("training", "development", "testing", "evaluation"))


class _Look(NamedTuple):
    """What a name says of a split: which, whether by a short word, and the words besides that would be of a class."""

    split: str
    is_short: bool
    rest: str


class _Folder(NamedTuple):
    """A sub-folder: the folders in it, and whether files lie directly in it."""

    children: dict[str, list[list[str]]]
    has_files: bool

    @property
    def is_nested(self) -> bool:
        return bool(self.children) and not self.has_files


def depth_of_classes(names: Iterable[str], root: Path, are_labelled: bool = False) -> int:
    """
    Returns at which level of sub-folders the classes are: 1 if those at the first level are splits, else 0.

    Args:
        names: the files, relative to `root`, with `/`.
        root: the folder, for messages.
        are_labelled: whether each file has a label of its own, so that folders name at most splits.

    Raises:
        ValueError: it cannot be told, because sub-folders look like splits but are called otherwise, lie beside folders
            that are none, or lie further down; or there is one sub-folder alone, which holds several.
    """
    paths = [name.split("/") for name in names]
    folders = _grouped(paths)
    known = [name for name in folders if name.lower() in SPLIT_OF_NAME]
    loose = ["/".join(path) for path in paths if len(path) == 1 or path[0] not in known]
    if are_labelled and known and loose and (len(known) > 1 or len(known) == len(folders)):
        raise ValueError(
            f"{root}: {few(loose)} lie in no split, but other files lie in {few(known)}: move them into one of the "
            "splits"
        )
    if folders and len(known) == len(folders):
        return 1
    if not are_labelled:
        _refuse_hidden_splits(folders, root)
    return 0


def _grouped(paths: list[list[str]]) -> dict[str, _Folder]:
    """The folders at the first level of some paths."""
    groups: dict[str, list[list[str]]] = {}
    for path in paths:
        if len(path) > 1:
            groups.setdefault(path[0], []).append(path[1:])
    return {name: _of_paths(below) for name, below in groups.items()}


def _of_paths(paths: list[list[str]]) -> _Folder:
    children: dict[str, list[list[str]]] = {}
    for path in paths:
        if len(path) > 1:
            children.setdefault(path[0], []).append(path[1:])
    return _Folder(children, any(len(path) == 1 for path in paths))


def _refuse_hidden_splits(folders: dict[str, _Folder], root: Path) -> None:
    known = "; ".join(f"{split}: {', '.join(names)}" for split, names in SPLIT_NAMES.items())
    remedy = f"rename them to names of splits ({known}), with the classes below them, or let the sub-folders of {root} "
    remedy += "be the classes"
    alike = _alike(folders)
    if len(alike) < 2:
        alike = [name for name in folders if _holds_classes(name, folders)]
    if alike:
        raise ValueError(f"{root} has the sub-folders {few(folders)}, of which {few(alike)} look like splits: {remedy}")
    for name, folder in folders.items():
        if not folder.is_nested:
            continue
        further = _alike(folder.children)
        below = {child: _of_paths(paths) for child, paths in folder.children.items()}
        if len(further) > 1 or any(_holds_classes(child, below) for child in below):
            raise ValueError(
                f"{root} has the sub-folder {name}, whose sub-folders {few(folder.children)} look like splits: name "
                f"{root / name} as the folder if these are its splits, put splits above the classes, or rename them"
            )
        if len(folders) == 1 and len(folder.children) > 1:
            raise ValueError(
                f"{root} has one sub-folder, {name}, with the sub-folders {few(folder.children)}: name {root / name} "
                "as the folder if these are the classes"
            )


def _alike(names: Iterable[str]) -> list[str]:
    """The names that look like splits beside each other; a class may be called `train`, or `train horn`."""
    looks = {name: look for name in names if (look := _look(name))}
    found = [name for name, look in looks.items() if not look.rest]
    if len(found) < 2 or all(name.lower() in _WORDS for name in found):
        found = []
    by_rest: dict[str, list[str]] = {}
    for name, look in looks.items():
        if look.rest and look.is_short:
            by_rest.setdefault(look.rest, []).append(name)
    for own in by_rest.values():
        if len({looks[name].split for name in own}) > 1:
            found += own
    return found


def _holds_classes(name: str, folders: dict[str, _Folder]) -> bool:
    """Whether a folder is called like a split and has folders in it that can be classes, not one that all have."""
    look = _look(name)
    if look is None or look.rest or not folders[name].is_nested:
        return False
    others = [set(folder.children) for folder in folders.values() if folder.is_nested]
    return len(set().union(*others)) > 1


def _look(name: str) -> _Look | None:
    words = _GLUED.sub(r"\1 \2", " ".join(re.findall(r"[^\W\d_]+", name.lower()))).split()
    splits = [word for word in words if word in SPLIT_OF_NAME]
    if not splits:
        is_numbered = any(character.isdigit() for character in name) and bool(words) and set(words) <= _NUMBERED
        return _Look("numbered", False, "") if is_numbered else None
    rest = [word for word in words if word not in SPLIT_OF_NAME and word not in _BESIDE_SPLITS and len(word) > 1]
    return _Look(SPLIT_OF_NAME[splits[0]], splits[0] in _SHORT, " ".join(rest))
