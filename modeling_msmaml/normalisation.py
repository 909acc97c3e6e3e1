"""Batch norm of T tasks, each with statistics of its own, with its first and second derivatives written out."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .adapted_tasks import Statistics


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


# Below, tensors are (T, batch * length, channels) with sums over dimension 1, and (T, 1, channels) a channel.


def _rows(sequences: Float[Tensor, "T batch channels length"]) -> Float[Tensor, "T rows channels"]:
    return sequences.transpose(2, 3).flatten(1, 2)


def _sequences(
    rows: Float[Tensor, "T rows channels"], shape: tuple[int, int, int, int]
) -> Float[Tensor, "T batch channels length"]:
    tasks, batch, channels, length = shape
    return rows.view(tasks, batch, length, channels).transpose(2, 3)


def _mean(rows: Float[Tensor, "T rows channels"]) -> Float[Tensor, "T 1 channels"]:
    return rows.mean(dim=1, keepdim=True)


class _BatchNorm(torch.autograd.Function):
    """
    (outputs, normalised, mean, variance) of inputs x: normalised n = (x - mean) r with r = rsqrt(variance + eps), and
    outputs n scale + shift. With g = scale d/d outputs + d/d n, the derivative by x is

        r (g - mean(g) - n mean(g n)) + d/d mean / rows + 2 n d/d variance / (r rows)

    The first derivative is kept as a function of n and the variance, so that the second one comes back here, as
    derivatives by these two.
    """

    @staticmethod
    def forward(ctx, inputs, scale, shift, eps):
        ctx.set_materialize_grads(False)
        rows = _rows(inputs)
        mean = _mean(rows)
        normalised = rows - mean
        variance = _mean(normalised.square())
        normalised.mul_(torch.rsqrt(variance + eps))
        normalised, mean, variance = _sequences(normalised, inputs.shape), mean[..., None], variance[..., None]
        # No view, so that an activation may overwrite it.
        outputs = torch.addcmul(shift[:, None, :, None], normalised, scale[:, None, :, None])
        ctx.save_for_backward(normalised, variance, scale)
        ctx.eps = eps
        return outputs, normalised, mean, variance

    @staticmethod
    def backward(ctx, outer, to_normalised, to_mean, to_variance):
        normalised, variance, scale = ctx.saved_tensors
        by_inputs = by_scale = by_shift = None
        if outer is not None and to_normalised is None:
            by_inputs, by_scale, by_shift = _BatchNormGradient.apply(outer, normalised, variance, scale, ctx.eps)
        elif to_normalised is not None:
            by_inputs, by_scale, by_shift = _both_ways(outer, to_normalised, normalised, variance, scale, ctx.eps)
        rows = normalised.shape[1] * normalised.shape[3]
        if to_mean is not None:
            by_mean = (to_mean / rows).expand_as(normalised)
            by_inputs = by_mean if by_inputs is None else by_inputs + by_mean
        if to_variance is not None:
            factor = to_variance * (variance + ctx.eps).sqrt() * (2 / rows)
            by_inputs = normalised * factor if by_inputs is None else torch.addcmul(by_inputs, normalised, factor)
        return by_inputs, by_scale, by_shift, None


def _both_ways(outer, to_normalised, normalised, variance, scale, eps):
    """The derivatives by inputs, scale and shift where both the outputs and n have one."""
    shape, rstd = normalised.shape, torch.rsqrt(variance[..., 0] + eps)
    normalised, gradient = _rows(normalised), _rows(to_normalised)
    by_scale = by_shift = None
    if outer is not None:
        outer = _rows(outer)
        gradient = torch.addcmul(gradient, outer, scale[:, None])
        by_scale, by_shift = (outer * normalised).sum(dim=1), outer.sum(dim=1)
    along = _mean(gradient * normalised)
    by_inputs = torch.addcmul(-_mean(gradient) * rstd, gradient, rstd).addcmul_(normalised, along * rstd, value=-1)
    return _sequences(by_inputs, shape), by_scale, by_shift


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
        shape, rstd = outer.shape, torch.rsqrt(variance[..., 0] + eps)
        rows, n, factor = _rows(outer), _rows(normalised), rstd * scale[:, None]
        mean, along = _mean(rows), _mean(rows * n)
        by_inputs = torch.addcmul(-mean * factor, rows, factor).addcmul_(n, along * factor, value=-1)
        ctx.save_for_backward(outer, normalised, rstd, scale, mean, along)
        number = rows.shape[1]
        return _sequences(by_inputs, shape), (along * number)[:, 0], (mean * number)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx, to_inputs, to_scale, to_shift):
        outer, normalised, rstd, scale, mean, along = ctx.saved_tensors
        shape, g, n, factor = outer.shape, _rows(outer), _rows(normalised), rstd * scale[:, None]
        v = None if to_inputs is None else _rows(to_inputs)
        zero = torch.zeros_like(mean)
        p = zero if to_scale is None else to_scale[:, None]
        q = zero if to_shift is None else to_shift[:, None]
        if v is None:
            by_outer, by_normalised, along_outer = torch.addcmul(q, n, p), g * p, zero
        else:
            v_mean, v_along = _mean(v), _mean(v * n)
            along_outer = _mean(v * g) - v_mean * mean - v_along * along
            by_outer = torch.addcmul(q - factor * v_mean, v, factor).addcmul_(n, p - factor * v_along)
            by_normalised = (v * (-factor * along)).addcmul_(g, p - factor * v_along)
        along_outer = along_outer * len(g[0])
        by_rstd = scale[:, None] * along_outer
        by_variance = (-0.5 * by_rstd * rstd**3)[..., None]
        by_scale = (rstd * along_outer)[:, 0]
        return _sequences(by_outer, shape), _sequences(by_normalised, shape), by_variance, by_scale, None
