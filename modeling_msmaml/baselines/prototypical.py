"""`task_network="prototypical"`: ProtoNet (Snell et al. 2017, arXiv 1703.05175)."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from ..model.task_networks import register_task_network
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import class_means, squared_distances


class PrototypicalTasks(BaselineTasks):
    """
    The logit of a class is the negative squared Euclidean distance of a query to its prototype, the mean of the
    features of its support samples. The method trains nothing beyond the features.
    """

    description = (
        "The logit of a class is the negative squared distance of an input's features to the mean of those of its "
        "examples (ProtoNet, [arXiv 1703.05175](https://arxiv.org/abs/1703.05175))."
    )

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        return Solved({"prototypes": class_means(features, labels, n_way)})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        return -squared_distances(queries, tensors["prototypes"])


register_task_network("prototypical", PrototypicalTasks())
