"""
1-D convolution of T tasks with a kernel each, as matrix products, with its first and second derivatives written out.

With stride s, a padded sequence (P s, C), channels last, is also a matrix (P, s C), whose row j holds the positions
j s to j s + s - 1. A window of K positions is then ceil(K / s) rows below each other, and the convolution a sum of that
many matrix products, each with the matrix from another row on:

    outputs[j] = sum_m rows[j + m] @ kernel[m]

No window is ever copied. Samples lie below each other, so that one product serves them all; rows in which the window
would run into the next sample are dropped from the result, and are zero where a derivative enters.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .scripted import scripted


def conv1d(
    inputs: Float[Tensor, "T batch in_channels length"],
    weight: Float[Tensor, "T out_channels in_channels kernel"],
    bias: Float[Tensor, "T out_channels"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "T batch out_channels new_length"]:
    """
    The values of `F.conv1d` for T tasks with a kernel each; it can be differentiated twice.

    `F.conv1d` is not used because its CPU kernel returns wrong float32 input gradients for some strided shapes (oneDNN
    3.12 with AVX-512 and two or more threads: kernel 5, stride 2, padding 1 at length 61, which the reference network
    meets), and because a kernel for each task would be a slow grouped convolution.

    The result lies in memory with channels last, and inputs are read without a copy if they do too, the weight if it
    lies as `kernel_layout` leaves it.

    Raises:
        `ValueError`: `inputs` are shorter than one window.
    """
    length, kernel = inputs.shape[3], weight.shape[3]
    if length + 2 * padding < kernel:
        raise ValueError(
            f"a sequence of {length} positions (padding {padding}) is shorter than kernel_size={kernel}: "
            "give longer inputs, or a model with fewer layers, smaller kernels or smaller strides"
        )
    if torch.is_autocast_enabled(inputs.device.type) and inputs.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(inputs.device.type)
        inputs, weight, bias = inputs.to(dtype), weight.to(dtype), bias.to(dtype)
    return _Convolution.apply(inputs, weight, bias, stride, padding)


def kernel_layout(weight: Float[Tensor, "out_channels in_channels kernel"]) -> Tensor:
    """The same values in the order in memory that `conv1d` reads without a copy: kernel, inputs, outputs."""
    return weight.permute(2, 1, 0).contiguous().permute(2, 1, 0)


# Shapes of the scripted functions and of those that become parts of them: inputs and outputs (T, batch, channels,
# length), weight (T, out_channels, in_channels, kernel), matrix (T, kernel * in_channels, out_channels), rows (T,
# batch * P, stride * in_channels) or (T, batch * P, out_channels).


def _positions(length: int, stride: int, padding: int) -> int:
    """P, rows of one sample."""
    return (length + 2 * padding + stride - 1) // stride


def _padded(sequences: Tensor, before: int, new_length: int) -> Tensor:
    """Channels last, with zeros before and behind; `F.pad` would fill all of it with zeros first."""
    tasks, batch, channels, length = sequences.shape
    behind = before + length
    padded = torch.empty([tasks, batch, new_length, channels], dtype=sequences.dtype, device=sequences.device)
    padded.narrow(2, before, length).copy_(sequences.transpose(2, 3))
    if before > 0:
        padded.narrow(2, 0, before).zero_()
    if behind < new_length:
        padded.narrow(2, behind, new_length - behind).zero_()
    return padded


def _rows(inputs: Tensor, stride: int, padding: int) -> Tensor:
    """Padded inputs, `stride` positions a row."""
    tasks, batch, channels, length = inputs.shape
    positions = _positions(length, stride, padding)
    padded = _padded(inputs, padding, positions * stride)
    return padded.view(tasks, batch * positions, stride * channels)


def _output_rows(outputs: Tensor, positions: int) -> Tensor:
    """Outputs (or a derivative by them) with zeros in the rows where no window begins."""
    tasks, batch, channels, length = outputs.shape
    return _padded(outputs, 0, positions).view(tasks, batch * positions, channels)


def _matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 3, 2, 1).flatten(1, 2)


def _add_products(result: Tensor, rows: Tensor, matrix: Tensor, fresh: bool) -> None:
    """Writes the convolution of rows to `result` (one more row for each window), or adds it there."""
    number, width, window = rows.shape[1], rows.shape[2], matrix.shape[1]
    for row in range((window + width - 1) // width):
        start, end = row * width, min(row * width + width, window)
        part = result.narrow(1, 0, number - row)
        window_part = rows.narrow(1, row, number - row).narrow(2, 0, end - start)
        if fresh and row == 0:
            torch.bmm(window_part, matrix.narrow(1, start, end - start), out=part)
        else:
            part.baddbmm_(window_part, matrix.narrow(1, start, end - start))


def _finish(result: Tensor, bias: Tensor | None, batch: int, new_length: int) -> Tensor:
    """Drops the rows in which no window begins and adds the bias."""
    tasks, number, channels = result.shape
    result = result.view(tasks, batch, number // batch, channels).narrow(2, 0, new_length)
    result = result.contiguous() if bias is None else result + bias.view(tasks, 1, 1, channels)
    return result.transpose(2, 3)


def _to_inputs(
    outputs: Tensor, matrix: Tensor, batch: int, width: int, kernel: int, padding: int, length: int
) -> Tensor:
    """The derivative by inputs for the derivative by outputs, in rows."""
    tasks, number, window = outputs.shape[0], outputs.shape[1], matrix.shape[1]
    rows = torch.empty([tasks, number, width], dtype=outputs.dtype, device=outputs.device)
    for row in range((window + width - 1) // width):
        start, end = row * width, min(row * width + width, window)
        factors = outputs.narrow(1, 0, number - row), matrix.narrow(1, start, end - start).transpose(1, 2)
        part = rows.narrow(1, row, number - row).narrow(2, 0, end - start)
        if row == 0:
            torch.bmm(factors[0], factors[1], out=part)
            if end < width:
                rows.narrow(2, end, width - end).zero_()
        else:
            part.baddbmm_(factors[0], factors[1])
    channels = window // kernel
    rows = rows.view(tasks, batch, -1, channels)
    return rows.narrow(2, padding, length).transpose(2, 3)


def _to_weight(rows: Tensor, outputs: Tensor, kernel: int, channels: int) -> Tensor:
    """The derivative by weight for the derivative by outputs, both in rows."""
    tasks, number, width = rows.shape
    window = kernel * channels
    matrix = torch.empty([tasks, window, outputs.shape[2]], dtype=outputs.dtype, device=outputs.device)
    for row in range((window + width - 1) // width):
        start, end = row * width, min(row * width + width, window)
        part = rows.narrow(1, row, number - row).narrow(2, 0, end - start).transpose(1, 2)
        torch.bmm(part, outputs.narrow(1, 0, number - row), out=matrix.narrow(1, start, end - start))
    return matrix.view(tasks, kernel, channels, -1).permute(0, 3, 2, 1)


@scripted
def _convolve(inputs: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    tasks, batch, channels, length = inputs.shape
    rows, matrix = _rows(inputs, stride, padding), _matrix(weight)
    result = torch.empty([tasks, rows.shape[1], matrix.shape[2]], dtype=inputs.dtype, device=inputs.device)
    _add_products(result, rows, matrix, True)
    return _finish(result, bias, batch, (length + 2 * padding - weight.shape[3]) // stride + 1)


@scripted
def _gradients(
    outer: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, by_inputs: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Derivatives by inputs (if asked for), weight and bias for the derivative by outputs."""
    batch, channels, length, kernel = inputs.shape[1], inputs.shape[2], inputs.shape[3], weight.shape[3]
    rows = _output_rows(outer, _positions(length, stride, padding))
    to_inputs: Tensor | None = None
    if by_inputs:
        to_inputs = _to_inputs(rows, _matrix(weight), batch, stride * channels, kernel, padding, length)
    to_weight = _to_weight(_rows(inputs, stride, padding), rows, kernel, channels)
    return to_inputs, to_weight, outer.sum(dim=[1, 3])


