"""
One layer of T tasks: convolution, batch norm, scale and shift, ReLU; its derivative, and the derivative of that. Parts
of scripted functions.

Shapes: inputs and outputs (T, batch, length, channels), y and what belongs to it as rows (T, batch * length, channels),
mean, r and sums (T, 1, channels), weight (T, out_channels, in_channels, kernel), scale and shift (T, out_channels).
With n = (y - mean) r, g the derivative by what the ReLU sees, sums over rows and N their number.
"""

import torch
from torch import Tensor

from .convolution import fold, to_matrix, to_weight, windows


def forward_layer(
    inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float, stride: int, padding: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, y, mean and r = 1 / sqrt(variance + eps)."""
    tasks, batch = inputs.shape[:2]
    y = torch.bmm(windows(inputs, weight.shape[3], stride, padding), to_matrix(weight))
    # PyTorch's own batch norm adds up one row after the other, ten times less exactly: where that puts a value on the
    # other side of zero, the ReLU makes the gradient jump.
    mean = y.mean(dim=[1], keepdim=True)
    centred = y - mean
    rstd = torch.rsqrt(centred.square().mean(dim=[1], keepdim=True) + eps)
    outputs = torch.addcmul(shift.unsqueeze(1), centred, rstd * scale.unsqueeze(1)).relu_()
    return outputs.view(tasks, batch, -1, y.shape[2]), y, mean, rstd


def layer_gradients(
    outer: Tensor | None,
    to_y: Tensor | None,
    outputs: Tensor,
    y: Tensor,
    inputs: Tensor,
    weight: Tensor,
    scale: Tensor,
    mean: Tensor,
    rstd: Tensor,
    eps: float,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
    """Derivatives by inputs (if needed), weight, scale and shift for those by outputs and by y; and g."""
    if outer is None:
        g, sum_n, sum_1 = torch.zeros_like(y), torch.zeros_like(mean), torch.zeros_like(mean)
        by_y = torch.zeros_like(y)
    else:
        g = _where_positive(outer, outputs)
        by_y, sum_n, sum_1 = _through_norm(g, y, scale, mean, rstd, eps)
    if to_y is not None:
        by_y.add_(to_y)
    by_inputs: Tensor | None = None
    if need_inputs:
        by_inputs = fold(torch.bmm(by_y, to_matrix(weight).transpose(1, 2)), inputs.shape, stride, padding)
    kernel = weight.shape[3]
    by_weight = torch.bmm(windows(inputs, kernel, stride, padding).transpose(1, 2), by_y)
    return by_inputs, to_weight(by_weight, kernel), sum_n.squeeze(1), sum_1.squeeze(1), g


def layer_second_gradients(
    to_inputs: Tensor | None,
    to_weight_: Tensor | None,
    to_scale: Tensor | None,
    to_shift: Tensor | None,
    g: Tensor,
    outputs: Tensor,
    y: Tensor,
    inputs: Tensor,
    weight: Tensor,
    scale: Tensor,
    mean: Tensor,
    rstd: Tensor,
    eps: float,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
    """
    Derivatives by outer, y, inputs (if needed), weight and scale for those by the first four results of
    `layer_gradients`, which are functions of outer, y, inputs, weight and scale.

    With v, p, q the derivatives by the one by y, by scale and by shift, those by g, n, r and scale are sums over few
    products an element, with k = r scale:

        k (v - mean(v) - n mean(v n)) + n p + q
        -k (v mean(g n) + g mean(v n)) + g p
        scale sum(v u), r sum(v u)                                with u = g - mean(g) - n mean(g n)
    """
    kernel, part = weight.shape[3], 1.0 / y.shape[1]
    by_y, g_n, g_1 = _through_norm(g, y, scale, mean, rstd, eps)
    v: Tensor | None = None
    by_inputs: Tensor | None = None
    by_weight: Tensor | None = None
    if to_inputs is not None:
        moved = windows(to_inputs, kernel, stride, padding)
        v = torch.bmm(moved, to_matrix(weight))
        by_weight = to_weight(torch.bmm(moved.transpose(1, 2), by_y), kernel)
    if to_weight_ is not None:
        matrix, patches = to_matrix(to_weight_), windows(inputs, kernel, stride, padding)
        v = torch.bmm(patches, matrix) if v is None else v.baddbmm_(patches, matrix)
        if need_inputs:
            by_inputs = fold(torch.bmm(by_y, matrix.transpose(1, 2)), inputs.shape, stride, padding)
    if v is None:
        to_g, v_n, v_u = torch.zeros_like(y), torch.zeros_like(mean), torch.zeros_like(mean)
    else:
        to_g, v_n, v_1 = _through_norm(v, y, scale, mean, rstd, eps)
        v_u = v.mul_(g).sum(dim=[1], keepdim=True)
        v_u.addcmul_(v_1, g_1, value=-part).addcmul_(v_n, g_n, value=-part)
    # Through n, then through r, which is in n too: by_r d r / d y = -scale sum(v u) r^2 n / N.
    by_scale = rstd * v_u
    at_y = scale.unsqueeze(1) * by_scale * rstd.square() * -part
    by_convolved = torch.addcmul(-mean * at_y, y, at_y)
    by_convolved.addcmul_(to_g, g_n * rstd, value=-part).addcmul_(by_y, v_n * rstd, value=-part)
    if to_scale is not None:
        n, p = (y - mean).mul_(rstd), to_scale.unsqueeze(1)
        to_g = torch.addcmul(to_g, n, p)
        u = torch.sub(g, g_1, alpha=part).addcmul_(n, g_n, value=-part)
        by_convolved.addcmul_(u, p * rstd)
    if to_shift is not None:
        to_g = to_g + to_shift.unsqueeze(1)
    to_outer = _where_positive(to_g.view(outputs.shape), outputs).view(outputs.shape)
    return to_outer, by_convolved, by_inputs, by_weight, by_scale.squeeze(1)


def _fused(rows: Tensor) -> bool:
    """Whether the derivative of PyTorch's own batch norm may do it: fewer passes, but of one task."""
    return rows.shape[0] == 1 and (rows.dtype == torch.float32 or rows.dtype == torch.float64)


def _through_norm(
    rows: Tensor, y: Tensor, scale: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """k (x - sum(x) / N - n sum(x n) / N), sum(x n) and sum(x) of rows x, with k = r scale."""
    if _fused(y):
        through, sum_n, sum_1 = torch.ops.aten.native_batch_norm_backward(
            rows[0], y[0], scale[0].contiguous(), None, None, mean[0, 0], rstd[0, 0], True, eps, [True, True, True]
        )
        return through.unsqueeze(0), sum_n.view_as(mean), sum_1.view_as(mean)
    n, part = (y - mean).mul_(rstd), 1.0 / y.shape[1]
    factor = rstd * scale.unsqueeze(1)
    sum_1, sum_n = rows.sum(dim=[1], keepdim=True), (rows * n).sum(dim=[1], keepdim=True)
    through = torch.addcmul(sum_1 * factor * -part, rows, factor).addcmul_(n, sum_n * factor, value=-part)
    return through, sum_n, sum_1


def _where_positive(outer: Tensor, outputs: Tensor) -> Tensor:
    """The derivative by what a ReLU made `outputs` of, as rows without gaps."""
    return torch.ops.aten.threshold_backward(outer, outputs, 0).contiguous().flatten(1, 2)
