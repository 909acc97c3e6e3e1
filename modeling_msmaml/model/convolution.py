"""
A 1-D convolution for T tasks, each with its own kernel, written as matrix products together with its first and second
derivatives.

Sequences are stored with channels last. Each window of K positions is copied into a row of K * C values, so that the
convolution is one product of shapes (T, batch * new_length, K C) and (T, K C, out_channels). The gradient with respect
to the inputs takes the opposite way: one product gives a row for each window, and windows are summed where they
overlap.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .execution import in_autocast, scripted
from .products import product


def conv1d(
    inputs: Float[Tensor, "T batch in_channels length"],
    weight: Float[Tensor, "T out_channels in_channels kernel"],
    bias: Float[Tensor, "T out_channels"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "T batch out_channels new_length"]:
    """
    Computes what `F.conv1d` does, for T tasks that have a kernel each. It can be differentiated twice.

    `F.conv1d` is not used because its CPU kernel returns wrong float32 gradients with respect to the inputs for some
    strided shapes (oneDNN 3.12 with AVX-512 and two or more threads: kernel 5, stride 2, padding 1 at length 61, which
    occurs in the reference network), and because one kernel per task would make it a slow grouped convolution.

    Args:
        inputs: sequences; they are read without a copy if channels are last in memory.
        weight: kernels; they are read without a copy if they are laid out by `kernel_layout`.
        bias: one value per output channel.
        stride: distance between windows, in positions.
        padding: number of zeros that are appended to either end of a sequence.

    Returns:
        Sequences of length (length + 2 * padding - kernel) // stride + 1, with channels last in memory.

    Raises:
        `ValueError`: `inputs` are shorter than one window.
    """
    check_length(inputs.shape[3], weight.shape[3], padding)
    inputs, weight, bias = in_autocast(inputs), in_autocast(weight), in_autocast(bias)
    return _Convolution.apply(inputs.transpose(2, 3), weight, bias, stride, padding).transpose(2, 3)


def check_length(length: int, kernel: int, padding: int) -> None:
    """
    Checks that a sequence of this length has room for a window.

    Raises:
        `ValueError`: the sequence is shorter than one window.
    """
    if length + 2 * padding < kernel:
        raise ValueError(
            f"a sequence of {length} positions (padding {padding}) is shorter than kernel_size={kernel}: "
            "give longer inputs, or a model with fewer layers, smaller kernels or smaller strides"
        )


def kernel_layout(weight: Float[Tensor, "out_channels in_channels kernel"]) -> Tensor:
    """Returns the same tensor, laid out in memory as `conv1d` reads it without a copy: outputs, kernel, inputs."""
    return weight.transpose(1, 2).contiguous().transpose(1, 2)


# The functions below are compiled with TorchScript, which takes no annotations of shapes. Shapes: sequences (T, batch,
# length, channels), rows (T, batch * length, channels), windows (T, batch * new_length, kernel * channels), weight (T,
# out_channels, in_channels, kernel), matrix (T, out_channels, kernel * in_channels). New tensors are contiguous, so
# `as_strided` can take parts of them: one operation instead of three.


def to_matrix(weight: Tensor) -> Tensor:
    """Returns the weight as a matrix, by whose transpose windows are multiplied."""
    return weight.transpose(2, 3).flatten(2, 3)


def to_weight(matrix: Tensor, kernel: int) -> Tensor:
    """The inverse of `to_matrix`, for a kernel of `kernel` positions."""
    tasks, outputs, number = matrix.shape
    return matrix.view(tasks, outputs, kernel, number // kernel).transpose(2, 3)


def number_of_windows(length: int, kernel: int, stride: int, padding: int) -> int:
    """Returns how many windows a sequence has: the length of the convolution's result."""
    return (length + 2 * padding - kernel) // stride + 1


