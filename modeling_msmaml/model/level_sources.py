"""Where the files of a level encoder are: below a folder, or in a repository of the Hub."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from transformers.utils.hub import extract_commit_hash

from .hub_files import NotFetched, hub_file
from .level_encoder import CONFIG_FILE, WEIGHTS_FILE
from .saved_files import read_json

ENCODERS = "encoders"  # the folder of a saved model with a folder for each encoder
# What else belongs to an encoder, where it has it.
COMPANIONS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("LICENSE", "NOTICE", "README.md"),
)
# The arguments of `from_pretrained` with which files are fetched later, too.
ACCESS_ARGUMENTS = ("cache_dir", "local_files_only", "proxies", "token")
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


class EncoderSource(NamedTuple):
    """
    Where an encoder is.

    Args:
        place: absolute path of a folder, or the name of a repository.
        subfolder: path of the encoder's folder in it; empty for `place` itself.
        revision: commit of a repository.
    """

    place: str
    subfolder: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        return os.path.join(self.place, self.subfolder) if self.subfolder else self.place

    def file(self, name: str, access: dict[str, Any] | None = None) -> Path:
        """
        The path on this machine of one of the encoder's files, which is fetched first if it is on the Hub.

        Args:
            name: of the file.
            access: arguments with which it is fetched, see `ACCESS_ARGUMENTS`.

        Raises:
            `FileNotFoundError`: there is no such file, or it is neither in the cache nor can it be fetched.
        """
        found = self.optional_file(name, access)
        if found is None:
            raise FileNotFoundError(f"{self} is no folder of a level encoder: it has no {name}")
        return found

    def optional_file(self, name: str, access: dict[str, Any] | None = None) -> Path | None:
        """The same, but `None` if there is no such file."""
        if os.path.isdir(self.place):
            path = Path(self.place, self.subfolder, name)
            return path if path.is_file() else None
        if os.path.isabs(self.place) or not _REPOSITORY.fullmatch(self.place):
            raise FileNotFoundError(f"there is no folder {self.place}")
        try:
            return hub_file(self.place, name, self.subfolder, revision=self.revision, **(access or {}))
        except NotFetched:
            raise
        except OSError as error:
            raise FileNotFoundError(f"there is no folder {self}, and its {name} cannot be fetched: {error}") from error

    def folder(self, access: dict[str, Any] | None = None) -> Path:
        """The folder on this machine with the encoder's two files, which are fetched first if they are on the Hub."""
        self.file(WEIGHTS_FILE, access)
        return self.file(CONFIG_FILE, access).parent

    def folder_of_tokenizer(self) -> Path:
        """The same with the files of its tokenizer in place of its weights."""
        for name in COMPANIONS:
            self.optional_file(name)
        return self.file(CONFIG_FILE).parent


def source_of(place: str | os.PathLike, subfolder: str = "", **hub: Any) -> EncoderSource:
    """
    The place of a model or an encoder as a source, with the commit at which a repository is now.

    Args:
        place: a folder, relative to the working directory or not, or a repository.
        subfolder: path of a folder in it.
        hub: `revision` and `ACCESS_ARGUMENTS`.

    Raises:
        `FileNotFoundError`: neither such a folder nor such a repository.
    """
    if os.path.isdir(place):
        return EncoderSource(str(Path(place).absolute()), subfolder)
    revision = hub.pop("revision", None)
    access = {name: hub[name] for name in ACCESS_ARGUMENTS if hub.get(name) is not None}
    asked = EncoderSource(os.fspath(place), subfolder, revision)
    commit = extract_commit_hash(str(asked.file(CONFIG_FILE, access)), None)
    return asked._replace(revision=commit or revision)


def below(source: EncoderSource, folder: Any) -> EncoderSource:
    """
    The source of an encoder in a saved model.

    Args:
        source: of the model.
        folder: path of the encoder's folder in that of the model, as its config says it.

    Raises:
        `ValueError`: a folder that is not below the model's.
    """
    path = PurePosixPath(folder) if isinstance(folder, str) else None
    if path is None or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{source} has an encoder in folder={folder!r}, which must be a folder of its own, below it")
    return source._replace(subfolder=str(PurePosixPath(source.subfolder) / path))


def read_description(source: EncoderSource, access: dict[str, Any] | None = None) -> dict[str, Any]:
    """
    The `config.json` of a source.

    Raises:
        `FileNotFoundError`: there is none.
        `ValueError`: it is not valid.
    """
    return read_json(source.file(CONFIG_FILE, access))


def copy_encoder(source: EncoderSource, description: dict[str, Any], target: Path, access: dict[str, Any]) -> None:
    """
    Puts the files of an encoder into a folder of a saved model, unless they are there. Its weights take no more space
    where the file system has hard links, since no one changes them in place.

    Raises:
        `FileNotFoundError`: a file of the encoder is missing, or cannot be fetched.
        `ValueError`: the source holds another encoder by now.
    """
    if (found := read_description(source, access)) != description:
        raise ValueError(f"the encoder in {source} is {found}, but this model was made for {description}")
    if os.path.isdir(source.place) and target.exists() and target.samefile(Path(source.place, source.subfolder)):
        return
    weights = source.file(WEIGHTS_FILE, access)
    target.mkdir(parents=True, exist_ok=True)
    put_link(weights, target / WEIGHTS_FILE)
    for name in COMPANIONS:
        companion = source.optional_file(name, access)
        if companion is not None:
            shutil.copyfile(companion, target / name)
        else:
            (target / name).unlink(missing_ok=True)
    (target / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")


def put_link(file: str | Path, target: str | Path) -> None:
    """
    Puts a hard link to a file or, on another file system or one without hard links, a copy in the place of whatever
    `target` is, which is whole at any moment.
    """
    file, target = Path(file).resolve(), Path(target)  # files of the Hub's cache are symbolic links
    if target.exists() and target.samefile(file):
        return
    partial = target.with_name(f"_{target.name}")  # Trainer's uploads leave out what begins with an underscore
    partial.unlink(missing_ok=True)
    try:
        os.link(file, partial)
    except OSError:
        shutil.copyfile(file, partial)
    partial.replace(target)
