"""The episodes of a run: which splits of which data sets they are drawn from, and what shapes they have."""

import copy
import dataclasses
import logging
from typing import Any, NamedTuple, cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from data_builders import (
    EpisodeDataset,
    FewShotSplit,
    NoSuchSplit,
    add_new_classes,
    check_alike,
    check_class_disjoint,
    default_weights,
    load_few_shot,
    of_one_length,
    shared_vocabulary,
    training_texts,
)
from modeling_msmaml import MetaTrainingArguments
from modeling_msmaml.model.modalities import registered_modalities

from .data_arguments import DataArguments

logger = logging.getLogger(__name__)


class SharedText(NamedTuple):
    """What all text data sets of a run have in common; there are no word vectors if a checkpoint has them."""

    data_sets: list[str]
    tokenizer: PreTrainedTokenizerBase
    word_vectors: np.ndarray | None


def parts_of(args: MetaTrainingArguments) -> list[str]:
    """Returns the splits that a run reads: of `"train"`, `"validation"` and `"test"`."""
    validates = args.do_eval or (args.do_train and args.eval_strategy != "no")
    wanted = {"train": args.do_train, "validation": validates, "test": args.do_predict}
    return [split for split, is_read in wanted.items() if is_read]


def shared_text(
    data: DataArguments,
    parts: list[str],
    of_checkpoint: PreTrainedTokenizerBase | None = None,
    of_encoder: PreTrainedTokenizerBase | None = None,
) -> SharedText | None:
    """Returns the vocabulary of a run that reads several text data sets.

    It is that of the checkpoint or, for a new model, fitted to the training texts of the sets that the run trains on;
    if these have no texts, to the training texts of all text sets that it reads. Texts that are evaluated have no part
    in it, nor has a data set with an option `tokenizer`.

    Args:
        data: the options of the data.
        parts: the splits that the run reads.
        of_checkpoint: the tokenizer of the model that the run starts from.
        of_encoder: the tokenizer of the encoder that reads all texts, be it of one data set or several.

    Returns:
        None if a single data set, or none, needs a vocabulary.
    """
    texts = {}
    for name in data.names(*parts):
        options = data.options_of_data_set(name)
        if "tokenizer" not in options and has_texts(name, data.protocol, options):
            texts[name] = options
    if of_encoder is not None:
        return SharedText(list(texts), of_encoder, None) if texts else None
    if len(texts) < 2:
        return None
    if of_checkpoint is not None:
        return SharedText(list(texts), of_checkpoint, None)
    trained = {name: options for name, options in texts.items() if "train" in parts and name in data.names("train")}
    vocabulary = shared_vocabulary(trained or texts, data.protocol, data.data_dir, data.cache_dir)
    return SharedText(list(texts), vocabulary.tokenizer(max_length=1), vocabulary.word_vectors())


def has_texts(name: str, protocol: str, options: dict[str, Any]) -> bool:
    """Tells whether a data set offers training texts; what is wrong with its options, loading it will say."""
    try:
        training_texts(name, protocol, **options)
    except ValueError:
        return False
    return True


def load_splits(data: DataArguments, split: str, text: SharedText | None = None) -> list[FewShotSplit]:
    """Returns the named split of every data set that has one, in the order of the options.

    Args:
        data: the options of the data.
        split: `"train"`, `"validation"` or `"test"`.
        text: what the text data sets have in common.

    Raises:
        ValueError: no data set has such a split, or one lacks the test split.
    """
    found, lacking = [], []
    for name in data.names(split):
        try:
            found.append(load_split(data, name, split, text))
        except NoSuchSplit as error:
            if split == "test":
                raise
            lacking.append(name)
            logger.warning("%s is left out of %s: %s", name, split, error)
    if not found:
        raise ValueError(
            f"none of the data sets {', '.join(lacking)} has a {split} split under protocol={data.protocol!r}"
        )
    return found


def load_split(data: DataArguments, name: str, split: str, text: SharedText | None = None) -> FewShotSplit:
    """Returns one split of one data set under the name by which the options call it."""
    options = data.options_of_data_set(name)
    if text is not None and name in text.data_sets:
        options["tokenizer"] = text.tokenizer
    return dataclasses.replace(load_few_shot(name, split, data.protocol, **options), name=name)


def alike(splits: list[FewShotSplit], text: SharedText | None) -> list[FewShotSplit]:
    """Returns the splits of a run so that one model reads them: text rows padded to one length, with one tokenizer.

    Raises:
        ValueError: two splits of a modality differ in row shape or vocabulary.
    """
    splits = of_one_length(splits)
    if text is not None and text.word_vectors is not None:
        tokenizer = copy.deepcopy(text.tokenizer)
        tokenizer.model_max_length = max((s.row_shape[0] for s in splits if s.name in text.data_sets), default=1)
        shared = {"tokenizer": tokenizer, "preprocessor": tokenizer, "word_vectors": text.word_vectors}
        splits = [dataclasses.replace(s, **shared) if s.name in text.data_sets else s for s in splits]
    check_alike(splits)
    return splits


