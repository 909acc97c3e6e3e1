"""The data sets by name: `load_few_shot` loads a split of one of them, `register_data_set` adds another.

`shared_vocabulary` makes one vocabulary for several text data sets, from what `training_texts` returns of each.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .splits.protocols import check_protocol, check_split
from .storage.few_shot_split import FewShotSplit
from .storage.sealed import cache_in_words

if TYPE_CHECKING:
    from modeling_msmaml.hub.model_card import DataSetFacts

    from .storage.shared_vocabulary import SharedVocabulary


class DataSet(NamedTuple):
    """The entry of a data set in the registry; [`register_data_set`] describes the fields."""

    load: Callable[..., FewShotSplit]
    options: Sequence[str]
    protocols: Sequence[str]
    option_in_name: str | None
    training_texts: Callable[..., Iterable[str]] | None


# Maps the name of a data set to its entry or to a module of `data_sets`, which is imported when it is needed. Such a
# module defines `load`, `OPTIONS` and `PROTOCOLS`, also `OPTION_IN_NAME` if the name may have a suffix, and
# `training_texts` if it has texts.
_DATA_SETS: dict[str, DataSet | str] = {
    **{name: name for name in ("esc50", "brown", "cifar100", "synthetic", "folder")},
    **{name: name for name in ("miniimagenet", "tieredimagenet", "cifar_fs", "cub200", "speech_commands")},
    **{name: name for name in ("clinc150", "banking77", "fsdd", "omniglot", "esc10", "procedural")},
    **{name: name for name in ("wordnet", "emoji", "clipart")},
    "hub": "hub_data_set",
}


def register_data_set(
    name: str,
    load: Callable[..., FewShotSplit],
    options: Sequence[str] = (),
    protocols: Sequence[str] = ("class_disjoint",),
    option_in_name: str | None = None,
    training_texts: Callable[..., Iterable[str]] | None = None,
    facts: DataSetFacts | None = None,
) -> None:
    """Registers a data set, so that [`load_few_shot`], configs and the command line accept its name.

    Args:
        name: name of the data set, without a colon.
        load: `load(split, protocol, data_dir, cache_dir, **options)` returns one split, which it can make with
            [`FewShotSplit.from_arrays`]. It raises [`NoSuchSplit`] for a split that the data set does not have.
        options: names of the options that `load` accepts.
        protocols: protocols that the data set supports: `class_disjoint`, `sample_disjoint` or `original`.
        option_in_name: name of the option that a suffix of the name sets, like `modality` in `"synthetic:audio"`.
        training_texts: `training_texts(protocol, data_dir, cache_dir, **options)` returns the lines of the training
            texts of a text data set, whose options include `tokenizer`. They enter a vocabulary that several data sets
            share; see [`shared_vocabulary`].
        facts: title, URL and licence of the data, for the cards of models that are trained on them.

    Raises:
        ValueError: the name contains a colon, is that of a modality or is already taken, a protocol does not exist,
            `option_in_name` is not one of the options, there are training texts but no option `tokenizer`, or the facts
            are those of another data set.
    """
    from .episodes.reserved_names import check_data_set_name

    if not name or ":" in name:
        raise ValueError(f"name={name!r} cannot be the name of a data set: give one without a colon")
    check_data_set_name("name", name)
    if name in _DATA_SETS:
        raise ValueError(f"name={name!r} is already taken; the data sets are {', '.join(_DATA_SETS)}")
    for protocol in protocols:
        check_protocol(protocol)
    if option_in_name is not None and option_in_name not in options:
        raise ValueError(
            f"option_in_name={option_in_name!r} is none of the options; name one of {', '.join(options) or '(none)'}"
        )
    if training_texts is not None and "tokenizer" not in options:
        raise ValueError(
            f"training_texts of {name} has no use without an option tokenizer, which takes the shared vocabulary: add "
            "it to options and to load"
        )
    if facts is not None:
        if facts.name != name:
            raise ValueError(f"facts.name={facts.name!r} is not the name of the data set, {name!r}")
        importlib.import_module("modeling_msmaml.hub.model_card").add_data_set_facts(facts)
    _DATA_SETS[name] = DataSet(load, tuple(options), tuple(protocols), option_in_name, training_texts)


def _registered(name: str) -> DataSet:
    if name not in _DATA_SETS:
        raise ValueError(f"name={name!r} is no data set; the data sets are {', '.join(_DATA_SETS)}")
    found = _DATA_SETS[name]
    if isinstance(found, DataSet):
        return found
    module = importlib.import_module(f"{__package__}.data_sets.{found}")
    option_in_name, texts = getattr(module, "OPTION_IN_NAME", None), getattr(module, "training_texts", None)
    return DataSet(module.load, module.OPTIONS, module.PROTOCOLS, option_in_name, texts)


def _found(name: str, protocol: str, options: dict[str, Any]) -> tuple[DataSet, dict[str, Any]]:
    """Returns the entry of a data set, and its options with the one in its name, after checking all arguments."""
    name, colon, suffix = str(name).partition(":")
    data_set = _registered(name)
    if colon:
        option = data_set.option_in_name or "modality"
        if options.setdefault(option, suffix) != suffix:
            raise ValueError(
                f"name asks for {option} {suffix!r}, the option for {options[option]!r}; give only one of the two"
            )
    check_protocol(protocol)
    unknown = sorted(set(options) - set(data_set.options))
    if unknown:
        exist = ", ".join(data_set.options) or "none"
        raise ValueError(f"option {', '.join(unknown)} does not exist for {name}; its options: {exist}")
    check_protocol(protocol, data_set.protocols)
    return data_set, options


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
        name: name of the data set: `esc50`, `brown`, `cifar100`, `clinc150`, `banking77`, `fsdd`, `omniglot`,
            `esc10`, `wordnet`, `emoji`, `clipart`, `procedural` (`"procedural:image"` is short for `modality="image"`),
            `miniimagenet`, `tieredimagenet`, `cifar_fs`, `cub200`, `speech_commands` (`"speech_commands:digits"` is
            short for `task="digits"`), `synthetic` (`"synthetic:audio"` is short for `modality="audio"`), `folder` for
            your own files in `data_dir`, or `"hub:<repo>"` for any data set on the Hub or in a local folder that
            `datasets.load_dataset` can read.
        split: `train`, `validation` or `test`.
        protocol: `class_disjoint` (test classes are never seen in training), `sample_disjoint` or `original`.
        data_dir: folder with the official archives, their extracted content or the official files, or with a sub-folder
            that has them; if it is left out, they are downloaded. For `folder` it is the folder with your files.
            `synthetic` and `hub` do not use it.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.
        **options: options of the data set. `brown` has `unit`, `passage_length`, `min_count` and `tokenizer`;
            `clinc150`, `banking77` and `wordnet` have `text_length`, `min_count` and `tokenizer`; `cifar100` has
            `image_size`, `omniglot` has `part` and `image_size`; `synthetic` has `modality` and `seed`. The options of
            the data sets in class folders are described in `data_sets/listed_classes.py` and
            `data_sets/speech_commands.py`, those of `folder` and `hub` in `data_sets/folder.py`,
            `data_sets/hub_data_set.py` and `data_sets/own_data.py`.

    Warns:
        UserWarning: the protocol is `original`; `FewShotSplit.warning` has the text.

    Raises:
        NoSuchSplit: the data set has no such split under the protocol; it is a `ValueError`.
        ValueError: the name, split, protocol or option does not exist, or the data are damaged. The message lists what
            exists.
        FileNotFoundError: the data are not in `data_dir`. The message says which file to put there.
        ConnectionError: the archive cannot be downloaded. The message says which file to put where instead.
        CacheError: the data have to be built, and the cache cannot be written; it is an `OSError`.
    """
    check_split(split)
    data_set, options = _found(name, protocol, options)
    with cache_in_words(name, cache_dir):
        return data_set.load(split=split, protocol=protocol, data_dir=data_dir, cache_dir=cache_dir, **options)


