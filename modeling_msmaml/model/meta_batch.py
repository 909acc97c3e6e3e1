"""What goes into the model and comes out of it: meta-batches, their checks, their chunks, and how chunks are joined."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Required, TypedDict, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from .configuration_msmaml import MSMAMLConfig
from .task_loss import task_loss_of


class MetaBatch(TypedDict, total=False):
    """
    T tasks of one modality and shape, as [`MSMAMLModel.forward`] takes them; without `query_labels` there is no loss.

    All tasks have N classes, each with at least one support sample; the classes may have different numbers of them.

    Raw inputs, which are `support` and `query`: audio int16 or float (.., samples) at 16 kHz; text integer token ids
    (.., tokens), 0 = padding; image uint8 or float in [0, 1] (.., 3, H, W). Labels are int64, from 0 to N - 1.

    With prototypes, `n_way` may say how many classes the tasks have; else the labels are read, for which an
    accelerator's host waits. On the CPU it must be that of the labels; on an accelerator it is trusted.
    """

    support: Required[Shaped[Tensor, "T S ..."]]
    support_labels: Required[Int[Tensor, "T S"]]
    query: Required[Shaped[Tensor, "T Q ..."]]
    query_labels: Int[Tensor, "T Q"]
    unlabelled: Shaped[Tensor, "T U ..."]  # raw inputs without labels; only with `soft_kmeans_steps`
    class_ids: Int[Tensor, "T N"]  # the training class behind each label; only with `auxiliary_classes`
    n_way: int


_SEPARATOR = "#"


def group_name(modality: str, number: int) -> str:
    """The key of a meta-batch in `episodes`: the modality, and a number if there are several shapes of its tasks."""
    return f"{modality}{_SEPARATOR}{number}" if number else modality


def modality_of_group(name: str) -> str:
    """The modality of a meta-batch by its key in `episodes`: that of `"image#2"` is `"image"`."""
    return name.partition(_SEPARATOR)[0]


@dataclass
class MSMAMLOutput(ModelOutput):
    """
    Output of [`MSMAMLModel`]; every dict has the keys of `episodes`.

    Args:
        loss (`Float[Tensor, ""]`, *optional*):
            Mean over all tasks of the query cross-entropy, in nats; absent without query labels.
        logits (`dict[str, Float[Tensor, "T Q N"]]`):
            Query logits of the adapted network.
        support_loss (`dict[str, Float[Tensor, "T num_inner_steps"]]`):
            Support cross-entropy before each inner step.
        modulation (`dict[str, tuple[Float[Tensor, "T size"], ...]]`):
            One tensor per layer, (T, 2C_l) for `"affine"`, scale first, then shift; an empty tuple without
            conditioning.

    In training mode `loss` alone can be differentiated, unless there is none, as with `return_loss=False`.
    """

    loss: Tensor | None = None
    # Always given; `ModelOutput` wants None as the default of every field.
    logits: dict[str, Tensor] = cast(dict[str, Tensor], None)
    support_loss: dict[str, Tensor] = cast(dict[str, Tensor], None)
    modulation: dict[str, tuple[Tensor, ...]] = cast(dict[str, tuple[Tensor, ...]], None)


@dataclass
class ChunkResult:
    """Outputs of some tasks of one modality; their share of the loss, and its gradients where these are known."""

    logits: Float[Tensor, "T Q N"]
    support_loss: Float[Tensor, "T num_inner_steps"]
    modulation: tuple[Float[Tensor, "T size"], ...]
    loss: Float[Tensor, ""] | None = None
    gradients: tuple[Tensor | None, ...] | None = None

    def with_gradients(self, parameters: list[nn.Parameter]) -> "ChunkResult":
        """The same with the loss's gradients, and without its graph, which ends here."""
        loss = cast(Tensor, self.loss)  # only chunks with query labels are differentiated
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        modulation = tuple(tensor.detach() for tensor in self.modulation)
        return ChunkResult(self.logits.detach(), self.support_loss.detach(), modulation, loss.detach(), gradients)


def chunks(episodes: dict[str, MetaBatch], tasks_per_chunk: int | None) -> Iterator[tuple[str, MetaBatch]]:
    """(group, meta-batch without `n_way`) of at most `tasks_per_chunk` tasks each; `None` divides nothing."""
    for group, batch in episodes.items():
        tasks = len(batch["support"])
        step = tasks_per_chunk or tasks
        for start in range(0, tasks, step):
            tensors = cast(dict[str, Tensor], {name: value for name, value in batch.items() if name != "n_way"})
            part = {name: tensor[start : start + step] for name, tensor in tensors.items()}
            yield group, cast(MetaBatch, part)


