"""`load_few_shot`: one call from the name of a data set to a split that episodes can be drawn from."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .splits.protocols import check_protocol, check_split
from .storage.few_shot_split import FewShotSplit


class DataSet(NamedTuple):
    """What is registered under the name of a data set, see [`register_data_set`]."""

    load: Callable[..., FewShotSplit]
    options: Sequence[str]
    protocols: Sequence[str]
    option_in_name: str | None


# Name -> what is registered, or the module of `data_sets` that has it (`load`, `OPTIONS`, `PROTOCOLS`, and where the
# name may have a suffix, `OPTION_IN_NAME`), which is imported when it is asked for.
_DATA_SETS: dict[str, DataSet | str] = {
    **{name: name for name in ("esc50", "brown", "cifar100", "synthetic", "folder")},
    "hub": "hub_data_set",
}


def register_data_set(
    name: str,
    load: Callable[..., FewShotSplit],
    options: Sequence[str] = (),
    protocols: Sequence[str] = ("class_disjoint",),
    option_in_name: str | None = None,
) -> None:
    """Makes `name` a data set that [`load_few_shot`], configs and the command line know.

    Args:
        name: of the data set, without a colon.
        load: `load(split, protocol, data_dir, cache_dir, **options)` returns the rows of one split, for instance by
            [`FewShotSplit.from_arrays`].
        options: the names of the options that `load` takes.
        protocols: those that it knows, of `class_disjoint`, `sample_disjoint` and `original`.
        option_in_name: the option that a suffix of the name stands for, such as `modality` in `"synthetic:audio"`.

    Raises:
        ValueError: the name has a colon or is taken, there is no such protocol, or `option_in_name` is no option.
    """
    if not name or ":" in name:
        raise ValueError(f"name={name!r} cannot be the name of a data set: give one without a colon")
    if name in _DATA_SETS:
        raise ValueError(f"name={name!r} is taken by a data set already: {', '.join(_DATA_SETS)}")
    for protocol in protocols:
        check_protocol(protocol)
    if option_in_name is not None and option_in_name not in options:
        raise ValueError(f"option_in_name={option_in_name!r} is none of the options {', '.join(options) or '(none)'}")
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
    """Loads one split; the first call builds the Arrow cache, later ones open it.

    Args:
        name: `esc50`, `brown`, `cifar100` or `synthetic` (`"synthetic:audio"` stands for `modality="audio"`); `folder`
            for a person's own files in `data_dir`; `"hub:<repo>"` for any data set on the Hub, or a local folder that
            `datasets.load_dataset` reads.
        split: `train`, `validation` or `test`.
        protocol: `class_disjoint` (test classes are never seen in training), `sample_disjoint` or `original`.
        data_dir: folder with the official archive or its extracted content; without it the archive is fetched. For
            `folder`, the folder itself. Not used by `synthetic` and `hub`.
        cache_dir: where the Arrow files go; the usual cache of `datasets` by default.
        **options: of the data set: `brown` has `unit`, `passage_length`, `min_count` and `tokenizer`;
            `synthetic` has `modality` and `seed`; those of `folder` and `hub` are described in `folder.py`,
            `hub_data_set.py` and `own_data.py`.

    Warns:
        UserWarning: protocol `original`, see `FewShotSplit.warning`.

    Raises:
        ValueError: unknown name, split, protocol or option; damaged data. The message says what exists.
        FileNotFoundError: the data are not in `data_dir`; the message says which file to put where.
        ConnectionError: the archive cannot be fetched; the message says the same.
    """
    name, suffix = (*str(name).split(":", 1), None)[:2]
    data_set = _registered(name)
    if suffix is not None:
        option = data_set.option_in_name or "modality"
        if options.setdefault(option, suffix) != suffix:
            raise ValueError(f"name asks for {option} {suffix!r}, the option for {options[option]!r}")
    check_split(split)
    check_protocol(protocol)
    unknown = sorted(set(options) - set(data_set.options))
    if unknown:
        exist = ", ".join(data_set.options) or "none"
        raise ValueError(f"option {', '.join(unknown)} does not exist for {name}; its options: {exist}")
    check_protocol(protocol, data_set.protocols)
    return data_set.load(split=split, protocol=protocol, data_dir=data_dir, cache_dir=cache_dir, **options)
