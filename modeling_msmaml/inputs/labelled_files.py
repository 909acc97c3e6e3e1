"""
Lists files: those of a folder with one sub-folder per class, or with a `metadata.csv`, as labelled inputs
(`labelled_files`), and those that a person names for a few-shot classifier (`support_set`, `query_files`).
"""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .fingerprints import files_fingerprint, text_hash
from .kinds import KINDS, listed_suffixes, modality_of_file
from .labelled_inputs import SPLIT_NAMES, SPLIT_OF_NAME, LabelledInputs, few
from .read_text import read_text

_METADATA = "metadata.csv"
# What archivers and systems leave in folders, besides hidden files.
IGNORED = ("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini")


class _File(NamedTuple):
    """A file, by its path relative to the folder, with its label and source from `metadata.csv`."""

    name: str
    label: str | None = None
    source: str | None = None

    @property
    def modality(self) -> str | None:
        return modality_of_file(self.name)


def names_below(folder: Path) -> list[str]:
    """
    Returns the names of all files at any depth of a folder, relative to it and sorted.

    Links are followed, each folder once, and a link to nothing counts as a file, which cannot be read. Hidden files and
    those that systems leave behind (`IGNORED`) are left out.
    """
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_ignored(name)]
        if (real := os.path.realpath(place)) in seen:
            folders.clear()  # a loop, or a second link to the same folder
            continue
        seen.add(real)
        found += [Path(place, name).relative_to(folder) for name in files if not _is_ignored(name)]
    return [path.as_posix() for path in sorted(found)]


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in IGNORED


def files_in(folder: Path, modality: str | None = None) -> list[Path]:
    """Returns the files of a modality (by default of any) at any depth of a folder, sorted, without hidden ones."""
    wanted = KINDS if modality is None else [modality]
    return [folder / name for name in names_below(folder) if modality_of_file(name) in wanted]


def labelled_files(data_dir: str | os.PathLike | None, modality: str | None = None) -> LabelledInputs:
    """Lists the files of a folder as labelled inputs, without reading them.

    The label of a file is that in `metadata.csv` (columns `file_name`, relative to the folder, and optionally `label`
    and `source`), or else the name of its sub-folder: at the first level below the folder, or at the second if those at
    the first are splits (train, validation, test).

    Args:
        data_dir: the folder.
        modality: the modality of the files; by default the only one that the folder has.

    Raises:
        FileNotFoundError: there is no such folder, or `metadata.csv` names a file that does not exist.
        ValueError: `data_dir` is `None`, there are no files of the modality, there are several modalities and none is
            chosen, a file of `metadata.csv` has no label, or `metadata.csv` is not as described above.

    Warns:
        UserWarning: files are left out because they are of another kind or in no class.
    """
    if data_dir is None:
        raise ValueError("data_dir is needed for 'folder': name a folder with one sub-folder per class")
    root = Path(data_dir).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir={str(data_dir)!r} is no folder; it should have one sub-folder per class")
    listed = (root / _METADATA).is_file()
    files = _listed_files(root) if listed else [_File(name) for name in names_below(root)]
    modality = _one_modality(files, modality, root)
    depth = _depth_of_classes(files, root)
    chosen, left_out = [], []
    for file in files:
        label = file.label if file.label is not None else _sub_folder(file.name, depth)
        if file.modality == modality and label is not None:
            chosen.append(file._replace(label=label, source=file.source or file.name))
        elif listed and file.modality == modality:
            raise ValueError(f"{file.name} in {root / _METADATA} has no label and lies in no sub-folder that names one")
        else:
            left_out.append(file.name)
    if not chosen:
        raise ValueError(f"{root} has no {modality} files in sub-folders: put each file into a sub-folder of its class")
    if left_out:
        warnings.warn(
            f"{root}: {len(left_out)} files are of another kind or in no class: {few(left_out)}", UserWarning, 4
        )
    if not listed and (empty := _empty_folders(root)):
        raise ValueError(f"these sub-folders have no files: {few(empty)}; fill or remove them")
    paths = [root / file.name for file in chosen]
    return LabelledInputs(
        name="folder",
        modality=modality,
        names=[str(path) for path in paths],
        labels=[file.label for file in chosen],
        sources=[file.source for file in chosen],
        splits=[SPLIT_OF_NAME[PurePosixPath(file.name).parts[0].lower()] for file in chosen] if depth else None,
        read=partial(_read, paths, modality),
        fingerprint=text_hash(files_fingerprint(paths), *("\t".join(file) for file in chosen)),
    )


def _read(paths: list[Path], modality: str, number: int) -> Path | str:
    """Returns the path of a file, for the processor to read, or the content of a text file."""
    return read_text(paths[number]) if modality == "text" else paths[number]


def _depth_of_classes(files: list[_File], root: Path) -> int:
    """
    Returns at which level of sub-folders the classes are: 1 if those at the first level are splits, else 0.

    Raises:
        ValueError: a sub-folder is called like a split of another name, such as `train_2`, and holds folders alone.
    """
    levels: dict[str, list[int]] = {}
    for file in files:
        parts = PurePosixPath(file.name).parts
        if len(parts) > 1:
            levels.setdefault(parts[0], []).append(len(parts))
    if levels and all(name.lower() in SPLIT_OF_NAME for name in levels):
        return 1
    alike = [name for name in levels if set(re.split(r"[^a-z]+", name.lower())) & SPLIT_OF_NAME.keys()]
    if levels and len(alike) > len(levels) / 2 and all(min(depths) > 2 for depths in levels.values()):
        known = "; ".join(f"{split}: {', '.join(names)}" for split, names in SPLIT_NAMES.items())
        raise ValueError(
            f"{root} has the sub-folders {few(levels)}, of which {few(alike)} look like splits: rename them to names "
            f"of splits ({known}), or let the classes be the sub-folders"
        )
    return 0


