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
    default_weights,
    load_few_shot,
    shared_vocabulary,
    training_texts,
)
from data_builders.audit import check_class_disjoint
from modeling_msmaml import MetaTrainingArguments

from .data_arguments import DataArguments

logger = logging.getLogger(__name__)


class SharedText(NamedTuple):
    """What all text data sets of a run have in common; there are no word vectors if a checkpoint has them."""

    data_sets: list[str]
    tokenizer: PreTrainedTokenizerBase
    word_vectors: np.ndarray | None


def shared_text(data: DataArguments, of_checkpoint: PreTrainedTokenizerBase | None = None) -> SharedText | None:
    """Returns the vocabulary of a run with several text data sets: that of the checkpoint, or one of their own texts.

    The vocabulary is fitted to the training texts of all of them, whichever of them the run trains on, and none to the
    texts of other splits. A data set with an option `tokenizer` has no part in it.

    Args:
        data: the options of the data.
        of_checkpoint: the tokenizer of the model that the run starts from.

    Returns:
        None if a single data set, or none, needs a vocabulary.
    """
    texts = {}
    for name in data.names():
        options = data.options_of_data_set(name)
        if "tokenizer" not in options and has_texts(name, data.protocol, options):
            texts[name] = options
    if len(texts) < 2:
        return None
    if of_checkpoint is not None:
        return SharedText(list(texts), of_checkpoint, None)
    vocabulary = shared_vocabulary(texts, data.protocol, data.data_dir, data.cache_dir)
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
    return with_one_tokenizer(found, text)


def load_split(data: DataArguments, name: str, split: str, text: SharedText | None = None) -> FewShotSplit:
    """Returns one split of one data set under the name by which the options call it."""
    options = data.options_of_data_set(name)
    if text is not None and name in text.data_sets:
        options["tokenizer"] = text.tokenizer
    return dataclasses.replace(load_few_shot(name, split, data.protocol, **options), name=name)


def with_one_tokenizer(splits: list[FewShotSplit], text: SharedText | None) -> list[FewShotSplit]:
    """Returns the splits; those of the shared vocabulary have its vectors, and a tokenizer for their longest row."""
    if text is None or text.word_vectors is None:
        return splits
    own = [split for split in splits if split.name in text.data_sets]
    tokenizer = copy.deepcopy(text.tokenizer)
    tokenizer.model_max_length = max((split.row_shape[0] for split in own), default=1)
    shared = {"tokenizer": tokenizer, "preprocessor": tokenizer, "word_vectors": text.word_vectors}
    return [dataclasses.replace(split, **shared) if split.name in text.data_sets else split for split in splits]


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
    """Returns exactly as many episodes as the meta-steps need."""
    return EpisodeDataset(
        add_new_classes(splits, args.new_classes or []),
        **training_shape(args),
        num_episodes=args.max_steps * args.tasks_per_step,
        seed=args.seed,
        source_disjoint=data.source_disjoint,
        augment=args.augment or (),
        mix_classes=cast("float | dict[str, float]", args.mix_classes or 0.0),  # a string has been parsed
        weights=given_weights(data, splits) or default_weights(splits),
    )


def given_weights(data: DataArguments, splits: list[FewShotSplit]) -> dict[str, float] | None:
    """Returns the weights of the options for the data sets that the run trains on; None if there are none."""
    trained = {split.name for split in splits}
    weights = cast("dict[str, float]", data.dataset_weights or {})
    return {name: weight for name, weight in weights.items() if name in trained} or None


def make_datasets(
    data: DataArguments, args: MetaTrainingArguments, text: SharedText | None = None
) -> dict[str, EpisodeDataset]:
    """Returns the episodes of each split that this run needs."""
    datasets = {}
    if args.do_train:
        datasets["train"] = make_training_episodes(load_splits(data, "train", text), data, args)
    if args.do_eval or (args.do_train and args.eval_strategy != "no"):
        datasets["validation"] = make_episodes(
            load_splits(data, "validation", text), data, args, data.num_eval_episodes
        )
    if args.do_predict:
        datasets["test"] = make_episodes(load_splits(data, "test", text), data, args, data.num_test_episodes)
    check_class_disjoint(datasets)
    return datasets


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
    modality's data sets: never a row that is evaluated.
    """
    found = list(datasets["train"].splits) if "train" in datasets else []
    trained = {split.modality for split in found}
    for split in splits_of(datasets):
        if split.modality not in trained:
            try:
                found.append(load_split(data, split.name, "train", text))
            except NoSuchSplit as error:
                logger.warning("the front ends of %s are not fitted to %s: %s", split.modality, split.name, error)
    return found
