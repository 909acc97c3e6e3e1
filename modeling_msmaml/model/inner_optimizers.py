"""How one step of the inner loop changes the parameters: the registry of inner optimisers, and SGD."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .execution import scripted


class InnerOptimizer(ABC):
    """
    Base class of inner optimisers: one step as a pure function of parameters, gradients, state and what the outer loop
    trains of the optimiser.

    An instance holds hyperparameters and the module of `trained_module`, but nothing that a step changes: the inner
    loop carries the state from step to step, runs steps again to save memory, and differentiates through them.
    """

    @classmethod
    def trained_module(cls, config: MSMAMLConfig, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module | None:
        """
        What the outer loop trains of this optimiser; the model keeps it as `inner_rates`. By default nothing.

        Args:
            shapes: of the parameters that the inner loop adapts, by name and without the task dimension. The classifier
                has one row, whatever the number of classes: the rows share what is trained.
        """
        return None

    @classmethod
    @abstractmethod
    def from_config(cls, config: MSMAMLConfig, trained: nn.Module | None) -> "InnerOptimizer":
        """The optimiser as the config describes it now, with the module that `trained_module` made."""

    def trained_of_steps(self, names: list[str], num_inner_steps: int) -> list[tuple[Tensor, ...]]:
        """
        For each step the trained tensors that `step` is handed; the same number for each. By default none.

        Args:
            names: of the parameters, in the order in which `step` is handed them.
        """
        return [()] * num_inner_steps

    def initial_state(self, parameters: list[Float[Tensor, "T ..."]]) -> list[Tensor]:
        """The state before the first step, such as a momentum of zeros for each parameter. By default there is none."""
        return []

    @abstractmethod
    def step(
        self,
        parameters: list[Float[Tensor, "T ..."]],
        gradients: list[Float[Tensor, "T ..."]],
        state: list[Tensor],
        trained: list[Tensor],
    ) -> tuple[list[Float[Tensor, "T ..."]], list[Tensor]]:
        """
        Parameters and state after one step, differentiable with respect to all arguments; nothing is changed in place.

        Args:
            gradients: of each task's support loss with respect to its parameters.
            state: what `initial_state` or the step before returned.
            trained: those tensors of `trained_of_steps` that belong to this step.
        """


_REGISTRY: dict[str, type[InnerOptimizer]] = {}


def register_inner_optimizer(name: str, optimizer_class: type[InnerOptimizer]) -> None:
    """
    Makes `name` an inner optimiser that a config may name as its `inner_optimizer`.

    Registering a name again replaces its class, for models that are built afterwards.

    Raises:
        `TypeError`: `optimizer_class` is not a subclass of [`InnerOptimizer`].
    """
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, InnerOptimizer)):
        raise TypeError(f"optimizer_class={optimizer_class!r} must be a subclass of InnerOptimizer")
    _REGISTRY[name] = optimizer_class


def inner_optimizer_class(config: MSMAMLConfig) -> type[InnerOptimizer]:
    """
    The class that the config's `inner_optimizer` names.

    Raises:
        `ValueError`: the name is not registered.
    """
    name = config.inner_optimizer
    if name not in _REGISTRY:
        raise ValueError(
            f"inner_optimizer={name!r} is unknown; registered are {', '.join(sorted(_REGISTRY))}. "
            "register_inner_optimizer(name, InnerOptimizerClass) adds one"
        )
    return _REGISTRY[name]


class _Rates(nn.ParameterDict):
    # transformers initialises what a checkpoint lacks module by module, and passes over modules without parameters of
    # their own: so the dictionary itself must know where its parameters start.
    def __init__(self, start: float, shapes: Mapping[str, tuple[int, ...]]):
        super().__init__()
        self.start = start
        for name, shape in shapes.items():  # one by one, since ParameterDict sorts what it is given at once
            self[name] = nn.Parameter(torch.full(shape, start))

    def reset_parameters(self) -> None:
        for rate in self.values():
            init.constant_(rate, self.start)


class InnerRates(nn.Module):
    """
    Learning rates of the inner loop that the outer loop trains: one for each parameter tensor and step (LSLR, MAML++,
    arXiv 1810.09502, section 4.5), or one for each element (Meta-SGD, arXiv 1707.09835, section 3).

    Args:
        shapes: of the parameters, by name and without the task dimension.
        inner_lr: where all rates start.
        num_inner_steps: for how many steps there are rates, unless `per_element`.
        per_element: whether each element has its rate, the same in all steps.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], inner_lr: float, num_inner_steps: int, per_element: bool = False
    ):
        super().__init__()
        self.num_inner_steps = num_inner_steps
        self.per_element = per_element
        self.rates = _Rates(
            inner_lr, {_key(name): shape if per_element else (num_inner_steps,) for name, shape in shapes.items()}
        )

    @torch.no_grad()
    def keep(self, num_inner_steps: int) -> None:
        """Keeps the rates of the first steps alone; those of elements are the same in all steps."""
        if not self.per_element:
            for name, rate in list(self.rates.items()):
                self.rates[name] = nn.Parameter(rate[:num_inner_steps].clone(), requires_grad=rate.requires_grad)
        self.num_inner_steps = num_inner_steps

    def of_steps(self, names: list[str], num_inner_steps: int) -> list[tuple[Float[Tensor, "..."], ...]]:
        """
        For each step the rate of each named parameter, which broadcasts to it.

        Raises:
            `ValueError`: more steps than there are rates for.
        """
        if self.per_element:
            return [tuple(self.rates[_key(name)] for name in names)] * num_inner_steps
        if num_inner_steps > self.num_inner_steps:
            raise ValueError(
                f"num_inner_steps={num_inner_steps}, but this model has trained rates for {self.num_inner_steps} steps"
            )
        return [tuple(self.rates[_key(name)][step] for name in names) for step in range(num_inner_steps)]


