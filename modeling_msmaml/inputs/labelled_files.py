"""
Lists files: those of a folder with one sub-folder per class, or with a `metadata.csv`, as labelled inputs
(`labelled_files`), and those that a person names for a few-shot classifier (`support_set`, `query_files`).
"""

from __future__ import annotations

import csv
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .fingerprints import files_fingerprint, text_hash
from .kinds import KINDS, listed_suffixes, modality_of_file
from .labelled_inputs import SPLITS, LabelledInputs, few

_METADATA = "metadata.csv"


class _File(NamedTuple):
    """A file, by its path relative to the folder, with its label and source from `metadata.csv`."""

    name: str
    label: str | None = None
    source: str | None = None

    @property
    def modality(self) -> str | None:
        return modality_of_file(self.name)


def names_below(folder: Path) -> list[str]:
    """Returns the names of all files at any depth of a folder, relative to it and sorted, without hidden ones."""
    relative = (Path(place, file).relative_to(folder) for place, _, files in os.walk(folder) for file in files)
    return [path.as_posix() for path in sorted(relative) if not any(part[0] == "." for part in path.parts)]


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
    tops = {PurePosixPath(file.name).parts[0] for file in files if "/" in file.name}
    depth = 1 if tops and tops <= set(SPLITS) else 0
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
    paths = [root / file.name for file in chosen]
    return LabelledInputs(
        name="folder",
        modality=modality,
        names=[str(path) for path in paths],
        labels=[file.label for file in chosen],
        sources=[file.source for file in chosen],
        splits=[PurePosixPath(file.name).parts[0] for file in chosen] if depth else None,
        read=partial(_read, paths, modality),
        fingerprint=text_hash(files_fingerprint(paths), *("\t".join(file) for file in chosen)),
    )


def _read(paths: list[Path], modality: str, number: int) -> Path | str:
    """Returns the path of a file, for the processor to read, or the content of a text file."""
    return paths[number].read_text(encoding="utf-8-sig") if modality == "text" else paths[number]


def _sub_folder(name: str, depth: int) -> str | None:
    """Returns the class of a file by its sub-folder at a depth; `None` if it lies in none."""
    parts = PurePosixPath(name).parts
    return parts[depth] if len(parts) > depth + 1 else None


def _listed_files(root: Path) -> list[_File]:
    """Returns the files of `metadata.csv`, in its order."""
    path = root / _METADATA
    with path.open(newline="", encoding="utf-8-sig") as table:
        reader = csv.DictReader(table)
        unknown = set(reader.fieldnames or ()) - {"file_name", "label", "source"}
        if "file_name" not in (reader.fieldnames or ()) or unknown:
            raise ValueError(
                f"{path} has the columns {reader.fieldnames}; it needs file_name, and may have label and source"
            )
        files = [_File(row["file_name"], row.get("label") or None, row.get("source") or None) for row in reader]
    wrong = [file.name for file in files if PurePosixPath(file.name).is_absolute() or ".." in Path(file.name).parts]
    if wrong:
        raise ValueError(f"{path} names files outside its folder: {few(wrong)}; file_name is relative to {root}")
    twice = [name for name, count in Counter(file.name for file in files).items() if count > 1]
    if twice or not files:
        raise ValueError(f"{path} lists {len(files)} files, some of them twice: {few(twice)}; list each file once")
    absent = [file.name for file in files if not (root / file.name).is_file()]
    if absent:
        raise FileNotFoundError(f"{path} lists files that do not exist: {few(absent)}; correct or remove these lines")
    return files


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
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = {path.name: files_in(path, modality) for path in classes}
    if not files:
        raise ValueError(f"--support {folder} has no sub-folders: put the examples of each class into one")
    if empty := [name for name, own in files.items() if not own]:
        raise ValueError(
            f"{', '.join(str(folder / name) for name in empty)}: no files of these kinds: {listed_suffixes(modality)}"
        )
    return [file for own in files.values() for file in own], [name for name, own in files.items() for _ in own]


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
