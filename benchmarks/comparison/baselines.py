"""What anyone does with a frozen encoder: nearest centroid and logistic regression on its last level."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from .cells import DATA_SETS, Cell
from .methods import Answers, Method, batches, judged, register_method
from .splits import Material, episodes_of

Features = Float[np.ndarray, "samples d"]
Labels = Int[np.ndarray, " samples"]
Scores = Float[np.ndarray, "queries N"]
Classify = Callable[[Features, Labels, Features], Scores]
STRENGTHS = (1, 10, 100)  # C of logistic regression


def unit(features: Features) -> Features:
    """Returns features of unit length."""
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def centroid(support: Features, labels: Labels, query: Features) -> Scores:
    """Returns the cosines of queries and the mean of each class."""
    means = np.stack([support[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    return unit(query) @ unit(means).T


def logistic_regression(support: Features, labels: Labels, query: Features, strength: float) -> Scores:
    """Returns the probabilities of a logistic regression with C = `strength`.

    It is fitted in the span of the support set, where its solution lies, in coordinates that leave the penalty as it
    is: the same classifier in fewer dimensions.
    """
    _, _, directions = np.linalg.svd(support, full_matrices=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(support @ directions.T, labels)
    return fitted.predict_proba(query @ directions.T)


class OnLastLevel(Method):
    """
    A classifier on the encoder's own embedding.

    Args:
        name, title: see [`Method`].
        space: `"unscaled"`, the embedding as it is; `"raw"`, of unit length; or `"centred"`, that less the mean of the
            data set's training classes, of unit length again.
        classify: maps support features, their labels and query features to a score for each query and class.
        gives_probabilities: whether the scores are probabilities.
    """

    def __init__(self, name: str, title: str, space: str, classify: Classify, gives_probabilities: bool):
        self.name, self.title, self.space = name, title, space
        self.statistics = "own training classes" if space == "centred" else "none"
        self.classify, self.gives_probabilities = classify, gives_probabilities

    def answers(self, cell: Cell, material: Material, number: int, seed: int) -> Answers:
        own, parts = DATA_SETS[cell.data_set], []
        last, mean = material.last_level(own.modality), np.zeros(())
        if self.space == "centred":
            mean = unit(material.training(own)[0][:, last].numpy()).mean(axis=0)

        def placed(levels: torch.Tensor) -> Features:
            features = levels[..., last].float().numpy()
            return features if self.space == "unscaled" else unit(unit(features) - mean)

        for _, batch, labels in batches(episodes_of(cell, material.of(own), number, seed)):
            tasks = zip(placed(batch["support"]), batch["support_labels"].numpy(), placed(batch["query"]), strict=True)
            parts.append((torch.from_numpy(np.stack([self.classify(*task) for task in tasks])), labels))
        answers = judged(parts)
        return answers if self.gives_probabilities else Answers(answers.right)


def bases() -> list[OnLastLevel]:
    """Returns all of them, of which the best is what a model has to be better than."""
    found = [
        OnLastLevel(f"centroid_{space}", f"nearest centroid, {space}", space, centroid, False)
        for space in ("raw", "centred")
    ]
    for space in ("unscaled", "raw", "centred"):
        for strength in STRENGTHS:
            title = f"logistic regression, {space}, C = {strength}"
            classify = partial(logistic_regression, strength=strength)
            found.append(OnLastLevel(f"regression_{space}_{strength}", title, space, classify, True))
    return found


for _base in bases():
    register_method(_base)
