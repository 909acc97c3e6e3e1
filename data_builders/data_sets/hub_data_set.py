"""Any data set that `datasets.load_dataset` can read: `load_few_shot("hub:<repo>", label_column=..., ...)`.

The rows of all its splits are pooled and divided as the protocol says, unless `keep_splits=True`. `own_data.py`
describes how the data are divided, and the options that are not listed here. A local folder of sounds, pictures or
text files is listed as the data set `folder` lists it.

Options:
    repo: name of the data set on the Hub or path of a local folder, which is what follows `hub:`.
    label_column: name of the column of classes, whose values are class labels, strings or integers; by default `label`.
    input_column: name of the column of inputs, which are audio, images or strings; by default the only such column.
    source_column: name of the column of recordings or documents; by default every row is its own source, and
        so is a row without a value there.
    config_name, revision: arguments of `datasets.load_dataset`.
    keep_splits: whether the train, validation and test splits of the data set are kept.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import datasets
import pyarrow
from datasets.exceptions import DatasetGenerationError

from modeling_msmaml.inputs.labelled_files import labelled_files
from modeling_msmaml.inputs.labelled_inputs import LabelledInputs
from modeling_msmaml.inputs.labelled_tables import labelled_tables
from modeling_msmaml.inputs.metadata_table import Columns

from ..storage.few_shot_split import FewShotSplit
from ..storage.text_rows import TrainingTexts
from . import own_data
from .local_files import local_files, table_lines, unreadable_files
from .own_data import load_collection, training_lines
from .own_rows import PROTOCOLS

__all__ = ["OPTIONS", "PROTOCOLS", "load", "training_texts"]
OPTION_IN_NAME = "repo"
OPTIONS = (
    *("repo", "label_column", "input_column", "source_column", "config_name", "revision", "keep_splits"),
    *own_data.OPTIONS,
)


def load(
    split: str, protocol: str, data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None, **options: Any
) -> FewShotSplit:
    """Loads one split of a data set of the Hub, for `load_few_shot`.

    The docstring of this module describes the options. `data_dir` is not used. Errors of `datasets.load_dataset` are
    passed on.

    Raises:
        ValueError: `repo` is missing, or its files cannot be read; for other causes see `local_files` and
            `table_lines`, `labelled_tables` and `load_collection`.
    """
    collection, others = _collection(cache_dir, **options)
    return load_collection(collection, split, protocol, cache_dir, **others)


def training_texts(
    protocol: str, data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None, **options: Any
) -> TrainingTexts:
    """Returns the lines of the training texts; see `load` for the arguments, and `training_lines`."""
    collection, others = _collection(cache_dir, **options)
    return training_lines(collection, protocol, **others)


def _collection(
    cache_dir: str | os.PathLike | None,
    repo: str | None = None,
    label_column: str = "label",
    input_column: str | None = None,
    source_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    keep_splits: bool = False,
    **options: Any,
) -> tuple[LabelledInputs, dict[str, Any]]:
    """Returns the rows of a data set of the Hub, and the options that say how they are divided and encoded."""
    if not repo:
        raise ValueError("name='hub' needs the name of a data set: 'hub:<repo>', for instance 'hub:mteb/banking77'")
    cache = None if cache_dir is None else str(cache_dir)
    name = f"hub:{repo}"
    given: dict[str, Any] = {"name": config_name, "revision": revision, "cache_dir": cache}
    local = local_files(repo, given) if os.path.isdir(repo) else None
    if local is not None and local.modality is not None:
        columns = (label_column, input_column, source_column, keep_splits)
        return _of_folder(repo, local.modality, *columns), options
    lines = {} if local is None else table_lines(local)
    try:
        loaded = datasets.load_dataset(repo, **given)
    except (DatasetGenerationError, UnicodeDecodeError, pyarrow.ArrowException, OSError) as error:
        cause = error.__cause__ or error
        where = name if local is None else f"{name}: {unreadable_files(local)}"
        raise ValueError(f"{where} cannot be read: {type(cause).__name__}: {cause}") from error
    tables = {str(own): table for own, table in loaded.items()}
    places = {own: found for own, found in lines.items() if len(found) == len(tables.get(own, ()))}
    columns = (label_column, input_column, source_column, keep_splits)
    return labelled_tables(tables, name, *columns, places), options


def _of_folder(
    repo: str, modality: str, label_column: str, input_column: str | None, source_column: str | None, keep_splits: bool
) -> LabelledInputs:
    """Lists the files of a local folder, with the columns that `datasets` would give them."""
    if input_column not in (None, modality):
        raise ValueError(
            f"input_column={input_column!r} is no column of hub:{repo}, whose inputs are called {modality}"
        )
    listed = labelled_files(repo, modality, Columns(label_column, source_column, allows_others=True))
    splits = (listed.splits or ["train"] * len(listed.names)) if keep_splits else None
    return replace(listed, name=f"hub:{repo}", splits=splits)
