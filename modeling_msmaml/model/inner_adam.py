"""Adam as an inner optimiser, differentiable everywhere."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .inner_optimizers import DescentOptimizer, register_inner_optimizer
from .options import fraction, option, positive


@dataclass(frozen=True)
class Adam(DescentOptimizer):
    """
    Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1), which begins anew in every task. With a clamped gradient g,
    the number t of the step from 1 on, and m and v that start at zero:

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        p <- p - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Where v is 0, the derivative of its root is taken to be 0. There g is 0 too, and so is the derivative of v with
    respect to it; with `torch.sqrt` alone their product would be 0 * infinity, which is no number.
    """

    beta1: float = option(0.9, "The decay of the mean gradient, in [0, 1).", fraction)
    beta2: float = option(0.999, "The decay of the mean squared gradient, in [0, 1).", fraction)
    eps: float = option(
        1e-8,
        "What is added to the root of the mean squared gradient. Near a gradient of zero, the outer gradient is "
        "multiplied by its inverse.",
        positive,
    )

    def initial_state(self, parameters: list[Tensor]) -> list[Tensor]:
        """The number of steps, then m of every parameter, then v of every parameter."""
        zeros = [torch.zeros_like(parameter) for parameter in parameters]
        return [parameters[0].new_zeros(()), *zeros, *zeros]

    def directions(
        self, gradients: list[Tensor], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        number, means, squares = state[0] + 1, state[1 : 1 + len(gradients)], state[1 + len(gradients) :]
        means = [self.beta1 * m + (1 - self.beta1) * g for m, g in zip(means, gradients, strict=True)]
        squares = [self.beta2 * v + (1 - self.beta2) * g * g for v, g in zip(squares, gradients, strict=True)]
        of_mean, of_square = 1 - self.beta1**number, 1 - self.beta2**number
        directions = [
            (m / of_mean) / (safe_root(v / of_square) + self.eps) for m, v in zip(means, squares, strict=True)
        ]
        return directions, [number, *means, *squares]


def safe_root(values: Tensor) -> Tensor:
    """The square root of values from 0 on, with a derivative of 0 at 0."""
    above = values > 0
    return torch.where(above, torch.where(above, values, 1.0).sqrt(), 0.0)


register_inner_optimizer("adam", Adam)
