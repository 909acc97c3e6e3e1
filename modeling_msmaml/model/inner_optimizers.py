"""How one step of the inner loop changes the parameters: the registry of inner optimisers, and their base classes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from jaxtyping import Float
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .inner_rates import InnerRates
from .options import given_options


class InnerOptimizer(ABC):
    """
    Base class of inner optimisers: one step as a pure function of parameters, gradients, state and what the outer loop
    trains of the optimiser.

    An instance holds hyperparameters and the module of `trained_module`, but nothing that a step changes: the inner
    loop carries the state from step to step, runs steps again to save memory, and differentiates through them. Most
    optimisers are a [`DescentOptimizer`], which needs one method only.
    """

    @classmethod
    def options(cls, config: MSMAMLConfig) -> dict[str, Any]:
        """
        The `inner_optimizer_kwargs` of the config. Known are the fields of the class, as a dataclass, that `option`
        declares.

        Raises:
            `ValueError`: an unknown option, or a value that its option does not take.
        """
        owner = f"inner_optimizer={config.inner_optimizer!r}"
        return given_options(cls, "inner_optimizer_kwargs", config.inner_optimizer_kwargs, owner)

    @classmethod
    def check(cls, config: MSMAMLConfig) -> None:
        """Raises `ValueError` for a config with which the optimiser cannot work; asked when a model is built."""
        cls.options(config)

    @classmethod
    def has_fixed_rates(cls, config: MSMAMLConfig) -> bool:
        """Whether the optimiser goes by `inner_lr` of the config, and not by trained rates that start from it."""
        return config.inner_rates == "fixed"

    @classmethod
    def trained_module(cls, config: MSMAMLConfig, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module | None:
        """
        What the outer loop trains of this optimiser; the model keeps it as `inner_rates`. By default nothing.

        A `reset_parameters` of the module, or of its parts, sets parameters that a checkpoint lacks to their start.

        Args:
            shapes: of the parameters that the inner loop adapts, by name and without the task dimension. The classifier
                has one row, whatever the number of classes: the rows share what is trained.
        """
        return None

    @classmethod
    @abstractmethod
    def from_config(cls, config: MSMAMLConfig, trained: nn.Module | None) -> Self:
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


@dataclass(frozen=True)
class DescentOptimizer(InnerOptimizer):
    """
    Base class of inner optimisers that go along a direction, by learning rates that are fixed or trained:

        p <- p - rate * direction(clamp(d support_loss / d p, -grad_clip, grad_clip), state)

    A subclass is a dataclass too, gives `directions`, and declares its options as further fields.

    Args:
        lr: the learning rate, unless there are `rates`; `inner_lr` of the config.
        grad_clip: the largest absolute value of a gradient's element; `None` clamps nothing. Where a gradient is
            clamped, its own derivative is zero. `inner_grad_clip` of the config.
        rates: trained learning rates in place of `lr`, as `inner_rates` of the config says.
    """

    lr: float
    grad_clip: float | None = None
    rates: InnerRates | None = None

    @classmethod
    def trained_module(cls, config: MSMAMLConfig, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module | None:
        """The rates, if the config has them trained. A module that takes their place has a `resize` as they have."""
        if cls.has_fixed_rates(config):
            return None
        return InnerRates(shapes, config.inner_lr, config.num_inner_steps, config.inner_rates == "per_element")

    @classmethod
    def from_config(cls, config: MSMAMLConfig, trained: nn.Module | None) -> Self:
        return cls(config.inner_lr, config.inner_grad_clip, cast(InnerRates | None, trained), **cls.options(config))

    def trained_of_steps(self, names: list[str], num_inner_steps: int) -> list[tuple[Tensor, ...]]:
        if self.rates is None:
            return super().trained_of_steps(names, num_inner_steps)
        return self.rates.of_steps(names, num_inner_steps)

    @abstractmethod
    def directions(
        self, gradients: list[Float[Tensor, "T ..."]], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Float[Tensor, "T ..."]], list[Tensor]]:
        """
        The direction for each parameter, and the state after this step; see [`InnerOptimizer.step`].

        Args:
            gradients: clamped.
            trained: those of the step without the rates, which come first.
        """

    def step(
        self, parameters: list[Tensor], gradients: list[Tensor], state: list[Tensor], trained: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        clip = self.grad_clip
        if clip is not None:
            gradients = [gradient.clamp(-clip, clip) for gradient in gradients]
        rates: list[Any] = [self.lr] * len(parameters)
        if self.rates is not None:
            rates, trained = trained[: len(parameters)], trained[len(parameters) :]
        directions, state = self.directions(gradients, state, trained)
        return [p - rate * d for p, rate, d in zip(parameters, rates, directions, strict=True)], state


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
