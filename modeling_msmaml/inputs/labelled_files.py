"""
Lists files: those of a folder with one sub-folder per class, or with a `metadata.csv`, as labelled inputs
(`labelled_files`), and those that a person names for a few-shot classifier (`support_set`, `query_files`).
"""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from .fingerprints import files_fingerprint, text_hash
from .folder_walk import Entry, Walk, is_ignored, walk
from .input_tables import TABLE_SUFFIXES, is_table, table_rows
from .kinds import KINDS, listed_suffixes, modality_of_file
from .label_values import clean, printable, refuse_absent, refuse_look_alikes, source_of
from .labelled_inputs import SPLIT_OF_NAME, LabelledInputs, few
from .metadata_table import Columns, ListedFile, listed_files, tables_of
from .read_text import read_text
from .split_folders import depth_of_classes

_DEFAULT = Columns()


class _Chosen(NamedTuple):
    """A file of a class. The split is `None` where the folder has none."""

    name: str
    label: str
    source: str
    split: str | None


def _is_wanted(name: str, modality: str | None) -> bool:
    return modality_of_file(name) in (KINDS if modality is None else (modality,))


def labelled_files(
    data_dir: str | os.PathLike | None, modality: str | None = None, columns: Columns | None = None
) -> LabelledInputs:
    """Lists the files of a folder as labelled inputs, without reading them.

    The label of a file is that in `metadata.csv` or `metadata.jsonl` (columns `file_name`, relative to its folder, and
    optionally `label` and `source`), which lies in the folder or in each of its splits, or else the name of its
    sub-folder: at the first level below the folder, or at the second if those at the first are splits (train,
    validation, test). Labels are cleaned (see `clean`). Files that are one and the same by links are one source, and
    count once in a class.

    Args:
        data_dir: the folder.
        modality: the modality of the files; by default the only one that the folder has.
        columns: of the table; by default those above, and no others.

    Raises:
        FileNotFoundError: there is no such folder, or `metadata.csv` names a file that does not exist.
        OSError: a folder must not be read.
        ValueError: `data_dir` is `None` or empty, there are no files of the modality, there are several modalities and
            none is chosen, a file of `metadata.csv` has no label, `metadata.csv` is not as described above, a
            sub-folder has no files, two classes are the same folder or look the same, or sub-folders may be splits or
            classes.

    Warns:
        UserWarning: files are left out because they are of another kind, in no class, or pipes and the like; or a file
            is in two classes by links.
    """
    if data_dir is None or not os.fspath(data_dir):
        raise ValueError(
            f"data_dir={data_dir!r}: it is needed for 'folder'; name a folder with one sub-folder per class"
        )
    root = Path(data_dir).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir={str(data_dir)!r} is no folder; it should have one sub-folder per class")
    modality, chosen = _chosen(root, modality, columns or _DEFAULT)
    paths = [root / file.name for file in chosen]
    lines = ["\t".join((file.name, file.label, file.source)) for file in chosen]
    return LabelledInputs(
        name="folder",
        modality=modality,
        names=[printable(str(path)) for path in paths],
        labels=[file.label for file in chosen],
        sources=[file.source for file in chosen],
        splits=None if chosen[0].split is None else [str(file.split) for file in chosen],
        read=partial(_read, paths, modality),
        fingerprint=text_hash(files_fingerprint(paths), *lines),
    )


def _read(paths: list[Path], modality: str, number: int) -> Path | str:
    """Returns the path of a file, for the processor to read, or the content of a text file."""
    return read_text(paths[number]) if modality == "text" else paths[number]