def windows(sequences: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Returns one row per window of the sequences, with zeros where the window reaches beyond the sequence."""
    tasks, batch, length, channels = sequences.shape
    number, width = number_of_windows(length, kernel, stride, padding), kernel * channels
    # TorchScript leaves out what stands below the first condition. Other runtimes than PyTorch's know these operators.
    if not torch.jit.is_scripting():  # noqa: SIM102  # pyright: ignore[reportPrivateImportUsage]
        if torch.compiler.is_exporting():
            padded = torch.nn.functional.pad(sequences, [0, 0, padding, padding])
            return padded.unfold(2, kernel, stride).transpose(3, 4).reshape(tasks, batch * number, width)
    result = torch.empty([tasks, batch, number, width], dtype=sequences.dtype, device=sequences.device)
    # The windows `first` to `end - 1` lie within the sequence.
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
    """
    Returns sequences of `shape` (T, batch, length, channels) in which the windows in `rows` (contiguous) are summed
    where they overlap: the transpose of `windows`, taken as a linear map.
    """
    tasks, batch, length, channels = shape
    window, width = rows.shape[2], stride * channels
    samples, number = tasks * batch, rows.shape[1] // batch
    # With `stride` positions to a row, the first `stride` positions of consecutive windows fill consecutive rows, and
    # so do their next `stride` positions, one row further down.
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


# `grad_x` is the gradient of the loss with respect to x, `gg_x` that with respect to `grad_x`.


@scripted
def _convolve(inputs: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    rows = product(windows(inputs, weight.shape[3], stride, padding), to_matrix(weight).transpose(1, 2))
    return rows.add_(bias.unsqueeze(1)).view(inputs.shape[0], inputs.shape[1], -1, weight.shape[1])


@scripted
def _gradients(
    grad_outputs: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, need_inputs: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Returns `grad_inputs` (if needed), `grad_weight` and `grad_bias`."""
    kernel, rows = weight.shape[3], grad_outputs.flatten(1, 2)
    grad_inputs: Tensor | None = None
    if need_inputs:
        grad_inputs = fold(product(rows, to_matrix(weight)), list(inputs.shape), stride, padding)
    matrix = product(rows.transpose(1, 2), windows(inputs, kernel, stride, padding))
    return grad_inputs, to_weight(matrix, kernel), rows.sum(dim=[1])


@scripted
def _second_gradients(
    grad_outputs: Tensor,
    inputs: Tensor,
    weight: Tensor,
    gg_inputs: Tensor | None,
    gg_weight: Tensor | None,
    gg_bias: Tensor | None,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """
    Backward pass through `_gradients`: returns the gradients of the loss with respect to `grad_outputs`, inputs (if
    needed) and weight. `None` stands for zero.
    """
    kernel, rows = weight.shape[3], grad_outputs.flatten(1, 2)
    to_grad_outputs = torch.zeros_like(rows) if gg_bias is None else gg_bias.unsqueeze(1).expand_as(rows)
    to_inputs: Tensor | None = None
    to_kernel: Tensor | None = None
    if gg_inputs is not None:
        moved = windows(gg_inputs, kernel, stride, padding)
        to_grad_outputs = to_grad_outputs + product(moved, to_matrix(weight).transpose(1, 2))
        to_kernel = to_weight(product(rows.transpose(1, 2), moved), kernel)
    if gg_weight is not None:
        matrix = to_matrix(gg_weight)
        patches = windows(inputs, kernel, stride, padding)
        to_grad_outputs = to_grad_outputs + product(patches, matrix.transpose(1, 2))
        if need_inputs:
            to_inputs = fold(product(rows, matrix), list(inputs.shape), stride, padding)
    return to_grad_outputs.contiguous().view(grad_outputs.shape), to_inputs, to_kernel


class _Convolution(torch.autograd.Function):
    """The convolution as a node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolve(inputs, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        arguments = *gradients, inputs, weight, ctx.stride, ctx.padding, ctx.needs_input_grad[0]
        return *_ConvolutionGradient.apply(*arguments), None, None


class _ConvolutionGradient(torch.autograd.Function):
    """The gradients with respect to inputs, weight and bias as functions of `grad_outputs`, inputs and weight."""

    @staticmethod
    def forward(
        ctx: Any,
        grad_outputs: Tensor,
        inputs: Tensor,
        weight: Tensor,
        stride: int,
        padding: int,
        need_inputs: bool,
    ) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad_outputs, inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return _gradients(grad_outputs, inputs, weight, stride, padding, need_inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        settings = ctx.stride, ctx.padding, ctx.needs_input_grad[1]
        return *_second_gradients(*ctx.saved_tensors, *gradients, *settings), None, None, None
