"""The kind `task_network="levels"`: weighted levels of frozen encoders, prototypes and ridge regression."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from .adaptation import Adaptation, AdaptedTasks
from .configuration_msmaml import MSMAMLConfig
from .execution import autocast
from .level_dropout import levels_to_drop, with_noise
from .level_frontend import LevelFrontend, levels_of, record_level_encoders
from .level_network import LevelNetwork, SolvedTasks
from .loading import MSMAMLPreTrainedModel
from .options import default_of, options_of
from .samples import Samples, task_seeds
from .task_networks import TaskNetworkKind, register_task_network

# The options that a model on levels reads; all others belong to the convolutional task network.
OF_LEVELS = (
    *("modalities", "n_way", "task_network", "level_encoders", "num_inner_steps", "norm_statistics", "label_smoothing"),
    "num_eval_inner_steps",
    *("level_rank", "level_dropout", "num_head_steps", "task_chunk_size", "first_order"),
)


def check_levels(config: MSMAMLConfig) -> None:
    """Raises `ValueError` for options that a model on levels does not read."""
    for field in options_of(type(config)):
        value, default = getattr(config, field.name), default_of(field)
        if field.name not in OF_LEVELS and value != default:
            raise ValueError(f"{field.name}={value!r} has no effect with task_network='levels': leave it out")
    if config.norm_statistics != "support":
        raise ValueError("norm_statistics='transductive' does not go with task_network='levels', which has no norm")


class LevelTasks(TaskNetworkKind):
    """[`LevelNetwork`]: the task encoder's modulation is the weight of each channel, which the inner loop adapts."""

    needs_balanced_classes = False
    has_statistics_for_training = True
    reads_levels = True
    checkpoints_inner_loop = False
    takes_inner_lr = False
    reported = ("num_inner_steps", "num_eval_inner_steps", "num_head_steps", "level_dropout", "first_order")

    def has_linear_classifier(self, config: MSMAMLConfig) -> bool:
        return False

    def check(self, config: MSMAMLConfig) -> None:
        check_levels(config)

    def build(self, model: MSMAMLPreTrainedModel, config: MSMAMLConfig) -> None:
        given = config.level_encoders or {}
        left_out = sorted(set(given) - set(config.modalities)) if isinstance(given, dict) else []
        recorded = config.level_encoders = record_level_encoders(given, config.modalities)
        model.frontends = nn.ModuleDict({name: LevelFrontend(name, recorded[name]) for name in config.modalities})
        layouts = {name: levels_of(name, recorded[name]) for name in config.modalities}
        model.task_network = LevelNetwork(layouts, config.level_rank)
        model.task_encoder = model.inner_rates = None
        model.descriptors, model.auxiliary = nn.ModuleDict(), nn.ModuleDict()
        # A saved model may be loaded with some of its modalities: the weights of the others are no mistake then.
        model._keys_to_ignore_on_load_unexpected = [rf"^task_network\.\w+\.{re.escape(name)}\." for name in left_out]

    def read(
        self, model: MSMAMLPreTrainedModel, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float
    ) -> Samples:
        return Samples(model.frontends[modality](raw, torch.float32), None, None)

    def adapt(
        self,
        model: MSMAMLPreTrainedModel,
        modality: str,
        support: Samples,
        labels: Int[Tensor, "T S"],
        n_way: int,
        unlabelled: Samples | None,
    ) -> Adaptation:
        if model.multi_step_weights and model.training:
            raise ValueError("multi_step_loss_steps has no effect with task_network='levels': leave it out")
        levels = _flat(support)
        with autocast(levels.device.type, enabled=False):
            network: LevelNetwork = model.task_network
            channels, state = network.unit_channels(modality, levels, _turn(model)), ()
            if model.training and model.config.level_dropout and labels.shape[1] > n_way:
                seeds, numbers = task_seeds(levels), network.number_of_level(modality)
                dropped = levels_to_drop(model.config.level_dropout, seeds, max(numbers) + 1)[:, numbers]
                channels, state = with_noise(channels, dropped, seeds), (dropped, seeds)
            steps, first_order = model.num_inner_steps, model.config.first_order or model.first_order_for_now
            solved, before, losses = network.solve(
                modality, channels, labels, n_way, steps, model.config.num_head_steps if steps else 0, first_order
            )
        parameters = solved._asdict()
        return Adaptation(AdaptedTasks(modality, parameters, (before,), None, losses), {}, state, [parameters])

    def classify(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, query: Samples, state: tuple[Tensor, ...] = ()
    ) -> Float[Tensor, "T Q N"]:
        network: LevelNetwork = model.task_network
        with autocast(model.device.type, enabled=False):
            queries = network.unit_channels(adapted.modality, _flat(query), _turn(model))
            if state:
                dropped, seeds = state
                queries = with_noise(queries, dropped, seeds + len(network.channels[adapted.modality]))
            return network.logits(_solved(adapted), queries)

    def final_support_loss(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, support: Samples, labels: Int[Tensor, "T S"]
    ) -> Float[Tensor, " T"]:
        network: LevelNetwork = model.task_network
        with autocast(model.device.type, enabled=False):
            return network.support_loss(
                _solved(adapted), network.unit_channels(adapted.modality, _flat(support)), labels
            )

    def level_weights(self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks) -> list[dict[str, float]]:
        network: LevelNetwork = model.task_network
        names, numbers = list(network.levels[adapted.modality].sizes), network.number_of_level(adapted.modality)
        weights = adapted.parameters["weights"]
        sums = weights.new_zeros(len(weights), len(names)).index_add(
            1, torch.tensor(numbers, device=weights.device), weights
        )
        return [dict(zip(names, own, strict=True)) for own in sums.tolist()]

    def similarities(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, support: Samples, query: Samples
    ) -> Float[Tensor, "T Q S"]:
        network: LevelNetwork = model.task_network
        with autocast(model.device.type, enabled=False):
            examples, queries = (network.unit_channels(adapted.modality, _flat(own)) for own in (support, query))
            return network.similarities(_solved(adapted), examples, queries)

    def fit(
        self,
        model: MSMAMLPreTrainedModel,
        rows: Mapping[str, Shaped[Tensor, "samples ..."]],
        groups: Mapping[str, Int[Tensor, " samples"]],
        seed: int,
    ) -> None:
        for modality, samples in rows.items():
            if modality not in groups:
                raise ValueError(f"groups lacks {modality!r}: levels are whitened within classes or sources")
            levels = model.frontends[modality](samples.to(model.device), torch.float32)
            model.task_network.fit(modality, levels, groups[modality])

    def fit_for_training(
        self,
        model: MSMAMLPreTrainedModel,
        samples: Mapping[str, Sequence[tuple[Shaped[Tensor, "samples ..."], Int[Tensor, " samples"]]]],
    ) -> None:
        for modality, parts in samples.items():
            levels = ((model.frontends[modality](rows.to(model.device), torch.float32), own) for rows, own in parts)
            model.task_network.fit_for_training(modality, list(levels))


def _solved(adapted: AdaptedTasks) -> SolvedTasks:
    return SolvedTasks(*(adapted.parameters[name] for name in SolvedTasks._fields))


def _turn(model: Any) -> int | None:
    return model.training_turn if model.training else None


def _flat(samples: Samples) -> Float[Tensor, "T samples total"]:
    if samples.maps is None:
        raise ValueError("levels cannot be read by row numbers: give raw inputs or levels")
    return samples.maps


register_task_network("levels", LevelTasks())
