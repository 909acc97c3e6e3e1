"""Walks a folder: its files at any depth, its empty folders, and what in it is neither."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .labelled_inputs import SPLIT_OF_NAME

# What archivers and systems leave in folders, besides hidden files; in lower case.
IGNORED = frozenset(
    ("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "lost+found")
    + ("$recycle.bin", "system volume information")
)


class Entry(NamedTuple):
    """A file or folder that was found.

    Args:
        name: its path relative to the folder that was walked, with `/`.
        real: its absolute path without links.
        is_dead: whether it is a link to nothing.
    """

    name: str
    real: str
    is_dead: bool = False

    @property
    def parts(self) -> list[str]:
        return self.name.split("/")


@dataclass
class Walk:
    """What a walk found, each list in the order of the names.

    Attributes:
        files: regular files, and links to nothing, which cannot be read.
        folders: all folders below the one that was walked.
        empty: names of folders in which there is neither a file nor a folder, and of links in the folder itself that
            lead back to it.
        others: names of pipes, sockets and devices, which are no files.
    """

    files: list[Entry] = field(default_factory=list)
    folders: list[Entry] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def is_ignored(name: str) -> bool:
    """Returns whether a file or folder is hidden or one that systems leave behind (`IGNORED`)."""
    return name.startswith(".") or name.lower() in IGNORED


def walk(folder: Path) -> Walk:
    """
    Walks a folder. Links are followed, except those to a folder above them, which would not end. Within one class, each
    folder is entered once, whatever links lead to it.

    Raises:
        OSError: a folder must not be read.
    """
    found, entered = Walk(), set()
    pending = [("", os.path.realpath(folder), frozenset[str]())]
    while pending:
        prefix, real, above = pending.pop()
        above |= {real}
        below, is_empty = [], True
        with os.scandir(folder / prefix) as entries:
            shown = sorted((entry for entry in entries if not is_ignored(entry.name)), key=lambda entry: entry.name)
        for entry in shown:
            name = f"{prefix}{entry.name}"
            own = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
            kind = _kind(entry)
            if kind == "folder":
                if own in above:  # a loop
                    found.empty += [] if prefix else [name]
                    continue
                top, *rest = name.split("/")
                one_class = (top, *rest[:1]) if top.lower() in SPLIT_OF_NAME else (top,)
                if (one_class, own) not in entered:
                    entered.add((one_class, own))
                    below.append((f"{name}/", own, above))
                    found.folders.append(Entry(name, own))
            elif kind == "other":
                found.others.append(name)
                continue
            else:
                found.files.append(Entry(name, own, kind == "dead link"))
            is_empty = False
        if is_empty and prefix:
            found.empty.append(prefix.rstrip("/"))
        pending += reversed(below)
    for entries in (found.files, found.folders):
        entries.sort(key=lambda entry: entry.parts)
    return found


def _kind(entry: os.DirEntry) -> str:
    """Returns `"file"`, `"folder"`, `"dead link"` or `"other"`."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return "other" if os.path.exists(entry.path) else "dead link"
    except OSError:  # such as a link to itself
        return "dead link"
