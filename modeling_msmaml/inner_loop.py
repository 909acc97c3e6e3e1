"""The inner loop of MAML (Finn et al. 2017, arXiv 1703.03400, algorithm 1) as a pure function."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Parameters = dict[str, Tensor]


def adapt(
    support_loss: Callable[[Parameters], Float[Tensor, ""]],
    parameters: Parameters,
    *,
    num_inner_steps: int,
    inner_lr: float,
    inner_grad_clip: float | None = None,
    first_order: bool = False,
) -> tuple[Parameters, Float[Tensor, " num_inner_steps"]]:
    """
    `num_inner_steps` steps of gradient descent on `support_loss`, differentiable with respect to `parameters` and to
    whatever else `support_loss` depends on:

        p <- p - inner_lr * clamp(d support_loss / d p, -inner_grad_clip, inner_grad_clip)

    Written for one task; `torch.vmap` makes many of it. Under `torch.no_grad` no outer graph is kept.

    Args:
        support_loss: the loss of one task, a function of the adapted parameters.
        parameters: where to start, by name.
        num_inner_steps: 0 returns the parameters unchanged.
        inner_grad_clip: `None` clamps nothing. Where a gradient is clamped, its own derivative is zero.
        first_order: treat the inner gradients as constants (arXiv 1703.03400, section 5.2).

    Returns:
        The adapted parameters, and the support loss before each step.
    """
    losses = []
    for _ in range(num_inner_steps):
        gradients, loss = torch.func.grad_and_value(support_loss)(parameters)
        losses.append(loss)
        parameters = {
            name: parameter - inner_lr * _limit(gradients[name], inner_grad_clip, first_order)
            for name, parameter in parameters.items()
        }
    if not losses:
        return parameters, next(iter(parameters.values())).new_zeros(0)
    return parameters, torch.stack(losses)


def _limit(gradient: Tensor, clip: float | None, first_order: bool) -> Tensor:
    if first_order:
        gradient = gradient.detach()
    return gradient if clip is None else gradient.clamp(-clip, clip)
