"""
One layer of T tasks: convolution, batch norm, scale and shift, ReLU; its derivative, and the derivative of that. Parts
of scripted functions.

Shapes: inputs and outputs (T, batch, length, channels); y, the convolution less its mean, and what belongs to it as
rows (T, batch * length, channels); r and means over rows (T, 1, channels); weight (T, out_channels, in_channels,
kernel); scale and shift (T, out_channels). With n = y r and g the derivative by what the ReLU sees.
"""

import torch
from torch import Tensor

from .convolution import fold, to_matrix, to_weight, windows


def convolve(inputs: Tensor, weight: Tensor, eps: float, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """y and r = 1 / sqrt(variance + eps)."""
    y = torch.bmm(windows(inputs, weight.shape[3], stride, padding), to_matrix(weight))
    # PyTorch's own batch norm adds up one row after the other, ten times less exactly: where that puts a value on the
    # other side of zero, the ReLU makes the gradient jump.
    y.sub_(y.mean(dim=[1], keepdim=True))
    return y, torch.rsqrt(y.square().mean(dim=[1], keepdim=True) + eps)


def activate(y: Tensor, rstd: Tensor, scale: Tensor, shift: Tensor, batch: int) -> Tensor:
    """Outputs."""
    outputs = torch.addcmul(shift.unsqueeze(1), y, rstd * scale.unsqueeze(1)).relu_()
    return outputs.view(y.shape[0], batch, y.shape[1] // batch, y.shape[2])


def through_relu_and_norm(
    outer: Tensor, outputs: Tensor, y: Tensor, rstd: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """g, and for the derivative by outputs those by y, scale and shift, the latter two (T, 1, channels)."""
    g = _where_positive(outer, outputs)
    by_y, g_n, g_1 = _through_norm(g, y, rstd, scale, eps)
    return g, by_y, g_n * y.shape[1], g_1 * y.shape[1]


def through_convolution(
    by_y: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, need_inputs: bool
) -> tuple[Tensor | None, Tensor]:
    """Derivatives by inputs (if needed) and weight for the one by y."""
    by_inputs: Tensor | None = None
    if need_inputs:
        by_inputs = fold(torch.bmm(by_y, to_matrix(weight).transpose(1, 2)), inputs.shape, stride, padding)
    kernel = weight.shape[3]
    by_weight = torch.bmm(windows(inputs, kernel, stride, padding).transpose(1, 2), by_y)
    return by_inputs, to_weight(by_weight, kernel)


def second_gradients(
    to_inputs: Tensor | None,
    to_kernel: Tensor | None,
    to_scale: Tensor | None,
    to_shift: Tensor | None,
    g: Tensor,
    outputs: Tensor,
    y: Tensor,
    rstd: Tensor,
    inputs: Tensor,
    weight: Tensor,
    scale: Tensor,
    eps: float,
    stride: int,
    padding: int,
    need_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
    """
    Derivatives by outer, y, inputs (if needed), weight and scale for those by the derivatives by inputs, weight, scale
    and shift that the two functions above give.

    With v, p, q the derivatives by the one by y, by scale and by shift, those by g, n, r and scale are sums over few
    products an element, with k = r scale:

        k (v - mean(v) - n mean(v n)) + n p + q
        -k (v mean(g n) + g mean(v n)) + g p
        scale sum(v u), r sum(v u)                                with u = g - mean(g) - n mean(g n)
    """
    kernel = weight.shape[3]
    by_y, g_n, g_1 = _through_norm(g, y, rstd, scale, eps)
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
            by_inputs = fold(torch.bmm(by_y, matrix.transpose(1, 2)), inputs.shape, stride, padding)
    if v is None:
        to_g, v_n, v_u = torch.zeros_like(y), torch.zeros_like(rstd), torch.zeros_like(rstd)
    else:
        to_g, v_n, v_1 = _through_norm(v, y, rstd, scale, eps)
        v_u = v.mul_(g).mean(dim=[1], keepdim=True)
        v_u.addcmul_(v_1, g_1, value=-1).addcmul_(v_n, g_n, value=-1)
    # Through n, then through r, which is in n too: by_r d r / d y = -scale mean(v u) r^2 n.
    by_scale = rstd * v_u
    second = y * -(scale.unsqueeze(1) * by_scale * rstd * rstd)
    second.addcmul_(to_g, g_n * rstd, value=-1).addcmul_(by_y, v_n * rstd, value=-1)
    if to_scale is not None:
        p = to_scale.unsqueeze(1) * rstd
        to_g = torch.addcmul(to_g, y, p)
        u = (g - g_1).addcmul_(y, g_n * rstd, value=-1)
        second.addcmul_(u, p)
    if to_shift is not None:
        to_g = to_g + to_shift.unsqueeze(1)
    to_outer = _where_positive(to_g.view(outputs.shape), outputs).view(outputs.shape)
    return to_outer, second, by_inputs, by_weight, by_scale * y.shape[1]


def _through_norm(rows: Tensor, y: Tensor, rstd: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """k (x - mean(x) - n mean(x n)), mean(x n) and mean(x) of rows x, with k = r scale."""
    single = rows.dtype == torch.float32 or rows.dtype == torch.float64
    if rows.shape[0] == 1 and single and y.dtype == rows.dtype:
        # One function in fewer passes, but of one task.
        r, part = rstd[0, 0], 1.0 / y.shape[1]
        through, sum_n, sum_1 = torch.ops.aten.native_batch_norm_backward(
            rows[0], y[0], scale[0].contiguous(), None, None, torch.zeros_like(r), r, True, eps, [True, True, True]
        )
        return through.unsqueeze(0), sum_n.mul_(part).view_as(rstd), sum_1.mul_(part).view_as(rstd)
    # Means, since sums over many rows could leave the range of float16.
    factor = rstd * scale.unsqueeze(1)
    mean_1, mean_n = rows.mean(dim=[1], keepdim=True), (rows * y).mean(dim=[1], keepdim=True).mul_(rstd)
    through = torch.addcmul(-mean_1 * factor, rows, factor).addcmul_(y, mean_n * rstd * factor, value=-1)
    return through, mean_n, mean_1


def _where_positive(outer: Tensor, outputs: Tensor) -> Tensor:
    """The derivative by what a ReLU made `outputs` of, as rows without gaps."""
    return torch.ops.aten.threshold_backward(outer, outputs, 0).contiguous().flatten(1, 2)
