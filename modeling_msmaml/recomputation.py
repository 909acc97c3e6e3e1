"""Functions whose graph is not kept but made again when they are differentiated, and chains of them."""

from collections.abc import Callable
from itertools import count
from math import comb

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge

from .autocast import autocast, autocast_of


def recomputed(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """
    `function(*tensors)`, of which only `tensors` are kept until the backward pass, which runs it once more
    (Chen et al. 2016, arXiv 1604.06174).

    Unlike `torch.utils.checkpoint`, `function` may differentiate inside, and may use `recomputed` itself. It must
    depend on no other tensor that needs a gradient, and draw no random numbers.
    """
    return _Recomputed.apply(function, *tensors)


def segments(number: int, kept: int) -> list[int]:
    """
    The binomial schedule (Griewank and Walther 2000, "Algorithm 799: revolve", section 2) of a chain of `number`
    steps: lengths of at most `kept` + 1 parts (`kept` >= 1) that follow each other, each to be `recomputed`, and
    divided further in the same way, where the part of index i keeps the inputs of `kept` - i parts of its own.

    At most `kept` inputs are kept at a time beside the first. No step runs forwards more than r + 1 times, with the
    smallest r for which `longest(kept, r)` >= `number`.
    """
    repeats = next(r for r in count(1) if longest(kept, r) >= number)
    lengths = [longest(fewer, repeats - 2) for fewer in range(kept, -1, -1)]
    for part, fewer in enumerate(range(kept, -1, -1)):
        lengths[part] += min(longest(fewer, repeats - 1) - lengths[part], number - sum(lengths))
    return [length for length in lengths if length]


def longest(kept: int, repeats: int) -> int:
    """Steps of the longest chain that `segments` reverses with `repeats` forward runs beside the one with a graph."""
    return comb(kept + repeats, kept) if repeats >= 0 else 0


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.function, ctx.device = function, tensors[0].device.type
        ctx.autocast = autocast_of(ctx.device)
        return function(*(tensor.detach() for tensor in tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx, *outer):
        wanted = ctx.needs_input_grad[1:]
        tensors = [t.detach().requires_grad_(needed) for t, needed in zip(ctx.saved_tensors, wanted, strict=True)]
        enabled, dtype = ctx.autocast
        with torch.enable_grad(), autocast(ctx.device, enabled, dtype):
            outputs = ctx.function(*tensors)
        pairs = [
            (get_gradient_edge(output), gradient)
            for output, gradient in zip(outputs, outer, strict=True)
            if gradient is not None and output.requires_grad
        ]
        del outputs  # whose values are known to the caller
        gradients = torch.autograd.grad(
            [edge for edge, _ in pairs],
            [tensor for tensor in tensors if tensor.requires_grad],
            [gradient for _, gradient in pairs],
            allow_unused=True,
        )
        gradients = iter(gradients)
        return None, *(next(gradients) if needed else None for needed in wanted)