def _chosen(root: Path, modality: str | None, columns: Columns = _DEFAULT) -> tuple[str, list[_Chosen]]:
    """Returns the modality, and the files that have it and a class. For the errors see `labelled_files`."""
    found = Walk() if (is_listed := bool(tables_of(root))) else walk(root)
    files = listed_files(root, columns) if is_listed else [ListedFile(entry.name) for entry in found.files]
    are_labelled = bool(files) and all(file.label is not None for file in files)
    depth = depth_of_classes((file.name for file in files), root, are_labelled)
    if not is_listed:
        for option, column in (("label_column", columns.label), ("source_column", columns.source)):
            if column not in (None, "label", "source"):
                raise ValueError(f"{option}={column!r}: {root} has no metadata.csv or metadata.jsonl with this column")
        _check_folders(found, depth, root)
    modality = _one_modality(files, modality, root)
    chosen, left_out = [], list(found.others)
    for file in files:
        label = file.label if file.label is not None else _class_of(file.name, depth)
        if file.modality == modality and label is not None:
            split = SPLIT_OF_NAME[file.name.split("/")[0].lower()] if depth else None
            chosen.append(_Chosen(file.name, label, file.source or "", split))
        elif is_listed and file.modality == modality:
            raise ValueError(f"{file.name} in {file.where}, has no label and lies in no sub-folder that names one")
        else:
            left_out.append(file.name)
    if not chosen:
        where = "sub-folders of its splits" if depth else "sub-folders"
        raise ValueError(f"{root} has no {modality} files in {where}: put each file into a sub-folder of its class")
    if left_out:
        _warn(f"{root}: {len(left_out)} files are of another kind, in no class, or no regular files: {few(left_out)}")
    refuse_look_alikes((file.label for file in chosen), str(root))
    reals = {entry.name: entry.real for entry in found.files}
    return modality, _each_once(chosen, [reals.get(f.name) or os.path.realpath(root / f.name) for f in chosen], root)


def _check_folders(found: Walk, depth: int, root: Path) -> None:
    """Refuses folders that are no class of their own: empty, unnamed, linked to nothing, or the same as another."""
    labels = {entry.name: label for entry in found.folders if (label := _class_of(f"{entry.name}/", depth)) is not None}
    own = {name: label for name, label in labels.items() if name.count("/") == depth}
    refuse_absent(own, str(root))
    filled = {"/".join(entry.parts[: depth + 1]) for entry in found.files if modality_of_file(entry.name)}
    if empty := {*found.empty, *(own.keys() - filled)}:
        raise ValueError(f"{root}: {few(empty)}: no files of these kinds: {listed_suffixes()}; fill or remove them")
    if dead := [entry.name for entry in found.files if entry.is_dead and modality_of_file(entry.name) is None]:
        raise ValueError(f"{root}: {few(dead)}: links to nothing; mend or remove them")
    first: dict[str, Entry] = {}
    for entry in found.folders:
        if (label := labels.get(entry.name)) is not None:
            other = first.setdefault(entry.real, entry)
            if labels[other.name] != label:
                raise ValueError(
                    f"{root}: {few([other.name, entry.name])} are the same folder in two classes, "
                    f"{labels[other.name]} and {label}: keep one, and remove the link"
                )


def _class_of(name: str, depth: int) -> str | None:
    """Returns the class of a file by its sub-folder at a depth; `None` if it lies in none."""
    parts = name.split("/")
    return clean(parts[depth]) if len(parts) > depth + 1 else None


def _each_once(chosen: list[_Chosen], reals: Sequence[str], root: Path) -> list[_Chosen]:
    """Gives each file its source, and lists a file that links lead to once in a class of a split."""
    kept: dict[tuple, _Chosen] = {}
    names: dict[str, str] = {}
    labels: dict[str, set[str]] = {}
    for file, real in zip(chosen, reals, strict=True):
        source = source_of(file.source, names.setdefault(real, printable(file.name)))
        kept.setdefault((file.split, file.label, real), file._replace(source=source))
        labels.setdefault(real, set()).add(file.label)
    if several := [names[real] for real, own in labels.items() if len(own) > 1]:
        _warn(f"{root}: {len(several)} files are in several classes by links: {few(several)}")
    return list(kept.values())


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=6)


