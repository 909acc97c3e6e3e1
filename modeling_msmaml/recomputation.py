"""A function whose graph is not kept but made again when it is differentiated (Chen et al. 2016, arXiv 1604.06174)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def recomputed(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """
    `function(*tensors)`, of which only `tensors` are kept until the backward pass, which runs it once more.

    Unlike `torch.utils.checkpoint`, `function` may differentiate inside, and may use `recomputed` itself. It must
    depend on no other tensor that needs a gradient, and draw no random numbers.
    """
    return _Recomputed.apply(function, *tensors)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.function, ctx.device = function, tensors[0].device.type
        ctx.autocast = torch.is_autocast_enabled(ctx.device), torch.get_autocast_dtype(ctx.device)
        return function(*(tensor.detach() for tensor in tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx, *outer):
        wanted = ctx.needs_input_grad[1:]
        tensors = [t.detach().requires_grad_(needed) for t, needed in zip(ctx.saved_tensors, wanted, strict=True)]
        enabled, dtype = ctx.autocast
        with torch.enable_grad(), torch.autocast(ctx.device, dtype=dtype, enabled=enabled):
            outputs = ctx.function(*tensors)
        pairs = [(o, g) for o, g in zip(outputs, outer, strict=True) if g is not None and o.requires_grad]
        gradients = torch.autograd.grad(
            [output for output, _ in pairs],
            [tensor for tensor in tensors if tensor.requires_grad],
            [gradient for _, gradient in pairs],
            allow_unused=True,
        )
        gradients = iter(gradients)
        return None, *(next(gradients) if needed else None for needed in wanted)
