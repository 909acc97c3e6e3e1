"""The rows of the log of tasks: what a model made of each task, under the names that a person knows."""

from collections import Counter
from typing import Any

from torch import Tensor

from ..model.meta_batch import MSMAMLOutput
from .task_facts import TaskFacts


def task_rows(
    results: list[Any], output: MSMAMLOutput, episodes: dict[str, dict[str, Tensor]], tasks: list[TaskFacts]
) -> list[dict[str, Any]]:
    """
    One row for each task, with the columns of `task_log.SCHEMA` but for phase and step.

    Args:
        results: the [`EpisodeResult`] of each task, in the order of `tasks`.
        output: of the model.
        episodes: the meta-batch.
        tasks: what is known of each task.
    """
    support_losses = {name: losses.detach().float().tolist() for name, losses in output.support_loss.items()}
    labels = {name: batch["support_labels"].tolist() for name, batch in episodes.items()}
    modulation = {name: [layer.detach().float().tolist() for layer in own] for name, own in output.modulation.items()}
    counted, rows = Counter(), []
    for task, result in zip(tasks, results, strict=True):
        number = counted[task.group]
        counted[task.group] += 1
        classes, of_classes = range(len(task.class_names)), result.squared_error is None
        shots, queries, right = Counter(), Counter(), Counter()
        if of_classes:
            shots, queries = Counter(labels[task.group][number]), Counter(result.labels)
            pairs = zip(result.labels, result.predictions, strict=True)
            right = Counter(label for label, guess in pairs if label == guess)
        rows.append(
            {
                "episode": task.episode,
                "data_set": task.data_set,
                "modality": result.modality,
                "split": task.split,
                "n_way": len(classes),
                "class_names": list(task.class_names),
                "class_shots": [shots[label] for label in classes],
                "class_accuracies": [right[label] / queries[label] if queries[label] else None for label in classes],
                "accuracy": right.total() / len(result.labels) if of_classes else None,
                "squared_error": result.squared_error,
                "query_loss": result.loss,
                "support_losses": support_losses[task.group][number],
                "modulation": [layer[number] for layer in modulation[task.group]],
            }
        )
    return rows
