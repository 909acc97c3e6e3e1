"""`task_network="set_attention"`: prototypes that attend to each other, after FEAT (Ye et al. 2020)."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from ..model.configuration_msmaml import MSMAMLConfig
from ..model.task_networks import register_task_network
from .attention import Attention
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import class_means, cosines


class SetAttentionTasks(BaselineTasks):
    """
    The prototypes of a task, as a set, go through one layer of self-attention of one head, with a residual connection
    and layer norm, so that each is adapted to the others; queries stay as they are (FEAT, arXiv 1812.03664). A logit
    is the cosine of a query and an adapted prototype, times a trained factor. Pre-training and the contrastive term of
    the loss are left out.
    """

    has_scale = True
    has_layers = True
    description = (
        "The means of the classes' examples are adapted to each other by self-attention, and inputs compared with them "
        "by scaled cosines (after FEAT, [arXiv 1812.03664](https://arxiv.org/abs/1812.03664))."
    )

    def parts(self, config: MSMAMLConfig, size: int) -> dict[str, nn.Module]:
        return {"attention": Attention(size, 1), "norm": nn.LayerNorm(size)}

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        means, network = class_means(features, labels, n_way), model.task_network
        return Solved({"prototypes": network.norm(means + network.attention(means))})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        return model.task_network.cosine_scale.value * cosines(queries, tensors["prototypes"])


register_task_network("set_attention", SetAttentionTasks())
