"""Adaptive average pooling as a product with weights: what is pooled may have any size in an exported graph."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cell_weights(
    starts: Int[Tensor, "*batch"], ends: Int[Tensor, "*batch"], places: Int[Tensor, " places"], cells: int
) -> Float[Tensor, "*batch cells places"]:
    """
    The share of each place in the mean of each cell, as `torch.nn.functional.adaptive_avg_pool1d` divides the places
    from `starts` to `ends` into cells.
    """
    starts, sizes = starts[..., None], (ends - starts)[..., None]
    numbers = torch.arange(cells)
    first = starts + numbers * sizes // cells
    last = starts + ((numbers + 1) * sizes + cells - 1) // cells
    inside = (places >= first[..., None]) & (places < last[..., None])
    return inside / (last - first)[..., None]


def whole_weights(size: "int | torch.SymInt", cells: int) -> Float[Tensor, "cells size"]:
    """The same for all of `size` places."""
    places = torch.arange(size)
    return cell_weights(torch.zeros((), dtype=torch.long), torch.full((), size), places, cells)