def training_texts(
    name: str,
    protocol: str = "class_disjoint",
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    **options: Any,
) -> Iterable[str]:
    """Returns the lines of the training texts of a text data set, which are read when they are iterated over.

    Args:
        name, protocol, data_dir, cache_dir, **options: arguments of [`load_few_shot`].

    Raises:
        ValueError: the data set offers no training texts, or see [`load_few_shot`].
        FileNotFoundError, ConnectionError: see [`load_few_shot`].
    """
    data_set, options = _found(name, protocol, options)
    if data_set.training_texts is None:
        raise ValueError(f"{name} offers no training texts, so it cannot take part in a shared vocabulary")
    return data_set.training_texts(protocol=protocol, data_dir=data_dir, cache_dir=cache_dir, **options)


def shared_vocabulary(
    data_sets: Mapping[str, Mapping[str, Any]] | Sequence[str],
    protocol: str = "class_disjoint",
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    min_count: int | None = None,
) -> SharedVocabulary:
    """Returns one vocabulary with word vectors, fitted on the training texts of several text data sets.

    Its `tokenizer(max_length)` is the option `tokenizer` of these data sets, whose splits then have the same token ids.
    Its `word_vectors()` are the vectors for all of them.

    Args:
        data_sets: names of the data sets, or their names with their options, among which `data_dir` and `cache_dir` may
            be. Their order matters to the word vectors.
        protocol, data_dir, cache_dir: arguments of [`load_few_shot`], for all data sets that have no others.
        min_count: least number of occurrences of a word in all training texts together, at least 1 and by default 5.

    Raises:
        ValueError: there is no data set, one offers no training texts, `min_count` is not a positive integer, or see
            [`load_few_shot`].
        FileNotFoundError, ConnectionError: see [`load_few_shot`].
    """
    from .storage.shared_vocabulary import SharedVocabulary

    given = data_sets if isinstance(data_sets, Mapping) else {name: {} for name in data_sets}
    common = {"protocol": protocol, "data_dir": data_dir, "cache_dir": cache_dir}
    texts = [training_texts(name, **{**common, **options}) for name, options in given.items()]
    return SharedVocabulary(texts, cache_dir, min_count)
