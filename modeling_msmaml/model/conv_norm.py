"""
Layers of convolution, batch norm, scale and shift, and ReLU of T tasks as one function that can be differentiated
twice: what both networks are made of.

Autograd has one node for all layers where it would have nine for each, and they visit memory less often. The
convolution's bias has no part in the values, since batch norm subtracts it; its derivative is zero.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .conv_norm_gradients import activate, convolve, second_gradients, through_convolution, through_relu_and_norm
from .convolution import check_length, number_of_windows
from .execution import autocast, in_autocast, scripted


class ConvNormLayer(NamedTuple):
    """
    What one layer has for each of T tasks, or for all of them.

    Args:
        scale, shift: of what the norm gives, before the ReLU.
        stride, padding: of the convolution.
    """

    weight: Float[Tensor, "#T out_channels in_channels kernel"]
    bias: Float[Tensor, "#T out_channels"]
    scale: Float[Tensor, "#T out_channels"] | float
    shift: Float[Tensor, "#T out_channels"] | float
    stride: int = 1
    padding: int = 0


def conv_norm_relu(
    inputs: Float[Tensor, "T batch in_channels length"], layers: Sequence[ConvNormLayer], eps: float
) -> Float[Tensor, "T batch out_channels new_length"]:
    """
    One layer after the other, each of which gives

        relu((y - mean) / sqrt(variance + eps) * scale + shift)

    with y = conv1d(inputs, weight) and mean and biased variance those of each task's channels over batch and length
    (Ioffe and Szegedy 2015, arXiv 1502.03167).

    It can be differentiated twice. Layouts in memory as for `conv1d`. Of what a layer makes of its inputs, y (less its
    mean) is kept until the way back, and of its derivatives the one by what the ReLU sees.

    Raises:
        `ValueError`: a layer's inputs are shorter than one window.
        `NotImplementedError`: a third derivative is asked for.
    """
    tasks, length = len(inputs), inputs.shape[3]
    inputs = in_autocast(inputs)
    weights, biases, scales, shifts = [], [], [], []
    for layer in layers:
        kernel = layer.weight.shape[3]
        check_length(length, kernel, layer.padding)
        length = number_of_windows(length, kernel, layer.stride, layer.padding)
        weights.append(in_autocast(layer.weight).expand(tasks, -1, -1, -1))
        biases.append(in_autocast(layer.bias).expand(tasks, -1))
        for values, value in ((scales, layer.scale), (shifts, layer.shift)):
            value = value.to(inputs.dtype) if isinstance(value, Tensor) else inputs.new_full((), value)
            values.append(value.expand(tasks, layer.weight.shape[1]))
    settings = eps, [layer.stride for layer in layers], [layer.padding for layer in layers]
    inputs = inputs.transpose(2, 3)
    if torch.is_grad_enabled():
        outputs, *_ = _Layers.apply(settings, inputs, *weights, *biases, *scales, *shifts)
    else:
        with _without_autocast(inputs):
            outputs, *_ = _forward(inputs, weights, scales, shifts, *settings, False)
    return outputs.transpose(2, 3)


def _without_autocast(inputs: Tensor) -> AbstractContextManager:
    """On CUDA it would make some of these operations float32, and those behind them fail; on the CPU it does not."""
    return autocast(inputs.device.type, enabled=False)


# Lists hold one tensor a layer. Shapes and formulas are those of conv_norm_gradients.py.


@scripted
def _forward(
    inputs: Tensor,
    weights: list[Tensor],
    scales: list[Tensor],
    shifts: list[Tensor],
    eps: float,
    strides: list[int],
    paddings: list[int],
    keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Outputs of the last layer, y and r (if they are to be kept)."""
    ys: list[Tensor] = []
    rstds: list[Tensor] = []
    for i in range(len(weights)):
        y, rstd = convolve(inputs, weights[i], eps, strides[i], paddings[i])
        inputs = activate(y, rstd, scales[i], shifts[i], inputs.shape[1])
        if keep:
            ys.append(y)
            rstds.append(rstd)
    return inputs, ys, rstds


