"""Any data set that `datasets.load_dataset` reads: `load_few_shot("hub:<repo>", label_column=..., input_column=...)`.

All rows of all its splits are pooled and divided by the protocol, unless `keep_splits=True`. How that is done, and the
options that are not listed here, are described in `own_data.py`.

Options:
    repo: name of the data set on the Hub, or a local folder; what stands after `hub:`.
    label_column: the class of a row: a class label, a string or an integer.
    input_column: audio, image or string; may be left out when there is only one such column.
    source_column: the recording or document of a row; every row is its own source when left out.
    config_name, revision: as for `datasets.load_dataset`.
    keep_splits: use the data set's own train, validation and test splits.
"""

from __future__ import annotations

import os
from typing import Any

import datasets

from modeling_msmaml.inputs.labelled_tables import labelled_tables

from ..storage.few_shot_split import FewShotSplit
from . import own_data
from .own_data import load_collection
from .own_rows import PROTOCOLS

__all__ = ["OPTIONS", "PROTOCOLS", "load"]
OPTION_IN_NAME = "repo"
OPTIONS = (
    *("repo", "label_column", "input_column", "source_column", "config_name", "revision", "keep_splits"),
    *own_data.OPTIONS,
)


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    repo: str | None = None,
    label_column: str = "label",
    input_column: str | None = None,
    source_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    keep_splits: bool = False,
    **options: Any,
) -> FewShotSplit:
    """See `load_few_shot`; `data_dir` is not used. What `datasets.load_dataset` raises is not changed.

    Raises:
        ValueError: no `repo`; else see `labelled_tables` and `load_collection`.
    """
    if not repo:
        raise ValueError("name='hub' needs the name of a data set: 'hub:<repo>', for instance 'hub:mteb/banking77'")
    cache = None if cache_dir is None else str(cache_dir)
    loaded = datasets.load_dataset(repo, config_name, revision=revision, cache_dir=cache)
    tables = {str(name): table for name, table in loaded.items()}
    collection = labelled_tables(tables, f"hub:{repo}", label_column, input_column, source_column, keep_splits)
    return load_collection(collection, split, protocol, cache_dir, **options)
