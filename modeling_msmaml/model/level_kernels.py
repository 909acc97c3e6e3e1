"""
Few-shot classification by the levels of frozen encoders: how the channels of a task are centred, weighted and mixed.

A *channel* is one level of an encoder under one whitening. Its features are of unit length, so that inner products are
cosines, and a *kernel* is the matrix of all of them. T tasks, C channels, S support samples, Q queries, N classes. The
classes of a task may have different numbers of support samples; `shots` below is the mean number.

All that the inner loop asks of a channel are sums over the samples of each class, so that its time and memory grow with
S and not with its square.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

# With statistics of other sounds than a person's, classes that differ have mean cosines up to .4.
TEMPLATE_RAMP = (0.4, 0.65)

_LEAST_SPREAD = 0.05  # of 1 - m, the part of the cosines that is not shared
_LEAST_SQUARE = 1e-4  # of the length of a centred feature
_LEAST_LENGTH = 1e-2  # of the sum of a class's other samples


class ClassSums(NamedTuple):
    """
    Sums over the samples of each class of a kernel, or of one for each channel.

    Args:
        to_class: of the kernel's row of a sample, over the samples of a class.
        within: of the kernel over all pairs of samples of a class.
        diagonal: the kernel of each sample with itself.
    """

    to_class: Float[Tensor, "T *C S N"]
    within: Float[Tensor, "T *C N"]
    diagonal: Float[Tensor, "T *C S"]


def mean_cosine_between_classes(
    support: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
) -> Float[Tensor, " T"]:
    """The mean cosine of pairs of support samples of different classes, in one channel."""
    members = F.one_hot(labels, n_way).to(support.dtype)
    sums = members.transpose(1, 2) @ support
    together = sums.sum(dim=1).square().sum(dim=1) - sums.square().sum(dim=(1, 2))
    return together / (labels.shape[1] ** 2 - members.sum(dim=1).square().sum(dim=1))


def centring(cosines: Float[Tensor, "T C"], n_way: int) -> Float[Tensor, "T C"]:
    """
    How far the origin moves to the support mean, from 0 to 1: g = m+ / (m+ + (1 - m) / N), m the mean cosine between
    classes.

    It is the factor by which James and Stein (1961) shrink a mean: m is the squared length of what all samples share,
    (1 - m) / N the variance of the mean of N classes.
    """
    shared = cosines.clamp(min=0)
    return shared / (shared + (1 - cosines).clamp(min=_LEAST_SPREAD) / n_way)


def centred(features: Float[Tensor, "T samples d"], origin: Float[Tensor, "T 1 d"]) -> Float[Tensor, "T samples d"]:
    """Features of one channel seen from another origin, of unit length again."""
    moved = features - origin
    return moved / moved.square().sum(dim=2, keepdim=True).clamp(min=_LEAST_SQUARE).sqrt()


def channel_weights(
    start: Float[Tensor, " C"], by_log_shots: Float[Tensor, " C"], log_shots: Float[Tensor, " T"]
) -> Float[Tensor, "T C"]:
    """The weights of the channels before the inner loop: softmax(b + b1 log k)."""
    return (start + by_log_shots * log_shots[:, None]).softmax(dim=1)


def with_template(
    weights: Float[Tensor, "T C"],
    template: Float[Tensor, " C"],
    last_cosine: Float[Tensor, " T"],
    ramp: tuple[float, float] = TEMPLATE_RAMP,
) -> Float[Tensor, "T C"]:
    """
    Weights of which a share goes to the template's channels: it rises from 0 to .8 while m, the mean cosine between
    classes in the encoder's last level, goes through the ramp. Where the encoder sees no difference between classes,
    shapes are compared.

    Args:
        template: the distribution of that share over the channels; it sums to 1.
        ramp: where the share begins and ceases to rise.
    """
    first, last = ramp
    share = 0.8 * ((last_cosine - first) / (last - first)).clamp(0, 1)[:, None]
    return (1 - share) * weights + share * template


def class_sums(support: Sequence[Float[Tensor, "T S d"]], labels: Int[Tensor, "T S"], n_way: int) -> ClassSums:
    """The sums of each channel's kernel, in time linear in the number of samples."""
    found = []
    for channel in support:
        members = F.one_hot(labels, n_way).to(channel.dtype)
        sums = members.transpose(1, 2) @ channel
        found.append((channel @ sums.transpose(1, 2), sums.square().sum(dim=2), channel.square().sum(dim=2)))
    return ClassSums(*(torch.stack(parts, dim=1) for parts in zip(*found, strict=True)))


