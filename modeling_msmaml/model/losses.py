"""The losses that the outer loop minimises, as pure functions of logits and features; a new loss goes here."""

import functools
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def task_losses(
    logits: Float[Tensor, "T samples N"], labels: Int[Tensor, "T samples"], label_smoothing: float = 0.0
) -> Float[Tensor, " T"]:
    """
    Mean cross-entropy of each task, in nats.

    Args:
        label_smoothing: which share of each target is spread evenly over all classes, from 0 to 1 (Szegedy et al. 2016,
            arXiv 1512.00567, section 7).
    """
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none", label_smoothing=label_smoothing)
    return losses.mean(dim=1)


def multi_step_losses(
    steps: Iterable[tuple[float, Float[Tensor, "T Q N"]]],
    labels: Int[Tensor, "T Q"],
    loss: Callable[[Float[Tensor, "T Q N"], Tensor], Float[Tensor, " T"]] = task_losses,
) -> Float[Tensor, " T"]:
    """
    The multi-step loss of MAML++ (Antoniou et al. 2019, arXiv 1810.09502): the weighted sum of each task's
    query losses after several inner steps.

    Args:
        steps: for each of these inner steps its weight and the query logits after it.
        labels: of the queries.
        loss: of logits and labels.
    """
    weighted = [weight * loss(logits, labels) for weight, logits in steps]
    return functools.reduce(torch.add, weighted)


def auxiliary_losses(
    features: Float[Tensor, "T samples size"],
    class_vectors: Float[Tensor, "classes size"],
    classes: Int[Tensor, "T samples"],
    cosine_scale: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " T"]:
    """
    Mean cross-entropy of each task's samples among all training classes, whose logits are scaled cosines of features
    and class vectors.

    Args:
        features: of unit length.
        class_vectors: one for each training class, of any length.
        classes: the training class of each sample.
        cosine_scale: what cosines are multiplied by to be logits.
        label_smoothing: see `task_losses`.
    """
    class_vectors = F.normalize(class_vectors, dim=1)
    return task_losses(cosine_scale * features @ class_vectors.T, classes, label_smoothing)
