"""What several baselines compute of the features of a support set: memberships, means, distances, cosines."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def memberships(labels: Int[Tensor, "T S"], n_way: int, like: Float[Tensor, "..."]) -> Float[Tensor, "T N S"]:
    """1 where a support sample belongs to a class, else 0, in the type of `like`."""
    return F.one_hot(labels, n_way).to(like).transpose(1, 2)


def class_means(features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int) -> Float[Tensor, "T N d"]:
    """The mean of each class; zero for one without samples."""
    members = memberships(labels, n_way, features)
    return (members @ features) / members.sum(dim=2, keepdim=True).clamp(min=1)


def squared_distances(queries: Float[Tensor, "T Q d"], points: Float[Tensor, "T N d"]) -> Float[Tensor, "T Q N"]:
    """Squared Euclidean distances, by the differences themselves: no cancellation where two are close."""
    return (queries[:, :, None] - points[:, None]).square().sum(dim=-1)


def cosines(queries: Float[Tensor, "T Q d"], points: Float[Tensor, "T N d"]) -> Float[Tensor, "T Q N"]:
    """Cosines of the angles between them."""
    return F.normalize(queries, dim=-1) @ F.normalize(points, dim=-1).transpose(1, 2)
