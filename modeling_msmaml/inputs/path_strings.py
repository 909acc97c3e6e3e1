"""Tells strings that name a file from strings that are texts, for every door through which a string comes in."""

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from .kinds import OTHER_FILES, TEXT_LIKE, modality_of_file

_LONGEST_PATH = 4096  # characters
_LONGEST_SHOWN = 80  # characters of a string in a message
_MOST_QUOTES = 3  # pairs of quotation marks around a path
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://\S+", re.IGNORECASE)
_FILE_ADDRESS = re.compile(r"file:/+(?=\S)", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]|data:;base64,", re.IGNORECASE)
_DRIVE_OR_SHARE = re.compile(r"[A-Za-z]:[\\/][^\s\\/]|\\\\[^\\\s]+\\[^\s\\]")
_FROM_HERE = re.compile(r"(\.\.?|~\w*)[\\/]\S")
_SEPARATOR = re.compile(r"[\\/]")
_QUERY = re.compile("[?#]")  # where the query of an address begins
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»", "<": ">"}
# Invisible characters that are copied along with a path: byte order mark, zero-width space, marks of the direction.
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_AROUND = _INVISIBLE + "".join(character for character in map(chr, range(0x3001)) if character.isspace())
# Suffixes that are as well words, abbreviations or the names of countries at the end of an address, as in `Dr.Au`.
_ALSO_WORDS = frozenset(
    (".ape", ".arrow", ".au", ".feather", ".mat", ".mid", ".pages", ".pickle", ".ps", ".pt", ".ra", ".raw")
)
# The address of a site or a person, in a country whose name is also a suffix.
_DOMAIN = re.compile(
    r"[.@](com|net|org|gov|edu|co|ac)\.(au|md|ps|pt)$|@[^@\\/]+\.(au|md|ps|pt)$|^www\.[^\\/]+$", re.IGNORECASE
)
# What sentences have and the paths of files do not: a blank beside a separator, marks within, and words in lower case
# that titles seldom have.
_PROSE = re.compile(
    r"[\\/]\s|\s[\\/]|[;?!]\s|\s(am|are|be|been|can|could|did|do|does|had|has|have|is|please|see|should|was|were|would)\s"
)
_PROSE_WITHOUT_SPACE = re.compile("[，。！？；]")  # of languages that put none between words
_RUN_OF_WORDS = re.compile(r"\b([a-z]\w*\s+){3}[a-z]")  # in lower case, as they stand in a sentence


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
    """What a string names, or `None` if it is a text. Takes time in proportion to the first characters of the string.

    A string names something if all of it is the name of a file that exists or the path of a folder. Without white
    space it also does if it has the suffix of a file, the scheme of an address, or begins like a path. With white space
    it does if it begins and ends like the path of a file and holds no sentence. A sentence that mentions a file is a
    text, and so is a single word that is also the name of a folder.
    """
    if _DATA_ADDRESS.match(string[:200].lstrip()):
        return NamedPlace(
            "is a data URI, which is not decoded: give the content of the file as bytes, "
            "base64.b64decode(string.partition(',')[2])"
        )
    bare = string.strip(_AROUND)
    if len(bare) > _LONGEST_PATH or {"\n", "\r", "\0"} & set(bare) or not any(map(str.isalnum, bare)):
        return None
    if (place := _existing(string) or _existing(bare) or _missing(bare)) is not None:
        if bare == string or os.path.lexists(string):
            return place
        is_blank = bare == string.strip()
        around = "white space around it: strip it" if is_blank else "invisible characters around it: remove them"
        return NamedPlace(f"is the name of a file with {around}")
    unquoted = _unquoted(bare)
    if unquoted != bare and (_existing(unquoted) or _missing(unquoted)):
        return NamedPlace("is the name of a file in quotation marks: remove them")
    return None


def _unquoted(string: str) -> str:
    """A string without the quotation marks around it, of which a path has a few at most."""
    for _ in range(_MOST_QUOTES):
        if _QUOTES.get(string[0]) != string[-1]:
            return string
        string = string[1:-1].strip(_AROUND)
    return string


