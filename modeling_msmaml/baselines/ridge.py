"""`task_network="ridge"`: a ridge regression for each task, differentiated through its closed form."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import initialization as init

from ..model.configuration_msmaml import MSMAMLConfig
from ..model.task_networks import register_task_network
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import memberships


class RidgeHead(nn.Module):
    """Logarithms of lambda and of the factor of the logits, and what is added to these; both factors start at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.log_lambda = nn.Parameter(torch.zeros(()))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            init.zeros_(parameter)


class RidgeTasks(BaselineTasks):
    """
    W = X' (X X' + lambda I)^-1 Y, with support features X (S, d) and labels Y (S, N), one-hot; the logits of a query x
    are scale * x W + shift. The outer loop trains features, lambda, scale and shift through the solution: R2-D2
    (Bertinetto et al. 2019, arXiv 1805.08136); the same head is one of those of MetaOptNet (Lee et al. 2019, arXiv
    1904.03758).
    """

    description = (
        "A ridge regression is fitted to the examples in closed form, through which the features were trained (R2-D2, "
        "[arXiv 1805.08136](https://arxiv.org/abs/1805.08136); MetaOptNet, "
        "[arXiv 1904.03758](https://arxiv.org/abs/1904.03758))."
    )

    def parts(self, config: MSMAMLConfig, size: int) -> dict[str, nn.Module]:
        return {"head": RidgeHead()}

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        targets = memberships(labels, n_way, features).transpose(1, 2)
        ridge = model.task_network.head.log_lambda.exp() * torch.eye(labels.shape[1]).to(features)
        coefficients = torch.linalg.solve(features @ features.transpose(1, 2) + ridge, targets)
        return Solved({"weights": features.transpose(1, 2) @ coefficients})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        head: RidgeHead = model.task_network.head
        return head.log_scale.exp() * (queries @ tensors["weights"]) + head.shift


register_task_network("ridge", RidgeTasks())
