"""How episodes are evaluated: each process's share of them, their results, and what is said of all of them."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..model.meta_batch import MSMAMLOutput, modality_of_group
from ..model.modeling_msmaml import MSMAMLModel
from ..model.task_loss import TaskLoss, squared_errors, task_loss_of
from .metrics import FewShotAccuracy, with_intervals
from .task_facts import FactsCollator, TaskFacts, named_splits
from .task_rows import task_rows
from .trainer_hooks import TrainerHooks, loader_options

# Evaluation reads the rows of a modality once for all episodes, READ_ROWS at a time, if what it keeps of them takes at
# most READ_BYTES bytes.
READ_ROWS = 32
READ_BYTES = 2**30


@dataclass
class EpisodeResult:
    """
    What evaluation keeps of one episode.

    Args:
        modality, data_set: where it is from.
        predictions, labels: a class for each query; with a `task_loss` of numbers, as many of these as the network has
            outputs.
        loss: of the queries: cross-entropy in nats, or the `task_loss` of numbers.
        squared_error: mean over queries and outputs; `None` for classes.
    """

    modality: str
    data_set: str
    predictions: list
    labels: list
    loss: float
    squared_error: float | None = None


def evaluation_dataloader(trainer: TrainerHooks, dataset: Dataset) -> DataLoader:
    """This process's share of the episodes, in order."""
    # Each process takes its share and no more: accelerate's samplers repeat episodes to even out the last batch. A
    # share is made of whole batches, so that any number of processes computes the same ones, to the last bit.
    args = trainer.args
    rank, world, size = args.process_index, args.world_size, args.eval_batch_size
    episodes = len(dataset)  # pyright: ignore[reportArgumentType]  # torch declares no length
    batches = math.ceil(episodes / size)
    first, last = (min(episodes, batches * part // world * size) for part in (rank, rank + 1))
    read_once = splits_to_read_once(trainer.accelerator.unwrap_model(trainer.model), dataset)
    return DataLoader(
        dataset,
        sampler=range(first, last),
        batch_size=size,
        collate_fn=FactsCollator(trainer.data_collator, named_splits(dataset), read_once),
        # Without its own, an evaluation would draw from the global random state and change the training after it.
        generator=torch.Generator(),
        **loader_options(args),
    )


def splits_to_read_once(model: MSMAMLModel, dataset: Dataset) -> dict[str, list]:
    """Modality -> its splits, where reading every row once for all episodes spares time and takes little memory."""
    again = getattr(dataset, "splits_read_again", dict)() if model.can_read_rows_once else {}
    found = {}
    for modality, splits in again.items():
        first, rows = torch.from_numpy(splits[0].rows(np.arange(1))), sum(map(len, splits))
        # Features may not be finite, which the message that says so must find in the episodes.
        if not first.is_floating_point() and rows * model.bytes_of_row_read(modality, first) <= READ_BYTES:
            found[modality] = splits
    return found


def evaluated_episodes(
    trainer: TrainerHooks,
    dataloader: DataLoader,
    description: str,
    record: Callable[[list[dict]], None] | None = None,
) -> list[EpisodeResult]:
    """
    The results of all processes' episodes. The model adapts to every episode, and no outer graph is kept.

    Args:
        trainer: with the model, which is put into evaluation mode.
        dataloader: of [`evaluation_dataloader`].
        description: of the evaluation, for errors.
        record: takes [`task_rows`] of this process's episodes, as they are evaluated.

    Raises:
        `FloatingPointError`: a loss is not finite.
    """
    trainer.callback_handler.eval_dataloader = dataloader  # pyright: ignore[reportAttributeAccessIssue]
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    read_once = getattr(dataloader.collate_fn, "read_once", {})
    rows = {modality: in_parts(splits) for modality, splits in read_once.items()}
    results, of_numbers = [], loss_of_numbers(model)
    with torch.no_grad(), trainer.accelerator.autocast(), model.rows_read(rows):
        for batch in dataloader:
            tasks = batch.pop("tasks")
            episodes: Any = trainer._prepare_inputs(batch)["episodes"]
            output = model(episodes, return_dict=True)
            if not torch.isfinite(output.loss):
                raise FloatingPointError(explain_not_finite(trainer, output, episodes, f"in {description.lower()}"))
            found = episode_results(output, episodes, tasks, of_numbers)
            results += found
            if record is not None:
                record(task_rows(found, output, episodes, tasks))
            trainer.control = trainer.callback_handler.on_prediction_step(trainer.args, trainer.state, trainer.control)
    return gather_object(results)


def explain_not_finite(trainer: TrainerHooks, output: MSMAMLOutput, episodes: dict, when: str) -> str:
    """The message about a loss that is not finite: in which modality and inner step, and what to change."""
    places = []
    for modality, losses in output.support_loss.items():
        bad_steps = (~torch.isfinite(losses)).any(dim=0).nonzero()
        if len(bad_steps):
            places.append(f"{modality} (from inner step {bad_steps[0].item() + 1} on)")
        elif not torch.isfinite(output.logits[modality]).all():
            places.append(f"{modality} (after the inner loop)")
    floating = [m for m in episodes if not bool(torch.isfinite(episodes[m]["support"].float()).all())]
    inputs = f" The inputs of {', '.join(floating)} are not finite themselves." if floating else ""
    config = trainer.model.config
    return (
        f"the loss is {output['loss'].item()} {when}, in {', '.join(places)}.{inputs} Lower inner_lr (now "
        f"{config.inner_lr}) or, in training, learning_rate (now {trainer.args.learning_rate}), or set "
        f"inner_grad_clip (now {config.inner_grad_clip}); checkpoints are intact."
    )


def in_parts(splits: list) -> list[Callable[[], Tensor]]:
    """Functions that return the raw rows of some splits, one after the other, at most `READ_ROWS` at a time."""

    def part(split: Any, start: int) -> Tensor:
        return torch.from_numpy(split.rows(np.arange(start, min(start + READ_ROWS, len(split)))))

    return [partial(part, split, start) for split in splits for start in range(0, len(split), READ_ROWS)]


@contextmanager
def without_inner_loop(model: MSMAMLModel) -> Iterator[None]:
    """Within, `model` classifies queries without adapting to the support set."""
    config, of_evaluation = model.config, model.config.num_eval_inner_steps
    steps, config.num_inner_steps, config.num_eval_inner_steps = config.num_inner_steps, 0, None
    weights, model.multi_step_weights = model.multi_step_weights, None
    try:
        yield
    finally:
        config.num_inner_steps, config.num_eval_inner_steps, model.multi_step_weights = steps, of_evaluation, weights


def query_scores(
    output: MSMAMLOutput, episodes: dict[str, dict[str, Tensor]], classifies: bool
) -> dict[str, Float[Tensor, " T"]]:
    """
    Modality -> the query accuracy of each of its tasks, in [0, 1]; the mean squared error where labels are numbers.
    """
    found: dict[str, list[Tensor]] = {}
    for group, logits in output.logits.items():
        logits, labels = logits.detach(), episodes[group]["query_labels"]
        if classifies:
            scores = (logits.argmax(dim=-1) == labels).float().mean(dim=1)
        else:
            scores = squared_errors(logits.float(), labels.float())
        found.setdefault(modality_of_group(group), []).append(scores)
    return {modality: torch.cat(parts) for modality, parts in found.items()}


def episode_results(
    output: MSMAMLOutput,
    episodes: dict[str, dict[str, Tensor]],
    tasks: list[TaskFacts],
    of_numbers: TaskLoss | None = None,
) -> list[EpisodeResult]:
    """The results of the episodes of a meta-batch, in the order of `tasks`; `of_numbers`: a loss of no classes."""
    rows: dict[str, Iterator[tuple]] = {}
    for group, logits in output.logits.items():
        logits, labels = logits.detach().float(), episodes[group]["query_labels"]
        if of_numbers is None:
            losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(dim=1)
            predicted, errors = logits.argmax(dim=-1), [None] * len(labels)
        else:
            losses, errors = of_numbers.function(logits, labels), squared_errors(logits, labels.float()).tolist()
            predicted = logits
        rows[group] = zip(predicted.tolist(), labels.tolist(), losses.tolist(), errors, strict=True)
    return [EpisodeResult(modality_of_group(task.group), task.data_set, *next(rows[task.group])) for task in tasks]


def loss_of_numbers(model: MSMAMLModel) -> TaskLoss | None:
    """The `task_loss` of a model whose labels are numbers; `None` if they are classes."""
    loss = task_loss_of(model.config)
    return None if loss.classifies else loss


def summarise(results: list[EpisodeResult]) -> dict[str, float]:
    """
    Accuracies, or squared errors, with intervals, and mean losses: over all episodes, for each modality and for each
    data set.

    Raises:
        `ValueError`: there is no result.
    """
    if not results:
        raise ValueError("there is no episode to evaluate: num_episodes must be at least 1")
    modalities, data_sets = [result.modality for result in results], [result.data_set for result in results]
    errors = [result.squared_error for result in results if result.squared_error is not None]
    if errors:
        metrics = with_intervals("squared_error", errors, modalities, data_sets)
    else:
        accuracies = FewShotAccuracy().compute(
            predictions=[result.predictions for result in results],
            references=[result.labels for result in results],
            modalities=modalities,
            data_sets=data_sets,
        )
        metrics = cast("dict[str, float]", accuracies)  # `None` only where `evaluate` itself runs in several processes
    losses: dict[str, list[float]] = {}
    for result in results:
        for name in {"loss", f"{result.modality}_loss", f"{result.data_set}_loss"}:
            losses.setdefault(name, []).append(result.loss)
    return metrics | {name: math.fsum(values) / len(values) for name, values in sorted(losses.items())}
