"""The classifier on the mixed kernel of levels: prototypes and ridge regression, which together are linear."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .level_kernels import sample_weights, shot_corrections

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
    The head whose logits are exp(h0) times the cosine to the prototypes, times `shot_corrections`, plus exp(h1) times a
    ridge regression (`ridge_regression`) with lambda = exp(h2). With one sample of each class, the regression still
    tells what distinguishes the classes from what some of them share.

    Args:
        kernel: of the support samples.
        log_factors: h0, h1 and h2 of each task.
    """
    members = F.one_hot(labels, n_way).to(kernel.dtype)
    counts = members.sum(dim=1, keepdim=True)
    means = members / counts.clamp(min=1)
    squares = (means * (kernel @ means)).sum(dim=1, keepdim=True)
    temperature, scale, ridge = log_factors.exp()[:, :, None, None].unbind(dim=1)
    traces = (members * kernel.diagonal(dim1=1, dim2=2)[..., None]).sum(dim=1)
    corrections = shot_corrections((squares * counts.square())[:, 0], traces, counts[:, 0])[:, None]
    coefficients = temperature * corrections * means / squares.clamp(min=_LEAST_SQUARE).sqrt()
    regression = ridge_regression(kernel, members, ridge, sample_weights(labels, n_way, kernel.dtype))
    return Head(coefficients + scale * regression.coefficients, scale[:, 0] * regression.bias)


def ridge_regression(
    kernel: Float[Tensor, "T S S"],
    members: Float[Tensor, "T S N"],
    ridge: Float[Tensor, "T 1 1"],
    weights: Float[Tensor, "T S"],
) -> Head:
    """
    Kernel ridge regression (Saunders et al. 1998) of the classes, less their mean, on the kernel whose origin is the
    support mean; samples, their mean and that of the classes are weighted.

    Its coefficients sum to zero over the samples, as the weighted targets do, so that of the query's own centring
    nothing is left but a bias.

    Args:
        members: 1 where a support sample is of a class, else 0.
        ridge: lambda, which is added to the diagonal, divided by the weight of a sample.
        weights: of the samples; their mean is 1.
    """
    inner, targets = doubly_centred(kernel, weights), centred_targets(members, weights)
    coefficients = torch.linalg.solve(_regular(inner, ridge, weights), targets)
    return Head(coefficients, -(_rows(kernel, weights)[:, None] @ coefficients)[:, 0])


def doubly_centred(kernel: Float[Tensor, "T S S"], weights: Float[Tensor, "T S"]) -> Float[Tensor, "T S S"]:
    """The kernel whose origin is the weighted mean of the samples."""
    rows = _rows(kernel, weights)
    return kernel - rows[:, :, None] - rows[:, None, :] + (rows * weights).mean(dim=1)[:, None, None]


def centred_targets(members: Float[Tensor, "T S N"], weights: Float[Tensor, "T S"]) -> Float[Tensor, "T S N"]:
    """The classes of samples, less their weighted mean."""
    return members - (members * weights[..., None]).mean(dim=1, keepdim=True)


def inverse_of(
    inner: Float[Tensor, "T S S"], ridge: Float[Tensor, "T 1 1"], weights: Float[Tensor, "T S"]
) -> Float[Tensor, "T S S"]:
    """G = (K + lambda W^-1)^-1, with the weights of the samples on the diagonal of W."""
    return torch.cholesky_inverse(torch.linalg.cholesky(_regular(inner, ridge, weights)))


def leave_one_out_regression(
    inverse: Float[Tensor, "T S S"],
    targets: Float[Tensor, "T S N"],
    ridge: Float[Tensor, "T 1 1"],
    weights: Float[Tensor, "T S"],
) -> tuple[Float[Tensor, "T S N"], Float[Tensor, "T S N"]]:
    """
    What the regression that is fitted to all other samples predicts for each: Y - G Y / diag(G) (Allen 1974), and the
    derivative of that with respect to log lambda, from dG = -G W^-1 G dlambda.
    """
    solved, diagonal = inverse @ targets, inverse.diagonal(dim1=1, dim2=2)[..., None]
    by_log_ridge = -ridge * (inverse @ (solved / weights[..., None]))
    of_diagonal = -ridge * (inverse.square() / weights[:, None]).sum(dim=2, keepdim=True)
    slope = (solved * of_diagonal - by_log_ridge * diagonal) / diagonal.square()
    return targets - solved / diagonal, slope


def _rows(kernel: Float[Tensor, "T S S"], weights: Float[Tensor, "T S"]) -> Float[Tensor, "T S"]:
    return (kernel * weights[:, None]).mean(dim=2)


def _regular(
    inner: Float[Tensor, "T S S"], ridge: Float[Tensor, "T 1 1"], weights: Float[Tensor, "T S"]
) -> Float[Tensor, "T S S"]:
    return inner + torch.diag_embed(ridge.clamp(min=_LEAST_RIDGE)[:, 0] / weights)
