"""
The inner loop with implicit gradients (iMAML, Rajeswaran et al. 2019, arXiv 1909.04630), whose outer gradient depends
on where the inner loop ends and not on how it came there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .execution import autocast, autocast_of
from .inner_loop import Parameters, adapt
from .inner_optimizers import InnerOptimizer

_TINY = 1e-30  # a squared length below which a residual counts as zero; the smallest float32 is not much less


def adapt_implicitly(
    support_loss: Callable[..., Float[Tensor, " T"]],
    parameters: Parameters,
    others: tuple[Tensor, ...],
    *,
    optimizer: InnerOptimizer,
    num_inner_steps: int,
    proximal_weight: float,
    conjugate_gradient_steps: int,
) -> tuple[list[Parameters], Float[Tensor, "T num_inner_steps"], list[Tensor]]:
    """
    As `inner_loop.adapt`, with the outer gradient of the minimum that the steps come near. They go down the support
    loss with the proximal term of iMAML,

        G(phi) = support_loss(phi) + proximal_weight / 2 * |phi - start|^2

    At its minimum, phi is a function of the start and of all else that the support loss depends on, with a derivative
    that the implicit function theorem gives (the paper has that of the start): the gradient v with respect to phi
    becomes, with H the Hessian of the support loss,

        u = (H + proximal_weight * I)^-1 v
        proximal_weight * u   with respect to the start
        -(d^2 support_loss / d phi d other)^T u   with respect to others

    where conjugate gradients find u, for each task by itself. No graph of the inner steps is kept, however many there
    are. The gradient is exact as far as the steps reach the minimum, and conjugate gradients their solution.

    Args:
        proximal_weight: lambda, above 0. It should outweigh the negative curvature of the support loss; a task whose
            conjugate gradients meet such a direction goes no further.
        conjugate_gradient_steps: at most this many products with the Hessian.

    Returns:
        The parameters after the last step; the losses before each step, with the proximal term and without a graph;
        and the state of the optimiser.
    """
    names, number = list(parameters), len(parameters)
    start = {name: value.detach() for name, value in parameters.items()}
    fixed = tuple(other.detach() for other in others)

    def with_proximal_term(now: Parameters, *given: Tensor) -> Float[Tensor, " T"]:
        apart = [(now[name] - start[name]).square().flatten(1).sum(dim=1) for name in names]
        return support_loss(now, *given) + proximal_weight / 2 * torch.stack(apart).sum(dim=0)

    with torch.no_grad():
        path, losses, state = adapt(
            with_proximal_term, start, fixed, optimizer=optimizer, num_inner_steps=num_inner_steps
        )
    if not num_inner_steps:
        return [dict(parameters)], losses, state

    def gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        """Of the support loss with respect to the parameters, as a function of these and of others."""
        values = support_loss(dict(zip(names, tensors[:number], strict=True)), *tensors[number:])
        return torch.autograd.grad(values.sum(), tensors[:number], create_graph=True, materialize_grads=True)

    found = [path[-1][name].detach() for name in names]
    settings = gradient, proximal_weight, conjugate_gradient_steps, found
    solved = _Implicit.apply(settings, *parameters.values(), *others)
    return [dict(zip(names, solved, strict=True))], losses, state


class _Implicit(torch.autograd.Function):
    """(settings, *start, *others) -> the minimum, which was found before."""

    @staticmethod
    def forward(ctx: Any, settings: tuple, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.gradient, ctx.weight, ctx.steps, found = settings
        ctx.number, ctx.device = len(found), found[0].device.type
        ctx.autocast = autocast_of(ctx.device)
        ctx.save_for_backward(*found, *tensors[len(found) :])
        return tuple(value.clone() for value in found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:
        number, wanted = ctx.number, ctx.needs_input_grad[1 + ctx.number :]
        saved = [tensor.detach() for tensor in ctx.saved_tensors]
        minimum = [tensor.requires_grad_() for tensor in saved[:number]]
        others = [tensor.requires_grad_(needed) for tensor, needed in zip(saved[number:], wanted, strict=True)]
        enabled, dtype = ctx.autocast
        with torch.enable_grad(), autocast(ctx.device, enabled, dtype):
            gradients = ctx.gradient(*minimum, *others)
        # That of a bias ahead of a batch norm, say, is a constant.
        curved = [index for index, gradient in enumerate(gradients) if gradient.requires_grad]
        gradients = [gradients[index] for index in curved]

        def product(vectors: list[Tensor]) -> list[Tensor]:
            """(H + weight * I) vectors, of each task."""
            if not curved:
                return [ctx.weight * v for v in vectors]
            along = [vectors[index] for index in curved]
            products = torch.autograd.grad(gradients, minimum, along, retain_graph=True, materialize_grads=True)
            return [p + ctx.weight * v for p, v in zip(products, vectors, strict=True)]

        solution = conjugate_gradients(product, list(outer), ctx.steps)
        needed_of_start = ctx.needs_input_grad[1 : 1 + number]
        of_start = [ctx.weight * u if needed else None for u, needed in zip(solution, needed_of_start, strict=True)]
        of_others: list[Tensor | None] = [None] * len(others)
        if any(wanted) and curved:
            taking = [other for other in others if other.requires_grad]
            found = iter(torch.autograd.grad(gradients, taking, [-solution[i] for i in curved], allow_unused=True))
            of_others = [next(found) if needed else None for needed in wanted]
        return None, *of_start, *of_others


def conjugate_gradients(
    product: Callable[[list[Tensor]], list[Tensor]], right: Sequence[Float[Tensor, "T ..."]], steps: int
) -> list[Float[Tensor, "T ..."]]:
    """
    Solves A u = `right` for T tasks at once, each by itself, from u = 0 (Hestenes and Stiefel 1952).

    Args:
        product: of A, symmetric and block-diagonal in tasks, with vectors, each given as a list of tensors (T, ...).
        steps: at most this many. A task is left as it is once it is solved, or meets a direction in which A is not
            positive.
    """
    solution = [torch.zeros_like(part) for part in right]
    residual = [part.clone() for part in right]
    direction, length = residual, _dots(residual, residual)
    active = length > _TINY
    for _ in range(steps):
        if not active.any():
            break
        curved = product(direction)
        curvature = _dots(direction, curved)
        active = active & (curvature > 0)
        factor = torch.where(active, length / torch.where(active, curvature, 1.0), 0.0)
        solution = [u + _scaled(factor, d) for u, d in zip(solution, direction, strict=True)]
        residual = [r - _scaled(factor, c) for r, c in zip(residual, curved, strict=True)]
        before, length = length, _dots(residual, residual)
        active = active & (length > _TINY)
        turn = torch.where(active, length / torch.where(active, before, 1.0), 0.0)
        direction = [r + _scaled(turn, d) for r, d in zip(residual, direction, strict=True)]
    return solution


def _dots(first: Sequence[Tensor], second: Sequence[Tensor]) -> Float[Tensor, " T"]:
    products = [(a * b).flatten(1).sum(dim=1) for a, b in zip(first, second, strict=True)]
    return torch.stack(products).sum(dim=0)


def _scaled(factor: Float[Tensor, " T"], tensor: Float[Tensor, "T ..."]) -> Float[Tensor, "T ..."]:
    return factor.view(-1, *[1] * (tensor.dim() - 1)) * tensor
