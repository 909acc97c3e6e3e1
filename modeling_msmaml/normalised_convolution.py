"""
Convolution, batch norm, scale and shift, and ReLU of T tasks as one function, with its first and second derivatives
written out: what a layer of both networks is.

As one function it visits memory less often than as four, and autograd has one node where it would have nine. The
convolution's bias has no part in the values, since batch norm subtracts it; its derivative is zero.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .convolution import convolution_arguments, fold, to_matrix, to_rows, to_sequences, to_weight, windows
from .scripted import scripted


def conv_norm_relu(
    inputs: Float[Tensor, "T batch in_channels length"],
    weight: Float[Tensor, "#T out_channels in_channels kernel"],
    bias: Float[Tensor, "#T out_channels"],
    scale: Float[Tensor, "#T out_channels"] | float,
    shift: Float[Tensor, "#T out_channels"] | float,
    eps: float,
    stride: int = 1,
    padding: int = 0,
) -> tuple[Float[Tensor, "T batch out_channels new_length"], Float[Tensor, "T batch out_channels new_length"]]:
    """
    relu((y - mean) / sqrt(variance + eps) * scale + shift) with y = conv1d(inputs, weight), mean and biased variance
    those of each task's channels over batch and length (Ioffe and Szegedy 2015, arXiv 1502.03167).

    It can be differentiated twice; by way of y, which it returns too, once. Memory as for `conv1d`.

    Returns:
        The result, and y, the convolution without its bias.

    Raises:
        `ValueError`: `inputs` are shorter than one window.
    """
    inputs, weight, bias = convolution_arguments(inputs, weight, bias, padding)
    tasks, channels = len(inputs), weight.shape[1]
    scale, shift = (
        (value if isinstance(value, Tensor) else inputs.new_full((), value)).to(inputs.dtype).expand(tasks, channels)
        for value in (scale, shift)
    )
    weight, bias = weight.expand(tasks, -1, -1, -1), bias.expand(tasks, -1)
    outputs, convolved, _, _ = _Layer.apply(inputs, weight, bias, scale, shift, eps, stride, padding)
    return outputs, convolved


# Scripted functions see sequences as rows (T, batch * length, channels), summed over dimension 1, and what belongs to a
# channel as (T, 1, channels).


def _fused(rows: Tensor) -> bool:
    """Whether PyTorch's own batch norm may do it, which is one function in fewer passes, but of one task."""
    return rows.shape[0] == 1 and (rows.dtype == torch.float32 or rows.dtype == torch.float64)


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(dim=[1], keepdim=True)


