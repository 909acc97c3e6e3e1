"""`task_network="matching"`: matching networks (Vinyals et al. 2016, arXiv 1606.04080)."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model.task_networks import register_task_network
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import cosines, memberships


class MatchingTasks(BaselineTasks):
    """
    A query's probability of a class is the attention that it pays to the support samples of this class: a softmax over
    all of them of their cosines, times a trained factor, which the paper lacks. The logits are the logarithms of these
    probabilities. Full context embeddings are left out.
    """

    has_scale = True
    description = (
        "The probability of a class is the attention that an input pays to the examples of this class, a softmax of "
        "scaled cosines (matching networks, [arXiv 1606.04080](https://arxiv.org/abs/1606.04080))."
    )

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        return Solved({"examples": features, "members": memberships(labels, n_way, features)})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        scores = model.task_network.cosine_scale.value * cosines(queries, tensors["examples"])
        # log 1 of a sample of the class, log 0 of another.
        of_class = scores[:, :, None] + tensors["members"][:, None].log()
        return torch.logsumexp(of_class, dim=-1) - torch.logsumexp(scores, dim=-1)[..., None]


register_task_network("matching", MatchingTasks())
