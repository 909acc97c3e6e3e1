"""Gradient descent, the inner optimiser of MAML, in one node of autograd's graph for all parameters."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .execution import scripted
from .inner_optimizers import DescentOptimizer, register_inner_optimizer


@dataclass(frozen=True)
class SGD(DescentOptimizer):
    """
    Gradient descent with a clamped gradient (MAML, arXiv 1703.03400, algorithm 1, line 6):

        p <- p - lr * clamp(d support_loss / d p, -grad_clip, grad_clip)
    """

    def directions(
        self, gradients: list[Tensor], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        return gradients, state

    def step(
        self, parameters: list[Tensor], gradients: list[Tensor], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        if self.rates is not None:
            return super().step(parameters, gradients, state, trained)
        return list(_Descent.apply(self.lr, self.grad_clip, *parameters, *gradients)), state


register_inner_optimizer("sgd", SGD)


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
        of_gradients = [None] * len(outer)
        if any(ctx.needs_input_grad[-len(outer) :]):
            of_gradients = _descent_gradients(list(outer), list(ctx.saved_tensors), ctx.rate, ctx.clip or 0.0)
        return None, None, *outer, *of_gradients