def _project(
    outer: Tensor, y: Tensor, scale: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """k (g - mean(g) - n mean(g n)), mean(g n) and mean(g) of rows g, with n = (y - mean) r and k = r scale."""
    if _fused(y):
        projected, along, total = torch.ops.aten.native_batch_norm_backward(
            outer[0], y[0], scale[0].contiguous(), None, None, mean[0, 0], rstd[0, 0], True, eps, [True, True, True]
        )
        number = y.shape[1]
        return projected.unsqueeze(0), (along / number).view_as(mean), (total / number).view_as(mean)
    n = (y - mean).mul_(rstd)
    factor, average, along = rstd * scale.unsqueeze(1), _mean(outer), _mean(outer * n)
    projected = torch.addcmul(-average * factor, outer, factor).addcmul_(n, along * factor, value=-1)
    return projected, along, average


def _where_positive(outer: Tensor, outputs: Tensor) -> Tensor:
    """The derivative by what a ReLU made `outputs` of, as rows without gaps."""
    return (
        torch.ops.aten.threshold_backward(outer.transpose(2, 3), outputs.transpose(2, 3), 0).contiguous().flatten(1, 2)
    )


@scripted
def _forward(
    inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float, stride: int, padding: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, y, mean and r = 1 / sqrt(variance + eps)."""
    batch, kernel = inputs.shape[1], weight.shape[3]
    y = torch.bmm(windows(inputs, kernel, stride, padding), to_matrix(weight))
    if _fused(y):
        normalised, mean, rstd = torch.ops.aten.native_batch_norm(
            y[0], scale[0].contiguous(), shift[0].contiguous(), None, None, True, 0.0, eps
        )
        outputs = normalised.relu_().unsqueeze(0)
        mean, rstd = mean.view(1, 1, -1), rstd.view(1, 1, -1)
    else:
        mean = _mean(y)
        centred = y - mean
        rstd = torch.rsqrt(_mean(centred.square()) + eps)
        outputs = torch.addcmul(shift.unsqueeze(1), centred, rstd * scale.unsqueeze(1)).relu_()
    return to_sequences(outputs, batch), to_sequences(y, batch), mean, rstd


@scripted
def _gradients(
    outer: Tensor | None,
    to_y: Tensor | None,
    outputs: Tensor,
    convolved: Tensor,
    inputs: Tensor,
    weight: Tensor,
    scale: Tensor,
    mean: Tensor,
    rstd: Tensor,
    eps: float,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """
    Derivatives by inputs (if needed), weight, scale and shift for those by outputs and by y; then the one by what the
    ReLU saw, g, the one by y in all, and the means of g n and of g.
    """
    batch, channels, length, kernel = inputs.shape[1], inputs.shape[2], inputs.shape[3], weight.shape[3]
    y = to_rows(convolved)
    if outer is None:
        g, along, average = torch.zeros_like(y), torch.zeros_like(mean), torch.zeros_like(mean)
        by_y = torch.zeros_like(y)
    else:
        g = _where_positive(outer, outputs)
        by_y, along, average = _project(g, y, scale, mean, rstd, eps)
    if to_y is not None:
        by_y.add_(to_rows(to_y))
    by_inputs: Tensor | None = None
    if need_inputs:
        by_inputs = fold(torch.bmm(by_y, to_matrix(weight).transpose(1, 2)), batch, channels, length, stride, padding)
    by_weight = to_weight(torch.bmm(windows(inputs, kernel, stride, padding).transpose(1, 2), by_y), kernel)
    number = y.shape[1]
    return by_inputs, by_weight, (along * number).squeeze(1), (average * number).squeeze(1), g, by_y, along, average


@scripted
def _second_gradients(
    g: Tensor,
    by_y: Tensor,
    along: Tensor,
    average: Tensor,
    outputs: Tensor,
    convolved: Tensor,
    inputs: Tensor,
    weight: Tensor,
    scale: Tensor,
    mean: Tensor,
    rstd: Tensor,
    to_inputs: Tensor | None,
    to_kernel: Tensor | None,
    to_scale: Tensor | None,
    to_shift: Tensor | None,
    eps: float,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
    """Derivatives by outer, y, inputs, weight and scale for those by the first four results of `_gradients`."""
    batch, channels, length, kernel = inputs.shape[1], inputs.shape[2], inputs.shape[3], weight.shape[3]
    y = to_rows(convolved)
    number = y.shape[1]
    # v, the derivative by `by_y`
    v: Tensor | None = None
    by_inputs: Tensor | None = None
    by_weight: Tensor | None = None
    if to_inputs is not None:
        moved = windows(to_inputs, kernel, stride, padding)
        v = torch.bmm(moved, to_matrix(weight))
        by_weight = to_weight(torch.bmm(moved.transpose(1, 2), by_y), kernel)
    if to_kernel is not None:
        matrix, patches = to_matrix(to_kernel), windows(inputs, kernel, stride, padding)
        v = torch.bmm(patches, matrix) if v is None else v.baddbmm_(patches, matrix)
        if need_inputs:
            by_inputs = fold(torch.bmm(by_y, matrix.transpose(1, 2)), batch, channels, length, stride, padding)
    if v is None:
        v_projected, v_along, sums = torch.zeros_like(y), torch.zeros_like(mean), torch.zeros_like(mean)
    else:
        v_projected, v_along, v_average = _project(v, y, scale, mean, rstd, eps)
        # sum(v u) with u = g - mean(g) - n mean(g n)
        sums = (_mean(v.mul_(g)) - v_average * average - v_along * along) * number
    s = scale.unsqueeze(1)
    # Through n, then through r, which is in n too: by_r d r / d y = -scale sum(v u) r^2 n / number.
    at_n = s * sums * rstd.square() / -number
    to_convolved = torch.addcmul(-mean * rstd * at_n, y, rstd * at_n)
    to_convolved.addcmul_(v_projected, along * rstd, value=-1).addcmul_(by_y, v_along * rstd, value=-1)
    by_scale = rstd * sums
    if to_scale is not None or to_shift is not None:
        n = (y - mean).mul_(rstd)
        if to_scale is not None:
            p = to_scale.unsqueeze(1)
            v_projected = torch.addcmul(v_projected, n, p)
            u = (g - average).addcmul_(n, along, value=-1)
            to_convolved.addcmul_(u, p * rstd)
        if to_shift is not None:
            v_projected = v_projected + to_shift.unsqueeze(1)
    to_outer = _where_positive(to_sequences(v_projected, batch), outputs)
    return to_sequences(to_outer, batch), to_sequences(to_convolved, batch), by_inputs, by_weight, by_scale.squeeze(1)


class _Layer(torch.autograd.Function):
    """
    (outputs, y, mean, r) with y = conv1d(inputs, weight), n = (y - mean) r, outputs = relu(n scale + shift). With g the
    derivative by what the ReLU sees and k = r scale, the derivative by y is

        k (g - mean(g) - n mean(g n))

    This is a function of y, inputs, weight and scale, so that the second derivative comes back here as one by y.
    """

    @staticmethod
    def forward(ctx, inputs, weight, bias, scale, shift, eps, stride, padding):
        ctx.set_materialize_grads(False)
        outputs, convolved, mean, rstd = _forward(inputs, weight, scale, shift, eps, stride, padding)
        ctx.save_for_backward(outputs, convolved, inputs, weight, scale, mean, rstd)
        ctx.geometry, ctx.bias_shape = (eps, stride, padding), bias.shape
        ctx.mark_non_differentiable(mean, rstd)
        return outputs, convolved, mean, rstd

    @staticmethod
    def backward(ctx, outer, to_y, *_):
        outputs, convolved, inputs, weight, scale, mean, rstd = ctx.saved_tensors
        rest = mean, rstd, *ctx.geometry, ctx.needs_input_grad[0]
        if to_y is None and outer is not None:
            gradients = _LayerGradient.apply(outer, outputs.detach(), convolved, inputs, weight, scale, *rest)
        else:
            gradients = _gradients(outer, to_y, outputs, convolved, inputs, weight, scale, *rest)[:4]
        by_inputs, by_weight, by_scale, by_shift = gradients
        return by_inputs, by_weight, weight.new_zeros(ctx.bias_shape), by_scale, by_shift, None, None, None


class _LayerGradient(torch.autograd.Function):
    """
    The derivatives by inputs, weight, scale and shift as functions of the one by the outputs, and of y, inputs, weight
    and scale. With v, p, q the derivatives by the one by y, by scale and by shift, those by g, n, r and scale are sums
    over few products an element:

        k (v - mean(v) - n mean(v n)) + n p + q
        -k (v mean(g n) + g mean(v n)) + g p
        scale sum(v u), r sum(v u)                                with u = g - mean(g) - n mean(g n)
    """

    @staticmethod
    def forward(ctx, outer, outputs, convolved, inputs, weight, scale, mean, rstd, eps, stride, padding, need_inputs):
        ctx.set_materialize_grads(False)
        *results, g, by_y, along, average = _gradients(
            outer, None, outputs, convolved, inputs, weight, scale, mean, rstd, eps, stride, padding, need_inputs
        )
        ctx.save_for_backward(g, by_y, along, average, outputs, convolved, inputs, weight, scale, mean, rstd)
        ctx.geometry = eps, stride, padding
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx, *outer):
        by_outer, *others = _second_gradients(*ctx.saved_tensors, *outer, *ctx.geometry, ctx.needs_input_grad[3])
        return by_outer, None, *others, *[None] * 6
