"""Learning rates of the inner loop that the outer loop trains."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init


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
    arXiv 1810.09502), or one for each element (Meta-SGD, arXiv 1707.09835).

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
            inner_lr, {key_of(name): shape if per_element else (num_inner_steps,) for name, shape in shapes.items()}
        )

    @torch.no_grad()
    def resize(self, num_inner_steps: int) -> None:
        """
        Keeps the rates of the first steps alone, or repeats those of the last step for further ones. The rates of
        elements are the same in all steps.
        """
        if not self.per_element:
            for name, rate in list(self.rates.items()):
                more = rate[-1:].expand(max(0, num_inner_steps - len(rate)))
                resized = torch.cat([rate[:num_inner_steps], more])
                self.rates[name] = nn.Parameter(resized, requires_grad=rate.requires_grad)
        self.num_inner_steps = num_inner_steps

    def of_steps(self, names: list[str], num_inner_steps: int) -> list[tuple[Float[Tensor, "..."], ...]]:
        """
        For each step the rate of each named parameter, which broadcasts to it. With more steps than there are rates
        for, those of the last step are repeated.
        """
        if self.per_element:
            return [tuple(self.rates[key_of(name)] for name in names)] * num_inner_steps
        last = self.num_inner_steps - 1
        return [tuple(self.rates[key_of(name)][min(step, last)] for name in names) for step in range(num_inner_steps)]


def key_of(name: str) -> str:
    """The name of a parameter or a layer as a key of `nn.ParameterDict` or `nn.ModuleDict`, which take no dots."""
    return name.replace(".", "_")