def _existing(string: str) -> NamedPlace | None:
    """What a string names that exists, or a link that points nowhere."""
    if not os.path.lexists(string):
        return None
    if os.path.isdir(string):
        if not _SEPARATOR.search(string):
            return None  # docs, tests, music: words that folders are called by
        return NamedPlace("is a folder: give the files in it, such as sorted(pathlib.Path(folder).iterdir())")
    if not os.path.exists(string):
        return NamedPlace("is a link to a file that does not exist", is_missing=True)
    return NamedPlace() if os.path.isfile(string) else NamedPlace("is no regular file: give the path of one")


def _missing(string: str) -> NamedPlace | None:
    """What a string that is no file's name is written like."""
    if address := _FILE_ADDRESS.match(string):
        path = unquote(string[address.end() :])
        path = path if _DRIVE_OR_SHARE.match(path) else f"/{path}"
        if not _has_space(string) or os.path.lexists(path) or (ends_like_file(path) and not _is_prose(path)):
            return NamedPlace(f"is a file URI, which is not opened: give the path, {path!r}")
    if _ADDRESS.fullmatch(string):
        return NamedPlace("is an address (URL), which is not fetched: download the file and give its path")
    if string.startswith("~") and os.path.lexists(os.path.expanduser(string)):
        return NamedPlace("begins with ~, which is not expanded: give os.path.expanduser of it")
    if _is_path_with_space(string) if _has_space(string) else _is_path_without_space(string):
        return NamedPlace("is written like a path, but there is no such file", is_missing=True)
    return None


def _has_space(string: str) -> bool:
    return any(map(str.isspace, string))


def _is_path_without_space(string: str) -> bool:
    if _PROSE_WITHOUT_SPACE.search(string):
        return False
    if ends_like_file(string) or _DRIVE_OR_SHARE.match(string) or _FROM_HERE.match(string):
        return True
    return any(folder.name and os.path.isdir(folder) for folder in Path(string).parents)


def _is_path_with_space(string: str) -> bool:
    if not ends_like_file(string) or _is_prose(string):
        return False
    if _DRIVE_OR_SHARE.match(string) or _FROM_HERE.match(string):
        return True
    folder, _, name = string.rpartition("/")
    # A command, such as /usr/bin/play song.wav, begins with a file.
    return os.path.isdir(folder) and not _RUN_OF_WORDS.search(name) and not os.path.isfile(string.split()[0])


def _is_prose(string: str) -> bool:
    """Whether a string that begins or ends like a path is a sentence, or names several files."""
    words = string.split()
    return _PROSE.search(string) is not None or any(ends_like_file(word.rstrip(",:)")) for word in words[:-1])


def ends_like_file(string: str) -> bool:
    """Whether a string ends with the suffix of a kind of files that people hand in, and with nothing else that it may
    be: see [`may_be_file`]."""
    suffix = _suffix(string)
    if suffix.lower() in _ALSO_WORDS and not _SEPARATOR.search(string) and "_" not in string:
        return False
    return bool(suffix) and not _DOMAIN.search(string)


def may_be_file(string: str) -> bool:
    """Whether a single word ends with what is a suffix, but is an ordinary word or an abbreviation as well."""
    suffix = _suffix(string)
    is_name = suffix.istitle() or _DOMAIN.search(string)  # Dr.Au, abc.net.au
    return suffix.lower() in _ALSO_WORDS and not is_name and not _has_space(string)


def _suffix(string: str) -> str:
    """The suffix of a string, if it is one of a kind of files that people hand in; otherwise nothing."""
    name = _SEPARATOR.split(string)[-1]
    before_query = name if _has_space(name) else _QUERY.split(name)[0]
    for own in (name, before_query):
        suffix = Path(own).suffix
        lower = suffix.lower()
        if modality_of_file(f"_{lower}") is not None or lower in OTHER_FILES or lower in TEXT_LIKE:
            return suffix
    return ""


def shown(string: str) -> str:
    """A string as messages quote it, without its middle if it is long."""
    return repr(string) if len(string) <= _LONGEST_SHOWN else f"{string[:_LONGEST_SHOWN]!r}..."
