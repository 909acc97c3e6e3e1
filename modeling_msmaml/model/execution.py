"""Functions whose graph is not kept but made again when they are differentiated, and chains of them."""

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import count
from math import comb
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge


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


def autocast_of(device: str) -> tuple[bool, torch.dtype | None]:
    """Whether autocast is on for this kind of device, and its dtype."""
    if not torch.amp.is_autocast_available(device):
        return False, None
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def autocast(device: str, enabled: bool, dtype: torch.dtype | None = None) -> AbstractContextManager:
    """`torch.autocast`; nothing on a kind of device without it."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, dtype=dtype, enabled=enabled)


def in_autocast(tensor: Tensor) -> Tensor:
    """The same in the dtype of autocast, where that is on; float64 stays."""
    enabled, dtype = autocast_of(tensor.device.type)
    return tensor.to(dtype) if enabled and tensor.dtype != torch.float64 else tensor


def scripted(function: Callable) -> Callable:
    """
    `function`, compiled by TorchScript where this version of PyTorch has it, and as it is elsewhere.

    Python releases its global lock in every operation on tensors and takes it again after it. With a thread a task,
    each waits for the other at each of the several thousand short operations of a meta-step; compiled, a whole function
    is one. Nothing is optimised or fused, so that the values are the same to the last bit.
    """
    if not hasattr(torch.jit, "script"):
        return function
    with warnings.catch_warnings():
        # TorchScript is deprecated as a way to export models. Its successors need a compiler at run time, and minutes.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*deprecated.*")
        compiled = torch.jit.script(function)

    @functools.wraps(function)
    def call(*arguments):
        # Else the first calls would be profiled, and compiled again for each new shape.
        with torch.jit.optimized_execution(False):
            return compiled(*arguments)

    return call


Chunk = TypeVar("Chunk")


Result = TypeVar("Result")


def map_chunks(function: Callable[[Chunk], Result], chunks: Sequence[Chunk], device: torch.device) -> list[Result]:
    """
    `function` of every chunk, in order. On the CPU as many threads as PyTorch has for one operation
    (`torch.get_num_threads()`) take a chunk each instead: tasks need nothing of each other, while two threads within
    one operation gain little at these sizes and wait for each other at each.
    """
    workers = min(torch.get_num_threads(), len(chunks))
    if device.type != "cpu" or workers < 2:
        return [function(chunk) for chunk in chunks]
    return list(_pool(workers).map(_in_context_of_caller(function), chunks))


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="task", initializer=torch.set_num_threads, initargs=(1,))


def _in_context_of_caller(function: Callable[[Chunk], Result]) -> Callable[[Chunk], Result]:
    """Grad mode, inference mode and autocast belong to a thread: takes those of this one along."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def call(chunk: Chunk) -> Result:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", dtype=dtype, enabled=autocast),
        ):
            return function(chunk)

    return call


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss, gradients, *parameters):
        ctx.save_for_backward(*gradients)
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, outer):
        return None, None, *(outer * gradient for gradient in ctx.saved_tensors)


def with_gradients(
    loss: Float[Tensor, ""], parameters: Sequence[Tensor], gradients: Iterable[Sequence[Tensor | None]]
) -> Float[Tensor, ""]:
    """
    `loss` as a function of `parameters` whose gradient is the sum of `gradients`, one sequence a chunk, each with one
    gradient (or `None`) a parameter. A parameter without any takes no part, as in an ordinary graph.
    """
    sums: list[Tensor | None] = [None] * len(parameters)
    for chunk in gradients:
        for index, gradient in enumerate(chunk):
            if gradient is not None:
                sums[index] = gradient if sums[index] is None else sums[index] + gradient
    taking_part = [(p, g) for p, g in zip(parameters, sums, strict=True) if g is not None]
    return _WithGradients.apply(loss.detach(), [g for _, g in taking_part], *(p for p, _ in taking_part))