def _empty_folders(root: Path) -> list[str]:
    """Returns the sub-folders that hold neither a file nor a folder."""
    folders = [path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()]
    shown = [path for path in folders if not any(map(_is_ignored, path.relative_to(root).parts))]
    return [str(path) for path in shown if not any(path.iterdir())]


def _sub_folder(name: str, depth: int) -> str | None:
    """Returns the class of a file by its sub-folder at a depth; `None` if it lies in none."""
    parts = PurePosixPath(name).parts
    return parts[depth] if len(parts) > depth + 1 else None


def _listed_files(root: Path) -> list[_File]:
    """Returns the files of `metadata.csv`, in its order, with blanks around its values stripped."""
    path = root / _METADATA
    files: list[_File] = []
    lines: dict[str, int] = {}
    for line, row in _table(path):
        given = row["file_name"]
        if "\\" in given and not (root / given).exists():
            given = given.replace("\\", "/")  # as Windows writes it
        name = os.path.normpath(given)
        if not row["file_name"] or os.path.isabs(name) or name.split(os.sep)[0] == "..":
            raise ValueError(
                f"{path}, line {line}: a file outside its folder: {row['file_name']}; file_name is relative to {root}"
            )
        if name in lines:
            raise ValueError(f"{path}, line {line}: listed twice: {name}, first in line {lines[name]}")
        lines[name] = line
        if row.get("label") == "":
            raise ValueError(f"{name} in {path}, line {line}, has no label")
        files.append(_File(Path(name).as_posix(), row.get("label"), row.get("source") or None))
    if not files:
        raise ValueError(f"{path} lists no files")
    absent = [file.name for file in files if not (root / file.name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{path}, line {lines[os.path.normpath(absent[0])]}: files that do not exist: {few(absent)}; correct or "
            "remove their lines"
        )
    return files


def _table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and the values of each row of a `metadata.csv`; what is not a table of its kind raises."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: it is not UTF-8; save it in this encoding") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            line, values = reader.line_num, [value.strip() for value in row]
            if not any(values):
                continue
            if any(character in value for value in values for character in "\n\r\0"):
                raise ValueError(f"{path}, line {line}: a value spans several lines or is damaged; close its quotes")
            if not columns:
                columns = [value.lower() for value in values]
                _check_columns(columns, f"{path}, line {line}")
                continue
            if len(values) != len(columns):
                raise ValueError(
                    f"{path}, line {line}: there are {len(values)} values for the {len(columns)} columns "
                    f"{', '.join(columns)}; put quotes around a value with a comma"
                )
            yield line, dict(zip(columns, values, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; close all quotes") from error


def _check_columns(columns: list[str], where: str) -> None:
    unknown = set(columns) - {"file_name", "label", "source"}
    if "file_name" not in columns or unknown or len(set(columns)) < len(columns):
        raise ValueError(
            f"{where}: the columns are {columns}; it needs file_name, and may have label and source, each once"
        )


def _one_modality(files: list[_File], modality: str | None, root: Path) -> str:
    """Returns the requested modality, or else the only modality of the files."""
    counts = Counter(file.modality for file in files if file.modality)
    if modality is not None and modality not in KINDS:
        raise ValueError(f"modality={modality!r} does not exist; the modalities are {', '.join(KINDS)}")
    if modality is not None and not counts[modality] or not counts:
        raise ValueError(f"{root} has no files of these kinds: {listed_suffixes(modality)}")
    if modality is None and len(counts) > 1:
        found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise ValueError(f"{root} has files of several modalities ({found}): choose one with modality=...")
    return modality or next(iter(counts))


def support_set(folder: Path, modality: str | None = None) -> tuple[list[Path], list[str]]:
    """
    Lists the labelled examples in a folder with one sub-folder per class.

    Args:
        folder: the folder.
        modality: the modality of the files; by default any.

    Returns:
        The files, and for each the name of its sub-folder.

    Raises:
        `FileNotFoundError`: there is no such folder.
        `ValueError`: there is no sub-folder, or a sub-folder has no files of the modality.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--support {folder} is no folder; it should have one sub-folder per class")
    if not (folder / _METADATA).is_file():
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not _is_ignored(path.name))
        if not classes:
            raise ValueError(f"--support {folder} has no sub-folders: put the examples of each class into one")
        if empty := [str(path) for path in classes if not files_in(path, modality)]:
            raise ValueError(f"{', '.join(empty)}: no files of these kinds: {listed_suffixes(modality)}")
    found = labelled_files(folder, modality)
    if found.splits is not None:
        splits = ", ".join(sorted(set(found.splits)))
        raise ValueError(f"--support {folder} has the splits {splits}: name the folder of one of them")
    return [Path(name) for name in found.names], list(found.labels)


def query_files(queries: Iterable[str], modality: str | None) -> list[Path]:
    """
    Lists the files that are to be classified.

    Args:
        queries: names of files, and of folders, which stand for all of their files.
        modality: the modality of the files in folders; `None` for any.

    Raises:
        `FileNotFoundError`: there is no such file, or a folder has no files of the modality.
    """
    files = []
    for query in map(Path, queries):
        found = files_in(query, modality) if query.is_dir() else [query] if query.is_file() else []
        if not found:
            raise FileNotFoundError(
                f"--query {query}: no such file, or no {modality or 'sound, text or picture'} in it"
            )
        files += found
    return files
