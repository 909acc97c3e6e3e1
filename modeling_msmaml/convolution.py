"""
1-D convolution of T tasks with a kernel each, as matrix products, with its first and second derivatives written out.

With stride s, a padded sequence (P s, C), channels last, is also a matrix (P, s C), whose row j holds the positions
j s to j s + s - 1. A window of K positions is then ceil(K / s) rows below each other, and the convolution a sum of that
many matrix products, each with the matrix from another row on:

    outputs[j] = sum_m rows[j + m] @ kernel[m]

No window is ever copied. Samples lie below each other, so that one product serves them all; rows in which the window
would run into the next sample are dropped from the result, and are zero where a derivative enters.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Sequences = Float[Tensor, "T batch channels length"]
Rows = Float[Tensor, "T rows width"]


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


class _Geometry(NamedTuple):
    """Sizes of one convolution."""

    length: int
    kernel: int
    stride: int
    padding: int

    @property
    def new_length(self) -> int:
        return (self.length + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def positions(self) -> int:
        """P, rows of one sample."""
        return -(-(self.length + 2 * self.padding) // self.stride)

    def rows(self, inputs: Sequences) -> Rows:
        """(T, batch P, stride in_channels), zero where padded."""
        behind = self.positions * self.stride - self.length - self.padding
        padded = F.pad(inputs.transpose(2, 3), (0, 0, self.padding, behind))
        return padded.reshape(len(inputs), inputs.shape[1] * self.positions, self.stride * inputs.shape[2])

    def rows_of_outputs(self, outputs: Sequences) -> Rows:
        """(T, batch P, out_channels), zero where no window begins."""
        padded = F.pad(outputs.transpose(2, 3), (0, 0, 0, self.positions - self.new_length))
        return padded.reshape(len(outputs), outputs.shape[1] * self.positions, outputs.shape[2])

    def offsets(self, channels: int) -> list[tuple[int, int, int]]:
        """Of each matrix product: from which row on, and between which rows of the kernel matrix."""
        width, end = self.stride * channels, self.kernel * channels
        return [(row, start, min(start + width, end)) for row, start in enumerate(range(0, end, width))]


def _matrix(weight: Float[Tensor, "T out_channels in_channels kernel"]) -> Float[Tensor, "T window out_channels"]:
    return weight.permute(0, 3, 2, 1).flatten(1, 2)


def _outputs(
    pairs: list[tuple[Rows, Float[Tensor, "T window out_channels"]]],
    bias: Tensor | None,
    samples: int,
    sizes: _Geometry,
) -> Sequences:
    """The sum of the convolutions of (rows, kernel matrix), and the bias."""
    rows, matrix = pairs[0]
    tasks, number, width = rows.shape
    result = rows.new_empty(tasks, number, matrix.shape[2])
    fresh = True
    for rows, matrix in pairs:
        for row, start, end in sizes.offsets(width // sizes.stride):
            part = result[:, : number - row]
            factors = rows[:, row:, : end - start], matrix[:, start:end]
            if fresh:
                torch.bmm(*factors, out=part)
            else:
                part.baddbmm_(*factors)
            fresh = False
    result = result.view(tasks, samples, sizes.positions, -1)[:, :, : sizes.new_length]
    result = result.contiguous() if bias is None else result + bias[:, None, None]
    return result.transpose(2, 3)


def _to_inputs(
    outputs: Rows, matrix: Float[Tensor, "T window out_channels"], samples: int, sizes: _Geometry
) -> Sequences:
    """The gradient by the inputs that the gradient `outputs` by the outputs makes."""
    tasks, number, _ = outputs.shape
    channels = matrix.shape[1] // sizes.kernel
    width = sizes.stride * channels
    rows = outputs.new_empty(tasks, number, width)
    for row, start, end in sizes.offsets(channels):
        factors = outputs[:, : number - row], matrix[:, start:end].transpose(1, 2)
        if row:
            rows[:, row:, : end - start].baddbmm_(*factors)
        else:
            torch.bmm(*factors, out=rows[:, :, : end - start])
            rows[:, :, end - start :] = 0
    rows = rows.view(tasks, samples, sizes.positions * sizes.stride, channels)
    return rows[:, :, sizes.padding : sizes.padding + sizes.length].transpose(2, 3)


def _to_weight(rows: Rows, outputs: Rows, sizes: _Geometry) -> Float[Tensor, "T out_channels in_channels kernel"]:
    """The gradient by the weight."""
    tasks, number, width = rows.shape
    channels = width // sizes.stride
    matrix = rows.new_empty(tasks, sizes.kernel * channels, outputs.shape[2])
    for row, start, end in sizes.offsets(channels):
        window = rows[:, row:, : end - start].transpose(1, 2)
        torch.bmm(window, outputs[:, : number - row], out=matrix[:, start:end])
    return matrix.view(tasks, sizes.kernel, channels, -1).permute(0, 3, 2, 1)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, weight, bias, stride, padding):
        ctx.save_for_backward(inputs, weight)
        ctx.sizes = _Geometry(inputs.shape[3], weight.shape[3], stride, padding)
        return _outputs([(ctx.sizes.rows(inputs), _matrix(weight))], bias, inputs.shape[1], ctx.sizes)

    @staticmethod
    def backward(ctx, outer):
        inputs, weight = ctx.saved_tensors
        return *_ConvolutionGradient.apply(outer, inputs, weight, ctx.sizes, ctx.needs_input_grad[0]), None, None


class _ConvolutionGradient(torch.autograd.Function):
    """The gradients by inputs, weight and bias, as functions of the one by the outputs, of inputs and of weight."""

    @staticmethod
    def forward(ctx, outer, inputs, weight, sizes, by_inputs):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(outer, inputs, weight)
        ctx.sizes = sizes
        rows = sizes.rows_of_outputs(outer)
        return (
            _to_inputs(rows, _matrix(weight), inputs.shape[1], sizes) if by_inputs else None,
            _to_weight(sizes.rows(inputs), rows, sizes),
            outer.sum(dim=(1, 3)),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, to_inputs, to_weight, to_bias):
        outer, inputs, weight = ctx.saved_tensors
        sizes, samples = ctx.sizes, inputs.shape[1]
        by_outer = by_inputs = by_weight = None
        rows, pairs = sizes.rows_of_outputs(outer), []
        if to_inputs is not None:
            pairs.append((sizes.rows(to_inputs), _matrix(weight)))
            by_weight = _to_weight(pairs[0][0], rows, sizes)
        if to_weight is not None:
            matrix = _matrix(to_weight)
            pairs.append((sizes.rows(inputs), matrix))
            if ctx.needs_input_grad[1]:
                by_inputs = _to_inputs(rows, matrix, samples, sizes)
        if pairs:
            by_outer = _outputs(pairs, to_bias, samples, sizes)
        elif to_bias is not None:
            by_outer = to_bias[:, None, :, None].expand_as(outer)
        return by_outer, by_inputs, by_weight, None, None
