"""
How computations are run, without any effect on their results: functions whose graph is recomputed in the backward pass,
and the schedule for a chain of them; autocast; TorchScript; tasks in threads, with their gradients added up; and
modules with the parameters of a task.
"""

import copy
import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import count
from math import comb
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge


def recomputed(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """
    Returns `function(*tensors)`. Only `tensors` are kept until the backward pass, which runs the function again
    (Chen et al. 2016, arXiv 1604.06174).

    Unlike with `torch.utils.checkpoint`, `function` may differentiate inside, and may itself use `recomputed`. It must
    not depend on any other tensor that needs a gradient, nor draw random numbers.
    """
    return _Recomputed.apply(function, *tensors)


def segments(number: int, kept: int) -> list[int]:
    """
    Divides a chain of `number` steps by the binomial schedule (Griewank and Walther 2000, "Algorithm 799: revolve",
    section 2).

    Returns the lengths of at most `kept` + 1 consecutive parts (`kept` >= 1). Each part is to be `recomputed`, and to
    be divided further in the same way; the part of index i may keep the inputs of `kept` - i parts of its own.

    At most `kept` inputs are kept at a time, besides the first. No step runs forwards more than r + 1 times, where r is
    the smallest number with `longest(kept, r)` >= `number`.
    """
    repeats = next(r for r in count(1) if longest(kept, r) >= number)
    lengths = [longest(fewer, repeats - 2) for fewer in range(kept, -1, -1)]
    for part, fewer in enumerate(range(kept, -1, -1)):
        lengths[part] += min(longest(fewer, repeats - 1) - lengths[part], number - sum(lengths))
    return [length for length in lengths if length]


def longest(kept: int, repeats: int) -> int:
    """
    Returns the length of the longest chain that `segments` can handle with `repeats` forward runs of a step, not
    counting the run that records the graph.
    """
    return comb(kept + repeats, kept) if repeats >= 0 else 0


class _Recomputed(torch.autograd.Function):
    """`recomputed` as a node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.function, ctx.device = function, tensors[0].device.type
        ctx.autocast = autocast_of(ctx.device)
        return function(*(tensor.detach() for tensor in tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[1:]
        tensors = [t.detach().requires_grad_(needed) for t, needed in zip(ctx.saved_tensors, wanted, strict=True)]
        enabled, dtype = ctx.autocast
        with torch.enable_grad(), autocast(ctx.device, enabled, dtype):
            outputs = ctx.function(*tensors)
        pairs = [
            (get_gradient_edge(output), gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if gradient is not None and output.requires_grad
        ]
        del outputs  # the caller has their values already
        results = torch.autograd.grad(
            [edge for edge, _ in pairs],
            [tensor for tensor in tensors if tensor.requires_grad],
            [gradient for _, gradient in pairs],
            allow_unused=True,
        )
        remaining = iter(results)
        return None, *(next(remaining) if needed else None for needed in wanted)


def autocast_of(device: str) -> tuple[bool, torch.dtype | None]:
    """Returns whether autocast is enabled for this type of device (such as `"cuda"`), and its dtype."""
    if not torch.amp.is_autocast_available(device):
        return False, None
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def autocast(device: str, enabled: bool, dtype: torch.dtype | None = None) -> AbstractContextManager:
    """Returns `torch.autocast`, or a context that does nothing for a type of device without it."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, dtype=dtype, enabled=enabled)


def in_autocast(tensor: Tensor) -> Tensor:
    """Returns the tensor in the dtype of autocast, if autocast is enabled. A tensor of float64 stays as it is."""
    enabled, dtype = autocast_of(tensor.device.type)
    return tensor.to(dtype) if enabled and tensor.dtype != torch.float64 else tensor


def scripted(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Compiles `function` with TorchScript; returns it unchanged if this version of PyTorch has no TorchScript.

    Python releases its global lock in every tensor operation and acquires it again afterwards. With one thread per
    task, threads would wait for each other at each of the several thousand short operations of a meta-step; a compiled
    function is a single such operation. Nothing is optimised or fused, so the values are identical to the last bit.
    """
    if not hasattr(torch.jit, "script"):
        return function
    with warnings.catch_warnings():
        # TorchScript is deprecated as a way to export models. Its successors take minutes and a compiler at run time.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*deprecated.*")
        compiled = torch.jit.script(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if torch.compiler.is_exporting():
            return function(*arguments)
        # Otherwise the first calls would be profiled, and the function compiled again for each new shape.
        with torch.jit.optimized_execution(False):  # pyright: ignore[reportPrivateImportUsage]
            return compiled(*arguments)

    return call


Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def map_chunks(function: Callable[[Chunk], Result], chunks: Sequence[Chunk], device: torch.device) -> list[Result]:
    """
    Returns `function(chunk)` for every chunk, in order.

    On the CPU the chunks are computed in parallel, by as many threads as PyTorch uses for one operation
    (`torch.get_num_threads()`). Chunks do not depend on each other, whereas threads within one operation gain little at
    these sizes and wait for each other at the end of each operation.
    """
    workers = min(torch.get_num_threads(), len(chunks))
    if device.type != "cpu" or workers < 2:
        return [function(chunk) for chunk in chunks]
    return uncompiled(_in_threads)(function, chunks, workers)  # a compiler that runs in several threads fails


def _in_threads(function: Callable[[Chunk], Result], chunks: Sequence[Chunk], workers: int) -> list[Result]:
    return list(_pool(workers).map(_in_context_of_caller(function), chunks))


def uncompiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Returns `function` such that `torch.compile` leaves it, and all that it calls, as it is."""
    disable: Any = torch.compiler.disable
    # torch.compile loads this module, which takes a second or two.
    return disable(function) if "torch._dynamo" in sys.modules else function


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="task", initializer=torch.set_num_threads, initargs=(1,))


def _in_context_of_caller(function: Callable[[Chunk], Result]) -> Callable[[Chunk], Result]:
    """
    Returns `function` with grad mode, inference mode and autocast as they are in the calling thread, to be called in
    another: these settings belong to a thread.
    """
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
    """`with_gradients` as a node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (of_loss,) = gradients
        return None, None, *(of_loss * gradient for gradient in ctx.saved_tensors)


def with_gradients(
    loss: Float[Tensor, ""], parameters: Sequence[Tensor], gradients: Iterable[Sequence[Tensor | None]]
) -> Float[Tensor, ""]:
    """
    Returns `loss` as a function of `parameters` whose gradient is known: the sum over chunks of `gradients`.

    Args:
        loss: value of the loss.
        parameters: the tensors that the loss depends on.
        gradients: one sequence per chunk, with one gradient (or `None`) per parameter. A parameter without any gradient
            is left out of the graph, as it would be in an ordinary one.
    """
    sums: list[Tensor | None] = [None] * len(parameters)
    for chunk in gradients:
        for index, gradient in enumerate(chunk):
            if gradient is not None:
                previous = sums[index]
                sums[index] = gradient if previous is None else previous + gradient
    taking_part = [(p, g) for p, g in zip(parameters, sums, strict=True) if g is not None]
    return _WithGradients.apply(loss.detach(), [g for _, g in taking_part], *(p for p, _ in taking_part))


def replica(module: nn.Module, values: dict[str, Tensor], prefix: str = "") -> nn.Module:
    """
    Returns a copy of the module whose parameters are `values`, by name, so that tasks in several threads can have their
    own. (`torch.func.functional_call` puts them into the module itself while it runs, and takes longer.)
    """
    copied = copy.copy(module)
    parameters: dict[str, Any] = {name: values.get(prefix + name, own) for name, own in module._parameters.items()}
    copied._parameters = parameters
    copied._modules = {
        name: child and replica(child, values, f"{prefix}{name}.") for name, child in module._modules.items()
    }
    return copied
