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

The option `subfolder`, or a name such as `"folder:birds"`, takes a folder in `data_dir` in the place of `data_dir`, so
that a run can have several such data sets. The option `modality` chooses one modality if the folder has files of
several; the names `"folder:audio"`, `"folder:text"` and `"folder:image"` do the same. `own_data.py` describes all other
options and how the data are split.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.inputs.labelled_files import labelled_files
from modeling_msmaml.inputs.labelled_inputs import LabelledInputs

from ..storage.few_shot_split import FewShotSplit
from ..storage.text_rows import TrainingTexts
from . import own_data
from .own_data import load_collection, training_lines
from .own_rows import PROTOCOLS

__all__ = ["OPTIONS", "PROTOCOLS", "load", "training_texts"]
OPTION_IN_NAME = "subfolder"
OPTIONS = ("modality", "subfolder", *own_data.OPTIONS)


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    modality: str | None = None,
    subfolder: str | None = None,
    **options: Any,
) -> FewShotSplit:
    """Loads one split of a user's own files, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        modality: modality of the files; by default the only one that the folder has.
        subfolder: path of the folder inside `data_dir`, or the name of a modality.
        **options: options of `load_collection`.

    Raises:
        FileNotFoundError: see `labelled_files`.
        NoSuchSplit: see `load_collection`.
        ValueError: see `labelled_files` and `load_collection`.
    """
    return load_collection(_files(data_dir, modality, subfolder), split, protocol, cache_dir, **options)


def training_texts(
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    modality: str | None = None,
    subfolder: str | None = None,
    **options: Any,
) -> TrainingTexts:
    """Returns the lines of the training texts; see `load` for the arguments, and `training_lines`."""
    return training_lines(_files(data_dir, modality, subfolder), protocol, **options)


def _files(data_dir: str | os.PathLike | None, modality: str | None, subfolder: str | None) -> LabelledInputs:
    """Lists the files of the data set under the name that it has in `load_few_shot`."""
    files = labelled_files(*_place(data_dir, modality, subfolder))
    return files if subfolder is None else replace(files, name=f"folder:{subfolder}")


def _place(
    data_dir: str | os.PathLike | None, modality: str | None, subfolder: str | None
) -> tuple[str | os.PathLike | None, str | None]:
    """Returns the folder of the data set and the modality of its files."""
    if subfolder is None:
        return data_dir, modality
    if data_dir is None:
        raise ValueError(f"folder:{subfolder} lies in data_dir, which is missing: name the folder that has {subfolder}")
    if subfolder in KINDS and modality in (None, subfolder) and not Path(data_dir, subfolder).is_dir():
        return data_dir, subfolder
    return Path(data_dir, subfolder), modality
