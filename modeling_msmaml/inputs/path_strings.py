"""Tells strings that name a file from strings that are texts, for every door through which a string comes in."""

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from .kinds import OTHER_FILES, TEXT_LIKE, modality_of_file

_LONGEST_PATH = 4096  # characters
_LONGEST_SHOWN = 80  # characters of a string in a message
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://\S+", re.IGNORECASE)
_FILE_ADDRESS = re.compile(r"file:/+", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]|data:;base64,", re.IGNORECASE)
_DRIVE_OR_SHARE = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\\s]+\\\S")
_FROM_HERE = re.compile(r"(\.\.?|~\w*)[\\/]\S")
_QUERY = re.compile(r"[?#][^\s/\\]+$")  # of an address without its scheme
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»", "<": ">"}
# Invisible characters that are copied along with a path: byte order mark, zero-width space, marks of the direction.
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class NamedPlace(NamedTuple):
    """What a string names that is no text.

    Args:
        why: what is wrong with it and what would work, as the end of a sentence that begins with the string; empty for
            a file that exists.
        is_missing: whether it is written like a path that names nothing.
    """

    why: str = ""
    is_missing: bool = False


def named_place(string: str) -> NamedPlace | None:
    """What a string names, or `None` if it is a text.

    A string names something if a file or folder of this name exists, if it begins with a drive or an existing folder
    like a path, or if it has no white space and ends with the suffix of a file or begins with the scheme of an address.
    A sentence that mentions a file is a text.
    """
    if _DATA_ADDRESS.match(string[:200].lstrip()):
        return NamedPlace(
            "is a data URI, which is not decoded: give the content of the file as bytes, "
            "base64.b64decode(string.partition(',')[2])"
        )
    bare = _stripped(string[: 2 * _LONGEST_PATH])
    if len(bare) > _LONGEST_PATH or {"\n", "\r", "\0"} & set(bare) or not any(map(str.isalnum, bare)):
        return None
    if os.path.lexists(string):
        return _existing(string)
    if bare != string and (os.path.lexists(bare) or named_place(bare)):
        around = (
            "white space around it: strip it"
            if bare == string.strip()
            else "invisible characters around it: remove them"
        )
        return NamedPlace(f"is the name of a file with {around}")
    if _QUOTES.get(bare[0]) == bare[-1] and named_place(bare[1:-1]):
        return NamedPlace("is the name of a file in quotation marks: remove them")
    if address := _FILE_ADDRESS.match(bare):
        path = unquote(bare[address.end() :])
        path = path if _DRIVE_OR_SHARE.match(path) else f"/{path}"
        return NamedPlace(f"is a file URI, which is not opened: give the path, {path!r}")
    if _ADDRESS.fullmatch(bare):
        return NamedPlace("is an address (URL), which is not fetched: download the file and give its path")
    if bare.startswith("~") and os.path.lexists(os.path.expanduser(bare)):
        return NamedPlace("begins with ~, which is not expanded: give os.path.expanduser of it")
    if _is_path(bare):
        return NamedPlace("is written like a path, but there is no such file", is_missing=True)
    return None


def _existing(path: str) -> NamedPlace:
    if os.path.isdir(path):
        return NamedPlace("is a folder: give the files in it, such as sorted(pathlib.Path(folder).iterdir())")
    if not os.path.exists(path):
        return NamedPlace("is a link to a file that does not exist", is_missing=True)
    return NamedPlace() if os.path.isfile(path) else NamedPlace("is no regular file: give the path of one")


def _is_path(string: str) -> bool:
    """Whether a string that names nothing is written like a path all the same."""
    if _DRIVE_OR_SHARE.match(string):
        return True
    has_space, has_suffix = any(map(str.isspace, string)), ends_like_file(string)
    if not has_space and (has_suffix or _FROM_HERE.match(string)):
        return True
    folders = [folder for folder in Path(string).parents if folder.name and os.path.isdir(folder)]
    if not folders or has_suffix or not has_space:
        return bool(folders)
    return folders[0] == Path(string).parent and not any(map(str.isspace, Path(string).name))


def ends_like_file(string: str) -> bool:
    """Whether a string ends with the suffix of a kind of files that people hand in."""
    suffix = Path(_QUERY.sub("", string)).suffix.lower()
    return modality_of_file(f"_{suffix}") is not None or suffix in OTHER_FILES or suffix in TEXT_LIKE


def shown(string: str) -> str:
    """A string as messages quote it, without its middle if it is long."""
    return repr(string) if len(string) <= _LONGEST_SHOWN else f"{string[:_LONGEST_SHOWN]!r}..."


def _stripped(string: str) -> str:
    while (shorter := string.strip().strip(_INVISIBLE)) != string:
        string = shorter
    return string
