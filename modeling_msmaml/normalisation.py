"""Batch norm of T tasks, each with statistics of its own, with its first and second derivatives written out."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .adapted_tasks import Statistics
from .scripted import scripted


def batch_statistics(inputs: Float[Tensor, "T batch channels length"]) -> Statistics:
    """Mean and biased variance of each task's channels over batch and length."""
    mean = inputs.mean(dim=(1, 3), keepdim=True)
    return mean, (inputs - mean).square().mean(dim=(1, 3), keepdim=True)


def affine_norm(
    inputs: Float[Tensor, "T batch channels length"],
    statistics: Statistics,
    scale: Float[Tensor, "#T channels"] | float,
    shift: Float[Tensor, "#T channels"] | float,
    eps: float,
) -> Float[Tensor, "T batch channels length"]:
    """
    (inputs - mean) / sqrt(variance + eps) * scale + shift, with statistics that are given, folded into one
    multiplication and one addition an element.
    """
    mean, variance = statistics
    scale = torch.rsqrt(variance + eps) * (scale[:, None, :, None] if isinstance(scale, Tensor) else scale)
    shift = shift[:, None, :, None] if isinstance(shift, Tensor) else shift
    return torch.addcmul(shift - mean * scale, inputs, scale)


def batch_norm(
    inputs: Float[Tensor, "T batch channels length"],
    scale: Float[Tensor, "#T channels"] | float,
    shift: Float[Tensor, "#T channels"] | float,
    eps: float,
) -> tuple[Float[Tensor, "T batch channels length"], Statistics]:
    """
    Batch norm (Ioffe and Szegedy 2015, arXiv 1502.03167) of each task over its own batch and length:
    `affine_norm(inputs, batch_statistics(inputs), scale, shift, eps)` and the statistics, in fewer passes over memory.
    Inputs that lie in memory with channels last are read without a copy.

    It can be differentiated twice; by way of the statistics, once.
    """
    tasks, _, channels, _ = inputs.shape
    scale, shift = (
        (value if isinstance(value, Tensor) else inputs.new_full((), value)).to(inputs.dtype).expand(tasks, channels)
        for value in (scale, shift)
    )
    outputs, _, mean, variance = _BatchNorm.apply(inputs, scale, shift, eps)
    return outputs, (mean, variance)


# Scripted functions see sequences as rows (T, batch * length, channels), summed over dimension 1, and what belongs to a
# channel as (T, 1, channels), or as (T, 1, channels, 1) beside sequences.


def _rows(sequences: Tensor) -> Tensor:
    return sequences.transpose(2, 3).flatten(1, 2)


def _like(rows: Tensor, sequences: Tensor) -> Tensor:
    """Rows as sequences of the same shape as others."""
    tasks, batch, channels, length = sequences.shape
    return rows.view(tasks, batch, length, channels).transpose(2, 3)


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(dim=[1], keepdim=True)


