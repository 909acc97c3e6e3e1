"""
One layer of the networks for T tasks (convolution, batch norm, scale and shift, ReLU), its gradients, and the gradients
of those: the functions that conv_norm.py compiles with TorchScript, which is why their shapes stand here and not in
annotations.

A layer computes

    y = conv1d(inputs, weight) - its mean,  r = 1 / sqrt(mean(y^2) + eps),  n = y r
    z = n scale + shift,  outputs = relu(z)

where every mean is over the rows (batch and length) of one task and channel. `grad_x` is the gradient of the loss with
respect to x, and g stands for `grad_z`. In the second-order functions `gg_x` is the gradient of the loss with respect
to `grad_x`, on which the outer loss depends because the inner loop has used it.

Shapes: inputs and outputs (T, batch, length, channels); y, z, n, g as rows (T, batch * length, channels); r (`rstd`)
and means over rows (T, 1, channels); weight (T, out_channels, in_channels, kernel); scale and shift (T, out_channels).
"""

import torch
from torch import Tensor

from .convolution import fold, to_matrix, to_weight, windows
from .products import product


def convolve(inputs: Tensor, weight: Tensor, eps: float, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """Returns y and r."""
    y = product(windows(inputs, weight.shape[3], stride, padding), to_matrix(weight).transpose(1, 2))
    # PyTorch's own batch norm adds up one row after the other, which is ten times less exact: where that moves a value
    # to the other side of zero, the ReLU makes the gradient jump.
    y.sub_(y.mean(dim=[1], keepdim=True))
    return y, y.square().mean(dim=[1], keepdim=True).add_(eps).rsqrt_()


def activate(y: Tensor, rstd: Tensor, scale: Tensor, shift: Tensor, batch: int) -> Tensor:
    """Returns relu(n scale + shift) as sequences, (T, batch, length, channels)."""
    outputs = torch.addcmul(shift.unsqueeze(1), y, rstd * scale.unsqueeze(1)).relu_()
    return outputs.view(y.shape[0], batch, y.shape[1] // batch, y.shape[2])


def through_relu_and_norm(
    grad_outputs: Tensor, outputs: Tensor, y: Tensor, rstd: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """
    Backward pass from the outputs to y.

        g = grad_outputs where outputs > 0, else 0
        grad_y = k (g - mean(g) - n mean(g n))    with k = r scale
        grad_scale = sum(g n),  grad_shift = sum(g)

    (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.)

    Returns:
        g, `grad_y`, `grad_scale` and `grad_shift`, the latter two of shape (T, 1, channels).
    """
    g = _where_positive(grad_outputs, outputs)
    grad_y, mean_gn, mean_g = _through_norm(g, y, rstd, scale, eps)
    return g, grad_y, mean_gn * y.shape[1], mean_g * y.shape[1]


def through_convolution(
    grad_y: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, need_inputs: bool
) -> tuple[Tensor | None, Tensor]:
    """Backward pass from y to the convolution's arguments: returns `grad_inputs` (if needed) and `grad_weight`."""
    grad_inputs: Tensor | None = None
    if need_inputs:
        grad_inputs = fold(product(grad_y, to_matrix(weight)), list(inputs.shape), stride, padding)
    kernel = weight.shape[3]
    grad_weight = product(grad_y.transpose(1, 2), windows(inputs, kernel, stride, padding))
    return grad_inputs, to_weight(grad_weight, kernel)


def second_gradients(
    gg_inputs: Tensor | None,
    gg_weight: Tensor | None,
    gg_scale: Tensor | None,
    gg_shift: Tensor | None,
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
    Backward pass through the two functions above, `through_relu_and_norm` and `through_convolution`.

    Write v = `gg_y` (what `gg_inputs` and `gg_weight` give through the convolution), p = `gg_scale`, q = `gg_shift`,
    k = r scale and u = g - mean(g) - n mean(g n). Then the gradients of the loss are

        with respect to g:      k (v - mean(v) - n mean(v n)) + n p + q
        with respect to n:      -k (v mean(g n) + g mean(v n)) + g p
        with respect to r:      scale sum(v u)
        with respect to scale:  r sum(v u)

    and, since n = y r and r is a function of y, the second and third together are

        with respect to y:      -k r (mean(g n) (v - mean(v) - n mean(v n)) + mean(v n) u)
                                + r p u - scale r^2 mean(v u) n

    Arguments that are `None` stand for zero.

    Returns:
        The gradients with respect to `grad_outputs`, y, inputs (if needed), weight and scale, the last of shape
        (T, 1, channels). `None` stands for zero.
    """
    kernel = weight.shape[3]
    grad_y, mean_gn, mean_g = _through_norm(g, y, rstd, scale, eps)
    v: Tensor | None = None
    to_inputs: Tensor | None = None
    to_kernel: Tensor | None = None
    if gg_inputs is not None:
        moved = windows(gg_inputs, kernel, stride, padding)
        v = product(moved, to_matrix(weight).transpose(1, 2))
        to_kernel = to_weight(product(grad_y.transpose(1, 2), moved), kernel)
    if gg_weight is not None:
        matrix, patches = to_matrix(gg_weight), windows(inputs, kernel, stride, padding)
        of_weight = product(patches, matrix.transpose(1, 2))
        v = of_weight if v is None else v.add_(of_weight)
        if need_inputs:
            to_inputs = fold(product(grad_y, matrix), list(inputs.shape), stride, padding)
    if v is None:
        to_g, mean_vn, mean_vu = torch.zeros_like(y), torch.zeros_like(rstd), torch.zeros_like(rstd)
    else:
        to_g, mean_vn, mean_v = _through_norm(v, y, rstd, scale, eps)
        mean_vu = v.mul_(g).mean(dim=[1], keepdim=True)
        mean_vu.addcmul_(mean_v, mean_g, value=-1).addcmul_(mean_vn, mean_gn, value=-1)
    to_scale = rstd * mean_vu
    of_n = scale.unsqueeze(1) * to_scale * rstd
    if gg_scale is None:
        to_y = y * (-of_n * rstd)
    else:
        # u of r p u in its three parts, so that no array is made for u.
        rp = gg_scale.unsqueeze(1) * rstd
        to_y = torch.addcmul(-rp * mean_g, y, -(of_n + rp * mean_gn) * rstd).addcmul_(g, rp)
    to_y.addcmul_(to_g, mean_gn * rstd, value=-1).addcmul_(grad_y, mean_vn * rstd, value=-1)
    if gg_scale is not None:
        to_g.addcmul_(y, gg_scale.unsqueeze(1) * rstd)
    if gg_shift is not None:
        to_g.add_(gg_shift.unsqueeze(1))
    to_grad_outputs = _where_positive(to_g.view(outputs.shape), outputs).view(outputs.shape)
    return to_grad_outputs, to_y, to_inputs, to_kernel, to_scale * y.shape[1]


def _through_norm(rows: Tensor, y: Tensor, rstd: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns k (x - mean(x) - n mean(x n)), mean(x n) and mean(x) for rows x, with k = r scale."""
    single = rows.dtype == torch.float32 or rows.dtype == torch.float64
    if rows.shape[0] == 1 and single and y.dtype == rows.dtype:
        # PyTorch's function needs fewer passes over memory, but takes a single task.
        r, part = rstd[0, 0], 1.0 / y.shape[1]
        through, sum_n, sum_1 = torch.ops.aten.native_batch_norm_backward(
            rows[0], y[0], scale[0].contiguous(), None, None, torch.zeros_like(r), r, True, eps, [True, True, True]
        )
        return through.unsqueeze(0), sum_n.mul_(part).view_as(rstd), sum_1.mul_(part).view_as(rstd)
    # Means are taken, since sums over many rows could leave the range of float16.
    factor = rstd * scale.unsqueeze(1)
    mean_1, mean_n = rows.mean(dim=[1], keepdim=True), (rows * y).mean(dim=[1], keepdim=True).mul_(rstd)
    through = torch.addcmul(-mean_1 * factor, rows, factor).addcmul_(y, mean_n * rstd * factor, value=-1)
    return through, mean_n, mean_1


def _where_positive(gradient: Tensor, outputs: Tensor) -> Tensor:
    """Backward pass through the ReLU that gave `outputs`: returns contiguous rows, (T, batch * length, channels)."""
    return torch.ops.aten.threshold_backward(gradient, outputs, 0).contiguous().flatten(1, 2)
