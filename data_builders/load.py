"""The data sets by name: `load_few_shot` loads a split of one of them, `register_data_set` adds another."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .splits.protocols import check_protocol, check_split
from .storage.few_shot_split import FewShotSplit


class DataSet(NamedTuple):
    """The entry of a data set in the registry; [`register_data_set`] describes the fields."""

    load: Callable[..., FewShotSplit]
    options: Sequence[str]
    protocols: Sequence[str]
    option_in_name: str | None


# Maps the name of a data set to its entry or to a module of `data_sets`, which is imported when it is needed. Such a
# module defines `load`, `OPTIONS` and `PROTOCOLS`, and also `OPTION_IN_NAME` if the name may have a suffix.
_DATA_SETS: dict[str, DataSet | str] = {
    **{name: name for name in ("esc50", "brown", "cifar100", "synthetic", "folder")},
    **{name: name for name in ("miniimagenet", "tieredimagenet", "cifar_fs", "cub200", "speech_commands")},
    "hub": "hub_data_set",
}


def register_data_set(
    name: str,
    load: Callable[..., FewShotSplit],
    options: Sequence[str] = (),
    protocols: Sequence[str] = ("class_disjoint",),
    option_in_name: str | None = None,
) -> None:
    """Registers a data set, so that [`load_few_shot`], configs and the command line accept its name.

    Args:
        name: name of the data set, without a colon.
        load: `load(split, protocol, data_dir, cache_dir, **options)` returns one split, which it can make with
            [`FewShotSplit.from_arrays`].
        options: names of the options that `load` accepts.
        protocols: protocols that the data set supports: `class_disjoint`, `sample_disjoint` or `original`.
        option_in_name: name of the option that a suffix of the name sets, like `modality` in `"synthetic:audio"`.

    Raises:
        ValueError: the name contains a colon or is already taken, a protocol does not exist, or `option_in_name` is not
            one of the options.
    """
    if not name or ":" in name:
        raise ValueError(f"name={name!r} cannot be the name of a data set: give one without a colon")
    if name in _DATA_SETS:
        raise ValueError(f"name={name!r} is already taken; the data sets are {', '.join(_DATA_SETS)}")
    for protocol in protocols:
        check_protocol(protocol)
    if option_in_name is not None and option_in_name not in options:
        raise ValueError(
            f"option_in_name={option_in_name!r} is none of the options; name one of {', '.join(options) or '(none)'}"
        )
    _DATA_SETS[name] = DataSet(load, tuple(options), tuple(protocols), option_in_name)


def _registered(name: str) -> DataSet:
    if name not in _DATA_SETS:
        raise ValueError(f"name={name!r} is no data set; the data sets are {', '.join(_DATA_SETS)}")
    found = _DATA_SETS[name]
    if isinstance(found, DataSet):
        return found
    module = importlib.import_module(f"{__package__}.data_sets.{found}")
    return DataSet(module.load, module.OPTIONS, module.PROTOCOLS, getattr(module, "OPTION_IN_NAME", None))


def load_few_shot(
    name: str,
    split: str = "train",
    protocol: str = "class_disjoint",
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    **options: Any,
) -> FewShotSplit:
    """Loads one split of a data set. The first call builds the Arrow cache, and later calls open it.

    Args:
        name: name of the data set: `esc50`, `brown`, `cifar100`, `miniimagenet`, `tieredimagenet`, `cifar_fs`,
            `cub200`, `speech_commands` (`"speech_commands:digits"` is short for `task="digits"`), `synthetic`
            (`"synthetic:audio"` is short for `modality="audio"`), `folder` for your own files in `data_dir`, or
            `"hub:<repo>"` for any data set on the Hub or in a local folder that `datasets.load_dataset` can read.
        split: `train`, `validation` or `test`.
        protocol: `class_disjoint` (test classes are never seen in training), `sample_disjoint` or `original`.
        data_dir: folder with the official archive or its extracted content; if it is left out, the archive is
            downloaded. For `folder` it is the folder with your files. `synthetic` and `hub` do not use it.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.
        **options: options of the data set. `brown` has `unit`, `passage_length`, `min_count` and `tokenizer`;
            `cifar100` has `image_size`; `synthetic` has `modality` and `seed`. The options of the data sets in class
            folders are described in `data_sets/listed_classes.py` and `data_sets/speech_commands.py`, those of `folder`
            and `hub` in `data_sets/folder.py`, `data_sets/hub_data_set.py` and `data_sets/own_data.py`.

    Warns:
        UserWarning: the protocol is `original`; `FewShotSplit.warning` has the text.

    Raises:
        ValueError: the name, split, protocol or option does not exist, or the data are damaged. The message lists what
            exists.
        FileNotFoundError: the data are not in `data_dir`. The message says which file to put there.
        ConnectionError: the archive cannot be downloaded. The message says which file to put where instead.
    """
    name, colon, suffix = str(name).partition(":")
    data_set = _registered(name)
    if colon:
        option = data_set.option_in_name or "modality"
        if options.setdefault(option, suffix) != suffix:
            raise ValueError(
                f"name asks for {option} {suffix!r}, the option for {options[option]!r}; give only one of the two"
            )
    check_split(split)
    check_protocol(protocol)
    unknown = sorted(set(options) - set(data_set.options))
    if unknown:
        exist = ", ".join(data_set.options) or "none"
        raise ValueError(f"option {', '.join(unknown)} does not exist for {name}; its options: {exist}")
    check_protocol(protocol, data_set.protocols)
    return data_set.load(split=split, protocol=protocol, data_dir=data_dir, cache_dir=cache_dir, **options)