@scripted
def _normalise(inputs: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, normalised inputs, mean and variance."""
    rows = _rows(inputs)
    mean = _mean(rows)
    normalised = rows - mean
    variance = _mean(normalised.square())
    normalised = _like(normalised.mul_(torch.rsqrt(variance + eps)), inputs)
    # No view, so that an activation may overwrite it.
    outputs = torch.addcmul(shift.unsqueeze(1).unsqueeze(3), normalised, scale.unsqueeze(1).unsqueeze(3))
    return outputs, normalised, mean.unsqueeze(3), variance.unsqueeze(3)


@scripted
def _gradients(
    outer: Tensor, normalised: Tensor, variance: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Derivatives by inputs, scale and shift for the one by outputs; r, and the means of g and of g n."""
    rstd, g, n = torch.rsqrt(variance.squeeze(3) + eps), _rows(outer), _rows(normalised)
    factor, mean, along = rstd * scale.unsqueeze(1), _mean(g), _mean(g * n)
    by_inputs = torch.addcmul(-mean * factor, g, factor).addcmul_(n, along * factor, value=-1)
    number = g.shape[1]
    return _like(by_inputs, outer), (along * number).squeeze(1), (mean * number).squeeze(1), rstd, mean, along


@scripted
def _gradients_both_ways(
    outer: Tensor | None, to_normalised: Tensor, normalised: Tensor, variance: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Derivatives by inputs, scale and shift where there is one by n, and perhaps one by outputs."""
    rstd, n, g = torch.rsqrt(variance.squeeze(3) + eps), _rows(normalised), _rows(to_normalised)
    by_scale: Tensor | None = None
    by_shift: Tensor | None = None
    if outer is not None:
        rows = _rows(outer)
        g = torch.addcmul(g, rows, scale.unsqueeze(1))
        by_scale, by_shift = (rows * n).sum(dim=[1]), rows.sum(dim=[1])
    by_inputs = torch.addcmul(-_mean(g) * rstd, g, rstd).addcmul_(n, _mean(g * n) * rstd, value=-1)
    return _like(by_inputs, normalised), by_scale, by_shift


@scripted
def _second_gradients(
    outer: Tensor,
    normalised: Tensor,
    scale: Tensor,
    rstd: Tensor,
    mean: Tensor,
    along: Tensor,
    to_inputs: Tensor | None,
    to_scale: Tensor | None,
    to_shift: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Derivatives by outer, n, variance and scale for those by the first three results of `_gradients`: v, p and q."""
    g, n, factor = _rows(outer), _rows(normalised), rstd * scale.unsqueeze(1)
    zero = torch.zeros_like(mean)
    p = zero if to_scale is None else to_scale.unsqueeze(1)
    q = zero if to_shift is None else to_shift.unsqueeze(1)
    if to_inputs is None:
        by_outer, by_normalised, along_outer = torch.addcmul(q, n, p), g * p, zero
    else:
        v = _rows(to_inputs)
        v_mean, v_along = _mean(v), _mean(v * n)
        along_outer = (_mean(v * g) - v_mean * mean - v_along * along) * g.shape[1]
        by_outer = torch.addcmul(q - factor * v_mean, v, factor).addcmul_(n, p - factor * v_along)
        by_normalised = (v * (-factor * along)).addcmul_(g, p - factor * v_along)
    by_variance = (scale.unsqueeze(1) * along_outer * rstd**3 * -0.5).unsqueeze(3)
    return _like(by_outer, outer), _like(by_normalised, outer), by_variance, (rstd * along_outer).squeeze(1)


class _BatchNorm(torch.autograd.Function):
    """
    (outputs, n, mean, variance) of inputs x: n = (x - mean) r with r = rsqrt(variance + eps), outputs n scale + shift.
    With g = scale d/d outputs + d/d n, the derivative by x is

        r (g - mean(g) - n mean(g n)) + d/d mean / rows + 2 n d/d variance / (r rows)

    The first derivative is a function of n and the variance, so that the second one comes back here, as derivatives by
    these two.
    """

    @staticmethod
    def forward(ctx, inputs, scale, shift, eps):
        ctx.set_materialize_grads(False)
        outputs, normalised, mean, variance = _normalise(inputs, scale, shift, eps)
        ctx.save_for_backward(normalised, variance, scale)
        ctx.eps = eps
        return outputs, normalised, mean, variance

    @staticmethod
    def backward(ctx, outer, to_normalised, to_mean, to_variance):
        normalised, variance, scale = ctx.saved_tensors
        by_inputs = by_scale = by_shift = None
        if to_normalised is not None:
            by_inputs, by_scale, by_shift = _gradients_both_ways(
                outer, to_normalised, normalised, variance, scale, ctx.eps
            )
        elif outer is not None:
            by_inputs, by_scale, by_shift = _BatchNormGradient.apply(outer, normalised, variance, scale, ctx.eps)
        rows = normalised.shape[1] * normalised.shape[3]
        if to_mean is not None:
            by_mean = (to_mean / rows).expand_as(normalised)
            by_inputs = by_mean if by_inputs is None else by_inputs + by_mean
        if to_variance is not None:
            factor = to_variance * (variance + ctx.eps).sqrt() * (2 / rows)
            by_inputs = normalised * factor if by_inputs is None else torch.addcmul(by_inputs, normalised, factor)
        return by_inputs, by_scale, by_shift, None


class _BatchNormGradient(torch.autograd.Function):
    """
    The derivatives by inputs, scale and shift as functions of the one by the outputs, g, and of n, variance and scale:

        k (g - mean(g) - n mean(g n)),  sum(g n),  sum(g)        with k = r scale

    For derivatives v, p and q by these three, those by g, n, r and scale are sums over few products an element:

        k (v - mean(v) - n mean(v n)) + n p + q
        -k (v mean(g n) + g mean(v n)) + g p
        scale sum(v u), r sum(v u)                                with u = g - mean(g) - n mean(g n)
    """

    @staticmethod
    def forward(ctx, outer, normalised, variance, scale, eps):
        ctx.set_materialize_grads(False)
        *results, rstd, mean, along = _gradients(outer, normalised, variance, scale, eps)
        ctx.save_for_backward(outer, normalised, scale, rstd, mean, along)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx, to_inputs, to_scale, to_shift):
        return *_second_gradients(*ctx.saved_tensors, to_inputs, to_scale, to_shift), None