def joined(groups: list[str], results: list[ChunkResult], loss: Tensor | None = None) -> MSMAMLOutput:
    """The outputs of all chunks, given the group of each, as one meta-batch per group, behind the loss of all."""
    parts = {name: [] for name in groups}
    for name, result in zip(groups, results, strict=True):
        parts[name].append(result)
    return MSMAMLOutput(
        loss=loss,
        logits={name: torch.cat([part.logits for part in group]) for name, group in parts.items()},
        support_loss={name: torch.cat([part.support_loss for part in group]) for name, group in parts.items()},
        modulation={
            name: tuple(map(torch.cat, zip(*(part.modulation for part in group), strict=True)))
            for name, group in parts.items()
        },
    )


def classes_of(support_labels: Int[Tensor, "T S"], fixed: int | None, given: int | None = None) -> int:
    """
    The number of classes of tasks.

    A linear classifier has its own. With prototypes it is that of the labels, which the host must read; on an
    accelerator, where it would wait for that, `given` is trusted instead.
    """
    if fixed is not None:
        return fixed
    if given is not None and support_labels.device.type != "cpu":
        return given
    return int(support_labels.max()) + 1 if support_labels.numel() else 0


def check_episodes(
    episodes: dict[str, MetaBatch], config: MSMAMLConfig, training: bool, fixed_n_way: int | None
) -> dict[str, int]:
    """
    Checks what [`MSMAMLModel.forward`] is given.

    Args:
        training: whether the model is in training mode, where auxiliary classes need `class_ids`.
        fixed_n_way: the number of classes of a linear classifier; `None` where tasks may have any number.

    Returns:
        The number of classes of each meta-batch's tasks.

    Raises:
        `ValueError`: no episode, a modality that the model lacks, missing or misshapen tensors, a wrong `n_way`, a
        task that lacks a class.
    """
    n_ways = {}
    if not episodes:
        raise ValueError("episodes is empty: give at least one modality's meta-batch")
    for name, batch in episodes.items():
        modality = modality_of_group(name)
        if modality not in config.modalities:
            raise ValueError(f"episodes has modality {name!r}, but this model has {config.modalities}")
        for part in ("support", "query", "support_labels"):
            if part not in batch:
                raise ValueError(f"episodes[{name!r}] lacks {part!r}; it has {sorted(batch)}")
        unread = {"class_ids": config.auxiliary_classes, "unlabelled": config.soft_kmeans_steps}
        known = MetaBatch.__annotations__.keys() - {key for key, option in unread.items() if not option}
        if unknown := batch.keys() - known:
            hint = "; soft_kmeans_steps makes use of unlabelled samples" if "unlabelled" in unknown else ""
            raise ValueError(f"episodes[{name!r}] has {sorted(unknown)}, of which the model knows nothing{hint}")
        n_ways[name] = classes_of(batch["support_labels"], fixed_n_way, batch.get("n_way"))
        if "n_way" in batch:
            _check_n_way(
                f"episodes[{name!r}]['n_way']", batch["n_way"], batch["support_labels"].shape[-1], n_ways[name]
            )
        if not len(batch["support"]):
            raise ValueError(f"episodes[{name!r}] holds no task: leave the modality out")
        needs_ids = training and "query_labels" in batch and modality in (config.auxiliary_classes or {})
        if needs_ids and "class_ids" not in batch:
            raise ValueError(f"episodes[{name!r}] lacks 'class_ids', which auxiliary_classes needs in training")
        _check_shapes(name, batch, n_ways[name], task_loss_of(config).classifies)
    return n_ways


def check_support(
    modality: str,
    support: Shaped[Tensor, "T S ..."],
    support_labels: Int[Tensor, "T S"],
    n_way: int,
    config: MSMAMLConfig,
) -> None:
    """Raises `ValueError` unless the arguments are what [`MSMAMLModel.adapt`] takes."""
    if modality not in config.modalities:
        raise ValueError(f"modality={modality!r} is unknown to this model, which has {config.modalities}")
    classifies = task_loss_of(config).classifies
    if n_way < 2 and classifies:
        raise ValueError(f"n_way={n_way} must be at least 2")
    if support.dim() < 2 or not len(support):
        raise ValueError(f"support has shape {tuple(support.shape)}, expected (tasks, samples, ...)")
    if not classifies:
        _check_targets("support_labels", support_labels, tuple(support.shape[:2]), n_way)
        return
    if support_labels.shape != support.shape[:2]:
        raise ValueError(
            f"support_labels has shape {tuple(support_labels.shape)}, expected {tuple(support.shape[:2])}: one "
            "label for each task and sample of support"
        )
    _check_labels("support_labels", support_labels, n_way)


