"""The inner loop of MAML (Finn et al. 2017, arXiv 1703.03400, algorithm 1) as a pure function."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from .execution import recomputed, segments
from .inner_optimizers import InnerOptimizer

Parameters = dict[str, Tensor]
Steps = Callable[..., tuple[Tensor, ...]]
# Steps whose parameters `checkpointing` keeps beside the first; up to 5, 15, 35 steps then run forwards 2, 3, 4 times.
KEPT_STEPS = 4


def adapt(
    support_loss: Callable[..., Float[Tensor, " T"]],
    parameters: Parameters,
    others: tuple[Tensor, ...] = (),
    *,
    optimizer: InnerOptimizer,
    num_inner_steps: int,
    first_order: bool = False,
    checkpointing: bool = False,
    every_step: bool = False,
    state: Sequence[Tensor] | None = None,
    steps_before: int = 0,
) -> tuple[list[Parameters], Float[Tensor, "T num_inner_steps"], list[Tensor]]:
    """
    `num_inner_steps` steps of T tasks down their support losses, differentiable with respect to `parameters`, `others`
    and what is trained of the optimiser.

    Every task has its own parameters, so that the gradient of the summed losses holds the gradient of each. Under
    `torch.no_grad` no outer graph is kept.

    Args:
        support_loss: `support_loss(parameters, *others)`, the loss of each task.
        parameters: where to start, by name, each (T, ...).
        others: every other tensor with respect to which the outer loop differentiates `support_loss`.
        optimizer: what one step does with the gradients.
        num_inner_steps: 0 returns the parameters unchanged.
        first_order: whether the inner gradients, and the losses that are returned, are treated as constants
            (arXiv 1703.03400, section 5.2).
        checkpointing: whether the graph of one step at a time is kept instead of all, and the parameters of
            `KEPT_STEPS` steps beside the first's, however many there are, with one set more for each level of their
            division; a step runs forwards again and again instead (`segments`). The values and gradients are the same.
        every_step: whether the parameters after every step are returned, which keeps them.
        state: of the optimiser, where earlier steps left it; by default it begins anew.
        steps_before: how many steps the tasks have taken already, for what is trained for single steps.

    Returns:
        The parameters after every step, or those after the last alone; the support losses before each step; and the
        state of the optimiser after the last.
    """
    names, num_others = list(parameters), len(others)
    trained = optimizer.trained_of_steps(names, steps_before + num_inner_steps)[steps_before:]
    values = list(parameters.values())
    initial_state = list(optimizer.initial_state(values) if state is None else state)
    if not num_inner_steps:
        return [dict(zip(names, _views(values), strict=True))], values[0].new_zeros(len(values[0]), 0), initial_state
    num_moving, num_trained = len(names) + len(initial_state), len(trained[0])

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        """
        (parameters, state, others, trained tensors of this step) ->
        (parameters and state after it, losses before it (T, 1)).
        """
        before, state = tensors[: len(names)], tensors[len(names) : num_moving]
        others, trained = tensors[num_moving : num_moving + num_others], tensors[num_moving + num_others :]
        graph = torch.is_grad_enabled() and not first_order
        with torch.enable_grad():
            inner = [p if graph and p.requires_grad else p.detach().requires_grad_() for p in before]
            losses = support_loss(dict(zip(names, inner, strict=True)), *others)
            gradients = torch.autograd.grad(losses.sum(), inner, create_graph=graph, materialize_grads=True)
        # Where there is no graph, the step is still one for the parameters themselves.
        before = inner if graph else before
        losses = (losses if graph else losses.detach())[:, None]
        after, state = optimizer.step(list(before), list(gradients), list(state), list(trained))
        return *after, *state, losses

    def one_after_the_other(parts: list[tuple[int, Steps]]) -> Steps:
        """
        Of parts and how many steps each has:
        (parameters, state, others, trained tensors of all steps) ->
        (parameters and state after all, their losses (T, steps)).
        """

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            moving, trace = tensors[:num_moving], []
            others, trained = tensors[num_moving : num_moving + num_others], tensors[num_moving + num_others :]
            for steps, part in parts:
                *moving, losses = part(*moving, *others, *trained[: steps * num_trained])
                trained = trained[steps * num_trained :]
                trace.append(losses)
            return *moving, torch.cat(trace, dim=1)

        return run

    def checkpointed(number: int, kept: int) -> Steps:
        """`number` steps that keep the parameters of at most `kept` beside the first, and no graph."""
        parts = []
        for index, steps in enumerate(segments(number, kept)):
            part = step if steps == 1 else checkpointed(steps, kept - index)
            parts.append((steps, partial(recomputed, part)))
        return one_after_the_other(parts)

    length = 1 if every_step else num_inner_steps
    if checkpointing and torch.is_grad_enabled() and not first_order:
        run = checkpointed(length, KEPT_STEPS)
    else:
        run = one_after_the_other([(1, step)] * length)
    moving, path, trace = [*values, *initial_state], [], []
    for done in range(0, num_inner_steps, length):
        *moving, losses = run(*_views(moving), *others, *chain.from_iterable(trained[done : done + length]))
        path.append(dict(zip(names, moving[: len(names)], strict=True)))
        trace.append(losses)
    return path, torch.cat(trace, dim=1), moving[len(names) :]


def _views(tensors: list[Tensor]) -> list[Tensor]:
    """
    The same tensors as other nodes of the graph: one may have been computed from another, as prototypes are, and the
    gradient with respect to it is to be partial.
    """
    return [tensor.view_as(tensor) for tensor in tensors]
