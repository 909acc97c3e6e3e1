"""
The task network of `task_network="levels"`: it adapts the weights of channels, which are levels of frozen encoders
under several whitenings, and classifies by prototypes and ridge regression on their mixed kernel (`level_kernels`).
"""

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import initialization as init

from .level_head import fitted_head
from .level_inner_loop import adapted_factors, adapted_weights
from .level_kernels import (
    centred,
    centring,
    channel_weights,
    class_sums,
    leave_one_out_loss,
    log_shots,
    mean_cosine_between_classes,
    mixed_kernel,
    mixed_sums,
    sample_weights,
    with_template,
)
from .level_statistics import LevelStatistics, channel_names, kinds_of

# The head before training, (a, b) of a + b log k: logarithms of the temperature, the share of the ridge regression and
# its lambda, and of the step sizes with which the inner loop changes these. Rounded from a first training; any others
# near them are trained to the same place.
_FACTORS = ((2.5, 0.0), (2.0, 0.0), (-0.5, 0.0))
_RATES = ((-1.0, 0.0), (-1.0, 0.0), (-1.0, 0.0))
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
    """
    T adapted tasks: what classifying their queries needs. The classifier is linear in the channels, so that no query
    costs more where there are more support samples.

    Args:
        weights: of the channels.
        origins: of the channels, one after the other; D is the sum of their sizes.
        classifier: for each channel, what its centred features are multiplied with.
    """

    weights: Float[Tensor, "T C"]
    origins: Float[Tensor, "T D"]
    classifier: Float[Tensor, "T D N"]
    bias: Float[Tensor, "T N"]


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
        # Of other samples than those of training episodes; not in the state, since training alone needs them.
        self.of_training: dict[str, list[nn.ModuleDict]] = {}
        self.mixtures = nn.ModuleDict({name: Mixture(len(channels)) for name, channels in self.channels.items()})
        self.head = LevelHead()

    def unit_channels(
        self, modality: str, levels: Float[Tensor, "... total"], turn: int | None = None
    ) -> list[Float[Tensor, "... d"]]:
        """
        The channels of samples, each of unit length, in the order of `channels[modality]`.

        Args:
            turn: where given, the statistics are those for training, one after the other, if there are any.
        """
        own, found, statistics = self.levels[modality], [], self.statistics[modality]
        if turn is not None and (others := self.of_training.get(modality)):
            statistics = others[turn % len(others)].to(levels.device)
        parts = levels.float().split(list(own.sizes.values()), dim=-1)
        for (name, of_level), part in zip(_items(statistics), parts, strict=True):
            found += of_level(part, kinds_of(name, own.last))
        return found

    def number_of_level(self, modality: str) -> list[int]:
        """The number of the level of each channel."""
        names = list(self.levels[modality].sizes)
        return [names.index(channel.rpartition("/")[0]) for channel in self.channels[modality]]

    @torch.no_grad()
    def fit(self, modality: str, levels: Float[Tensor, "n total"], groups: Int[Tensor, " n"]) -> None:
        """
        Fits the statistics of a modality to training samples.

        Args:
            levels: flat vectors of the samples.
            groups: the class, or the document, of each.
        """
        self._fit(self.statistics[modality], modality, levels, groups)

    def fit_for_training(
        self, modality: str, samples: Sequence[tuple[Float[Tensor, "n total"], Int[Tensor, " n"]]]
    ) -> None:
        """
        Fits the statistics that training episodes see one after the other, each to the levels and groups of some
        samples. The classes of the episodes should not be among them: whitened by their own statistics, they are
        easier to tell apart than those that a person brings.
        """
        self.of_training[modality] = []
        for levels, groups in samples:
            statistics = copy.deepcopy(self.statistics[modality])
            self._fit(statistics, modality, levels, groups)
            self.of_training[modality].append(cast(nn.ModuleDict, statistics))

    def _fit(
        self, statistics: nn.Module, modality: str, levels: Float[Tensor, "n total"], groups: Int[Tensor, " n"]
    ) -> None:
        parts = levels.split(list(self.levels[modality].sizes.values()), dim=-1)
        for (_, of_level), part in zip(_items(statistics), parts, strict=True):
            of_level.fit(part, groups)

    def solve(
        self,
        modality: str,
        support: Sequence[Float[Tensor, "T S d"]],
        labels: Int[Tensor, "T S"],
        n_way: int,
        num_inner_steps: int,
        num_head_steps: int = 0,
        first_order: bool = False,
    ) -> tuple[SolvedTasks, Float[Tensor, "T C"], Float[Tensor, "T num_inner_steps"]]:
        """
        Adapts to the support sets of tasks, given as `unit_channels`.

        Args:
            num_inner_steps: steps on the weights of the channels, for tasks with two support samples of a class.
            num_head_steps: steps on the factors of the head after that, for the same tasks.
            first_order: see `adapted_weights`.

        Returns:
            The tasks, the weights before the inner loop, and the loss of each task before each of its steps.
        """
        cosines = torch.stack([mean_cosine_between_classes(channel, labels, n_way) for channel in support], dim=1)
        shares = centring(cosines, n_way)[:, :, None, None].unbind(dim=1)
        of_mean = (sample_weights(labels, n_way, cosines.dtype) / labels.shape[1])[:, None]
        origins = [share * (of_mean @ channel) for share, channel in zip(shares, support, strict=True)]
        support = [centred(channel, origin) for channel, origin in zip(support, origins, strict=True)]
        shots = log_shots(labels, n_way).to(cosines)
        before, head = self._weights_before(modality, cosines, shots), self.head
        sums = class_sums(support, labels, n_way)
        weights, losses = adapted_weights(
            before, sums, labels, head.log_step, head.log_temperature, num_inner_steps, first_order
        )
        shared = (before * cosines).sum(dim=1)
        kernel, factors = mixed_kernel(support, support, weights), head.log_factors(shots, shared)
        if num_head_steps and labels.shape[1] > n_way:
            sums = mixed_sums(sums, weights)
            factors = adapted_factors(
                factors, kernel, sums, labels, head.log_rates(shots), num_head_steps, first_order
            ) + head.log_corrections(shots)
        coefficients, bias = fitted_head(kernel, labels, n_way, factors)
        by_channel = weights[:, :, None, None].unbind(dim=1)
        parts = [
            weight * (channel.transpose(1, 2) @ coefficients)
            for weight, channel in zip(by_channel, support, strict=True)
        ]
        origin = torch.cat([origin[:, 0] for origin in origins], dim=1)
        return SolvedTasks(weights, origin, torch.cat(parts, dim=1), bias), before, losses

    def _weights_before(
        self, modality: str, cosines: Float[Tensor, "T C"], shots: Float[Tensor, " T"]
    ) -> Float[Tensor, "T C"]:
        """The task encoder's modulation: the weights that the inner loop starts from."""
        mixture = cast(Mixture, self.mixtures[modality])
        weights = channel_weights(mixture.start, mixture.by_log_shots, shots)
        own, channels = self.levels[modality], self.channels[modality]
        if own.template is None:
            return weights
        template = [float(name in (f"{own.template}/h", f"{own.template}/w")) / 2 for name in channels]
        return with_template(weights, weights.new_tensor(template), cosines[:, channels.index(f"{own.last}/c")])

    def logits(self, solved: SolvedTasks, query: Sequence[Float[Tensor, "T Q d"]]) -> Float[Tensor, "T Q N"]:
        """Logits of queries, given as `unit_channels`. No query has a part in another's."""
        sizes = [channel.shape[2] for channel in query]
        classifiers = solved.classifier.split(sizes, dim=1)
        parts = [q @ part for q, part in zip(self._centred(solved, query), classifiers, strict=True)]
        return torch.stack(parts).sum(dim=0) + solved.bias[:, None]

    def support_loss(
        self, solved: SolvedTasks, support: Sequence[Float[Tensor, "T S d"]], labels: Int[Tensor, "T S"]
    ) -> Float[Tensor, " T"]:
        """What the inner loop on the weights made of its loss; 0 for tasks without two samples of a class."""
        sums = class_sums(self._centred(solved, support), labels, solved.bias.shape[1])
        return leave_one_out_loss(mixed_sums(sums, solved.weights), labels, self.head.log_temperature.exp())

    def similarities(
        self, solved: SolvedTasks, support: Sequence[Float[Tensor, "T S d"]], query: Sequence[Float[Tensor, "T Q d"]]
    ) -> Float[Tensor, "T Q S"]:
        """The mixed kernel of queries and support samples: mean cosines over the channels, by their weights."""
        return mixed_kernel(self._centred(solved, query), self._centred(solved, support), solved.weights)

    def _centred(
        self, solved: SolvedTasks, samples: Sequence[Float[Tensor, "T samples d"]]
    ) -> list[Float[Tensor, "T samples d"]]:
        origins = solved.origins[:, None].split([channel.shape[2] for channel in samples], dim=2)
        return [centred(channel, origin) for channel, origin in zip(samples, origins, strict=True)]


