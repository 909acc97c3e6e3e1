"""Prototypes that unlabelled samples refine: soft k-means (Ren et al. 2018, arXiv 1803.00676, section 3.1.1)."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def refined_prototypes(
    prototypes: Float[Tensor, "T N features"],
    support: Float[Tensor, "T S features"],
    labels: Int[Tensor, "T S"],
    unlabelled: Float[Tensor, "T U features"],
    scale: Float[Tensor, "T 1 1"],
    steps: int,
) -> Float[Tensor, "T N features"]:
    """
    Prototypes of unit length after some steps of soft k-means on labelled and unlabelled samples.

    In each step an unlabelled sample h_j belongs to class c with probability z_jc, and prototypes are means over both:

        z_jc = softmax over c of scale * cos(h_j, p_c)
        p_c ~ sum over i with y_i = c of h_i + sum over j of z_jc h_j

    The paper has the negative squared distance in the place of the scaled cosine; for features of unit length, as this
    model's are, and prototypes of unit length it is 2 cos - 2. Prototypes are used by their direction alone, so that
    the paper's division by the number of samples falls away.

    Args:
        prototypes: of the labelled samples, of unit length.
        support, labels: labelled samples of unit length and their classes.
        unlabelled: samples of unit length.
        scale: of the model's own cosines.
        steps: number of steps, at least 1.
    """
    members = F.one_hot(labels, prototypes.shape[1]).to(support.dtype).transpose(1, 2)
    sums = members @ support
    for _ in range(steps):
        shares = (scale * unlabelled @ prototypes.transpose(1, 2)).softmax(dim=-1)
        prototypes = F.normalize(sums + shares.transpose(1, 2) @ unlabelled, dim=-1)
    return prototypes