def _one_modality(files: list[ListedFile], modality: str | None, root: Path) -> str:
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
    Lists the labelled examples in a folder with one sub-folder per class, or with a `metadata.csv`, as
    [`labelled_files`] reads it.

    Args:
        folder: the folder.
        modality: the modality of the files; by default the only one that the folder has.

    Returns:
        The files, and the class of each.

    Raises:
        `FileNotFoundError`: there is no such folder.
        `ValueError`: there is no sub-folder, the folder has splits, or see [`labelled_files`].
    """
    items, labels, _ = labelled_support(folder, modality)
    return cast(list[Path], items), labels


def labelled_support(place: Path, modality: str | None = None) -> tuple[list[Path | str], list[str], list[str]]:
    """
    Lists the labelled examples of a folder as [`support_set`] does, or those of a table, see [`table_rows`].

    Returns:
        The files or texts, the class of each, and the recording or document that each comes from.

    Raises:
        As [`support_set`] and [`table_rows`].
    """
    if place.is_file() and is_table(place):
        rows = list(table_rows(place, is_labelled=True))
        return [row.item for row in rows], [str(row.label) for row in rows], [row.source for row in rows]
    folder = place
    if not folder.is_dir():
        raise FileNotFoundError(
            f"--support {folder} is no folder; it should have one sub-folder per class, or be a table "
            f"({', '.join(TABLE_SUFFIXES)})"
        )
    root = folder.expanduser().absolute()
    if not tables_of(root) and not any(p.is_dir() and not is_ignored(p.name) for p in root.iterdir()):
        raise ValueError(f"--support {folder} has no sub-folders: put the examples of each class into one")
    _, chosen = _chosen(root, modality)
    if splits := {file.split for file in chosen if file.split is not None}:
        raise ValueError(
            f"--support {folder} has the splits {', '.join(sorted(splits))}: name the folder of one of them"
        )
    return [root / file.name for file in chosen], [file.label for file in chosen], [file.source for file in chosen]


def query_files(queries: Iterable[str], modality: str | None) -> list[Path]:
    """
    Lists the files that are to be classified.

    Args:
        queries: names of files, and of folders, which stand for all of their files, and patterns such as
            `recordings/**/*.wav`, which stand for what they match. A file that is named twice is listed once.
        modality: the modality of the files in folders; `None` for any.

    Raises:
        `FileNotFoundError`: there is no such file, or a folder or pattern has no files of the modality.

    Warns:
        UserWarning: files of a folder are left out, since they are of another kind, or pipes and the like.
    """
    files: dict[Path, None] = {}
    for name in queries:
        if not name.strip():
            raise FileNotFoundError(f"--query {name!r} names no file; the current folder is called .")
        if name == "-":
            raise FileNotFoundError("--query -: nothing is read from stdin; name files, folders, patterns or a table")
        query, left_out = Path(name), []
        found = [query] if query.is_file() else []
        if not query.exists() and glob.has_magic(name):
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        else:
            matches = [query] if query.is_dir() else []
        for match in matches:
            within = walk(match) if match.is_dir() else Walk([Entry(match.name, os.path.realpath(match))])
            folder = match if match.is_dir() else match.parent
            wanted = [entry.name for entry in within.files if _is_wanted(entry.name, modality)]
            found += [folder / own for own in wanted]
            left_out += within.others + sorted({entry.name for entry in within.files} - {*wanted})
        if left_out and found:
            kinds = listed_suffixes(modality)
            warnings.warn(
                f"--query {query}: {len(left_out)} files are of another kind than {kinds}, or no regular files, and "
                f"are not classified: {few(left_out)}",
                UserWarning,
                stacklevel=3,
            )
        if not found:
            raise FileNotFoundError(
                f"--query {query}: no such file, or no {modality or 'sound, text or picture'} in it"
            )
        files.update(dict.fromkeys(found))
    return list(files)
