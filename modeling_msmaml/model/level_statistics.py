"""The channels of a level: its features standardised, half whitened and whitened by statistics of training samples."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

WHITENINGS = ("s", "h", "w")
CENTRED = "c"
_SHARE_OF_COVARIANCE = 0.8  # beside the identity
_SHARE_OF_MEAN_DEVIATION = 0.1


def channel_names(levels: Sequence[str], last_level: str) -> list[str]:
    """The channels of some levels, in the order of their kernels: of the last level, `"c"` comes first."""
    return [f"{level}/{kind}" for level in levels for kind in kinds_of(level, last_level)]


def kinds_of(level: str, last_level: str) -> tuple[str, ...]:
    """The whitenings under which a level is a channel."""
    return (CENTRED, *WHITENINGS) if level == last_level else WHITENINGS


class LevelStatistics(nn.Module):
    """
    Statistics of one level, x of d features, and its channels, each scaled to unit length:

        c = x - mean
        s = (x - mean) / (deviation + .1 mean deviation)
        h = C'^(-1/4) (x - mean)
        w = C'^(-1/2) (x - mean),   C' = .8 C + .2 I, C the covariance within classes, scaled to trace d

    C' is kept as its first `rank` eigenvectors and values, and one value for all other directions, their mean. So one
    matrix serves both whitenings, and with a rank below d it takes less than d x d numbers. For h and w as they are
    here only inner products count: with full rank they are in the basis of the eigenvectors.

    Before `fit`, the mean is 0 and every deviation and eigenvalue is 1.

    Args:
        size: d.
        rank: number of eigenvectors, at most d, which is the default.
    """

    mean: Float[Tensor, " d"]
    deviation: Float[Tensor, " d"]
    directions: Float[Tensor, "d rank"]
    values: Float[Tensor, " rank"]
    rest: Float[Tensor, ""]

    def __init__(self, size: int, rank: int | None = None):
        super().__init__()
        self.size, self.rank = size, min(size, rank or size)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.register_buffer("directions", torch.eye(size, self.rank))
        self.register_buffer("values", torch.ones(self.rank))
        self.register_buffer("rest", torch.ones(()))

    def reset_parameters(self) -> None:
        """The statistics of features that need no whitening, as before `fit`."""
        with torch.no_grad():
            for name, value in (("mean", 0.0), ("deviation", 1.0), ("values", 1.0), ("rest", 1.0)):
                getattr(self, name).fill_(value)
            self.directions.copy_(torch.eye(self.size, self.rank))

    @torch.no_grad()
    def fit(self, features: Float[Tensor, "n d"], groups: Shaped[Tensor, " n"]) -> None:
        """
        Fits the statistics to training samples.

        Args:
            features: at least two samples.
            groups: the class of each sample, or its document, within which the covariance is taken.

        Raises:
            `ValueError`: fewer than two samples, or no two samples of one group.
        """
        features = features.double()
        means, numbers = group_means(features, groups)
        if len(features) < 2 or len(means) == len(features):
            raise ValueError(f"{len(features)} samples of {len(means)} groups have no covariance within groups")
        within = features - means[numbers]
        covariance = within.T @ within
        covariance *= self.size / covariance.trace().clamp(min=torch.finfo(torch.float64).tiny)
        identity = torch.eye(self.size, dtype=torch.float64, device=features.device)
        shrunk = _SHARE_OF_COVARIANCE * covariance + (1 - _SHARE_OF_COVARIANCE) * identity
        values, directions = torch.linalg.eigh(shrunk)
        deviation = features.std(dim=0)
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_(deviation + _SHARE_OF_MEAN_DEVIATION * deviation.mean())
        self.directions.copy_(directions[:, self.size - self.rank :])
        self.values.copy_(values[self.size - self.rank :])
        if self.rank < self.size:
            self.rest.copy_(values[: self.size - self.rank].mean())

    def forward(
        self, features: Float[Tensor, "... d"], kinds: Sequence[str] = WHITENINGS
    ) -> list[Float[Tensor, "... d"]]:
        """Channels of unit length, in the order of `kinds`."""
        x = features - self.mean
        along = x @ self.directions if "h" in kinds or "w" in kinds else x
        found = {
            "c": lambda: x,
            "s": lambda: x / self.deviation,
            "h": lambda: self._whitened(x, along, -0.25),
            "w": lambda: self._whitened(x, along, -0.5),
        }
        return [F.normalize(found[kind](), dim=-1) for kind in kinds]

    def _whitened(
        self, x: Float[Tensor, "... d"], along: Float[Tensor, "... rank"], power: float
    ) -> Float[Tensor, "... d"]:
        if self.rank == self.size:
            return along * self.values**power
        others = self.rest**power
        return others * x + (along * (self.values**power - others)) @ self.directions.T


def group_means(
    features: Float[Tensor, "n d"], groups: Shaped[Tensor, " n"]
) -> tuple[Float[Tensor, "groups d"], Int[Tensor, " n"]]:
    """The mean of each group, and the number of the group of each sample."""
    _, numbers, counts = groups.unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(counts), features.shape[1]).index_add_(0, numbers, features)
    return sums / counts[:, None], numbers
