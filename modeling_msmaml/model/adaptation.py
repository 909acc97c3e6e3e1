"""One modality's tasks adapted to their support sets, and their queries classified."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .implicit_gradients import adapt_implicitly
from .inner_loop import Parameters, adapt
from .inner_optimizers import InnerOptimizer
from .norms import NormStatistics
from .samples import Samples, differentiable
from .soft_kmeans import refined_prototypes
from .task_loss import TaskLoss, task_loss_of
from .task_network import TaskNetwork

Modulation = tuple[Float[Tensor, "T size"], ...]


@dataclass
class AdaptedTasks:
    """
    T tasks of one modality after the inner loop, as [`MSMAMLModel.adapt`] returns and [`MSMAMLModel.classify`] takes
    them: everything that classifying their queries needs.

    Args:
        modality: whose embedding reads the samples.
        parameters: the adapted parameters of the task network by name, each (T, ...).
        modulation: one vector per layer and task; an empty tuple without conditioning.
        statistics: of the support set, one pair per layer, with `norm_statistics="support"`; else `None`, and queries
            are normalised with their own.
        support_loss: support loss before each inner step; cross-entropy in nats, unless the config has another.
        optimizer_state: where the inner optimiser is, such as its momentum, to go on from.
    """

    modality: str
    parameters: dict[str, Float[Tensor, "T ..."]]
    modulation: tuple[Float[Tensor, "T size"], ...]
    statistics: list[NormStatistics] | None
    support_loss: Float[Tensor, "T num_inner_steps"]
    optimizer_state: list[Tensor] = field(default_factory=list)


@dataclass
class Adaptation:
    """
    Adapted tasks, the parameters that they started from, the support set as `TaskNetwork.prepare` left it, and the
    parameters after every step under a multi-step loss, else the last ones alone.
    """

    adapted: AdaptedTasks
    start: Parameters
    state: tuple[Tensor, ...]
    path: list[Parameters]

    def every_step(self) -> Iterator[AdaptedTasks]:
        """The tasks as they were after each inner step; only under a multi-step loss."""
        return (replace(self.adapted, parameters=parameters) for parameters in self.path)


def adapt_tasks(
    network: TaskNetwork,
    encoder: nn.Module | None,
    optimizer: InnerOptimizer,
    config: MSMAMLConfig,
    modality: str,
    support: Samples,
    labels: Int[Tensor, "T S"],
    n_way: int,
    *,
    num_inner_steps: int,
    first_order: bool,
    every_step: bool,
    unlabelled: Samples | None = None,
) -> Adaptation:
    """
    Modulates and adapts the task network to T support sets.

    Args:
        encoder: the task encoder; `None` without conditioning.
        optimizer: of the inner loop.
        labels: of the support samples, from 0 to `n_way - 1`.
        num_inner_steps, first_order, every_step: see `inner_loop.adapt`.
        unlabelled: samples that refine the prototypes, in `config.soft_kmeans_steps` steps.
    """
    modulation = () if encoder is None else encode_tasks(encoder, network, modality, support, labels, n_way)
    start, state = start_of_tasks(network, modality, support, labels, n_way, modulation)
    if unlabelled is not None:
        start |= _refined_classifier(network, modality, start, state, labels, modulation, unlabelled, config)
    loss, moving, others = support_loss_of(network, modality, labels, start, state, modulation, task_loss_of(config))
    if config.outer_gradient == "implicit":
        if every_step:
            raise ValueError("multi_step_loss_steps does not go with outer_gradient='implicit': leave it out")
        path, losses, optimizer_state = adapt_implicitly(
            loss,
            moving,
            others,
            optimizer=optimizer,
            num_inner_steps=num_inner_steps,
            proximal_weight=config.proximal_weight,
            conjugate_gradient_steps=config.conjugate_gradient_steps,
        )
    else:
        path, losses, optimizer_state = adapt(
            loss,
            moving,
            others,
            optimizer=optimizer,
            num_inner_steps=num_inner_steps,
            first_order=first_order,
            checkpointing=config.inner_loop_checkpointing,
            every_step=every_step,
        )
    path = [start | parameters for parameters in path]
    statistics = _statistics(network, config, path[-1], state, modality, modulation)
    adapted = AdaptedTasks(modality, path[-1], modulation, statistics, losses, optimizer_state)
    return Adaptation(adapted, start, state, path)


def adapt_further(
    network: TaskNetwork,
    optimizer: InnerOptimizer,
    config: MSMAMLConfig,
    adapted: AdaptedTasks,
    support: Samples,
    labels: Int[Tensor, "T S"],
    *,
    num_inner_steps: int,
    first_order: bool,
) -> AdaptedTasks:
    """
    More steps of adapted tasks from where they are, with the modulation that they have.

    Raises:
        `ValueError`: implicit gradients, whose proximal term is about the start of the tasks.
    """
    if config.outer_gradient == "implicit":
        raise ValueError("outer_gradient='implicit' cannot go on from adapted tasks: adapt with more steps at once")
    modality, modulation = adapted.modality, adapted.modulation
    start = {name: differentiable(value) for name, value in adapted.parameters.items()}
    state = _prepare(network, start, support, modality, modulation)
    loss, moving, others = support_loss_of(network, modality, labels, start, state, modulation, task_loss_of(config))
    path, losses, optimizer_state = adapt(
        loss,
        moving,
        others,
        optimizer=optimizer,
        num_inner_steps=num_inner_steps,
        first_order=first_order,
        checkpointing=config.inner_loop_checkpointing,
        state=[differentiable(tensor) for tensor in adapted.optimizer_state],
        steps_before=adapted.support_loss.shape[1],
    )
    parameters = start | path[-1]
    statistics = _statistics(network, config, parameters, state, modality, modulation)
    losses = torch.cat([adapted.support_loss, losses], dim=1)
    return AdaptedTasks(modality, parameters, modulation, statistics, losses, optimizer_state)


def _statistics(
    network: TaskNetwork,
    config: MSMAMLConfig,
    parameters: Parameters,
    state: tuple[Tensor, ...],
    modality: str,
    modulation: Modulation,
) -> list[NormStatistics] | None:
    """Those of the support set that queries are normalised with, if they are."""
    if config.norm == "group" or config.norm_statistics != "support":
        return None
    return network.statistics(parameters, state, modality, modulation)


def encode_tasks(
    encoder: nn.Module,
    network: TaskNetwork,
    modality: str,
    support: Samples,
    labels: Int[Tensor, "T S"],
    n_way: int,
) -> Modulation:
    """What the task encoder makes of the support sets, read by its own embedding or by the task network's."""
    inputs = support.maps
    if encoder.embeddings is None:
        inputs = support.sequences if support.sequences is not None else network.embed(cast(Tensor, inputs), modality)
    return encoder(inputs, labels, modality, n_way)


