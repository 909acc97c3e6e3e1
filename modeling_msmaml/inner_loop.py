"""The inner loop of MAML (Finn et al. 2017, arXiv 1703.03400, algorithm 1) as a pure function."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Parameters = dict[str, Tensor]


def adapt(
    support_loss: Callable[[Parameters], Float[Tensor, " T"]],
    parameters: Parameters,
    *,
    num_inner_steps: int,
    inner_lr: float,
    inner_grad_clip: float | None = None,
    first_order: bool = False,
) -> tuple[Parameters, Float[Tensor, "T num_inner_steps"]]:
    """
    `num_inner_steps` steps of gradient descent of T tasks on their support losses, differentiable with respect to
    `parameters` and to whatever else `support_loss` depends on:

        p <- p - inner_lr * clamp(d support_loss / d p, -inner_grad_clip, inner_grad_clip)

    Every task has its own parameters, so that the gradient of the summed losses holds the gradient of each. Under
    `torch.no_grad` no outer graph is kept.

    Args:
        support_loss: the loss of each task, a function of the adapted parameters.
        parameters: where to start, by name, each (T, ...).
        num_inner_steps: 0 returns the parameters unchanged.
        inner_grad_clip: `None` clamps nothing. Where a gradient is clamped, its own derivative is zero.
        first_order: treat the inner gradients as constants (arXiv 1703.03400, section 5.2).

    Returns:
        The adapted parameters, and the support losses before each step.
    """

    def summed(parameters: Parameters) -> tuple[Float[Tensor, ""], Float[Tensor, " T"]]:
        losses = support_loss(parameters)
        return losses.sum(), losses

    trace = []
    for _ in range(num_inner_steps):
        gradients, (_, losses) = torch.func.grad_and_value(summed, has_aux=True)(parameters)
        trace.append(losses)
        parameters = {
            name: parameter - inner_lr * _limit(gradients[name], inner_grad_clip, first_order)
            for name, parameter in parameters.items()
        }
    if not trace:
        some = next(iter(parameters.values()))
        return parameters, some.new_zeros(len(some), 0)
    return parameters, torch.stack(trace, dim=1)


def _limit(gradient: Tensor, clip: float | None, first_order: bool) -> Tensor:
    if first_order:
        gradient = gradient.detach()
    return gradient if clip is None else gradient.clamp(-clip, clip)
