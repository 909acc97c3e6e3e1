"""`task_network="mahalanobis"`: the distance of Simple CNAPS (Bateni et al. 2020, arXiv 1912.03432)."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model.task_networks import register_task_network
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import class_means, memberships


class MahalanobisTasks(BaselineTasks):
    """
    The logit of class k is -1/2 (x - m_k)' Q_k^-1 (x - m_k), where m_k is the mean of its n_k support samples and

        Q_k = l_k S_k + (1 - l_k) S + I,    l_k = n_k / (n_k + 1),

    with S_k the covariance of these samples and S that of all support samples of the task (each with the divisor n - 1,
    and zero for a single sample). The adaptation of the features of CNAPS is left out: they are the same for all tasks.
    """

    description = (
        "Inputs are compared with the mean of a class's examples by the Mahalanobis distance of a regularised "
        "covariance of the class (Simple CNAPS, [arXiv 1912.03432](https://arxiv.org/abs/1912.03432))."
    )

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        means, members = class_means(features, labels, n_way), memberships(labels, n_way, features)
        number = members.sum(dim=2)[..., None, None]
        share = number / (number + 1)
        differences = (features[:, None] - means[:, :, None]) * members[..., None]
        of_class = differences.transpose(2, 3) @ differences / (number - 1).clamp(min=1)
        centred = features - features.mean(dim=1, keepdim=True)
        of_task = centred.transpose(1, 2) @ centred / max(1, labels.shape[1] - 1)
        identity = torch.eye(features.shape[2]).to(features)
        covariances = share * of_class + (1 - share) * of_task[:, None] + identity
        return Solved({"means": means, "precisions": torch.cholesky_inverse(torch.linalg.cholesky(covariances))})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        differences = queries[:, None] - tensors["means"][:, :, None]
        return -((differences @ tensors["precisions"]) * differences).sum(dim=-1).transpose(1, 2) / 2


register_task_network("mahalanobis", MahalanobisTasks())
