"""The kinds of task network that a model may have, and the registry of them (`task_network` in [`MSMAMLConfig`])."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from .adaptation import Adaptation, AdaptedTasks
from .configuration_msmaml import MSMAMLConfig
from .loading import MSMAMLPreTrainedModel
from .options import given_options
from .samples import Samples, can_read_rows_once
from .task_loss import task_loss_of


class TaskNetworkKind(ABC):
    """
    What [`MSMAMLModel`] asks of a kind of task network. An instance has no state: modules belong to the model, whose
    `forward`, loss, threads and checks are the same for all kinds.
    """

    # Whether training shows such a network classes of equal size only, so that it takes them best.
    needs_balanced_classes = True
    # Whether all that tasks read of an input are the levels of a frozen encoder, `frontends[modality].encoder(device)`.
    # It takes inputs of any length and size, and the model takes levels, in float16, in place of raw inputs.
    reads_levels = False

    # The options of the config that results are reported with.
    reported: tuple[str, ...] = (
        *("conditioning", "num_inner_steps", "num_eval_inner_steps", "inner_lr", "inner_optimizer", "first_order"),
    )
    # Whether `num_inner_steps` has an effect, and whether `inner_lr` has.
    takes_inner_steps = True
    takes_inner_lr = True
    # Whether training takes the outer gradient through inner steps.
    trains_inner_steps = True
    # Whether `inner_loop_checkpointing` has an effect.
    checkpoints_inner_loop = True
    # Whether `fit_for_training` has an effect.
    has_statistics_for_training = False
    # The dataclass of `task_network_kwargs`, whose fields `option` declares, if there are any.
    options_class: type | None = None
    # What the model card says of the method, in whole sentences of Markdown; `None` for what it says of MS-MAML.
    description: str | None = None

    def options(self, config: MSMAMLConfig) -> dict[str, Any]:
        """
        The `task_network_kwargs` of the config.

        Raises:
            `ValueError`: an option that `options_class` has not, or a value that it does not take.
        """
        owner = f"task_network={config.task_network!r}"
        return given_options(self.options_class, "task_network_kwargs", config.task_network_kwargs, owner)

    def check(self, config: MSMAMLConfig) -> None:
        """
        Raises `ValueError` for a config with which this kind cannot work, or of which an option has no effect on it.
        Asked when a model is built, and when the arguments of a training change its config.
        """
        self.options(config)

    def can_read_rows_once(self, config: MSMAMLConfig) -> bool:
        """Whether all that tasks need of a sample is what neither modulation nor adaptation changes."""
        return can_read_rows_once(config)

    def has_linear_classifier(self, config: MSMAMLConfig) -> bool:
        """Whether the trained classifier has `n_way` classes; otherwise tasks may have any number of them."""
        return config.head == "linear"

    @abstractmethod
    def build(self, model: MSMAMLPreTrainedModel, config: MSMAMLConfig) -> None:
        """
        Gives the model its modules: `frontends` (a `ModuleDict` with one for each modality), `task_network`,
        `task_encoder` and `inner_rates` (or `None`), `descriptors` and `auxiliary` (`ModuleDict`s, which may be empty).
        """

    @abstractmethod
    def read(
        self, model: MSMAMLPreTrainedModel, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float
    ) -> Samples:
        """Raw inputs as far as no task changes their way."""

    @abstractmethod
    def adapt(
        self,
        model: MSMAMLPreTrainedModel,
        modality: str,
        support: Samples,
        labels: Int[Tensor, "T S"],
        n_way: int,
        unlabelled: Samples | None,
    ) -> Adaptation:
        """Adapts to T support sets of one modality. With a graph, the outer loop differentiates through it."""

    def adapt_further(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, support: Samples, labels: Int[Tensor, "T S"]
    ) -> AdaptedTasks:
        """More inner steps from where adapted tasks are; see [`MSMAMLModel.adapt_further`]."""
        raise ValueError(
            f"task_network={model.config.task_network!r} cannot go on from adapted tasks: adapt to all examples"
        )

    @abstractmethod
    def classify(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, query: Samples, state: tuple[Tensor, ...] = ()
    ) -> Float[Tensor, "T Q N"]:
        """
        Logits of the queries of adapted tasks.

        Args:
            state: that of the adaptation, in the same forward pass; empty if it is not at hand any more.
        """

    def auxiliary_features(
        self, model: MSMAMLPreTrainedModel, adaptation: Adaptation, query: Samples
    ) -> Float[Tensor, "T samples own"]:
        """Features of support and query samples for `auxiliary_classes`."""
        raise ValueError(f"task_network={model.config.task_network!r} has no features for auxiliary_classes")

    def final_support_loss(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, support: Samples, labels: Int[Tensor, "T S"]
    ) -> Float[Tensor, " T"]:
        """The loss of the support sets after the last inner step; `adapted.support_loss` has it before each."""
        return task_loss_of(model.config).function(self.classify(model, adapted, support), labels)

    def level_weights(self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks) -> list[dict[str, float]]:
        """The weights of the levels in each adapted task; see [`MSMAMLModel.level_weights`]."""
        raise ValueError(f"task_network={model.config.task_network!r} has no levels to weigh")

    def similarities(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, support: Samples, query: Samples
    ) -> Float[Tensor, "T Q S"]:
        """The similarities of queries and support samples; see [`MSMAMLModel.similarities`]."""
        raise ValueError(f"task_network={model.config.task_network!r} compares no query with single examples")

    @abstractmethod
    def fit(
        self,
        model: MSMAMLPreTrainedModel,
        rows: Mapping[str, Shaped[Tensor, "samples ..."]],
        groups: Mapping[str, Int[Tensor, " samples"]],
        seed: int,
    ) -> None:
        """Fits what is fitted to training samples; see [`MSMAMLModel.fit_front_ends`]."""

    def fit_for_training(
        self,
        model: MSMAMLPreTrainedModel,
        samples: Mapping[str, Sequence[tuple[Shaped[Tensor, "samples ..."], Int[Tensor, " samples"]]]],
    ) -> None:
        """Fits what training episodes see in place of that; see [`MSMAMLModel.fit_for_training`]."""
        raise ValueError(f"task_network={model.config.task_network!r} has no statistics for training")


_REGISTRY: dict[str, TaskNetworkKind] = {}


def register_task_network(name: str, kind: TaskNetworkKind) -> None:
    """
    Makes `name` a task network that a config may name as its `task_network`. Registering a name again replaces it in
    models that are built afterwards.

    Raises:
        `TypeError`: `kind` is not an instance of [`TaskNetworkKind`].
    """
    if not isinstance(kind, TaskNetworkKind):
        raise TypeError(f"kind={kind!r} must be an instance of a subclass of TaskNetworkKind")
    _REGISTRY[name] = kind


def task_network_kind(name: str) -> TaskNetworkKind:
    """
    Returns what is registered under a name.

    Raises:
        `ValueError`: nothing is.
    """
    if name not in _REGISTRY:
        raise ValueError(
            f"task_network={name!r} is unknown; registered are {', '.join(sorted(_REGISTRY))}. "
            "register_task_network(name, kind) adds one; code that was loaded with a model has those of MS-MAML alone: "
            "install msmaml, whose modeling_msmaml has the baselines, and load the model with that"
        )
    return _REGISTRY[name]
