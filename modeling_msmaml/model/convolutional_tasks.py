"""The kind `task_network="conv1d"`: convolutions that a task encoder modulates and an inner loop adapts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from .adaptation import (
    Adaptation,
    AdaptedTasks,
    adapt_further,
    adapt_tasks,
    adapted_shapes,
    classify_samples,
    own_features_at_start,
)
from .configuration_checks import check_adapted_network
from .configuration_msmaml import MSMAMLConfig
from .descriptors import Descriptor, check_groups
from .encoder_registry import record_encoders
from .inner_optimizers import inner_optimizer_class
from .loading import MSMAMLPreTrainedModel
from .modalities import build_descriptors, build_frontends
from .options import default_of, options_of
from .samples import Samples, read_samples
from .task_encoder import build_task_encoder
from .task_loss import task_loss_of
from .task_network import TaskNetwork
from .task_networks import TaskNetworkKind, register_task_network

_OF_LEVELS = ("level_encoders", "level_rank", "level_dropout", "num_head_steps")


class ConvolutionalTasks(TaskNetworkKind):
    """[`TaskNetwork`] with its task encoder, inner rates, frontends and descriptors."""

    network_class: type[TaskNetwork] = TaskNetwork
    # The options that other kinds of task network read.
    without_effect: tuple[str, ...] = (*_OF_LEVELS, "max_pooling", "drop_block")
    # Whether all inputs have one size, so that features may lie side by side by their positions.
    reads_one_size = False

    def check(self, config: MSMAMLConfig) -> None:
        super().check(config)
        for field in options_of(type(config)):
            value = getattr(config, field.name)
            if field.name in self.without_effect and value != default_of(field):
                raise ValueError(
                    f"{field.name}={value!r} has no effect with task_network={config.task_network!r}: leave it out"
                )
        if config.pooling == "flatten" and not self.reads_one_size:
            raise ValueError(
                "pooling='flatten' needs inputs of one size: take task_network='conv2d', or another pooling"
            )
        check_adapted_network(config)

    def build(self, model: MSMAMLPreTrainedModel, config: MSMAMLConfig) -> None:
        if not task_loss_of(config).classifies:
            for name, needed in (("head", "linear"), ("task_encoder_pooling", "mean"), ("auxiliary_classes", None)):
                if getattr(config, name) != needed:
                    raise ValueError(
                        f"{name}={getattr(config, name)!r} needs classes, but task_loss={config.task_loss!r} has "
                        f"numbers for targets: take {name}={needed!r}"
                    )
        if config.embeddings is not None:
            config.embeddings = record_encoders(config.embeddings)
        model.frontends = build_frontends(config)
        model.task_encoder = build_task_encoder(config)
        network = model.task_network = self.network_class(config)
        model.descriptors = build_descriptors(config)
        optimizer_class = inner_optimizer_class(config)
        optimizer_class.check(config)
        model.inner_rates = optimizer_class.trained_module(config, adapted_shapes(network))
        if config.outer_gradient == "implicit" and model.inner_rates is not None:
            raise ValueError(
                f"inner_optimizer={config.inner_optimizer!r} with inner_rates={config.inner_rates!r} trains how the "
                "inner loop goes, which outer_gradient='implicit' does not depend on: take fixed rates, and an "
                "optimiser without trained parameters"
            )
        size, numbers = network.feature_size, config.auxiliary_classes or {}
        model.auxiliary = nn.ModuleDict(
            {name: nn.Linear(size, numbers[name], bias=False) for name in config.modalities if name in numbers}
        )

    def read(
        self, model: MSMAMLPreTrainedModel, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float
    ) -> Samples:
        descriptor = dict(model.descriptors).get(modality)
        return read_samples(
            raw, modality, model.frontends[modality], descriptor, model.task_network, model.dtype, dropout
        )

    def adapt(
        self,
        model: MSMAMLPreTrainedModel,
        modality: str,
        support: Samples,
        labels: Int[Tensor, "T S"],
        n_way: int,
        unlabelled: Samples | None,
    ) -> Adaptation:
        config = model.config
        return adapt_tasks(
            model.task_network,
            model.task_encoder,
            inner_optimizer_class(config).from_config(config, model.inner_rates),
            config,
            modality,
            support,
            labels,
            n_way,
            num_inner_steps=model.num_inner_steps,
            first_order=config.first_order or model.first_order_for_now,
            every_step=model.training and bool(model.multi_step_weights),
            unlabelled=unlabelled,
        )

    def adapt_further(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, support: Samples, labels: Int[Tensor, "T S"]
    ) -> AdaptedTasks:
        config = model.config
        return adapt_further(
            model.task_network,
            inner_optimizer_class(config).from_config(config, model.inner_rates),
            config,
            adapted,
            support,
            labels,
            num_inner_steps=model.num_inner_steps,
            first_order=config.first_order or model.first_order_for_now,
        )

    def classify(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, query: Samples, state: tuple[Tensor, ...] = ()
    ) -> Float[Tensor, "T Q N"]:
        return classify_samples(model.task_network, adapted, query)

    def auxiliary_features(
        self, model: MSMAMLPreTrainedModel, adaptation: Adaptation, query: Samples
    ) -> Float[Tensor, "T samples own"]:
        return own_features_at_start(model.task_network, adaptation, query)

    def fit(
        self,
        model: MSMAMLPreTrainedModel,
        rows: Mapping[str, Shaped[Tensor, "samples ..."]],
        groups: Mapping[str, Int[Tensor, " samples"]],
        seed: int,
    ) -> None:
        fit_frontends(model, rows, groups, seed)


def fit_frontends(
    model: MSMAMLPreTrainedModel,
    rows: Mapping[str, Shaped[Tensor, "samples ..."]],
    groups: Mapping[str, Int[Tensor, " samples"]],
    seed: int,
) -> None:
    """Fits frontends that are not levels, and descriptors, to training samples; see [`MSMAMLModel.fit_front_ends`]."""
    for modality, samples in rows.items():
        kind = model.config.descriptor_whitenings[modality]
        check_groups(modality, kind, modality in model.descriptors, len(samples), groups.get(modality))
    for modality, samples in rows.items():
        frontend, samples = cast(Any, model.frontends[modality]), samples.to(model.device)
        if hasattr(frontend, "fit"):
            frontend.fit(samples, torch.Generator().manual_seed(seed))
        if modality in model.descriptors:
            descriptor = cast(Descriptor, model.descriptors[modality])
            parts = (descriptor.statistics.function(frontend(part, model.dtype)) for part in samples.split(256))
            descriptor.fit_statistics(torch.cat(list(parts)), groups.get(modality))


register_task_network("conv1d", ConvolutionalTasks())
