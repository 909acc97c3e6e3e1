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

from .execution import in_autocast, scripted


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
    check_length(inputs.shape[3], weight.shape[3], padding)
    inputs, weight, bias = in_autocast(inputs), in_autocast(weight), in_autocast(bias)
    return _Convolution.apply(inputs.transpose(2, 3), weight, bias, stride, padding).transpose(2, 3)


def check_length(length: int, kernel: int, padding: int) -> None:
    """
    Raises:
        `ValueError`: a sequence of this length is shorter than one window.
    """
    if length + 2 * padding < kernel:
        raise ValueError(
            f"a sequence of {length} positions (padding {padding}) is shorter than kernel_size={kernel}: "
            "give longer inputs, or a model with fewer layers, smaller kernels or smaller strides"
        )


def kernel_layout(weight: Float[Tensor, "out_channels in_channels kernel"]) -> Tensor:
    """The same values in the order in memory that `conv1d` reads without a copy: kernel, inputs, outputs."""
    return weight.permute(2, 1, 0).contiguous().permute(2, 1, 0)


# Parts of scripted functions. Shapes: sequences (T, batch, length, channels), rows (T, batch * length, channels),
# windows (T, batch * new_length, kernel * channels), weight (T, out_channels, in_channels, kernel), matrix (T, kernel *
# in_channels, out_channels). What was just made lies without gaps, and is cut by strides: one operation for three.


def to_matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 3, 2, 1).flatten(1, 2)


def to_weight(matrix: Tensor, kernel: int) -> Tensor:
    tasks, number, outputs = matrix.shape
    return matrix.view(tasks, kernel, number // kernel, outputs).permute(0, 3, 2, 1)


def number_of_windows(length: int, kernel: int, stride: int, padding: int) -> int:
    return (length + 2 * padding - kernel) // stride + 1


def windows(sequences: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """A row for each window, zero where it reaches beyond the sequence."""
    tasks, batch, length, channels = sequences.shape
    number, width = number_of_windows(length, kernel, stride, padding), kernel * channels
    result = torch.empty([tasks, batch, number, width], dtype=sequences.dtype, device=sequences.device)
    # Windows from `first` to before `end` lie within the sequence.
    first = min((padding + stride - 1) // stride, number)
    end = max(min((length + padding - kernel) // stride + 1, number), first)
    if length < kernel:
        end = first
    sample = number * width
    if end > first:
        start = first * stride - padding
        inside = torch.ops.aten.slice(sequences, 2, start, start + (end - 1 - first) * stride + kernel)
        result.as_strided(
            [tasks, batch, end - first, kernel, channels],
            [batch * sample, sample, width, channels, 1],
            first * width,
        ).copy_(inside.unfold(2, kernel, stride).transpose(3, 4))
    for edge in range(first + number - end):
        index = edge if edge < first else edge - first + end
        start, offset = index * stride - padding, index * width
        before = min(max(-start, 0), kernel)
        behind = max(min(length - start, kernel), before)
        if before > 0:
            result.as_strided([tasks * batch, before * channels], [sample, 1], offset).zero_()
        if behind > before:
            result.as_strided(
                [tasks, batch, behind - before, channels],
                [batch * sample, sample, channels, 1],
                offset + before * channels,
            ).copy_(torch.ops.aten.slice(sequences, 2, start + before, start + behind))
        if behind < kernel:
            rest = (kernel - behind) * channels
            result.as_strided([tasks * batch, rest], [sample, 1], offset + behind * channels).zero_()
    return result.view(tasks, batch * number, width)


def fold(rows: Tensor, shape: list[int], stride: int, padding: int) -> Tensor:
    """Sequences of `shape` that sum up windows, which lie without gaps: the transpose of `windows` as a linear map."""
    tasks, batch, length, channels = shape
    window, width = rows.shape[2], stride * channels
    samples, number = tasks * batch, rows.shape[1] // batch
    # `stride` positions a row: the windows' first, second, ... positions of as many lie in rows below each other.
    positions = (length + 2 * padding + stride - 1) // stride
    result = torch.empty([samples, positions, width], dtype=rows.dtype, device=rows.device)
    sample = positions * width
    for row in range((window + width - 1) // width):
        offset = row * width
        size = min(width, window - offset)
        part = rows.as_strided([samples, number, size], [number * window, window, 1], offset)
        target = result.as_strided([samples, number, size], [sample, width, 1], offset)
        if row == 0:
            target.copy_(part)
            if number < positions:
                result.as_strided([samples, (positions - number) * width], [sample, 1], number * width).zero_()
            if size < width:
                result.as_strided([samples, number, width - size], [sample, width, 1], size).zero_()
        else:
            target.add_(part)
    return result.as_strided(
        [tasks, batch, length, channels], [batch * sample, sample, channels, 1], padding * channels
    )


@scripted
def _convolve(inputs: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    rows = torch.baddbmm(bias.unsqueeze(1), windows(inputs, weight.shape[3], stride, padding), to_matrix(weight))
    return rows.view(inputs.shape[0], inputs.shape[1], -1, weight.shape[1])


@scripted
def _gradients(
    outer: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, by_inputs: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Derivatives by inputs (if asked for), weight and bias for the derivative by outputs."""
    kernel, rows = weight.shape[3], outer.flatten(1, 2)
    to_inputs: Tensor | None = None
    if by_inputs:
        to_inputs = fold(torch.bmm(rows, to_matrix(weight).transpose(1, 2)), inputs.shape, stride, padding)
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
    kernel, rows = weight.shape[3], outer.flatten(1, 2)
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
            to_inputs = fold(torch.bmm(rows, matrix.transpose(1, 2)), inputs.shape, stride, padding)
    return result.contiguous().view(outer.shape), to_inputs, to_kernel


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
