"""
1-D convolution of T tasks with a kernel each, as one matrix product a derivative, with its first and second derivatives
written out.

Samples lie below each other, channels last. Each window of K positions is copied into a row of K C values, so that a
convolution is one product of (T, batch * new_length, K C) with (T, K C, outputs). The derivative by the inputs goes the
other way: one product gives a row for each window, and windows are added up where they overlap.
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
    return _Convolution.apply(*convolution_arguments(inputs, weight, bias, padding), stride, padding)


def convolution_arguments(inputs: Tensor, weight: Tensor, bias: Tensor, padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """
    The first three arguments of `conv1d` in the dtype of autocast.

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
    return inputs, weight, bias


def kernel_layout(weight: Float[Tensor, "out_channels in_channels kernel"]) -> Tensor:
    """The same values in the order in memory that `conv1d` reads without a copy: kernel, inputs, outputs."""
    return weight.permute(2, 1, 0).contiguous().permute(2, 1, 0)


# Parts of scripted functions. Shapes: sequences (T, batch, channels, length), rows (T, batch * length, channels),
# windows (T, batch * new_length, kernel * channels), weight (T, out_channels, in_channels, kernel), matrix (T, kernel *
# in_channels, out_channels).


def to_rows(sequences: Tensor) -> Tensor:
    return sequences.transpose(2, 3).flatten(1, 2)


def to_sequences(rows: Tensor, batch: int) -> Tensor:
    tasks, number, channels = rows.shape
    return rows.view(tasks, batch, number // batch, channels).transpose(2, 3)


def to_matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 3, 2, 1).flatten(1, 2)


def to_weight(matrix: Tensor, kernel: int) -> Tensor:
    tasks, number, outputs = matrix.shape
    return matrix.view(tasks, kernel, number // kernel, outputs).permute(0, 3, 2, 1)


def windows(sequences: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """A row for each window, zero where it reaches beyond the sequence."""
    tasks, batch, channels, length = sequences.shape
    number = (length + 2 * padding - kernel) // stride + 1
    result = torch.empty([tasks, batch, number, kernel, channels], dtype=sequences.dtype, device=sequences.device)
    source = sequences.transpose(2, 3)
    # Windows from `first` to before `end` lie within the sequence.
    first = min((padding + stride - 1) // stride, number)
    end = max(min((length + padding - kernel) // stride + 1, number), first)
    if length < kernel:
        end = first
    if end > first:
        inside = source.narrow(2, first * stride - padding, (end - 1 - first) * stride + kernel)
        result.narrow(2, first, end - first).copy_(inside.unfold(2, kernel, stride).transpose(3, 4))
    for index in range(number):
        if index < first or index >= end:
            start = index * stride - padding
            before = min(max(-start, 0), kernel)
            behind = max(min(length - start, kernel), before)
            window = result.select(2, index)
            if before > 0:
                window.narrow(2, 0, before).zero_()
            if behind > before:
                window.narrow(2, before, behind - before).copy_(source.narrow(2, start + before, behind - before))
            if behind < kernel:
                window.narrow(2, behind, kernel - behind).zero_()
    return result.view(tasks, batch * number, kernel * channels)


def fold(rows: Tensor, batch: int, channels: int, length: int, stride: int, padding: int) -> Tensor:
    """Sequences that sum up windows: the transpose of `windows` as a linear map."""
    tasks, number, window = rows.shape
    number, width = number // batch, stride * channels
    rows = rows.view(tasks, batch, number, window)
    # `stride` positions a row: the windows' first, second, ... positions of as many lie in rows below each other.
    positions = (length + 2 * padding + stride - 1) // stride
    result = torch.empty([tasks, batch, positions, width], dtype=rows.dtype, device=rows.device)
    for row in range((window + width - 1) // width):
        size = min(width, window - row * width)
        part = rows.narrow(3, row * width, size)
        target = result.narrow(2, row, number).narrow(3, 0, size)
        if row == 0:
            target.copy_(part)
            if number < positions:
                result.narrow(2, number, positions - number).zero_()
            if size < width:
                result.narrow(3, size, width - size).zero_()
        else:
            target.add_(part)
    return result.view(tasks, batch, positions * stride, channels).narrow(2, padding, length).transpose(2, 3)


@scripted
def _convolve(inputs: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    result = torch.baddbmm(bias.unsqueeze(1), windows(inputs, weight.shape[3], stride, padding), to_matrix(weight))
    return to_sequences(result, inputs.shape[1])


@scripted
def _gradients(
    outer: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, by_inputs: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Derivatives by inputs (if asked for), weight and bias for the derivative by outputs."""
    batch, channels, length, kernel = inputs.shape[1], inputs.shape[2], inputs.shape[3], weight.shape[3]
    rows = to_rows(outer)
    to_inputs: Tensor | None = None
    if by_inputs:
        columns = torch.bmm(rows, to_matrix(weight).transpose(1, 2))
        to_inputs = fold(columns, batch, channels, length, stride, padding)
    matrix = torch.bmm(windows(inputs, kernel, stride, padding).transpose(1, 2), rows)
    return to_inputs, to_weight(matrix, kernel), rows.sum(dim=[1])


@scripted
def _second_gradients(
    outer: Tensor,
    inputs: Tensor,
    weight: Tensor,
    by_inputs: Tensor | None,
    by_weight: Tensor | None,
    by_bias: Tensor | None,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Derivatives by the three arguments of `_gradients` for those by its three results."""
    batch, channels, length, kernel = inputs.shape[1], inputs.shape[2], inputs.shape[3], weight.shape[3]
    rows = to_rows(outer)
    result = torch.zeros_like(rows) if by_bias is None else by_bias.unsqueeze(1).expand_as(rows)
    to_inputs: Tensor | None = None
    to_kernel: Tensor | None = None
    if by_inputs is not None:
        moved = windows(by_inputs, kernel, stride, padding)
        result = torch.baddbmm(result, moved, to_matrix(weight))
        to_kernel = to_weight(torch.bmm(moved.transpose(1, 2), rows), kernel)
    if by_weight is not None:
        matrix = to_matrix(by_weight)
        result = torch.baddbmm(result, windows(inputs, kernel, stride, padding), matrix)
        if need_inputs:
            to_inputs = fold(torch.bmm(rows, matrix.transpose(1, 2)), batch, channels, length, stride, padding)
    return to_sequences(result.contiguous(), batch), to_inputs, to_kernel


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
