"""The classifier on the mixed kernel of levels: prototypes and ridge regression, which together are linear."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_LEAST_SQUARE = 1e-4  # of the length of a prototype
_LEAST_RIDGE = 1e-4  # of lambda, so that a kernel without full rank has an inverse in float32


class Head(NamedTuple):
    """
    The classifier of T tasks: the logits of a query are its row of the mixed kernel times `coefficients`, plus `bias`.
    """

    coefficients: Float[Tensor, "T S N"]
    bias: Float[Tensor, "T N"]


def fitted_head(
    kernel: Float[Tensor, "T S S"], labels: Int[Tensor, "T S"], n_way: int, log_factors: Float[Tensor, "T 3"]
) -> Head:
    """
    The head whose logits are exp(h0) times the cosine to the prototypes, plus exp(h1) times a ridge regression
    (`ridge_regression`) with lambda = exp(h2). Where no class has two samples, prototypes are alone: the regression
    would say nothing more.

    Args:
        kernel: of the support samples.
        log_factors: h0, h1 and h2 of each task.
    """
    members = F.one_hot(labels, n_way).to(kernel.dtype)
    counts = members.sum(dim=1, keepdim=True)
    means = members / counts.clamp(min=1)
    lengths = (means * (kernel @ means)).sum(dim=1, keepdim=True).clamp(min=_LEAST_SQUARE).sqrt()
    temperature, scale, ridge = log_factors.exp()[:, :, None, None].unbind(dim=1)
    coefficients = temperature * means / lengths
    if labels.shape[1] <= n_way:  # told by the shapes, since asking the labels would stall an accelerator
        return Head(coefficients, coefficients.new_zeros(len(labels), n_way))
    regression = ridge_regression(kernel, members, ridge)
    scale = scale * (counts > 1).any(dim=2, keepdim=True)
    return Head(coefficients + scale * regression.coefficients, scale[:, 0] * regression.bias)


def ridge_regression(
    kernel: Float[Tensor, "T S S"], members: Float[Tensor, "T S N"], ridge: Float[Tensor, "T 1 1"]
) -> Head:
    """
    Kernel ridge regression (Saunders et al. 1998) of the classes, less their mean, on the kernel whose origin is the
    support mean.

    Its coefficients sum to zero over the samples, as the targets do, so that of the query's own centring nothing is
    left but a bias.

    Args:
        members: 1 where a support sample is of a class, else 0.
        ridge: lambda, which is added to the diagonal.
    """
    targets = members - members.mean(dim=1, keepdim=True)
    coefficients = torch.linalg.solve(_regular(doubly_centred(kernel), ridge), targets)
    return Head(coefficients, -(kernel.mean(dim=2)[:, None] @ coefficients)[:, 0])


def doubly_centred(kernel: Float[Tensor, "T S S"]) -> Float[Tensor, "T S S"]:
    """The kernel whose origin is the mean of the samples."""
    rows = kernel.mean(dim=2)
    return kernel - rows[:, :, None] - rows[:, None, :] + rows.mean(dim=1)[:, None, None]


def inverse_of(inner: Float[Tensor, "T S S"], ridge: Float[Tensor, "T 1 1"]) -> Float[Tensor, "T S S"]:
    """G = (K + lambda I)^-1."""
    return torch.cholesky_inverse(torch.linalg.cholesky(_regular(inner, ridge)))


def leave_one_out_regression(
    inverse: Float[Tensor, "T S S"], targets: Float[Tensor, "T S N"], ridge: Float[Tensor, "T 1 1"]
) -> tuple[Float[Tensor, "T S N"], Float[Tensor, "T S N"]]:
    """
    What the regression that is fitted to all other samples predicts for each: Y - G Y / diag(G) (Allen 1974), and the
    derivative of that with respect to log lambda.
    """
    solved, diagonal = inverse @ targets, inverse.diagonal(dim1=1, dim2=2)[..., None]
    by_log_ridge = -ridge * (inverse @ solved)
    of_diagonal = -ridge * inverse.square().sum(dim=2, keepdim=True)
    slope = (solved * of_diagonal - by_log_ridge * diagonal) / diagonal.square()
    return targets - solved / diagonal, slope


def _regular(inner: Float[Tensor, "T S S"], ridge: Float[Tensor, "T 1 1"]) -> Float[Tensor, "T S S"]:
    identity = torch.eye(inner.shape[1], dtype=inner.dtype, device=inner.device)
    return inner + ridge.clamp(min=_LEAST_RIDGE) * identity
