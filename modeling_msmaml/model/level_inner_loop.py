"""The inner loop on levels: the weights of the channels, then the head's factors, against leave-one-out losses."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .level_head import centred_targets, doubly_centred, inverse_of, leave_one_out_regression
from .level_kernels import (
    ClassSums,
    has_company,
    leave_one_out_cosines,
    leave_one_out_loss,
    mixed_sums,
    sample_weights,
    shares_in_loss,
)

_LEAST_WEIGHT = 1e-5  # of a channel, for its logarithm
_LARGEST_DERIVATIVE = 2.0  # of the loss with respect to the logarithm of a factor, in a step


def adapted_weights(
    weights: Float[Tensor, "T C"],
    sums: ClassSums,
    labels: Int[Tensor, "T S"],
    log_step: Float[Tensor, ""],
    log_temperature: Float[Tensor, ""],
    num_inner_steps: int,
    first_order: bool = False,
) -> tuple[Float[Tensor, "T C"], Float[Tensor, "T num_inner_steps"]]:
    """
    Takes steps on the logarithms l of the weights, against the support set's leave-one-out loss L.

        w = softmax(l),  l <- l - step * dL/dw

    The derivative is with respect to w, so that this is exponentiated gradient descent on the simplex (Kivinen and
    Warmuth 1997). A task without two samples of one class has no such loss, and its weights stay as they are. With a
    graph, the outer loop differentiates through all steps; with `first_order`, not through the inner gradients.

    Args:
        sums: of the kernel of each channel.

    Returns:
        The weights, and the loss of each task before each step.
    """
    outer = torch.is_grad_enabled()
    adapts = has_company(labels, sums.within.shape[-1]).any(dim=1)[:, None]
    logs, losses = (weights + _LEAST_WEIGHT).log(), []
    with torch.enable_grad():
        for _ in range(num_inner_steps):
            now = logs.softmax(dim=1)
            now = now if outer and now.requires_grad else now.detach().requires_grad_()
            loss = leave_one_out_loss(mixed_sums(sums, now), labels, log_temperature.exp())
            (gradient,) = torch.autograd.grad(loss.sum(), now, create_graph=outer and not first_order)
            logs = logs - log_step.exp() * gradient
            losses.append(loss if outer else loss.detach())
            if not outer:
                logs = logs.detach()
    found = torch.stack(losses, dim=1) if losses else weights.new_zeros(len(weights), 0)
    return torch.where(adapts, logs.softmax(dim=1), weights), found


def adapted_factors(
    log_factors: Float[Tensor, "T 3"],
    kernel: Float[Tensor, "T S S"],
    sums: ClassSums,
    labels: Int[Tensor, "T S"],
    log_rates: Float[Tensor, "T 3"],
    num_steps: int,
    first_order: bool = False,
) -> Float[Tensor, "T 3"]:
    """
    Takes steps of gradient descent on the logarithms of the head's factors (see `fitted_head`), against the
    leave-one-out loss of the head itself: so the head sharpens with the number of samples and their separation, and its
    probabilities are calibrated on the task.

    Both parts of the head have their leave-one-out predictions in closed form, and so is the derivative of the
    regression's with respect to lambda, see `leave_one_out_regression`.

    Args:
        log_factors: what the task starts from.
        kernel, sums: of the mixed kernel.
        log_rates: the logarithm of each factor's step size. No derivative counts as larger than 2 in a step.
    """
    members = F.one_hot(labels, sums.within.shape[1]).to(kernel.dtype)
    shares = shares_in_loss(labels, sums.within.shape[1], kernel.dtype)[..., None]
    cosines = leave_one_out_cosines(sums, labels)
    weights = sample_weights(labels, sums.within.shape[1], kernel.dtype)
    inner, targets = doubly_centred(kernel, weights), centred_targets(members, weights)
    for _ in range(num_steps):
        temperature, scale, ridge = log_factors.exp()[:, :, None, None].unbind(dim=1)
        regression, by_log_ridge = leave_one_out_regression(inverse_of(inner, ridge, weights), targets, ridge, weights)
        logits = temperature * cosines + scale * regression
        residual = (logits.softmax(dim=2) - members) * shares
        parts = (temperature * cosines, scale * regression, scale * by_log_ridge)
        gradient = torch.stack([(residual * part).sum(dim=(1, 2)) for part in parts], dim=1)
        gradient = gradient.detach() if first_order else gradient
        log_factors = log_factors - log_rates.exp() * gradient.clamp(-_LARGEST_DERIVATIVE, _LARGEST_DERIVATIVE)
    return log_factors