def mixed_sums(sums: ClassSums, weights: Float[Tensor, "T C"]) -> ClassSums:
    """The sums of the mixed kernel."""
    return ClassSums(*(torch.einsum("tc,tc...->t...", weights, part) for part in sums))


def mixed_kernel(
    rows: Sequence[Float[Tensor, "T rows d"]], columns: Sequence[Float[Tensor, "T S d"]], weights: Float[Tensor, "T C"]
) -> Float[Tensor, "T rows S"]:
    """The sum of the kernels of all channels, each times its weight."""
    by_channel = weights[:, :, None, None].unbind(dim=1)
    parts = (weight * (r @ c.transpose(1, 2)) for weight, r, c in zip(by_channel, rows, columns, strict=True))
    return sum(parts, start=torch.zeros((), dtype=weights.dtype, device=weights.device))


def leave_one_out_cosines(sums: ClassSums, labels: Int[Tensor, "T S"]) -> Float[Tensor, "T S N"]:
    """
    The cosines of each support sample and the prototype of each class, made of the class's samples other than itself,
    times `shot_corrections`.
    """
    members = F.one_hot(labels, sums.within.shape[1]).to(sums.within.dtype)
    diagonal = sums.diagonal[..., None]
    squares = sums.within[:, None] - members * (2 * sums.to_class - diagonal)
    cosines = (sums.to_class - members * diagonal) / squares.clamp(min=_LEAST_LENGTH**2).sqrt()
    traces = (members * diagonal).sum(dim=1)
    return cosines * shot_corrections(sums.within, traces, members.sum(dim=1))[:, None]


def shot_corrections(
    within: Float[Tensor, "T N"], traces: Float[Tensor, "T N"], counts: Float[Tensor, "T N"]
) -> Float[Tensor, "T N"]:
    """
    What the cosine to a class's prototype is multiplied with, so that a class with many samples has no advantage over
    one with few: a query is nearer to the mean of many samples, which averages out what they do not share.

    The mean of n samples of unit length with mean cosine r has the squared length (1 + (n - 1) r) / n. The correction
    is the ratio of that length and the one that it would have with the mean number of samples of the task's classes; r
    of a class with one sample is that of all others. Where all classes have equally many samples, it is 1.

    Args:
        within, traces: of the kernel of the samples of each class, the sums of all its elements and of its diagonal.
        counts: the number of samples of each class.
    """
    pairs = counts * (counts - 1)
    of_all = (within - traces).sum(dim=1, keepdim=True) / pairs.sum(dim=1, keepdim=True).clamp(min=1)
    shared = torch.where(pairs > 0, (within - traces) / pairs.clamp(min=1), of_all).clamp(0, 1)
    counts, typical = counts.clamp(min=1), counts.mean(dim=1, keepdim=True).clamp(min=1)
    return ((1 + (counts - 1) * shared) / counts / ((1 + (typical - 1) * shared) / typical)).sqrt()


def leave_one_out_loss(
    sums: ClassSums, labels: Int[Tensor, "T S"], temperature: Float[Tensor, ""]
) -> Float[Tensor, " T"]:
    """
    The mean cross-entropy of support samples that are compared with the prototypes of all other support samples: the
    logits are the temperature times `leave_one_out_cosines`. Every class counts alike, and samples that are alone in
    their class do not count.
    """
    logits = temperature * leave_one_out_cosines(sums, labels)
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * shares_in_loss(labels, sums.within.shape[1], losses.dtype)).sum(dim=1)


def shares_in_loss(labels: Int[Tensor, "T S"], n_way: int, dtype: torch.dtype) -> Float[Tensor, "T S"]:
    """The share of each sample in a leave-one-out loss; those of a task sum to 1, or 0 if no sample has company."""
    counted = has_company(labels, n_way) * sample_weights(labels, n_way, dtype)
    return counted / counted.sum(dim=1, keepdim=True).clamp(min=1)


def sample_weights(labels: Int[Tensor, "T S"], n_way: int, dtype: torch.dtype) -> Float[Tensor, "T S"]:
    """Weights of support samples with which every class counts alike; their mean is 1."""
    counts = F.one_hot(labels, n_way).sum(dim=1).to(dtype)
    return labels.shape[1] / n_way / counts.gather(1, labels)


def log_shots(labels: Int[Tensor, "T S"], n_way: int) -> Float[Tensor, " T"]:
    """The logarithm of the mean number of support samples of the classes of each task."""
    return torch.full((len(labels),), labels.shape[1] / n_way, device=labels.device).log()


def has_company(labels: Int[Tensor, "T S"], n_way: int) -> Bool[Tensor, "T S"]:
    """Whether another support sample has the class of this one."""
    return F.one_hot(labels, n_way).sum(dim=1).gather(1, labels) > 1
