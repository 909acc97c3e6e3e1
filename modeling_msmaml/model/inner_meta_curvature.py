"""Meta-Curvature: gradient descent whose gradients go through trained matrices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .inner_optimizers import DescentOptimizer, register_inner_optimizer
from .inner_rates import InnerRates, key_of


@dataclass(frozen=True)
class MetaCurvature(DescentOptimizer):
    """
    Meta-Curvature (Park and Oliva 2019, arXiv 1902.03356): the gradient G of a kernel, of shape (outputs, inputs,
    positions), is multiplied by a trained matrix along each of its dimensions, before the step.

        MC(G) = G x_3 M_f x_2 M_i x_1 M_o
        p <- p - rate * MC(G)

    All matrices start from the identity. A linear layer has M_o and M_i, a kernel of several dimensions one M_f for all
    its positions, and a vector, such as a bias, one factor for each element. The outputs of the classifier share what
    is trained, as there is no order of classes: its M_o is a number.

    Args:
        factors: the matrices, by the names of the parameters.
    """

    factors: "CurvatureFactors | None" = None

    @classmethod
    def trained_module(cls, config: MSMAMLConfig, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
        return CurvatureFactors(shapes, cast(InnerRates | None, super().trained_module(config, shapes)))

    @classmethod
    def from_config(cls, config: MSMAMLConfig, trained: nn.Module | None) -> Self:
        factors = cast(CurvatureFactors, trained)
        return cls(config.inner_lr, config.inner_grad_clip, factors.rates, factors, **cls.options(config))

    def trained_of_steps(self, names: list[str], num_inner_steps: int) -> list[tuple[Tensor, ...]]:
        matrices = cast(CurvatureFactors, self.factors).of(names)
        return [(*rates, *matrices) for rates in super().trained_of_steps(names, num_inner_steps)]

    def directions(
        self, gradients: list[Tensor], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        found, matrices = [], iter(trained)
        for gradient in gradients:
            found.append(transformed(gradient, [next(matrices) for _ in range(_number_of_factors(gradient.dim() - 1))]))
        return found, state


class CurvatureFactors(nn.Module):
    """
    The trained matrices of [`MetaCurvature`], and its learning rates where they are trained too.

    Args:
        shapes: of the parameters, by name and without the task dimension.
        rates: the learning rates, if they are trained.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], rates: InnerRates | None):
        super().__init__()
        self.rates = rates
        self.matrices = nn.ModuleDict({key_of(name): _Factors(shape) for name, shape in shapes.items()})

    def of(self, names: list[str]) -> list[Tensor]:
        """The factors of the named parameters, one after the other."""
        return [factor for name in names for factor in cast(_Factors, self.matrices[key_of(name)]).own()]

    def resize(self, num_inner_steps: int) -> None:
        """See [`InnerRates.resize`]; the matrices are the same in all steps."""
        if self.rates is not None:
            self.rates.resize(num_inner_steps)


class _Factors(nn.Module):
    """The factors of one parameter, by its first dimensions: a vector for a vector, else square matrices."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        number = _number_of_factors(len(shape))
        sizes = [*shape[: number - 1], torch.Size(shape[number - 1 :]).numel()]
        for index, size in enumerate(sizes):
            of_vector = len(shape) <= 1
            setattr(self, f"factor{index + 1}", nn.Parameter(torch.ones(size) if of_vector else torch.eye(size)))

    def own(self) -> list[Tensor]:
        return list(self.parameters(recurse=False))

    def reset_parameters(self) -> None:
        for factor in self.own():
            with torch.no_grad():
                init.copy_(factor, torch.ones_like(factor) if factor.dim() == 1 else torch.eye(len(factor)).to(factor))


def transformed(gradient: Float[Tensor, "T ..."], factors: list[Tensor]) -> Float[Tensor, "T ..."]:
    """The gradient multiplied by a matrix along each dimension after the first, or by the elements of a vector."""
    if factors[0].dim() == 1:
        return gradient * factors[0]
    flat = gradient.flatten(len(factors)) if gradient.dim() > len(factors) else gradient
    for dimension, factor in enumerate(factors, start=1):
        if factor.shape == (1, 1):
            flat = flat * factor[0, 0]
        else:
            flat = (flat.movedim(dimension, -1) @ factor.T).movedim(-1, dimension)
    return flat.reshape(gradient.shape)


def _number_of_factors(dimensions: int) -> int:
    return min(max(dimensions, 1), 3)


register_inner_optimizer("meta_curvature", MetaCurvature)