def _items(statistics: nn.Module) -> Iterable[tuple[str, LevelStatistics]]:
    return cast(Any, statistics).items()


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
        self.factors = nn.Parameter(torch.tensor(_FACTORS))
        self.rates = nn.Parameter(torch.tensor(_RATES))
        self.corrections = nn.Parameter(torch.zeros(3, 2))
        self.by_cosine = nn.Parameter(torch.tensor(0.0))
        self.log_step = nn.Parameter(torch.tensor(0.0))
        self.log_temperature = nn.Parameter(torch.tensor(_LOG_TEMPERATURE))

    def reset_parameters(self) -> None:
        with torch.no_grad():
            init.copy_(self.factors, torch.tensor(_FACTORS))
            init.copy_(self.rates, torch.tensor(_RATES))
        init.zeros_(self.corrections)
        init.zeros_(self.by_cosine)
        init.zeros_(self.log_step)
        init.constant_(self.log_temperature, _LOG_TEMPERATURE)

    def log_factors(self, log_shots: Float[Tensor, " T"], cosines: Float[Tensor, " T"]) -> Float[Tensor, "T 3"]:
        """
        What the head's factors are before the inner loop, for tasks of these logarithms of shots and mean cosines
        between classes. The more alike the classes are, the lower is the temperature: a single example of each says no
        more about how hard they are to tell apart.
        """
        factors = _by_shots(self.factors, log_shots)
        return torch.cat([factors[:, :1] + self.by_cosine * cosines[:, None], factors[:, 1:]], dim=1)

    def log_rates(self, log_shots: Float[Tensor, " T"]) -> Float[Tensor, "T 3"]:
        """The step sizes with which the inner loop changes the factors."""
        return _by_shots(self.rates, log_shots)

    def log_corrections(self, log_shots: Float[Tensor, " T"]) -> Float[Tensor, "T 3"]:
        """What is added to adapted factors, since they were adapted to one sample less than there are."""
        return _by_shots(self.corrections, log_shots)


def _by_shots(lines: Float[Tensor, "3 2"], log_shots: Float[Tensor, " T"]) -> Float[Tensor, "T 3"]:
    start, slope = lines.unbind(dim=1)
    return start + slope * log_shots[:, None].to(lines)
