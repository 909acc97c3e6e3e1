"""The episodes of a run: which splits of which data sets they are drawn from, and what shapes they have."""

import dataclasses
import logging
from typing import Any, cast

from data_builders import (
    EpisodeDataset,
    FewShotSplit,
    NoSuchSplit,
    add_new_classes,
    default_weights,
    load_few_shot,
)
from modeling_msmaml import MetaTrainingArguments

from .data_arguments import DataArguments

logger = logging.getLogger(__name__)


def load_splits(data: DataArguments, split: str, tokenizer: Any = None) -> list[FewShotSplit]:
    """Returns the named split of every data set that has one, in the order of the options.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        tokenizer: the tokenizer of all text data sets; by default each has its own.

    Raises:
        ValueError: no data set has such a split, or one lacks the test split.
    """
    found, lacking = [], []
    for name in data.names(split):
        options = data.options_of_data_set(name)
        try:
            own = load_few_shot(name, split, data.protocol, **options)
        except NoSuchSplit as error:
            if split == "test":
                raise
            lacking.append(name)
            logger.warning("%s is left out of %s: %s", name, split, error)
            continue
        found.append(dataclasses.replace(own, name=name))
    if not found:
        raise ValueError(
            f"none of the data sets {', '.join(lacking)} has a {split} split under protocol={data.protocol!r}"
        )
    return found


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


def make_datasets(data: DataArguments, args: MetaTrainingArguments) -> dict[str, EpisodeDataset]:
    """Returns the episodes of each split that this run needs."""
    datasets = {}
    if args.do_train:
        datasets["train"] = make_training_episodes(load_splits(data, "train"), data, args)
    if args.do_eval or (args.do_train and args.eval_strategy != "no"):
        datasets["validation"] = make_episodes(load_splits(data, "validation"), data, args, data.num_eval_episodes)
    if args.do_predict:
        datasets["test"] = make_episodes(load_splits(data, "test"), data, args, data.num_test_episodes)
    return datasets


def splits_of(datasets: dict[str, EpisodeDataset]) -> list[FewShotSplit]:
    """Returns one split of each data set that the run reads: that of training where there is one."""
    found = {}
    for dataset in datasets.values():
        for split in dataset.splits:
            found.setdefault(split.name, split)
    return list(found.values())


def splits_to_fit_to(datasets: dict[str, EpisodeDataset], data: DataArguments) -> list[FewShotSplit]:
    """Returns the training splits to which front ends are fitted.

    They are those that the run trains on and, for a modality that it only evaluates, the training splits of that
    modality's data sets: never a row that is evaluated.
    """
    found = list(datasets["train"].splits) if "train" in datasets else []
    trained = {split.modality for split in found}
    for split in splits_of(datasets):
        if split.modality not in trained:
            try:
                options = data.options_of_data_set(split.name)
                found.append(load_few_shot(split.name, "train", data.protocol, **options))
            except NoSuchSplit as error:
                logger.warning("the front ends of %s are not fitted to %s: %s", split.modality, split.name, error)
    return found
