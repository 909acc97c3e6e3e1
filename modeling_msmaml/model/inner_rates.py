"""Learning rates of the inner loop that the outer loop trains."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .task_network import TaskNetwork

# Of a prototype classifier, which is no module: it has a weight and a bias of any number of classes.
CLASSIFIER = ("classifier.weight", "classifier.bias")


class InnerRates(nn.Module):
    """
    One rate for each parameter tensor and step (LSLR, MAML++, arXiv 1810.09502, section 4.5), or one for each element
    (Meta-SGD, arXiv 1707.09835, section 3); the rows of a classifier, one a class, share theirs. All start from
    `inner_lr`.
    """

    def __init__(self, config: MSMAMLConfig, network: TaskNetwork):
        super().__init__()
        self.start = config.inner_lr
        self.num_inner_steps = config.num_inner_steps
        self.per_element = config.inner_rates == "per_element"
        names = [name for name, _ in network.named_parameters() if network.is_adapted(name)]
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        shapes |= {"classifier.weight": (1, network.feature_size + config.descriptor_size), "classifier.bias": (1,)}
        self.rates = nn.ParameterDict()
        for name in dict.fromkeys([*names, *CLASSIFIER]):
            shape = tuple(shapes[name]) if self.per_element else (self.num_inner_steps,)
            self.rates[_key(name)] = nn.Parameter(torch.full(shape, self.start))

    def reset_parameters(self) -> None:
        for rate in self.rates.values():
            init.constant_(rate, self.start)

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
