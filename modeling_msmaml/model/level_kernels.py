"""
Few-shot classification by the levels of frozen encoders, computed from inner products alone: how the channels of a task
are centred, weighted and mixed, how an inner loop adapts the weights to the support set, and the classifier on the
mixed kernel.

A *channel* is one level of an encoder under one whitening. Its features are of unit length, so that its kernel is one
of cosines. T tasks, C channels, S support samples, Q queries, N classes. The classes of a task may have different
numbers of support samples; `shots` below is the mean number.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

_LEAST_SPREAD = 0.05  # of 1 - m, the part of the cosines that is not shared
_LEAST_SQUARE = 1e-4  # of the length of a centred feature
_LEAST_LENGTH = 1e-2  # of the sum of a class's other samples
_LEAST_WEIGHT = 1e-5  # of a channel, for its logarithm


class HeadSettings(NamedTuple):
    """The logarithms of the head's three factors, for the number of shots of each task; see `head_logits`."""

    log_temperature: Float[Tensor, " T"]
    log_ridge_scale: Float[Tensor, " T"]
    log_ridge: Float[Tensor, " T"]


def mean_cosine_between_classes(support: Float[Tensor, "T C S S"], labels: Int[Tensor, "T S"]) -> Float[Tensor, "T C"]:
    """The mean cosine of pairs of support samples of different classes."""
    differ = (labels[:, :, None] != labels[:, None, :])[:, None].to(support.dtype)
    return (support * differ).sum(dim=(2, 3)) / differ.sum(dim=(2, 3))


def centring(cosines: Float[Tensor, "T C"], n_way: int) -> Float[Tensor, "T C"]:
    """
    How far the origin moves to the support mean, from 0 to 1: g = m+ / (m+ + (1 - m) / N), m the mean cosine between
    classes.

    It is the factor by which James and Stein (1961) shrink a mean: m is the squared length of what all samples share,
    (1 - m) / N the variance of the mean of N classes.
    """
    shared = cosines.clamp(min=0)
    return shared / (shared + (1 - cosines).clamp(min=_LEAST_SPREAD) / n_way)


def centred_support(support: Float[Tensor, "T C S S"], share: Float[Tensor, "T C"]) -> Float[Tensor, "T C S S"]:
    """
    The support kernel after the origin has moved by `share` of the support mean, of features of unit length again.

    With s_i the mean of row i and s the mean of these:

        K_ij - g (s_i + s_j) + g^2 s,  divided by the lengths, the roots of K_ii - 2 g s_i + g^2 s
    """
    g, rows, whole, lengths = _moments(support, share)
    moved = support - (g * rows)[..., None] - (g * rows)[:, :, None, :] + whole[..., None]
    return moved / (lengths[..., None] * lengths[:, :, None, :])


def centred_query(
    support: Float[Tensor, "T C S S"], query: Float[Tensor, "T C Q S"], share: Float[Tensor, "T C"]
) -> Float[Tensor, "T C Q S"]:
    """
    The query kernel on the origin of `centred_support`, which is given the support kernel as it was before.

    With q_i the row means of the queries, whose features are of unit length:

        Q_ij - g (q_i + s_j) + g^2 s,  with 1 - 2 g q_i + g^2 s in place of K_ii - 2 g s_i + g^2 s
    """
    g, rows, whole, lengths = _moments(support, share)
    query_rows = query.mean(dim=3)
    of_query = (1 - 2 * g * query_rows + whole).clamp(min=_LEAST_SQUARE).sqrt()
    moved = query - (g * query_rows)[..., None] - (g * rows)[:, :, None, :] + whole[..., None]
    return moved / (of_query[..., None] * lengths[:, :, None, :])


def _moments(
    support: Float[Tensor, "T C S S"], share: Float[Tensor, "T C"]
) -> tuple[Float[Tensor, "T C 1"], Float[Tensor, "T C S"], Float[Tensor, "T C 1"], Float[Tensor, "T C S"]]:
    """g, the row means s_i, g^2 s, and the lengths of the support samples after the move."""
    g, rows = share[:, :, None], support.mean(dim=3)
    whole = g.square() * rows.mean(dim=2, keepdim=True)
    lengths = (support.diagonal(dim1=2, dim2=3) - 2 * g * rows + whole).clamp(min=_LEAST_SQUARE).sqrt()
    return g, rows, whole, lengths


def channel_weights(
    start: Float[Tensor, " C"], by_log_shots: Float[Tensor, " C"], log_shots: Float[Tensor, " T"]
) -> Float[Tensor, "T C"]:
    """The weights of the channels before the inner loop: softmax(b + b1 log k)."""
    return (start + by_log_shots * log_shots[:, None]).softmax(dim=1)


def with_template(
    weights: Float[Tensor, "T C"], template: Float[Tensor, " C"], last_cosine: Float[Tensor, " T"]
) -> Float[Tensor, "T C"]:
    """
    Weights of which a share goes to the template's channels: .8 clip((m - .2) / .4, 0, 1), m the mean cosine between
    classes in the encoder's last level. Where the encoder sees no difference between classes, shapes are compared.

    Args:
        template: the distribution of that share over the channels; it sums to 1.
    """
    share = 0.8 * ((last_cosine.clamp(0, 1) - 0.2) / 0.4).clamp(0, 1)[:, None]
    return (1 - share) * weights + share * template


def mixed(kernel: Float[Tensor, "T C rows S"], weights: Float[Tensor, "T C"]) -> Float[Tensor, "T rows S"]:
    """The sum of the channels' kernels, each times its weight."""
    return torch.einsum("tc,tcrs->trs", weights, kernel)


