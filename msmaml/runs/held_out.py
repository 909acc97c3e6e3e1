"""
Which classes the statistics of a model on levels are fitted to while it trains: never those of its training episodes,
and in turn those of one data set, of all, or of all others, since a person brings data of none, or of a kind like one.
"""

from typing import NamedTuple

import numpy as np
import torch

from data_builders import FewShotSplit
from modeling_msmaml.model.modeling_msmaml import MSMAMLModel

from .run_model import by_modality, groups_of, rows_of_splits

FEWEST_CLASSES = 4  # of a data set that is divided, so that there are two classes on either side


class Halves(NamedTuple):
    """Training splits with half of their classes each; data sets of fewer than four classes are in `trained` alone."""

    fitted: list[FewShotSplit]
    trained: list[FewShotSplit]


def halves(splits: list[FewShotSplit], seed: int) -> Halves:
    """Divides the classes of each training split in two halves at random."""
    fitted, trained = [], []
    for split in splits:
        number = len(split.class_names)
        if number < FEWEST_CLASSES:
            trained.append(split)
            continue
        order = np.random.default_rng(seed).permutation(number)
        fitted.append(split.of_classes(sorted(order[: number // 2].tolist())))
        trained.append(split.of_classes(sorted(order[number // 2 :].tolist())))
    return Halves(fitted, trained)


def turns(splits: list[FewShotSplit]) -> list[list[FewShotSplit]]:
    """
    The choices among data sets of one modality that statistics are fitted to in turn: all together, each alone, and all
    but one.
    """
    every = range(len(splits))
    choices = [tuple(every), *((one,) for one in every), *(tuple(n for n in every if n != one) for one in every)]
    return [[splits[number] for number in choice] for choice in dict.fromkeys(choices) if choice]


def fit_for_training(model: MSMAMLModel, fitted: list[FewShotSplit]) -> None:
    """Fits the statistics that training episodes see, see [`MSMAMLModel.fit_for_training`]."""
    samples = {
        modality: [(torch.from_numpy(rows_of_splits(some)), groups_of(some)) for some in turns(own)]
        for modality, own in by_modality(fitted).items()
    }
    model.fit_for_training(samples)
