"""Means over episodes with their intervals, and few-shot accuracy as a metric of `evaluate`."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import evaluate

_DESCRIPTION = """
Mean accuracy over episodes with the half-width of its 95 % interval, over all episodes, for each modality and for each
data set. The intervals are stratified by data set: that one data set is harder than another is no uncertainty.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: one sequence of predicted labels per episode.
    references: one sequence of true labels per episode, as long as its predictions.
    modalities: the modality of each episode.
    data_sets: the name of the data set of each episode; by default each modality has one.
Returns:
    `accuracy`, `accuracy_ci95`, `episodes`, and the same for each modality m and data set d as `<m>_accuracy`,
    `<d>_accuracy` and so on. Accuracies lie in [0, 1].
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
                    "data_sets": datasets.Value("string"),
                }
            ),
        )

    def compute(self, **inputs: Any) -> dict[str, float] | None:
        """As `evaluate.Metric.compute`; `data_sets` may be left out."""
        if inputs.get("modalities") is not None:
            inputs.setdefault("data_sets", inputs["modalities"])
        return super().compute(**inputs)

    def _compute(
        self,
        predictions: list[list[int]],
        references: list[list[int]],
        modalities: list[str],
        data_sets: list[str],
    ) -> dict[str, float]:
        accuracies = []
        data_sets = modalities if data_sets is None else data_sets
        for predicted, reference, modality in zip(predictions, references, modalities, strict=True):
            if len(predicted) != len(reference) or not len(reference):
                raise ValueError(
                    f"an episode of modality {modality!r} has {len(predicted)} predictions for {len(reference)} labels"
                )
            accuracies.append(sum(p == r for p, r in zip(predicted, reference, strict=True)) / len(reference))
        return with_intervals("accuracy", accuracies, modalities, data_sets)


def with_intervals(
    name: str, values: Sequence[float], modalities: Sequence[str], data_sets: Sequence[str]
) -> dict[str, float]:
    """
    The mean of a quantity of episodes and the half-width of its 95 % interval, over all episodes, for each modality and
    for each data set.

    Args:
        name: of the quantity.
        values: one for each episode.
        modalities, data_sets: those of each episode.

    Returns:
        `<name>`, `<name>_ci95`, `episodes`, and the same for each modality m and data set d as `<m>_<name>` and so on.
    """
    strata: dict[tuple[str, str], list[float]] = defaultdict(list)
    for value, modality, data_set in zip(values, modalities, data_sets, strict=True):
        strata[modality, data_set].append(value)
    result = _entries("", name, list(strata.values()))
    for place in (1, 0):  # the data sets, then the modalities
        for part in sorted({key[place] for key in strata}):
            result |= _entries(f"{part}_", name, [own for key, own in strata.items() if key[place] == part])
    return result


def _entries(prefix: str, name: str, strata: list[list[float]]) -> dict[str, float]:
    mean, ci95 = stratified_mean_and_ci95(strata)
    return {f"{prefix}{name}": mean, f"{prefix}{name}_ci95": ci95, f"{prefix}episodes": sum(map(len, strata))}


def stratified_mean_and_ci95(strata: Sequence[Sequence[float]]) -> tuple[float, float]:
    """
    The mean over the values of all strata, and the half-width of its 95 % interval.

    The strata, here data sets, are fixed and not drawn, so that only the variance within each of them is uncertainty
    (Cochran, Sampling Techniques, 1977, section 5.4). With W_h the share of stratum h in the values, s_h its sample
    standard deviation and n_h its number of values, the half-width is 1.96 sqrt(sum_h W_h^2 s_h^2 / n_h). It is
    infinite if a stratum has one value.

    Raises:
        `ValueError`: there is no value.
    """
    values = [value for stratum in strata for value in stratum]
    mean, _ = mean_and_ci95(values)
    halves = [len(stratum) / len(values) * mean_and_ci95(stratum)[1] for stratum in strata]
    return mean, math.sqrt(math.fsum(half**2 for half in halves))


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
