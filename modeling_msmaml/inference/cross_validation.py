"""Cross-validation of a few-shot classifier on its labelled examples, each of which is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedGroupKFold

from ..inputs.notes import listing, warn_of_unreadable
from .class_labels import balanced, labels_of, sorted_classes
from .few_shot_classifier import FewShotClassifier

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class CrossValidation:
    """
    What cross-validation found.

    Args:
        classes: their names, in order.
        confusion: examples by their class, in rows, and by the class that was predicted, in columns.
        folds: how many there were.
    """

    classes: list[Any]
    confusion: Int[np.ndarray, "classes classes"]
    folds: int

    @property
    def count(self) -> int:
        """The number of examples, each of which was predicted once."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of the examples that were predicted right, in [0, 1]."""
        return float(np.trace(self.confusion) / self.count)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy by Wilson's method, which takes the examples as independent."""
        found = binomtest(int(np.trace(self.confusion)), self.count).proportion_ci(0.95, "wilson")
        return float(found.low), float(found.high)

    @property
    def accuracies(self) -> dict[Any, float]:
        """The share of the examples of each class that were predicted right."""
        shares = np.diag(self.confusion) / self.confusion.sum(axis=1)
        return dict(zip(self.classes, shares.tolist(), strict=True))


def cross_validate(
    classifier: FewShotClassifier,
    inputs: Sequence[Any],
    labels: Sequence[Any],
    sources: Sequence[str] | None = None,
    folds: int | None = None,
    seed: int = 0,
) -> CrossValidation:
    """
    Adapts to all folds of the examples but one, and predicts this one, in turn. Each example is read and encoded once.

    Args:
        classifier: it need not be fitted, and is not changed.
        inputs, labels: see [`FewShotClassifier.fit`].
        sources: the recording or document that each input comes from; those of one source are in the same fold.
        folds: how many; by default 5, or as many as the class with the fewest sources has.
        seed: non-negative seed of the division.

    Raises:
        As [`FewShotClassifier.fit`]; `ValueError`: a class has a single source, or fewer than there are folds.
    """
    items, labels = classifier._checked_examples(inputs, labels, [])
    model, processor = classifier.base_model()
    unreadable: dict[int, str] | None = {} if classifier.skip_unreadable else None
    modality = classifier._modality_of(items, model, None, unreadable)
    encoded = torch.cat(list(classifier._batches(items, modality, model, processor, None, unreadable)))
    kept = [number for number in range(len(items)) if number not in (unreadable or {})]
    if unreadable:
        warn_of_unreadable(unreadable, len(items))
    labels = labels_of([labels[number] for number in kept])
    groups = [f"{number}" if sources is None else sources[number] for number in kept]
    classes = sorted_classes(labels)
    numbers = torch.tensor([classes.index(label) for label in labels])
    folds = _checked_folds(folds, labels, groups)
    division = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    predicted = np.full(len(labels), -1)
    with torch.no_grad():
        for train, test in division.split(np.zeros((len(labels), 1)), numbers.numpy(), groups):
            if absent := set(range(len(classes))) - set(numbers[train].tolist()):
                raise ValueError(
                    f"all sources of the class {classes[min(absent)]!r} are in one fold: give fewer folds than {folds},"
                    " or examples of more sources"
                )
            rows = train[balanced(numbers[train]).numpy()] if model.needs_balanced_classes else train
            support, own = encoded[rows].to(model.device)[None], numbers[rows].to(model.device)[None]
            adapted = model.adapt(modality, support, own, n_way=len(classes))
            for some in torch.as_tensor(test).split(classifier.batch_size):
                logits = model.classify(adapted, encoded[some].to(model.device)[None])[0]
                predicted[some.numpy()] = logits.argmax(dim=-1).cpu().numpy()
    confusion = confusion_matrix(numbers.numpy(), predicted, labels=range(len(classes)))
    return CrossValidation(classes, confusion, folds)


def _checked_folds(folds: int | None, labels: Sequence[Any], sources: Sequence[str]) -> int:
    """The number of folds, where each class has enough sources for them."""
    own: dict[Any, set[str]] = {}
    for label, source in zip(labels, sources, strict=True):
        own.setdefault(label, set()).add(source)
    if len(own) < 2:
        raise ValueError(f"only examples of {listing([repr(label) for label in own])} can be read: give two classes")
    fewest = min(own, key=lambda label: len(own[label]))
    most = len(own[fewest])
    if most < 2:
        raise ValueError(
            f"the class {fewest!r} has examples of one source only: cross-validation takes at least 2 of each class"
        )
    if folds is None:
        return min(DEFAULT_FOLDS, most)
    if not 2 <= folds <= most:
        raise ValueError(
            f"folds={folds} must lie between 2 and {most}, the number of examples from different sources of the class "
            f"{fewest!r}, which has the fewest"
        )
    return folds
