"""Gradient descent with momentum as an inner optimiser."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .inner_optimizers import DescentOptimizer, register_inner_optimizer
from .options import fraction, option


@dataclass(frozen=True)
class Momentum(DescentOptimizer):
    """
    The heavy ball (Polyak 1964), or Nesterov's momentum (Sutskever et al. 2013, section 2), in the form of
    `torch.optim.SGD`. With a clamped gradient g and a velocity v that starts at zero:

        v <- momentum * v + g
        p <- p - rate * v                    (heavy ball)
        p <- p - rate * (g + momentum * v)   (Nesterov)
    """

    momentum: float = option(0.9, "The share of the velocity that is kept from step to step, in [0, 1).", fraction)
    nesterov: bool = option(False, "Whether the step looks ahead by the velocity, as Nesterov's does.")

    def initial_state(self, parameters: list[Tensor]) -> list[Tensor]:
        return [torch.zeros_like(parameter) for parameter in parameters]

    def directions(
        self, gradients: list[Tensor], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        velocities = [self.momentum * v + g for v, g in zip(state, gradients, strict=True)]
        if not self.nesterov:
            return velocities, velocities
        return [g + self.momentum * v for g, v in zip(gradients, velocities, strict=True)], velocities


register_inner_optimizer("momentum", Momentum)
