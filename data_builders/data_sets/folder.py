"""A person's own files: `load_few_shot("folder", data_dir=...)`.

`data_dir` has one sub-folder a class with .wav/.flac/.ogg/.mp3, .txt or picture files, at any depth below it:

    data_dir/bittern/1.wav, data_dir/bittern/2.wav, data_dir/wren/a.flac, ...

or these below `train`, `validation` and `test` (any of the three; nothing else then lies beside them):

    data_dir/train/wren/a.flac, data_dir/test/bittern/1.wav, ...

A file `metadata.csv` in `data_dir` with the columns `file_name` (relative to `data_dir`), `label` and `source` may say
which files belong to it, to which class, and from which recording or document they come. Without the column `label` the
sub-folder is the class; without `source` every file is its own source. How the data are split, and all options, are
described in `own_data.py`; `modality` chooses among files of several kinds.
"""

from __future__ import annotations

import os
from typing import Any

from modeling_msmaml.inputs.labelled_files import labelled_files

from ..storage.few_shot_split import FewShotSplit
from . import own_data
from .own_data import load_collection
from .own_rows import PROTOCOLS

__all__ = ["OPTIONS", "PROTOCOLS", "load"]
OPTION_IN_NAME = "modality"
OPTIONS = ("modality", *own_data.OPTIONS)


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    modality: str | None = None,
    **options: Any,
) -> FewShotSplit:
    """See `load_few_shot`, and `load_collection` for the options."""
    return load_collection(labelled_files(data_dir, modality), split, protocol, cache_dir, **options)
