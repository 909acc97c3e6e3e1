"""
Layers of convolution, batch norm, scale and shift, and ReLU of T tasks as one function that can be differentiated
twice: what both networks are made of.

Autograd has one node for all layers where it would have nine for each, and they visit memory less often. The
convolution's bias has no part in the values, since batch norm subtracts it; its derivative is zero.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .conv_norm_layer import forward_layer, layer_gradients, layer_second_gradients
from .convolution import check_length, in_autocast, number_of_windows
from .scripted import scripted


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
) -> tuple[Float[Tensor, "T batch out_channels new_length"], list[Float[Tensor, "T positions channels"]]]:
    """
    One layer after the other, each of which gives

        relu((y - mean) / sqrt(variance + eps) * scale + shift)

    with y = conv1d(inputs, weight) and mean and biased variance those of each task's channels over batch and length
    (Ioffe and Szegedy 2015, arXiv 1502.03167).

    It can be differentiated twice; by way of y, which it returns too, once. Memory as for `conv1d`.

    Returns:
        What the last layer gives, and y of each layer, one sample's positions after the other's.

    Raises:
        `ValueError`: a layer's inputs are shorter than one window.
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
    results = _Layers.apply(settings, inputs.transpose(2, 3), *weights, *biases, *scales, *shifts)
    return results[len(layers) - 1].transpose(2, 3), list(results[len(layers) :])


# Lists hold one tensor a layer. The formulas are in conv_norm_layer.py.


@scripted
def _forward(
    inputs: Tensor,
    weights: list[Tensor],
    scales: list[Tensor],
    shifts: list[Tensor],
    eps: float,
    strides: list[int],
    paddings: list[int],
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Outputs, y, mean and r."""
    outputs: list[Tensor] = []
    convolved: list[Tensor] = []
    means: list[Tensor] = []
    rstds: list[Tensor] = []
    for i in range(len(weights)):
        inputs, y, mean, rstd = forward_layer(inputs, weights[i], scales[i], shifts[i], eps, strides[i], paddings[i])
        outputs.append(inputs)
        convolved.append(y)
        means.append(mean)
        rstds.append(rstd)
    return outputs, convolved, means, rstds


@scripted
def _gradients(
    to_outputs: list[Tensor | None],
    to_convolved: list[Tensor | None],
    inputs: Tensor,
    outputs: list[Tensor],
    convolved: list[Tensor],
    weights: list[Tensor],
    scales: list[Tensor],
    means: list[Tensor],
    rstds: list[Tensor],
    eps: float,
    strides: list[int],
    paddings: list[int],
    need_inputs: bool,
    need_g: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Derivatives by inputs (if needed), weight, scale and shift for those by outputs and y; and g (if needed)."""
    outer: Tensor | None = None
    by_weights: list[Tensor] = []
    by_scales: list[Tensor] = []
    by_shifts: list[Tensor] = []
    gs: list[Tensor] = []
    for back in range(1, len(weights) + 1):
        i = len(weights) - back
        more = to_outputs[i]
        if more is not None:
            outer = more if outer is None else outer + more
        outer, by_weight, by_scale, by_shift, g = layer_gradients(
            outer,
            to_convolved[i],
            outputs[i],
            convolved[i],
            outputs[i - 1] if i > 0 else inputs,
            weights[i],
            scales[i],
            means[i],
            rstds[i],
            eps,
            strides[i],
            paddings[i],
            need_inputs or i > 0,
        )
        by_weights.append(by_weight)
        by_scales.append(by_scale)
        by_shifts.append(by_shift)
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
    inputs: Tensor,
    outputs: list[Tensor],
    convolved: list[Tensor],
    weights: list[Tensor],
    scales: list[Tensor],
    means: list[Tensor],
    rstds: list[Tensor],
    eps: float,
    strides: list[int],
    paddings: list[int],
    need_inputs: bool,
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor], list[Tensor | None], list[Tensor]]:
    """
    Derivatives by the one by the last outputs, by the inputs of each layer, y, weight and scale, for those by the
    first four results of `_gradients`: `outer` by the one by the inputs.
    """
    by_inputs: list[Tensor | None] = []
    by_convolved: list[Tensor] = []
    by_weights: list[Tensor | None] = []
    by_scales: list[Tensor] = []
    for i in range(len(weights)):
        # What a layer gave as derivative by its inputs, the one before it read.
        outer, by_y, by_layer_inputs, by_weight, by_scale = layer_second_gradients(
            outer,
            to_weights[i],
            to_scales[i],
            to_shifts[i],
            gs[i],
            outputs[i],
            convolved[i],
            outputs[i - 1] if i > 0 else inputs,
            weights[i],
            scales[i],
            means[i],
            rstds[i],
            eps,
            strides[i],
            paddings[i],
            need_inputs or i > 0,
        )
        by_inputs.append(by_layer_inputs)
        by_convolved.append(by_y)
        by_weights.append(by_weight)
        by_scales.append(by_scale)
    return outer, by_inputs, by_convolved, by_weights, by_scales