@scripted
def _second_gradients(
    outer: Tensor,
    inputs: Tensor,
    weight: Tensor,
    to_inputs: Tensor | None,
    to_weight: Tensor | None,
    to_bias: Tensor | None,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Derivatives by the three arguments of `_gradients` for those by its three results."""
    batch, channels, length, kernel = inputs.shape[1], inputs.shape[2], inputs.shape[3], weight.shape[3]
    rows = _output_rows(outer, _positions(length, stride, padding))
    result = torch.empty_like(rows)
    by_inputs: Tensor | None = None
    by_weight: Tensor | None = None
    fresh = True
    if to_inputs is not None:
        input_rows = _rows(to_inputs, stride, padding)
        _add_products(result, input_rows, _matrix(weight), fresh)
        fresh = False
        by_weight = _to_weight(input_rows, rows, kernel, channels)
    if to_weight is not None:
        matrix = _matrix(to_weight)
        _add_products(result, _rows(inputs, stride, padding), matrix, fresh)
        fresh = False
        if need_inputs:
            by_inputs = _to_inputs(rows, matrix, batch, stride * channels, kernel, padding, length)
    if fresh:
        result.zero_()
    return _finish(result, to_bias, batch, outer.shape[3]), by_inputs, by_weight


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, weight, bias, stride, padding):
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolve(inputs, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx, outer):
        inputs, weight = ctx.saved_tensors
        arguments = outer, inputs, weight, ctx.stride, ctx.padding, ctx.needs_input_grad[0]
        return *_ConvolutionGradient.apply(*arguments), None, None


class _ConvolutionGradient(torch.autograd.Function):
    """The derivatives by inputs, weight and bias, as functions of the one by the outputs, of inputs and of weight."""

    @staticmethod
    def forward(ctx, outer, inputs, weight, stride, padding, by_inputs):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(outer, inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return _gradients(outer, inputs, weight, stride, padding, by_inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, to_inputs, to_weight, to_bias):
        sizes = ctx.stride, ctx.padding, ctx.needs_input_grad[1]
        return *_second_gradients(*ctx.saved_tensors, to_inputs, to_weight, to_bias, *sizes), None, None, None