def leave_one_out_loss(
    kernel: Float[Tensor, "T S S"], labels: Int[Tensor, "T S"], n_way: int, temperature: Float[Tensor, ""]
) -> Float[Tensor, " T"]:
    """
    The mean cross-entropy of support samples that are compared with the prototypes of all other support samples.

    The logit of sample i for class n is the temperature times the cosine of i and the sum of the samples of n other
    than i. Samples that are alone in their class have no such sum and do not count.
    """
    members = F.one_hot(labels, n_way).to(kernel.dtype)
    to_class = kernel @ members  # of sample i and class n
    within = torch.einsum("tin,tin->tn", to_class, members)[:, None]
    diagonal = kernel.diagonal(dim1=1, dim2=2)[..., None]
    squares = within - members * (2 * to_class - diagonal)
    lengths = squares.clamp(min=_LEAST_LENGTH**2).sqrt()
    logits = temperature * (to_class - members * diagonal) / lengths
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    counted = _has_company(labels, n_way).to(kernel.dtype)
    return (losses * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def adapted_weights(
    weights: Float[Tensor, "T C"],
    support: Float[Tensor, "T C S S"],
    labels: Int[Tensor, "T S"],
    n_way: int,
    log_step: Float[Tensor, ""],
    log_temperature: Float[Tensor, ""],
    num_inner_steps: int,
    first_order: bool = False,
) -> tuple[Float[Tensor, "T C"], Float[Tensor, "T num_inner_steps"]]:
    """
    The inner loop: steps on the logarithms l of the weights, against the support set's leave-one-out loss L.

        w = softmax(l),  l <- l - step * dL/dw

    The derivative is with respect to w, so that this is exponentiated gradient descent on the simplex (Kivinen and
    Warmuth 1997). A task without two samples of one class has no such loss, and its weights stay as they are. With a
    graph, the outer loop differentiates through all steps; with `first_order`, not through the inner gradients.

    Returns:
        The weights, and the loss of each task before each step.
    """
    outer = torch.is_grad_enabled()
    adapts = _has_company(labels, n_way).any(dim=1)[:, None]
    logs, losses = (weights + _LEAST_WEIGHT).log(), []
    with torch.enable_grad():
        for _ in range(num_inner_steps):
            now = logs.softmax(dim=1)
            now = now if outer and now.requires_grad else now.detach().requires_grad_()
            loss = leave_one_out_loss(mixed(support, now), labels, n_way, log_temperature.exp())
            (gradient,) = torch.autograd.grad(loss.sum(), now, create_graph=outer and not first_order)
            logs = logs - log_step.exp() * gradient
            losses.append(loss if outer else loss.detach())
            if not outer:
                logs = logs.detach()
    found = torch.stack(losses, dim=1) if losses else weights.new_zeros(len(weights), 0)
    return torch.where(adapts, logs.softmax(dim=1), weights), found


def head_logits(
    support: Float[Tensor, "T S S"],
    query: Float[Tensor, "T Q S"],
    labels: Int[Tensor, "T S"],
    n_way: int,
    settings: HeadSettings,
) -> Float[Tensor, "T Q N"]:
    """
    Logits of queries on mixed kernels: exp(h0) times the cosine to the prototypes, plus exp(h1) times a ridge
    regression in closed form on the doubly centred kernel, with targets Y - mean(Y) and lambda = exp(h2). Where no
    class has two samples, prototypes are alone: the regression would say nothing more.
    """
    members = F.one_hot(labels, n_way).to(support.dtype)
    means = members / members.sum(dim=1, keepdim=True).clamp(min=1)
    to_mean = query @ means
    lengths = torch.einsum("tin,tij,tjn->tn", means, support, means).clamp(min=_LEAST_SQUARE).sqrt()
    logits = settings.log_temperature.exp()[:, None, None] * to_mean / lengths[:, None]
    if labels.shape[1] <= n_way:  # told by the shapes, since asking the labels would stall an accelerator
        return logits
    ridge = ridge_regression(support, query, members, settings.log_ridge.exp())
    scale = settings.log_ridge_scale.exp() * _has_company(labels, n_way).any(dim=1)
    return logits + scale[:, None, None] * ridge


def ridge_regression(
    support: Float[Tensor, "T S S"],
    query: Float[Tensor, "T Q S"],
    members: Float[Tensor, "T S N"],
    ridge: Float[Tensor, " T"],
) -> Float[Tensor, "T Q N"]:
    """
    Predictions of kernel ridge regression (Saunders et al. 1998) of the classes, less their mean, on the kernel whose
    origin is the support mean.

    Args:
        members: 1 where a support sample is of a class, else 0.
        ridge: the lambda of each task, which is added to the diagonal.
    """
    rows = support.mean(dim=2)
    whole = rows.mean(dim=1)[:, None, None]
    inner = support - rows[:, :, None] - rows[:, None, :] + whole
    outer = query - query.mean(dim=2, keepdim=True) - rows[:, None, :] + whole
    identity = torch.eye(support.shape[1], dtype=support.dtype, device=support.device)
    targets = members - members.mean(dim=1, keepdim=True)
    return outer @ torch.linalg.solve(inner + ridge[:, None, None] * identity, targets)


def log_shots(labels: Int[Tensor, "T S"], n_way: int) -> Float[Tensor, " T"]:
    """The logarithm of the mean number of support samples of the classes of each task."""
    return torch.full((len(labels),), labels.shape[1] / n_way, device=labels.device).log()


def _has_company(labels: Int[Tensor, "T S"], n_way: int) -> Bool[Tensor, "T S"]:
    """Whether another support sample has the class of this one."""
    return F.one_hot(labels, n_way).sum(dim=1).gather(1, labels) > 1
