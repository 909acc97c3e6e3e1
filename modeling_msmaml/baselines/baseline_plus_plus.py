"""`task_network="baseline_plus_plus"`: Baseline++ (Chen et al. 2019, arXiv 1904.04232)."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model.losses import task_losses
from ..model.task_networks import register_task_network
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import class_means, cosines


class BaselinePlusPlusTasks(BaselineTasks):
    """
    The features are trained by a cosine classifier among all training classes. For a task they stay as they are, and a
    new cosine classifier is fitted to the support set by `num_inner_steps` steps of gradient descent with `inner_lr`.

    Its weights start from the means of the classes, where the paper draws them, so that no class number matters; the
    steps see all support samples, where the paper has batches of 4 and momentum. In training, whose loss is that of
    the training classes alone, no steps are taken.
    """

    reads = ("cosine_scale", "num_inner_steps", "num_eval_inner_steps", "inner_lr")
    reported = ("num_inner_steps", "num_eval_inner_steps", "inner_lr")
    is_supervised = True
    takes_inner_steps = True
    takes_inner_lr = True
    description = (
        "Features that were trained to classify among all training classes stay as they are; a cosine classifier is "
        "fitted to the examples (Baseline++, [arXiv 1904.04232](https://arxiv.org/abs/1904.04232))."
    )

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        features = features.detach()
        weights, losses = class_means(features, labels, n_way), []

        def loss(weights: Float[Tensor, "T N d"]) -> tuple[Tensor, Tensor]:
            of_tasks = task_losses(self.logits(model, {"weights": weights}, features), labels)
            return of_tasks.sum(), of_tasks

        for _ in range(0 if model.training else model.num_inner_steps):
            gradients, before = torch.func.grad(loss, has_aux=True)(weights)
            weights = weights - model.config.inner_lr * gradients
            losses.append(before.detach())
        return Solved({"weights": weights}, torch.stack(losses, dim=1) if losses else None)

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        return model.config.cosine_scale * cosines(queries, tensors["weights"])


register_task_network("baseline_plus_plus", BaselinePlusPlusTasks())
