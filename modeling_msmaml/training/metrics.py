"""Few-shot accuracy with its interval, over episodes."""

import math
from collections import defaultdict
from collections.abc import Iterable

import datasets
import evaluate

_DESCRIPTION = """
Mean accuracy over episodes with the half-width of its 95 % interval, over all episodes and for each modality.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: one sequence of predicted labels per episode.
    references: one sequence of true labels per episode, as long as its predictions.
    modalities: the modality of each episode.
Returns:
    `accuracy`, `accuracy_ci95`, `episodes`, and for each modality m `<m>_accuracy`, `<m>_accuracy_ci95`,
    `<m>_episodes`. Accuracies lie in [0, 1].
"""


class FewShotAccuracy(evaluate.Metric):
    """
    The accuracy of each episode, averaged over episodes. No value depends on the order of the episodes, on batches or
    on processes: sums are exact (`math.fsum`).
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("int64")),
                    "references": datasets.Sequence(datasets.Value("int64")),
                    "modalities": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self, predictions: list[list[int]], references: list[list[int]], modalities: list[str]
    ) -> dict[str, float]:
        accuracies = defaultdict(list)
        for predicted, reference, modality in zip(predictions, references, modalities, strict=True):
            if len(predicted) != len(reference) or not len(reference):
                raise ValueError(
                    f"an episode of modality {modality!r} has {len(predicted)} predictions for {len(reference)} labels"
                )
            accuracies[modality].append(sum(p == r for p, r in zip(predicted, reference, strict=True)) / len(reference))
        everything = [accuracy for values in accuracies.values() for accuracy in values]
        accuracy, ci95 = mean_and_ci95(everything)
        result: dict[str, float] = {"accuracy": accuracy, "accuracy_ci95": ci95, "episodes": len(everything)}
        for modality, values in sorted(accuracies.items()):
            result[f"{modality}_accuracy"], result[f"{modality}_accuracy_ci95"] = mean_and_ci95(values)
            result[f"{modality}_episodes"] = len(values)
        return result


def mean_and_ci95(values: Iterable[float]) -> tuple[float, float]:
    """
    The mean, and the half-width of its 95 % interval: 1.96 s / sqrt(n), where s is the sample standard deviation. This
    is the normal interval that few-shot results are reported with, as in arXiv 1703.03400, table 1. For a single value
    the half-width is infinite.

    Raises:
        `ValueError`: there is no value.
    """
    values = list(values)
    if not values:
        raise ValueError("the mean of no episodes is undefined: evaluate at least two")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, math.inf
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, 1.96 * math.sqrt(variance / len(values))
