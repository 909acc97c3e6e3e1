"""The files of an official data set, read in the same way from a folder, a zip archive, a tar archive or plain files.

Nothing is unpacked to disk. `find_store` looks for a data set in `data_dir` and returns the `Store` that reads it.

fsspec's `TarFileSystem` is as fast, but it stops at the end of the tar and never reaches the checksum of gzip: with one
bit flipped in a small .tar.gz, it gave other content without an error in 1,179 of 1,270 cases, `TarStore` in none.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from modeling_msmaml.inputs.labelled_inputs import few

_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError)


@dataclass(frozen=True)
class Official:
    """Describes how to recognise an official data set in `data_dir`, and where to download it.

    A data set is one archive, one plain file, or several `parts`, each of which is one of the two.

    Attributes:
        title: title of the data set.
        folders: possible paths of the extracted folder, relative to `data_dir`, which are tried first and in this
            order. `data_dir` itself may be the extracted folder, too. The folders may also hold the archive.
        archives: possible names of the archive or of the plain file, which are tried next.
        marker: path, relative to the root of the folder or archive, that identifies the data set: a file, or with a
            slash at its end a folder. For a plain file, it is the file's name.
        source: official URL of the first of `archives`.
        md5: checksum of the official archive; empty if the source packs the archive anew for every download, as GitHub
            does.
        counts: pairs of a pattern and the number of files in the official archive that match it. They take the place
            of a checksum.
        parts: descriptions of the archives or files of a data set that has several. The data set then needs only a
            title, and `folders` of which each may hold all parts.
    """

    title: str
    folders: tuple[str, ...]
    archives: tuple[str, ...] = ()
    marker: str = ""
    source: str = ""
    md5: str = ""
    counts: tuple[tuple[str, int], ...] = ()
    parts: tuple[Official, ...] = ()

    @property
    def pieces(self) -> tuple[Official, ...]:
        """The descriptions of all archives and files: the parts, or the data set itself."""
        return self.parts or (self,)

    @property
    def is_plain_file(self) -> bool:
        """Whether the data set, or a part of it, is a file that is no archive."""
        return not self.parts and not self.archives[0].endswith(_ARCHIVE_SUFFIXES)

    @property
    def remedy(self) -> str:
        """A phrase that says what to put into `data_dir`."""
        named = " and ".join(f"{' or '.join(piece.archives)} (from {piece.source})" for piece in self.pieces)
        if all(piece.is_plain_file for piece in self.pieces):
            return f"put {named} into that folder, or into a folder {' or '.join(self.folders)} in it"
        if self.parts:
            extracted = " and ".join(piece.folders[0] for piece in self.parts)
            return f"put {named}, or their extracted folders {extracted}, into that folder"
        return (
            f"put {' or '.join(self.archives)} (from {self.source}), or its extracted folder "
            f"{' or '.join(self.folders)}, into that folder"
        )


class Store:
    """The files of one data set, by their paths inside it. The subclasses read a folder, a zip or a tar archive.

    Attributes:
        path: path of the folder or archive.
    """

    def __init__(self, path: Path):
        self.path = path

    def files(self) -> Iterable[Path]:
        """Returns the paths of the files on disk that hold the data, for a fingerprint."""
        return [self.path]

    def names(self) -> list[str]:
        """Returns the sorted paths of all files, relative to the root of the data set and separated by `/`.

        Raises:
            ValueError: the archive is damaged.
        """
        raise NotImplementedError

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yields the name and the content of each of the named files.

        The files come in the order of `names`, except those of a tar archive, which come in the order of the archive.

        Raises:
            ValueError: a file is missing from the data set, or the file or the archive is damaged.
        """
        raise NotImplementedError

    def read_one(self, name: str) -> bytes:
        """Returns the content of one file; it raises the same errors as `read`."""
        return next(iter(self.read([name])))[1]

    def damaged(self, error: Exception) -> ValueError:
        """Returns the error for an archive that cannot be read to its end."""
        return ValueError(
            f"{self.path} is damaged or incomplete ({type(error).__name__}: {error}); "
            f"it has {self.path.stat().st_size} bytes. Delete it and fetch it again"
        )

    def inside(self, name: str) -> str:
        """Returns the name of an entry, after checking that it stays inside the archive.

        Nothing is unpacked to disk here. But an archive with such an entry is not the official one, and a person might
        unpack it by hand.

        Raises:
            ValueError: the name is an absolute path, starts with a drive letter, or leaves the archive with `..`.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name.startswith(("/", "\\")) or ".." in parts or (parts and parts[0].endswith(":")):
            raise ValueError(
                f"{self.path} has the entry {name!r}, which points outside the archive: it is not the official file. "
                "Do not unpack it; delete it and fetch it again"
            )
        return name

    def missing(self, names: Iterable[str]) -> ValueError:
        """Returns the error for files that should be in the data set but are not."""
        return ValueError(f"{self.path} lacks {few(names)}; it is incomplete. Fetch it again")


class FolderStore(Store):
    """An extracted folder."""

    def files(self) -> Iterable[Path]:
        return [self.path / name for name in self.names()]

    def names(self) -> list[str]:
        found = (Path(folder, file) for folder, _, files in os.walk(self.path) for file in files)
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            try:
                yield name, (self.path / name).read_bytes()
            except FileNotFoundError:
                raise self.missing([name]) from None


class FileStore(Store):
    """A plain file, which has a name in the data set besides its path on disk."""

    def __init__(self, path: Path, name: str):
        super().__init__(path)
        self._name = name

    def names(self) -> list[str]:
        return [self._name]

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            if name != self._name or not self.path.is_file():
                raise self.missing([name])
            yield name, self.path.read_bytes()


class JointStore(Store):
    """Several stores, each of which holds some files of one data set. `read` goes through one after the other."""

    def __init__(self, stores: Sequence[Store]):
        super().__init__(Path(os.path.commonpath([store.path for store in stores])))
        self._stores = stores

    def files(self) -> Iterable[Path]:
        return [path for store in self._stores for path in store.files()]

    def names(self) -> list[str]:
        return sorted(name for store in self._stores for name in store.names())

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        left = list(names)
        for store in self._stores:
            held = set(store.names())
            yield from store.read([name for name in left if name in held])
            left = [name for name in left if name not in held]
        if left:
            raise self.missing(left)


class ZipStore(Store):
    """A zip archive. Its members are checked against their CRC while they are read."""

    def __init__(self, path: Path, marker: str):
        super().__init__(path)
        self._marker = marker

    @cached_property
    def _prefix(self) -> str:
        return _root_prefix(self._all_names(), self._marker, self)

    def _all_names(self) -> list[str]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        except _DAMAGE as error:
            raise self.damaged(error) from error
        return [self.inside(name) for name in names]

    def names(self) -> list[str]:
        return sorted(name[len(self._prefix) :] for name in self._all_names() if name.startswith(self._prefix))

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        prefix = self._prefix
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name in names:
                    yield name, archive.read(prefix + name)
        except KeyError:
            raise self.missing([name]) from None
        except _DAMAGE as error:
            raise self.damaged(error) from error


class TarStore(Store):
    """A tar archive, compressed or not. It can only be read from its start, so `read` goes through all of it once."""

    def __init__(self, path: Path, marker: str):
        super().__init__(path)
        self._marker = marker

    @cached_property
    def _prefix(self) -> str:
        return _root_prefix((name for name, _ in self._members(lambda name: False)), self._marker, self)

    def _members(self, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | None]]:
        """Yields every regular file, with its content if it is wanted and with `None` otherwise.

        A compressed archive is then read to its end, where its checksum is verified.
        """
        try:
            with tarfile.open(self.path) as archive:
                for member in archive:
                    if member.isfile():
                        self.inside(member.name)
                        file = archive.extractfile(member) if is_wanted(member.name) else None
                        yield member.name, None if file is None else file.read()
                while archive.fileobj.read(1 << 20):
                    pass
        except _DAMAGE as error:
            raise self.damaged(error) from error

    def names(self) -> list[str]:
        every = (name for name, _ in self._members(lambda name: False))
        return sorted(name[len(self._prefix) :] for name in every if name.startswith(self._prefix))

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        left = {self._prefix + name for name in names}
        for name, content in self._members(lambda name: name in left):
            if content is not None:
                left.discard(name)
                yield name[len(self._prefix) :], content
        if left:
            raise self.missing(name[len(self._prefix) :] for name in left)


def find_store(official: Official, data_dir: str | os.PathLike) -> Store:
    """Finds a data set in a folder.

    Args:
        official: description of the data set.
        data_dir: folder that holds the archive or its extracted content.

    Raises:
        FileNotFoundError: the folder does not exist, or it contains neither the extracted data nor the archive.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"data_dir={str(data_dir)!r} is not a folder. For {official.title}, {official.remedy}")
    stores = {piece.archives[0]: _found(piece, folder) for piece in official.pieces}
    there = [store for store in stores.values() if store is not None]
    if len(there) == len(stores):
        return JointStore(there) if official.parts else there[0]
    halves = [name for name in official.folders if (folder / name).is_dir()]
    lacking = official.marker or ", ".join(name for name, store in stores.items() if store is None)
    found = f" ({', '.join(halves)} is there but lacks {lacking})" if halves else ""
    if there and not found:
        found = f" ({lacking} is missing)"
    raise FileNotFoundError(f"{official.title} is not in data_dir={str(data_dir)!r}{found}: {official.remedy}")


def _found(piece: Official, folder: Path) -> Store | None:
    """Returns the store of one archive or file: its extracted folder if there is one, then the archive; else None."""
    places = [folder / name for name in piece.folders]
    for place in (*places, folder) if not piece.is_plain_file else ():
        if (place / piece.marker).is_dir() if piece.marker.endswith("/") else (place / piece.marker).is_file():
            return FolderStore(place)
    for path in (place / name for place in (folder, *places) for name in piece.archives):
        if path.is_file():
            return archive_store(path, piece)
    return None


def archive_store(path: Path, official: Official) -> ZipStore | TarStore | FileStore:
    """Returns the store for an official archive or plain file, whatever the name on disk is."""
    if official.is_plain_file:
        return FileStore(path, official.marker)
    return (ZipStore if official.archives[0].endswith(".zip") else TarStore)(path, official.marker)


def _root_prefix(names: Iterable[str], marker: str, store: Store) -> str:
    """Returns what precedes the path of the marker, since archives put everything into one folder of any name."""
    for name in names:
        if name == marker or name.endswith("/" + marker):
            return name[: -len(marker)]
        if marker.endswith("/") and (start := f"/{name}".find(f"/{marker}")) >= 0:
            return name[:start]
    raise store.missing([marker])
