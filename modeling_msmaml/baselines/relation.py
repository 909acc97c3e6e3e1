"""`task_network="relation"`: the relation network (Sung et al. 2018, arXiv 1711.06025)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..model.configuration_msmaml import MSMAMLConfig
from ..model.options import at_least, option
from ..model.task_networks import register_task_network
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import class_means


@dataclass(frozen=True)
class RelationOptions:
    """The `task_network_kwargs` of `"relation"`."""

    hidden_size: int = option(64, "The size of the hidden layer of the relation module.", at_least(1))


class RelationTasks(BaselineTasks):
    """
    A trained relation module reads the mean of a class's support features beside the features of a query, and returns
    the logit of the class. Features are pooled, so that the module is a perceptron where the paper's is convolutional;
    the mean stands for the paper's sum, so that the number of shots may vary; and the loss is the cross-entropy of the
    scores, as for all methods here, where the paper's is the squared error of their sigmoids.
    """

    options_class = RelationOptions
    has_layers = True
    description = (
        "A trained network reads the mean of a class's examples beside an input and says how related they are "
        "(relation network, [arXiv 1711.06025](https://arxiv.org/abs/1711.06025))."
    )

    def parts(self, config: MSMAMLConfig, size: int) -> dict[str, nn.Module]:
        hidden = RelationOptions(**self.options(config)).hidden_size
        return {"relation": nn.Sequential(nn.Linear(2 * size, hidden), nn.ReLU(), nn.Linear(hidden, 1))}

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        return Solved({"means": class_means(features, labels, n_way)})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        means, shape = tensors["means"], (-1, queries.shape[1], tensors["means"].shape[1], -1)
        pairs = torch.cat([means[:, None].expand(*shape), queries[:, :, None].expand(*shape)], dim=-1)
        return model.task_network.relation(pairs)[..., 0]


register_task_network("relation", RelationTasks())
