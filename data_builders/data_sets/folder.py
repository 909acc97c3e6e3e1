"""A user's own files as a data set: `load_few_shot("folder", data_dir=...)`.

The folder `data_dir` has one sub-folder per class, with .wav, .flac, .ogg or .mp3 files, .txt files, or image files, at
any depth:

    data_dir/bittern/1.wav, data_dir/bittern/2.wav, data_dir/wren/a.flac, ...

The sub-folders of the classes may also lie in folders named `train`, `validation` and `test`. Any of the three may be
left out, but nothing else may lie beside them, and what looks like a split under another name is refused:

    data_dir/train/wren/a.flac, data_dir/test/bittern/1.wav, ...

A file `metadata.csv` or `metadata.jsonl` in `data_dir`, or one in each of its splits, may list the files of the data
set. It has the columns `file_name` (relative to the folder of the table), `label` (the class) and `source` (the
recording or document that the file comes from). Without the column `label`, the sub-folder is the class. Without the
column `source`, or a value in it, a file is its own source. Tables of other kinds under this name are refused.

The option `modality` chooses one modality if the folder has files of several. `own_data.py` describes all other options
and how the data are split.
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
    """Loads one split of a user's own files, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        modality: modality of the files; by default the only one that the folder has.
        **options: options of `load_collection`.

    Raises:
        FileNotFoundError: see `labelled_files`.
        ValueError: see `labelled_files` and `load_collection`.
    """
    return load_collection(labelled_files(data_dir, modality), split, protocol, cache_dir, **options)