def start_of_tasks(
    network: TaskNetwork,
    modality: str,
    support: Samples,
    labels: Int[Tensor, "T S"],
    n_way: int,
    modulation: Modulation,
) -> tuple[Parameters, tuple[Tensor, ...]]:
    """The parameters that tasks start from, and their support sets as `TaskNetwork.prepare` leaves them."""
    start = network.task_parameters(modality, len(labels), n_way)
    start = {name: differentiable(value) for name, value in start.items()}
    state = _prepare(network, start, support, modality, modulation)
    if network.classifier is None:
        features = network.features(start, state, modality, modulation)
        start |= network.prototype_classifier(features, labels, n_way)
    return start, state


def _refined_classifier(
    network: TaskNetwork,
    modality: str,
    start: Parameters,
    state: tuple[Tensor, ...],
    labels: Int[Tensor, "T S"],
    modulation: Modulation,
    unlabelled: Samples,
    config: MSMAMLConfig,
) -> Parameters:
    """The prototypes as the unlabelled samples refine them."""
    others = _prepare(network, start, unlabelled, modality, modulation)
    support, more = (network.features(start, samples, modality, modulation) for samples in (state, others))
    scale = start["cosine_scale.value"][:, None, None]
    weight = start["classifier.weight"]
    return {"classifier.weight": refined_prototypes(weight, support, labels, more, scale, config.soft_kmeans_steps)}


def support_loss_of(
    network: TaskNetwork,
    modality: str,
    labels: Int[Tensor, "T S"],
    start: Parameters,
    state: tuple[Tensor, ...],
    modulation: Modulation,
    task_loss: TaskLoss,
) -> tuple[Callable[..., Float[Tensor, " T"]], Parameters, tuple[Tensor, ...]]:
    """
    The support loss of each task as `inner_loop.adapt` takes it: the function, those of the parameters `start` that
    the inner loop adapts, and all other tensors with respect to which the outer loop differentiates it.
    """
    moving = {name: value for name, value in start.items() if network.is_adapted(name)}
    fixed = [name for name in start if name not in moving]

    def support_loss(parameters: Parameters, *others: Tensor) -> Float[Tensor, " T"]:
        state_now, others = others[: len(state)], others[len(state) :]
        modulation_now, values = others[: len(modulation)], others[len(modulation) :]
        parameters = parameters | dict(zip(fixed, values, strict=True))
        return task_loss.function(network(parameters, state_now, modality, modulation_now), labels)

    return support_loss, moving, (*state, *modulation, *(start[name] for name in fixed))


def classify_samples(network: TaskNetwork, adapted: AdaptedTasks, query: Samples) -> Float[Tensor, "T Q N"]:
    """Logits of the queries of adapted tasks."""
    arguments = (adapted.modality, adapted.modulation, adapted.statistics)
    state = _prepare(network, adapted.parameters, query, *arguments)
    return network(adapted.parameters, state, *arguments)


def own_features_at_start(
    network: TaskNetwork, adaptation: Adaptation, query: Samples
) -> Float[Tensor, "T samples own"]:
    """The network's own features of support and query samples, in this order, before any inner step."""
    start, modality, modulation = adaptation.start, adaptation.adapted.modality, adaptation.adapted.modulation
    states = [adaptation.state, _prepare(network, start, query, modality, modulation)]
    features = torch.cat([network.features(start, state, modality, modulation) for state in states], dim=1)
    return network.own_features(features)


def adapted_shapes(network: TaskNetwork) -> dict[str, tuple[int, ...]]:
    """
    Shapes of the parameters that the inner loop adapts, for what is trained of the inner optimiser: the classifier has
    one row, which stands for all of them, and is there even where it is made of prototypes.
    """
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters() if network.is_adapted(name)}
    classifier = {"classifier.weight": (1, network.feature_size + network.descriptor_size), "classifier.bias": (1,)}
    return shapes | {name: shape for name, shape in classifier.items() if network.is_adapted(name)}


def _prepare(
    network: TaskNetwork,
    parameters: Parameters,
    samples: Samples,
    modality: str,
    modulation: Modulation,
    statistics: list[NormStatistics] | None = None,
) -> tuple[Tensor, ...]:
    inputs = cast(Tensor, samples.maps), samples.sequences, samples.descriptors
    return network.prepare(parameters, *inputs, modality, modulation, statistics, samples.kept)
