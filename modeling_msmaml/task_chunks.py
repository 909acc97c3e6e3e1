"""Tasks in chunks: spread over CPU threads, and with their gradients at once, so that no chunk's graph waits."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

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
