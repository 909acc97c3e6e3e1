"""Attention written out: its second derivatives exist, unlike those of the fused kernels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """
    Self-attention of some heads: softmax(Q K' / sqrt(d / heads)) V, then a linear layer (Vaswani et al. 2017, arXiv
    1706.03762).

    Args:
        size: d, of the tokens, which the number of heads divides.
        heads: their number.
    """

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.output = nn.Linear(size, size)

    def forward(
        self, tokens: Float[Tensor, "T n d"], hidden: Bool[Tensor, "n n"] | None = None
    ) -> Float[Tensor, "T n d"]:
        """
        Args:
            hidden: which tokens (columns) a token (row) does not see.
        """
        parts = (layer(tokens).unflatten(2, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        query, key, value = (part.transpose(1, 2) for part in parts)
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        return self.output((scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2))