def _lists(tensors: Sequence[Tensor | None], length: int) -> list[list[Tensor | None]]:
    """Lists of `length` each."""
    return [list(tensors[start : start + length]) for start in range(0, len(tensors), length)]


class _Layers(torch.autograd.Function):
    """
    Outputs and y of every layer: y = conv1d(inputs, weight), n = (y - mean) r, outputs = relu(n scale + shift). With g
    the derivative by what a ReLU sees and k = r scale, the derivative by y is

        k (g - mean(g) - n mean(g n))

    This is a function of y, weight and scale, and of the outputs that are the next layer's inputs, so that the second
    derivative comes back here as one by these.
    """

    @staticmethod
    def forward(ctx, settings, inputs, *parameters):
        ctx.set_materialize_grads(False)
        weights, biases, scales, shifts = _lists(parameters, len(parameters) // 4)
        outputs, convolved, means, rstds = _forward(inputs, weights, scales, shifts, *settings)
        ctx.save_for_backward(inputs, *outputs, *convolved, *weights, *scales, *means, *rstds)
        ctx.settings, ctx.bias_shapes = settings, [bias.shape for bias in biases]
        return *outputs, *convolved

    @staticmethod
    def backward(ctx, *outer):
        (inputs, *saved), number = ctx.saved_tensors, len(ctx.bias_shapes)
        settings, need_inputs = ctx.settings, ctx.needs_input_grad[1]
        to_last, others = outer[number - 1], (*outer[: number - 1], *outer[number:])
        if torch.is_grad_enabled() and to_last is not None and all(gradient is None for gradient in others):
            by_inputs, *by_parameters = _LayersGradient.apply(settings, need_inputs, number, to_last, inputs, *saved)
        else:
            parts = *_lists(outer, number), inputs, *_lists(saved, number)
            by_inputs, *results, _ = _gradients(*parts, *settings, need_inputs, False)
            by_parameters = [gradient for gradients in results for gradient in gradients]
        by_biases = [inputs.new_zeros(shape) for shape in ctx.bias_shapes]
        return None, by_inputs, *by_parameters[:number], *by_biases, *by_parameters[number:]


class _LayersGradient(torch.autograd.Function):
    """
    The derivatives by inputs, weights, scales and shifts as functions of the one by the last outputs, and of inputs,
    outputs (where the next layer reads them), y, weights and scales.
    """

    @staticmethod
    def forward(ctx, settings, need_inputs, number, outer, inputs, *saved):
        ctx.set_materialize_grads(False)
        to_outputs, to_convolved = [None] * (number - 1) + [outer], [None] * number
        by_inputs, *results, gs = _gradients(
            to_outputs, to_convolved, inputs, *_lists(saved, number), *settings, need_inputs, True
        )
        ctx.save_for_backward(inputs, *gs, *saved)
        ctx.settings, ctx.number = settings, number
        return by_inputs, *(gradient for gradients in results for gradient in gradients)

    @staticmethod
    @once_differentiable
    def backward(ctx, to_inputs, *to_parameters):
        (inputs, *saved), number = ctx.saved_tensors, ctx.number
        gs, *saved = _lists(saved, number)
        by_outer, by_layer_inputs, by_convolved, by_weights, by_scales = _second_gradients(
            to_inputs, *_lists(to_parameters, number), gs, inputs, *saved, *ctx.settings, ctx.needs_input_grad[4]
        )
        by_inputs, *by_outputs = by_layer_inputs
        by_statistics = [None] * 2 * number  # mean and r; what goes through them is in the derivative by y
        by_saved = *by_outputs, None, *by_convolved, *by_weights, *by_scales, *by_statistics
        return None, None, None, by_outer, by_inputs, *by_saved