def check_query(query: Shaped[Tensor, "T Q ..."], tasks: int, name: str = "query") -> None:
    """Raises `ValueError` unless `query`, which an error calls by `name`, holds samples of that many tasks."""
    if query.dim() < 2 or len(query) != tasks:
        raise ValueError(f"{name} has shape {tuple(query.shape)}, expected ({tasks}, samples, ...): tasks first")


def check_unlabelled(unlabelled: Shaped[Tensor, "T U ..."], tasks: int, config: MSMAMLConfig) -> None:
    """Raises `ValueError` unless these are unlabelled samples of that many tasks, of which the model makes use."""
    if not config.soft_kmeans_steps:
        raise ValueError("unlabelled samples have no effect on this model, whose soft_kmeans_steps=0")
    if unlabelled.dim() < 2 or len(unlabelled) != tasks or not unlabelled.shape[1]:
        raise ValueError(f"unlabelled has shape {tuple(unlabelled.shape)}, expected ({tasks}, samples, ...)")


def _check_shapes(group: str, batch: MetaBatch, n_way: int, classifies: bool) -> None:
    tasks = len(batch["support"])
    for name, tensor in cast(dict[str, Tensor], batch).items():
        if name in ("class_ids", "n_way"):
            continue
        whole = {"q": "query", "u": "unlabelled"}.get(name[0], "support")
        samples = cast(dict[str, Tensor], batch)[whole].shape[1]
        if tuple(tensor.shape[:2]) != (tasks, samples):
            raise ValueError(
                f"episodes[{group!r}][{name!r}] has shape {tuple(tensor.shape)}, expected "
                f"({tasks}, {samples}, ...): tasks first, then samples"
            )
        if name.endswith("labels") and not classifies:
            _check_targets(f"episodes[{group!r}][{name!r}]", tensor, (tasks, samples), n_way)
            continue
        if name.endswith("labels"):
            _check_labels(f"episodes[{group!r}][{name!r}]", tensor, n_way)
        if name == "support_labels":
            _check_classes(f"episodes[{group!r}][{name!r}]", tensor, n_way)


def _check_n_way(name: str, given: int, support_samples: int, n_way: int) -> None:
    if type(given) is not int or not 2 <= given <= support_samples:
        raise ValueError(
            f"{name} is {given!r}, but must be an integer from 2 to {support_samples}, the support samples"
        )
    if given != n_way:
        raise ValueError(f"{name} is {given}, but the labels or a linear classifier have {n_way} classes")


def _check_classes(name: str, labels: Int[Tensor, "T S"], n_way: int) -> None:
    """A task with fewer classes than the others would get logits for classes that it does not have."""
    if labels.device.type != "cpu":  # it would stall the queue; `collate_episodes` never makes such a meta-batch
        return
    numbers = nn.functional.one_hot(labels, n_way).any(dim=1).sum(dim=1)
    if (numbers < n_way).any():
        task = int((numbers < n_way).nonzero()[0])
        raise ValueError(
            f"{name} has {int(numbers[task])} classes in task {task}, but the tasks have {n_way}, as the labels or "
            "a linear classifier: give tasks of another number of classes as a meta-batch of their own, "
            f"under a key such as {group_name('image', 1)!r}"
        )


def _check_targets(name: str, targets: Tensor, samples: tuple[int, ...], outputs: int) -> None:
    if tuple(targets.shape) != (*samples, outputs) or not targets.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(targets.shape)} and dtype {targets.dtype}, expected floats of shape "
            f"{(*samples, outputs)}: the task_loss of this model has a number for each of its n_way={outputs} outputs"
        )


def _check_labels(name: str, labels: Tensor, n_way: int) -> None:
    # On an accelerator the comparison would stall the queue, and the cross-entropy itself asserts there.
    if labels.device.type != "cpu":
        return
    if labels.dtype != torch.int64 or (labels.numel() and not 0 <= labels.min() <= labels.max() < n_way):
        raise ValueError(f"{name} must hold labels of dtype int64 from 0 to {n_way - 1}, since n_way={n_way}")
