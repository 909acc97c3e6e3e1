"""The inner loop of MAML (Finn et al. 2017, arXiv 1703.03400, algorithm 1) as a pure function."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .execution import recomputed, scripted, segments

Parameters = dict[str, Tensor]
Steps = Callable[..., tuple[Tensor, ...]]
# Steps whose parameters `checkpointing` keeps beside the first; up to 5, 15, 35 steps then run forwards 2, 3, 4 times.
KEPT_STEPS = 4


def adapt(
    support_loss: Callable[..., Float[Tensor, " T"]],
    parameters: Parameters,
    others: tuple[Tensor, ...] = (),
    rates: list[tuple[Tensor, ...]] | None = None,
    *,
    num_inner_steps: int,
    inner_lr: float,
    inner_grad_clip: float | None = None,
    first_order: bool = False,
    checkpointing: bool = False,
) -> tuple[Parameters, Float[Tensor, "T num_inner_steps"]]:
    """
    `num_inner_steps` steps of gradient descent of T tasks on their support losses, differentiable with respect to
    `parameters` and `others`:

        p <- p - inner_lr * clamp(d support_loss / d p, -inner_grad_clip, inner_grad_clip)

    Every task has its own parameters, so that the gradient of the summed losses holds the gradient of each. Under
    `torch.no_grad` no outer graph is kept.

    Args:
        support_loss: `support_loss(parameters, *others)`, the loss of each task.
        parameters: where to start, by name, each (T, ...).
        others: every other tensor by which the outer loop differentiates `support_loss`.
        rates: trained learning rates in place of `inner_lr`: for each step one tensor a parameter, in their order,
            that broadcasts to it without its task dimension.
        num_inner_steps: 0 returns the parameters unchanged.
        inner_grad_clip: `None` clamps nothing. Where a gradient is clamped, its own derivative is zero.
        first_order: treat the inner gradients, and the losses that are returned, as constants (arXiv 1703.03400,
            section 5.2).
        checkpointing: keep the graph of one step at a time instead of all, and the parameters of `KEPT_STEPS`
            beside the first's however many there are, with one set more for each level of their division; a step
            runs forwards again and again instead (`segments`). The values and gradients are the same.

    Returns:
        The adapted parameters, and the support losses before each step.
    """
    names = list(parameters)
    last = -len(names) if rates is not None else None  # where the rates of a step begin in its tensors

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        """(parameters, others, rates of this step) -> (parameters after a step, losses before it (T, 1))."""
        before, others = tensors[: len(names)], tensors[len(names) : last]
        graph = torch.is_grad_enabled() and not first_order
        with torch.enable_grad():
            inner = [p if graph and p.requires_grad else p.detach().requires_grad_() for p in before]
            losses = support_loss(dict(zip(names, inner, strict=True)), *others)
            gradients = torch.autograd.grad(losses.sum(), inner, create_graph=graph, materialize_grads=True)
        # Where there is no graph, the step is still one for the parameters themselves.
        start = inner if graph else before
        losses = (losses if graph else losses.detach())[:, None]
        if rates is not None:
            after = [
                p - rate * (g if inner_grad_clip is None else g.clamp(-inner_grad_clip, inner_grad_clip))
                for p, rate, g in zip(start, tensors[last:], gradients, strict=True)
            ]
            return *after, losses
        return *_Descent.apply(inner_lr, inner_grad_clip, *start, *gradients), losses

    def one_after_the_other(parts: list[tuple[int, Steps]]) -> Steps:
        """
        Of parts and how many steps each has:
        (parameters, others, rates of all steps) -> (parameters after all, their losses (T, steps)).
        """
        number = sum(steps for steps, _ in parts)

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            values, trace = tensors[: len(names)], []
            end = len(tensors) - (number * len(names) if rates is not None else 0)
            others, own_rates = tensors[len(names) : end], tensors[end:]
            for steps, part in parts:
                *values, losses = part(*values, *others, *own_rates[: steps * len(names)])
                own_rates = own_rates[steps * len(names) :]
                trace.append(losses)
            return *values, torch.cat(trace, dim=1)

        return run

    def checkpointed(number: int, kept: int) -> Steps:
        """`number` steps that keep the parameters of at most `kept` beside the first, and no graph."""
        parts = []
        for index, steps in enumerate(segments(number, kept)):
            part = step if steps == 1 else checkpointed(steps, kept - index)
            parts.append((steps, partial(recomputed, part)))
        return one_after_the_other(parts)

    # A parameter may have been computed from others, as prototypes are: views keep the inner gradient of each partial.
    start = [value.view_as(value) for value in parameters.values()]
    if not num_inner_steps:
        return dict(zip(names, start, strict=True)), start[0].new_zeros(len(start[0]), 0)
    if checkpointing and torch.is_grad_enabled() and not first_order:
        run = checkpointed(num_inner_steps, KEPT_STEPS)
    else:
        run = one_after_the_other([(1, step)] * num_inner_steps)
    *values, losses = run(*start, *others, *(rate for own in (rates or [])[:num_inner_steps] for rate in own))
    return dict(zip(names, values, strict=True)), losses


@scripted
def _descend(parameters: list[Tensor], gradients: list[Tensor], rate: float, clip: float | None) -> list[Tensor]:
    results: list[Tensor] = []
    for parameter, gradient in zip(parameters, gradients):  # noqa: B905 (TorchScript has no `strict`)
        if clip is not None:
            gradient = gradient.clamp(-clip, clip)
        results.append(torch.sub(parameter, gradient, alpha=rate))
    return results


@scripted
def _descent_gradients(outer: list[Tensor], gradients: list[Tensor], rate: float, clip: float) -> list[Tensor]:
    results: list[Tensor] = []
    for index, derivative in enumerate(outer):
        result = derivative * -rate
        if len(gradients) > 0:
            result.masked_fill_(gradients[index].abs() > clip, 0.0)
        results.append(result)
    return results


class _Descent(torch.autograd.Function):
    """One step for many tensors: (rate, clip, *parameters, *gradients) -> parameters after it."""

    @staticmethod
    def forward(ctx, rate, clip, *tensors):
        parameters, gradients = list(tensors[: len(tensors) // 2]), list(tensors[len(tensors) // 2 :])
        ctx.rate, ctx.clip = rate, clip
        if clip is not None:
            ctx.save_for_backward(*gradients)
        return tuple(_descend(parameters, gradients, rate, clip))

    @staticmethod
    @once_differentiable
    def backward(ctx, *outer):
        by_gradients = [None] * len(outer)
        if any(ctx.needs_input_grad[-len(outer) :]):
            by_gradients = _descent_gradients(list(outer), list(ctx.saved_tensors), ctx.rate, ctx.clip or 0.0)
        return None, None, *outer, *by_gradients
