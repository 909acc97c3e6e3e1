"""
The stack of layers that both networks are made of (convolution, batch norm, scale and shift, ReLU), for T tasks at
once, as one function that can be differentiated twice.

The gradients are written out in conv_norm_gradients.py rather than left to autograd: one node of the graph stands for
all layers, instead of nine for each, and memory is read and written less often. The convolution's bias does not affect
the values, since batch norm subtracts it, so its gradient is zero.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .conv_norm_gradients import activate, convolve, second_gradients, through_convolution, through_relu_and_norm
from .convolution import check_length, number_of_windows
from .execution import autocast, autocast_of, in_autocast, scripted


class ConvNormLayer(NamedTuple):
    """
    The parameters of one layer: one set for each of T tasks, or one for all tasks.

    Args:
        weight: kernel of the convolution.
        bias: bias of the convolution.
        scale: factor of the normalised values, applied before the ReLU.
        shift: summand of the normalised values, applied before the ReLU.
        stride: stride of the convolution, in positions.
        padding: number of zeros that the convolution appends to either end of a sequence.
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
    Applies the layers one after the other. Each computes

        relu((y - mean) / sqrt(variance + eps) * scale + shift)

    where y = conv1d(inputs, weight), and mean and variance (biased) are those of each task's channels over batch and
    length (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1).

    The function can be differentiated twice. Inputs, weights and result are laid out in memory as those of `conv1d`.
    For the backward pass each layer keeps y (minus its mean), and for the second backward pass also the gradient with
    respect to the input of the ReLU.

    Raises:
        `ValueError`: a layer's inputs are shorter than one window.
        `NotImplementedError`: a third derivative is requested.
    """
    tasks, length = len(inputs), inputs.shape[3]
    inputs = in_autocast(inputs)
    weights, biases, scales, shifts = [], [], [], []
    for layer in layers:
        kernel = layer.weight.shape[3]
        check_length(length, kernel, layer.padding)
        length = number_of_windows(length, kernel, layer.stride, layer.padding)
        weights.append(_of_tasks(in_autocast(layer.weight), tasks))
        biases.append(_of_tasks(in_autocast(layer.bias), tasks))
        for values, value in ((scales, layer.scale), (shifts, layer.shift)):
            value = value.to(inputs.dtype) if isinstance(value, Tensor) else inputs.new_full((1, 1), value)
            values.append(_of_tasks(value, tasks, layer.weight.shape[1]))
    settings = eps, [layer.stride for layer in layers], [layer.padding for layer in layers]
    inputs = inputs.transpose(2, 3)
    if torch.is_grad_enabled():
        outputs, *_ = _Layers.apply(settings, inputs, *weights, *biases, *scales, *shifts)
    else:
        with _without_autocast(inputs):
            outputs, *_ = _forward(inputs, weights, scales, shifts, *settings, False)
    return outputs.transpose(2, 3)


def _of_tasks(tensor: Tensor, tasks: int, *sizes: int) -> Tensor:
    """
    The tensor with one set for each task, and with `sizes` of the dimensions after it. One that has these already stays
    as it is, which spares autograd a node.
    """
    shape = (tasks, *(sizes or tensor.shape[1:]))
    return tensor if tensor.shape == shape else tensor.expand(shape)


def _without_autocast(inputs: Tensor) -> AbstractContextManager:
    """
    A context without autocast, which on CUDA would compute some of these operations in float32, so that later ones
    fail for mixed dtypes. (On the CPU it leaves them alone.)
    """
    enabled, _ = autocast_of(inputs.device.type)
    return autocast(inputs.device.type, enabled=False) if enabled else nullcontext()


# A list holds one tensor per layer. Symbols, shapes and formulas are those of conv_norm_gradients.py.


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
    """Returns the outputs of the last layer and, if they are to be kept, y and r of every layer."""
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
    """What the forward pass keeps for the backward passes."""

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
    grad_outputs: Tensor | None,
    to_ys: list[Tensor | None],
    kept: _Kept,
    need_inputs: bool,
    need_g: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """
    First-order backward pass.

    Args:
        grad_outputs: gradient with respect to the outputs of the last layer; `None` stands for zero.
        to_ys: gradient with respect to each y as a result of its own (not through the layers' outputs).
        kept: what the forward pass kept.
        need_inputs: whether `grad_inputs` is needed.
        need_g: whether every g is needed.

    Returns:
        `grad_inputs` (if needed), then one tensor per layer of `grad_weight`, `grad_scale`, `grad_shift` and (if
        needed) g.
    """
    inputs, ys, rstds, weights, scales, shifts, eps, strides, paddings = kept
    batch = inputs.shape[1]
    grad_weights: list[Tensor] = []
    grad_scales: list[Tensor] = []
    grad_shifts: list[Tensor] = []
    gs: list[Tensor] = []
    outputs = activate(ys[-1], rstds[-1], scales[-1], shifts[-1], batch)
    for back in range(1, len(weights) + 1):
        i = len(weights) - back
        if grad_outputs is None:
            g, grad_y = torch.zeros_like(ys[i]), torch.zeros_like(ys[i])
            grad_scale, grad_shift = torch.zeros_like(rstds[i]), torch.zeros_like(rstds[i])
        else:
            g, grad_y, grad_scale, grad_shift = through_relu_and_norm(
                grad_outputs, outputs, ys[i], rstds[i], scales[i], eps
            )
        to_y = to_ys[i]
        if to_y is not None:
            grad_y = grad_y.add_(to_y)
        outputs = activate(ys[i - 1], rstds[i - 1], scales[i - 1], shifts[i - 1], batch) if i > 0 else inputs
        # The gradient with respect to a layer's inputs is that with respect to the outputs of the layer before it.
        grad_outputs, grad_weight = through_convolution(
            grad_y, outputs, weights[i], strides[i], paddings[i], need_inputs or i > 0
        )
        grad_weights.append(grad_weight)
        grad_scales.append(grad_scale.squeeze(1))
        grad_shifts.append(grad_shift.squeeze(1))
        if need_g:
            gs.append(g)
    return grad_outputs, grad_weights[::-1], grad_scales[::-1], grad_shifts[::-1], gs[::-1]


@scripted
def _second_gradients(
    gg_inputs: Tensor | None,
    gg_weights: list[Tensor | None],
    gg_scales: list[Tensor | None],
    gg_shifts: list[Tensor | None],
    gs: list[Tensor],
    kept: _Kept,
    need_inputs: bool,
) -> tuple[Tensor | None, Tensor | None, list[Tensor], list[Tensor | None], list[Tensor], list[Tensor | None]]:
    """
    Second-order backward pass, which is the backward pass through `_gradients`.

    Args:
        gg_inputs: gradient with respect to `grad_inputs`; `None` stands for zero, here and below.
        gg_weights: gradient with respect to each `grad_weight`.
        gg_scales: gradient with respect to each `grad_scale`.
        gg_shifts: gradient with respect to each `grad_shift`.
        gs: g of each layer, from `_gradients`.
        kept: what the forward pass kept.
        need_inputs: whether the gradient with respect to the inputs is needed.

    Returns:
        The gradients with respect to `grad_outputs` and inputs (if needed), then one tensor per layer of those with
        respect to y, weight, scale and shift.
    """
    inputs, ys, rstds, weights, scales, shifts, eps, strides, paddings = kept
    to_inputs: Tensor | None = None
    to_ys: list[Tensor] = []
    to_weights: list[Tensor | None] = []
    to_scales: list[Tensor] = []
    to_shifts: list[Tensor | None] = []
    gg = gg_inputs
    outputs = inputs
    for i in range(len(weights)):
        before = outputs
        outputs = activate(ys[i], rstds[i], scales[i], shifts[i], inputs.shape[1])
        # `grad_outputs` of a layer was `grad_inputs` of the next, so this pass runs from the first layer to the last.
        gg, to_y, to_before, to_weight, to_scale = second_gradients(
            gg,
            gg_weights[i],
            gg_scales[i],
            gg_shifts[i],
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
        to_ys.append(to_y)
        to_weights.append(to_weight)
        to_scales.append(to_scale)
        to_shifts.append(None)
        if i == 0:
            to_inputs = to_before
        elif to_before is not None:
            # A layer's inputs are the outputs of the layer before it, a function of that layer's y, scale and shift.
            j = i - 1
            _, more_y, more_scale, to_shift = through_relu_and_norm(to_before, before, ys[j], rstds[j], scales[j], eps)
            to_ys[j].add_(more_y)
            to_scales[j].add_(more_scale)
            to_shifts[j] = to_shift.squeeze(1)
    return gg, to_inputs, to_ys, to_weights, [to_scale.squeeze(1) for to_scale in to_scales], to_shifts


# eps, strides and paddings.
_Settings = tuple[float, list[int], list[int]]


def _lists(tensors: Sequence[Any], length: int) -> list[list[Any]]:
    """Splits tensors (or `None`) into lists of `length` each."""
    return [list(tensors[start : start + length]) for start in range(0, len(tensors), length)]


def _kept(inputs: Tensor, saved: Sequence[Tensor], settings: _Settings) -> _Kept:
    """Sorts what autograd saved: y, r, weight, scale and shift of every layer, in this order."""
    ys, rstds, weights, scales, shifts = _lists(saved, len(saved) // 5)
    return _Kept(inputs, ys, rstds, weights, scales, shifts, *settings)


class _Layers(torch.autograd.Function):
    """
    The layers as a node of autograd's graph: returns the outputs of the last layer, and y of every layer.

    `grad_y` is a function of y, weight, scale and shift (`through_relu_and_norm`). y is a result of this function so
    that the second-order pass can hand its gradient with respect to y back to `backward`.
    """

    @staticmethod
    def forward(ctx: Any, settings: _Settings, inputs: Tensor, *parameters: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        weights, biases, scales, shifts = _lists(parameters, len(parameters) // 4)
        with _without_autocast(inputs):
            outputs, ys, rstds = _forward(inputs, weights, scales, shifts, *settings, True)
        ctx.save_for_backward(inputs, *ys, *rstds, *weights, *scales, *shifts)
        ctx.settings, ctx.bias_shapes = settings, [bias.shape for bias in biases]
        return outputs, *ys

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        grad_outputs, *to_ys = gradients
        (inputs, *saved), number = ctx.saved_tensors, len(to_ys)
        settings, need_inputs = ctx.settings, ctx.needs_input_grad[1]
        if torch.is_grad_enabled():
            if grad_outputs is None or any(to_y is not None for to_y in to_ys):
                raise NotImplementedError("layers can be differentiated twice, not three times")
            grad_inputs, *by_name = _LayersGradient.apply(settings, need_inputs, grad_outputs, inputs, *saved)
        else:
            with _without_autocast(inputs):
                kept = _kept(inputs, saved, settings)
                grad_inputs, *results, _ = _gradients(grad_outputs, to_ys, kept, need_inputs, False)
            by_name = [gradient for layers in results for gradient in layers]
        grad_biases = [inputs.new_zeros(shape) for shape in ctx.bias_shapes]
        return None, grad_inputs, *by_name[:number], *grad_biases, *by_name[number:]


class _LayersGradient(torch.autograd.Function):
    """
    The first-order backward pass as a node of the graph: `grad_inputs`, `grad_weight`, `grad_scale` and `grad_shift` as
    functions of `grad_outputs`, inputs, y, weight, scale and shift.
    """

    @staticmethod
    def forward(
        ctx: Any,
        settings: _Settings,
        need_inputs: bool,
        grad_outputs: Tensor,
        inputs: Tensor,
        *saved: Tensor,
    ) -> Any:
        ctx.set_materialize_grads(False)
        ctx.settings, ctx.number = settings, len(saved) // 5
        kept = _kept(inputs, saved, settings)
        with _without_autocast(inputs):
            grad_inputs, *results, gs = _gradients(grad_outputs, [None] * ctx.number, kept, need_inputs, True)
        ctx.save_for_backward(inputs, *gs, *saved)
        return grad_inputs, *(gradient for layers in results for gradient in layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        gg_inputs, *gg_parameters = gradients
        (inputs, *saved), number = ctx.saved_tensors, ctx.number
        gs, kept = saved[:number], _kept(inputs, saved[number:], ctx.settings)
        with _without_autocast(inputs):
            to_grad_outputs, to_inputs, to_ys, *results = _second_gradients(
                gg_inputs, *_lists(gg_parameters, number), gs, kept, ctx.needs_input_grad[3]
            )
        to_rstds = [None] * number  # the gradient with respect to y includes what goes through r
        to_parameters = [gradient for layers in results for gradient in layers]
        return None, None, to_grad_outputs, to_inputs, *to_ys, *to_rstds, *to_parameters
