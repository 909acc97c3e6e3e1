"""Meta-SGD: gradient descent whose learning rate is trained for every element."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from .configuration_msmaml import MSMAMLConfig
from .inner_optimizers import register_inner_optimizer
from .inner_rates import InnerRates
from .inner_sgd import SGD


@dataclass(frozen=True)
class MetaSGD(SGD):
    """
    Meta-SGD (Li et al. 2017, arXiv 1707.09835): gradient descent with a rate alpha for every element, which the outer
    loop trains with the start, all from `inner_lr`:

        p <- p - alpha * clamp(d support_loss / d p, -grad_clip, grad_clip)

    It is `inner_optimizer="sgd"` with `inner_rates="per_element"`, by its own name.
    """

    @classmethod
    def check(cls, config: MSMAMLConfig) -> None:
        super().check(config)
        if config.inner_rates == "per_layer_per_step":
            raise ValueError(
                f"inner_rates={config.inner_rates!r} does not go with inner_optimizer={config.inner_optimizer!r}, "
                "which trains a rate for each element: leave one of them out"
            )

    @classmethod
    def has_fixed_rates(cls, config: MSMAMLConfig) -> bool:
        return False

    @classmethod
    def trained_module(cls, config: MSMAMLConfig, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
        return InnerRates(shapes, config.inner_lr, config.num_inner_steps, per_element=True)


register_inner_optimizer("meta_sgd", MetaSGD)