def evaluation_shape(args: MetaTrainingArguments) -> dict[str, Any]:
    """Returns the arguments of `EpisodeDataset` that say how large an episode of an evaluation is."""
    names = ("n_way", "k_shot", "n_query", "num_unlabelled", "num_distractors")
    return {name: getattr(args, name) for name in names}


def training_shape(args: MetaTrainingArguments) -> dict[str, Any]:
    """Returns the same for training, where train_n_way and so on take the place of n_way where they are given."""
    given = {name: getattr(args, f"train_{name}") for name in ("n_way", "k_shot", "n_query")}
    return {
        **evaluation_shape(args),
        **{name: value for name, value in given.items() if value is not None},
        "shots": args.train_shots,
    }


def make_episodes(
    splits: list[FewShotSplit], data: DataArguments, args: MetaTrainingArguments, per_data_set: int
) -> EpisodeDataset:
    """Returns episodes for evaluation, equally many of each data set."""
    return EpisodeDataset(
        splits,
        **evaluation_shape(args),
        num_episodes=per_data_set * len(splits),
        seed=data.eval_seed,
        source_disjoint=data.source_disjoint,
    )


def make_training_episodes(
    splits: list[FewShotSplit], data: DataArguments, args: MetaTrainingArguments
) -> EpisodeDataset:
    """Returns exactly as many episodes as the meta-steps need, of splits that `new_classes` have been added to."""
    return EpisodeDataset(
        splits,
        **training_shape(args),
        num_episodes=args.max_steps * args.tasks_per_step,
        seed=args.seed,
        source_disjoint=data.source_disjoint,
        augment=args.augment or (),
        mix_classes=cast("float | dict[str, float]", args.mix_classes or 0.0),  # a string has been parsed
        weights=given_weights(data, splits) or default_weights(splits),
    )


def given_weights(data: DataArguments, splits: list[FewShotSplit]) -> dict[str, float] | None:
    """Returns the weights of the options; None if there are none.

    Raises:
        ValueError: a weight is for a data set that the run does not train on.
    """
    trained = [split.name for split in splits]
    weights = cast("dict[str, float]", data.dataset_weights or {})
    if unused := sorted(weights.keys() - set(trained)):
        raise ValueError(
            f"dataset_weights is for {', '.join(unused)} too, but the run trains on {', '.join(trained)} only"
        )
    return weights or None


def make_datasets(
    data: DataArguments, args: MetaTrainingArguments, text: SharedText | None = None
) -> dict[str, EpisodeDataset]:
    """Returns the episodes of each split that this run needs."""
    check_names_of_shapes(data, args)
    by_part = {part: load_splits(data, part, text) for part in parts_of(args)}
    same = iter(alike([split for splits in by_part.values() for split in splits], text))
    by_part = {part: [next(same) for _ in splits] for part, splits in by_part.items()}
    datasets = {}
    for part, splits in by_part.items():
        if part == "train":
            datasets[part] = make_training_episodes(add_new_classes(splits, args.new_classes or []), data, args)
        else:
            per_data_set = data.num_eval_episodes if part == "validation" else data.num_test_episodes
            datasets[part] = make_episodes(splits, data, args, per_data_set)
    check_class_disjoint(datasets)
    return datasets


def check_names_of_shapes(data: DataArguments, args: MetaTrainingArguments) -> None:
    """Raises `ValueError` for an entry of n_query and the like that is for no modality and no data set."""
    for option in ("n_query", "train_n_way", "train_k_shot", "train_n_query"):
        value = getattr(args, option)
        known = {*registered_modalities(), *data.names()}
        if isinstance(value, dict) and (unknown := sorted(value.keys() - known)):
            raise ValueError(
                f"{option} has an entry for {', '.join(unknown)}, which is neither a modality nor one of the data sets "
                f"{', '.join(data.names())}"
            )


def splits_of(datasets: dict[str, EpisodeDataset]) -> list[FewShotSplit]:
    """Returns one split of each data set that the run reads: that of training where there is one."""
    found = {}
    for dataset in datasets.values():
        for split in dataset.splits:
            found.setdefault(split.name, split)
    return list(found.values())


def splits_to_fit_to(
    datasets: dict[str, EpisodeDataset], data: DataArguments, text: SharedText | None = None
) -> list[FewShotSplit]:
    """Returns the training splits to which front ends are fitted.

    They are those that the run trains on and, for a modality that it only evaluates, the training splits of that
    modality's data sets: never a row that is evaluated. A modality has none if its data sets have no training split.
    """
    read, found = splits_of(datasets), list(datasets["train"].splits) if "train" in datasets else []
    trained = {split.modality for split in found}
    more = []
    for split in read:
        if split.modality not in trained:
            try:
                more.append(load_split(data, split.name, "train", text))
            except NoSuchSplit as error:
                logger.warning("the front ends of %s are not fitted to %s: %s", split.modality, split.name, error)
    return [*found, *alike([*read, *more], text)[len(read) :]]