def _key(name: str) -> str:
    # nn.ParameterDict takes no dots.
    return name.replace(".", "_")


@dataclass(frozen=True)
class SGD(InnerOptimizer):
    """
    Gradient descent with a clamped gradient (MAML, arXiv 1703.03400, algorithm 1, line 6):

        p <- p - lr * clamp(d support_loss / d p, -grad_clip, grad_clip)

    Args:
        lr: the learning rate, unless there are `rates`.
        grad_clip: the largest absolute value of a gradient's element; `None` clamps nothing. Where a gradient is
            clamped, its own derivative is zero.
        rates: trained learning rates in place of `lr`.
    """

    lr: float
    grad_clip: float | None = None
    rates: InnerRates | None = None

    @classmethod
    def trained_module(cls, config: MSMAMLConfig, shapes: Mapping[str, tuple[int, ...]]) -> InnerRates | None:
        if config.inner_rates == "fixed":
            return None
        return InnerRates(shapes, config.inner_lr, config.num_inner_steps, config.inner_rates == "per_element")

    @classmethod
    def from_config(cls, config: MSMAMLConfig, trained: nn.Module | None) -> "SGD":
        return cls(config.inner_lr, config.inner_grad_clip, cast(InnerRates | None, trained))

    def trained_of_steps(self, names: list[str], num_inner_steps: int) -> list[tuple[Tensor, ...]]:
        if self.rates is None:
            return super().trained_of_steps(names, num_inner_steps)
        return self.rates.of_steps(names, num_inner_steps)

    def step(
        self, parameters: list[Tensor], gradients: list[Tensor], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        clip = self.grad_clip
        if self.rates is None:
            return list(_Descent.apply(self.lr, clip, *parameters, *gradients)), state
        return [
            p - rate * (g if clip is None else g.clamp(-clip, clip))
            for p, rate, g in zip(parameters, trained, gradients, strict=True)
        ], state


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
