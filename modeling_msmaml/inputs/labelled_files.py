"""Folders and their metadata.csv -> labelled inputs."""

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
    """A file by its path relative to the folder, with what `metadata.csv` says of it."""

    name: str
    label: str | None = None
    source: str | None = None

    @property
    def modality(self) -> str | None:
        return modality_of_file(self.name)


def labelled_files(data_dir: str | os.PathLike | None, modality: str | None = None) -> LabelledInputs:
    """The files of a folder, listed and not read.

    Raises:
        FileNotFoundError: no such folder, or a file of `metadata.csv` is not there.
        ValueError: no `data_dir`, no files of the modality, several modalities and none chosen, a file without a class,
            or a `metadata.csv` that is not as described above.

    Warns:
        UserWarning: files that are left out because they are of another kind, or in no class.
    """
    if data_dir is None:
        raise ValueError("data_dir is needed for 'folder': name a folder with one sub-folder a class")
    root = Path(data_dir).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir={str(data_dir)!r} is no folder; it should have one sub-folder a class")
    listed = (root / _METADATA).is_file()
    files = _listed_files(root) if listed else _found_files(root)
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
    """A path for the processor to read, or a text."""
    return paths[number].read_text(encoding="utf-8-sig") if modality == "text" else paths[number]


def _sub_folder(name: str, depth: int) -> str | None:
    """The class that the place of a file says."""
    parts = PurePosixPath(name).parts
    return parts[depth] if len(parts) > depth + 1 else None


def _found_files(root: Path) -> list[_File]:
    """All files below a folder, hidden ones excepted, in the order of their names."""
    relative = (Path(folder, file).relative_to(root) for folder, _, files in os.walk(root) for file in files)
    return [_File(path.as_posix()) for path in sorted(relative) if not any(part[0] == "." for part in path.parts)]


def _listed_files(root: Path) -> list[_File]:
    """The files of `metadata.csv`, in its order."""
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
        raise ValueError(f"{path} lists {len(files)} files, some of them twice: {few(twice)}; list each once")
    absent = [file.name for file in files if not (root / file.name).is_file()]
    if absent:
        raise FileNotFoundError(f"{path} lists files that do not exist: {few(absent)}; correct or remove these lines")
    return files


def _one_modality(files: list[_File], modality: str | None, root: Path) -> str:
    """The modality asked for, or the only one there is."""
    counts = Counter(file.modality for file in files if file.modality)
    if modality is not None and modality not in KINDS:
        raise ValueError(f"modality={modality!r} does not exist; the modalities are {', '.join(KINDS)}")
    if modality is not None and not counts[modality] or not counts:
        raise ValueError(f"{root} has no files of these kinds: {listed_suffixes(modality)}")
    if modality is None and len(counts) > 1:
        found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise ValueError(f"{root} has files of several modalities ({found}): choose one with modality=...")
    return modality or next(iter(counts))


def files_in(folder: Path, modality: str | None = None) -> list[Path]:
    """The files of a modality (by default of any) at any depth of a folder, sorted; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in found
        if modality_of_file(path) in ([modality] if modality else KINDS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def support_set(folder: Path, modality: str | None = None) -> tuple[list[Path], list[str]]:
    """
    The files in the sub-folders of a folder, and the sub-folder of each.

    Raises:
        `FileNotFoundError`: no such folder.
        `ValueError`: no sub-folder, or one without a file.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--support {folder} is no folder; it should have one sub-folder a class")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = {path.name: files_in(path, modality) for path in classes}
    if not files:
        raise ValueError(f"--support {folder} has no sub-folders: put the examples of each class into one of its own")
    if empty := [name for name, own in files.items() if not own]:
        raise ValueError(
            f"{', '.join(str(folder / name) for name in empty)}: no files of these kinds: {listed_suffixes(modality)}"
        )
    return [file for own in files.values() for file in own], [name for name, own in files.items() for _ in own]


def query_files(queries: Iterable[str], modality: str | None) -> list[Path]:
    """
    The files that are named, and those of folders that are named.

    Raises:
        `FileNotFoundError`: there is no such file, or none in a folder.
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
