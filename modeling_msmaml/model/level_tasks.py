"""The kind `task_network="levels"`: weighted levels of frozen encoders, prototypes and ridge regression."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from .adaptation import Adaptation, AdaptedTasks
from .configuration_msmaml import MSMAMLConfig
from .execution import autocast
from .level_frontend import LevelFrontend, levels_of, record_level_encoders
from .level_network import LevelNetwork, SolvedTasks
from .loading import MSMAMLPreTrainedModel
from .samples import Samples
from .task_networks import TaskNetworkKind, register_task_network


class LevelTasks(TaskNetworkKind):
    """[`LevelNetwork`]: the task encoder's modulation is the weight of each channel, which the inner loop adapts."""

    def build(self, model: MSMAMLPreTrainedModel, config: MSMAMLConfig) -> None:
        recorded = config.level_encoders = record_level_encoders(config.level_encoders or {})
        model.frontends = nn.ModuleDict({name: LevelFrontend(name, recorded[name]) for name in config.modalities})
        layouts = {name: levels_of(name, recorded[name]) for name in config.modalities}
        model.task_network = LevelNetwork(layouts)
        model.task_encoder = model.inner_rates = None
        model.descriptors, model.auxiliary = nn.ModuleDict(), nn.ModuleDict()

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
            channels = network.unit_channels(modality, levels)
            solved = network.solve(modality, channels, labels, n_way, model.config.num_inner_steps)
        parameters = {
            "weights": solved.weights,
            "kernel": solved.kernel,
            "mixture": solved.mixture,
            "share": solved.share,
            "levels": levels,
            "members": nn.functional.one_hot(labels, n_way),  # it says the number of classes too
        }
        adapted = AdaptedTasks(modality, parameters, (solved.before,), None, solved.losses)
        return Adaptation(adapted, {}, tuple(channels), [parameters])

    def classify(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, query: Samples, state: tuple[Tensor, ...] = ()
    ) -> Float[Tensor, "T Q N"]:
        network, own = model.task_network, adapted.parameters
        with autocast(own["levels"].device.type, enabled=False):
            support = list(state) or network.unit_channels(adapted.modality, own["levels"])
            queries = network.unit_channels(adapted.modality, _flat(query))
            solved = SolvedTasks(
                own["weights"],
                adapted.modulation[0],
                adapted.support_loss,
                *(own[n] for n in ("kernel", "mixture", "share")),
            )
            members = own["members"]
            return network.logits(solved, support, queries, members.argmax(dim=2), members.shape[2])

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


def _flat(samples: Samples) -> Float[Tensor, "T samples total"]:
    if samples.maps is None:
        raise ValueError("levels cannot be read by row numbers: give raw inputs or levels")
    return samples.maps


register_task_network("levels", LevelTasks())
