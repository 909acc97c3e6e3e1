"""
The task network of `task_network="levels"`: it adapts the weights of channels, which are levels of frozen encoders
under several whitenings, and classifies by prototypes and ridge regression on their mixed kernel (`level_kernels`).
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import initialization as init

from .level_kernels import (
    HeadSettings,
    adapted_weights,
    centred_query,
    centred_support,
    centring,
    channel_weights,
    head_logits,
    log_shots,
    mean_cosine_between_classes,
    mixed,
    with_template,
)
from .level_statistics import LevelStatistics, channel_names, kinds_of

# The head before training, (a, b) of a + b log k: logarithms of the temperature, the share of the ridge regression and
# its lambda. Rounded from a first training; any others near them are trained to the same place.
_HEAD = ((2.5, 0.0), (2.0, 0.0), (-0.5, 0.0))
_LOG_TEMPERATURE = math.log(10.0)


class Levels(NamedTuple):
    """
    The levels of a modality's encoder.

    Args:
        sizes: the size of each level by its name, in the order of the flat vector.
        last: the encoder's own embedding.
        template: the level that compares shapes where the encoder sees no difference between classes, if any.
    """

    sizes: dict[str, int]
    last: str
    template: str | None = None


class SolvedTasks(NamedTuple):
    """T adapted tasks: what classifying their queries needs."""

    weights: Float[Tensor, "T C"]
    kernel: Float[Tensor, "T C S S"]  # before centring
    mixture: Float[Tensor, "T S S"]  # of the centred channels
    share: Float[Tensor, "T C"]


class LevelNetwork(nn.Module):
    """
    Statistics, channel weights and head of every modality; the encoders are elsewhere.

    Args:
        levels: modality -> the levels of its encoder.
        rank: of the whitening, see [`LevelStatistics`]; `None` for full rank.
    """

    def __init__(self, levels: dict[str, Levels], rank: int | None = None):
        super().__init__()
        self.levels = levels
        self.channels = {name: channel_names(list(own.sizes), own.last) for name, own in levels.items()}
        self.statistics = nn.ModuleDict(
            {
                modality: nn.ModuleDict({name: LevelStatistics(size, rank) for name, size in own.sizes.items()})
                for modality, own in levels.items()
            }
        )
        self.mixtures = nn.ModuleDict({name: Mixture(len(channels)) for name, channels in self.channels.items()})
        self.head = LevelHead()

    def unit_channels(self, modality: str, levels: Float[Tensor, "... total"]) -> list[Float[Tensor, "... d"]]:
        """The channels of samples, each of unit length, in the order of `channels[modality]`."""
        own, found = self.levels[modality], []
        parts = levels.float().split(list(own.sizes.values()), dim=-1)
        for (name, statistics), part in zip(self._statistics(modality), parts, strict=True):
            found += statistics(part, kinds_of(name, own.last))
        return found

    def _statistics(self, modality: str) -> Iterable[tuple[str, LevelStatistics]]:
        return cast(Any, self.statistics[modality]).items()

    @torch.no_grad()
    def fit(self, modality: str, levels: Float[Tensor, "n total"], groups: Int[Tensor, " n"]) -> None:
        """
        Fits the statistics of a modality to training samples.

        Args:
            levels: flat vectors of the samples.
            groups: the class, or the document, of each.
        """
        parts = levels.split(list(self.levels[modality].sizes.values()), dim=-1)
        for (_, statistics), part in zip(self._statistics(modality), parts, strict=True):
            statistics.fit(part, groups)

    def solve(
        self,
        modality: str,
        support: list[Float[Tensor, "T S d"]],
        labels: Int[Tensor, "T S"],
        n_way: int,
        num_inner_steps: int,
        first_order: bool = False,
    ) -> tuple[SolvedTasks, Float[Tensor, "T C"], Float[Tensor, "T num_inner_steps"]]:
        """
        Weighs the channels of tasks by their support sets, given as `unit_channels`.

        Args:
            num_inner_steps: steps of the inner loop, for tasks with two support samples of a class.
            first_order: see `adapted_weights`.

        Returns:
            The tasks, the weights before the inner loop, and the loss of each task before each of its steps.
        """
        kernel = torch.stack([channel @ channel.transpose(1, 2) for channel in support], dim=1)
        cosines = mean_cosine_between_classes(kernel, labels)
        share = centring(cosines, n_way)
        mixture = cast(Mixture, self.mixtures[modality])
        shots = log_shots(labels, n_way).to(kernel)
        weights = channel_weights(mixture.start, mixture.by_log_shots, shots)
        own, channels = self.levels[modality], self.channels[modality]
        if own.template is not None:
            template = [float(name in (f"{own.template}/h", f"{own.template}/w")) / 2 for name in channels]
            last = cosines[:, channels.index(f"{own.last}/c")]
            weights = with_template(weights, weights.new_tensor(template), last)
        middle, head = centred_support(kernel, share), self.head
        after, losses = adapted_weights(
            weights, middle, labels, n_way, head.log_step, head.log_temperature, num_inner_steps, first_order
        )
        return SolvedTasks(after, kernel, mixed(middle, after), share), weights, losses

    def similarities(
        self, solved: SolvedTasks, support: list[Float[Tensor, "T S d"]], query: list[Float[Tensor, "T Q d"]]
    ) -> Float[Tensor, "T Q S"]:
        """The mixed kernel of queries and support samples, after centring, in [-1, 1]."""
        outer = torch.stack([q @ s.transpose(1, 2) for q, s in zip(query, support, strict=True)], dim=1)
        return mixed(centred_query(solved.kernel, outer, solved.share), solved.weights)

    def logits(
        self,
        solved: SolvedTasks,
        support: list[Float[Tensor, "T S d"]],
        query: list[Float[Tensor, "T Q d"]],
        labels: Int[Tensor, "T S"],
        n_way: int,
    ) -> Float[Tensor, "T Q N"]:
        """Logits of queries, whose channels are those of `unit_channels`. No query has a part in another's."""
        outer = self.similarities(solved, support, query)
        return head_logits(solved.mixture, outer, labels, n_way, self.head.settings(log_shots(labels, n_way)))


class Mixture(nn.Module):
    """The trained part of the weights of `size` channels, softmax(start + by_log_shots * log k); uniform at first."""

    def __init__(self, size: int):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(size))
        self.by_log_shots = nn.Parameter(torch.zeros(size))

    def reset_parameters(self) -> None:
        init.zeros_(self.start)
        init.zeros_(self.by_log_shots)


class LevelHead(nn.Module):
    """The trained factors that all modalities share: of the head by the number of shots, and of the inner loop."""

    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(_HEAD))
        self.log_step = nn.Parameter(torch.tensor(0.0))
        self.log_temperature = nn.Parameter(torch.tensor(_LOG_TEMPERATURE))

    def reset_parameters(self) -> None:
        with torch.no_grad():
            init.copy_(self.factors, torch.tensor(_HEAD))
        init.zeros_(self.log_step)
        init.constant_(self.log_temperature, _LOG_TEMPERATURE)

    def settings(self, shots: Float[Tensor, " T"]) -> HeadSettings:
        """The head's three factors for tasks of these logarithms of shots."""
        start, slope = self.factors.unbind(dim=1)
        return HeadSettings(*(start[:, None] + slope[:, None] * shots.to(start)))