class _Kept(NamedTuple):
    """Of the way forward."""

    inputs: Tensor
    ys: list[Tensor]
    rstds: list[Tensor]
    weights: list[Tensor]
    scales: list[Tensor]
    shifts: list[Tensor]
    eps: float
    strides: list[int]
    paddings: list[int]


@scripted
def _gradients(
    outer: Tensor | None,
    to_ys: list[Tensor | None],
    kept: _Kept,
    need_inputs: bool,
    need_g: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """
    Derivatives by inputs (if needed), weight, scale and shift for those by the last outputs and by y; and g (if
    needed).
    """
    inputs, ys, rstds, weights, scales, shifts, eps, strides, paddings = kept
    batch = inputs.shape[1]
    by_weights: list[Tensor] = []
    by_scales: list[Tensor] = []
    by_shifts: list[Tensor] = []
    gs: list[Tensor] = []
    outputs = activate(ys[-1], rstds[-1], scales[-1], shifts[-1], batch)
    for back in range(1, len(weights) + 1):
        i = len(weights) - back
        if outer is None:
            g, by_y = torch.zeros_like(ys[i]), torch.zeros_like(ys[i])
            by_scale, by_shift = torch.zeros_like(rstds[i]), torch.zeros_like(rstds[i])
        else:
            g, by_y, by_scale, by_shift = through_relu_and_norm(outer, outputs, ys[i], rstds[i], scales[i], eps)
        to_y = to_ys[i]
        if to_y is not None:
            by_y = by_y.add_(to_y)
        outputs = activate(ys[i - 1], rstds[i - 1], scales[i - 1], shifts[i - 1], batch) if i > 0 else inputs
        outer, by_weight = through_convolution(by_y, outputs, weights[i], strides[i], paddings[i], need_inputs or i > 0)
        by_weights.append(by_weight)
        by_scales.append(by_scale.squeeze(1))
        by_shifts.append(by_shift.squeeze(1))
        if need_g:
            gs.append(g)
    return outer, by_weights[::-1], by_scales[::-1], by_shifts[::-1], gs[::-1]


@scripted
def _second_gradients(
    outer: Tensor | None,
    to_weights: list[Tensor | None],
    to_scales: list[Tensor | None],
    to_shifts: list[Tensor | None],
    gs: list[Tensor],
    kept: _Kept,
    need_inputs: bool,
) -> tuple[Tensor | None, Tensor | None, list[Tensor], list[Tensor | None], list[Tensor], list[Tensor | None]]:
    """
    Derivatives by the one by the last outputs, by inputs (if needed), y, weight, scale and shift, for those by the
    first four results of `_gradients`: `outer` by the one by the inputs.
    """
    inputs, ys, rstds, weights, scales, shifts, eps, strides, paddings = kept
    by_inputs: Tensor | None = None
    by_ys: list[Tensor] = []
    by_weights: list[Tensor | None] = []
    by_scales: list[Tensor] = []
    by_shifts: list[Tensor | None] = []
    outputs = inputs
    for i in range(len(weights)):
        before = outputs
        outputs = activate(ys[i], rstds[i], scales[i], shifts[i], inputs.shape[1])
        # What a layer gave as derivative by its inputs, the one before it read.
        outer, by_y, by_before, by_weight, by_scale = second_gradients(
            outer,
            to_weights[i],
            to_scales[i],
            to_shifts[i],
            gs[i],
            outputs,
            ys[i],
            rstds[i],
            before,
            weights[i],
            scales[i],
            eps,
            strides[i],
            paddings[i],
            need_inputs or i > 0,
        )
        by_ys.append(by_y)
        by_weights.append(by_weight)
        by_scales.append(by_scale)
        by_shifts.append(None)
        if i == 0:
            by_inputs = by_before
        elif by_before is not None:
            j = i - 1
            _, more_y, more_scale, by_shift = through_relu_and_norm(by_before, before, ys[j], rstds[j], scales[j], eps)
            by_ys[j].add_(more_y)
            by_scales[j].add_(more_scale)
            by_shifts[j] = by_shift.squeeze(1)
    return outer, by_inputs, by_ys, by_weights, [by_scale.squeeze(1) for by_scale in by_scales], by_shifts


def _lists(tensors: Sequence[Tensor | None], length: int) -> list[list[Tensor | None]]:
    """Lists of `length` each."""
    return [list(tensors[start : start + length]) for start in range(0, len(tensors), length)]


class _Layers(torch.autograd.Function):
    """
    Outputs of the last layer, and y of every layer: y = conv1d(inputs, weight) less its mean, n = y r, outputs = relu(n
    scale + shift). With g the derivative by what a ReLU sees and k = r scale, the derivative by y is

        k (g - mean(g) - n mean(g n))

    This is a function of y, weight, scale and shift, so that the second derivative comes back here as one by these.
    """

    @staticmethod
    def forward(ctx, settings, inputs, *parameters):
        ctx.set_materialize_grads(False)
        weights, biases, scales, shifts = _lists(parameters, len(parameters) // 4)
        with _without_autocast(inputs):
            outputs, ys, rstds = _forward(inputs, weights, scales, shifts, *settings, True)
        ctx.save_for_backward(inputs, *ys, *rstds, *weights, *scales, *shifts)
        ctx.settings, ctx.bias_shapes = settings, [bias.shape for bias in biases]
        return outputs, *ys

    @staticmethod
    def backward(ctx, outer, *to_ys):
        (inputs, *saved), number = ctx.saved_tensors, len(to_ys)
        settings, need_inputs = ctx.settings, ctx.needs_input_grad[1]
        if torch.is_grad_enabled():
            if outer is None or any(to_y is not None for to_y in to_ys):
                raise NotImplementedError("layers can be differentiated twice, not three times")
            by_inputs, *by_parameters = _LayersGradient.apply(settings, need_inputs, outer, inputs, *saved)
        else:
            with _without_autocast(inputs):
                kept = _Kept(inputs, *_lists(saved, number), *settings)
                by_inputs, *results, _ = _gradients(outer, list(to_ys), kept, need_inputs, False)
            by_parameters = [gradient for gradients in results for gradient in gradients]
        by_biases = [inputs.new_zeros(shape) for shape in ctx.bias_shapes]
        return None, by_inputs, *by_parameters[:number], *by_biases, *by_parameters[number:]


class _LayersGradient(torch.autograd.Function):
    """
    The derivatives by inputs, weights, scales and shifts as functions of the one by the last outputs, and of inputs, y,
    weights, scales and shifts.
    """

    @staticmethod
    def forward(ctx, settings, need_inputs, outer, inputs, *saved):
        ctx.set_materialize_grads(False)
        ctx.settings, ctx.number = settings, len(saved) // 5
        kept = _Kept(inputs, *_lists(saved, ctx.number), *settings)
        with _without_autocast(inputs):
            by_inputs, *results, gs = _gradients(outer, [None] * ctx.number, kept, need_inputs, True)
        ctx.save_for_backward(inputs, *gs, *saved)
        return by_inputs, *(gradient for gradients in results for gradient in gradients)

    @staticmethod
    @once_differentiable
    def backward(ctx, to_inputs, *to_parameters):
        (inputs, *saved), number = ctx.saved_tensors, ctx.number
        gs, *saved = _lists(saved, number)
        kept = _Kept(inputs, *saved, *ctx.settings)
        with _without_autocast(inputs):
            by_outer, by_inputs, by_ys, *by_parameters = _second_gradients(
                to_inputs, *_lists(to_parameters, number), gs, kept, ctx.needs_input_grad[3]
            )
        by_rstds = [None] * number  # what goes through r is in the derivative by y
        by_parameters = [gradient for gradients in by_parameters for gradient in gradients]
        return None, None, by_outer, by_inputs, *by_ys, *by_rstds, *by_parameters
