"""What all baselines have in common: features, the options that they read, and how a method is asked to classify."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ..model.adaptation import Adaptation, AdaptedTasks
from ..model.configuration_msmaml import MSMAMLConfig
from ..model.convolutional_tasks import fit_frontends
from ..model.cosine_scale import CosineScale
from ..model.execution import autocast
from ..model.loading import MSMAMLPreTrainedModel
from ..model.options import default_of, options_of
from ..model.samples import Samples
from ..model.task_networks import TaskNetworkKind
from .features import Features, LevelFeatures, Standard, build_features

_OF_ALL = (
    *("modalities", "n_way", "task_network", "task_network_kwargs", "task_chunk_size", "norm_statistics"),
    *("feature_size", "label_smoothing", "auxiliary_classes", "auxiliary_weight", "episode_weight"),
)
_OF_CONVOLUTIONS = (
    *("num_channels", "num_layers", "layer_widths", "kernel_size", "stride", "padding"),
    *("pooling", "norm", "norm_eps", "norm_affine", "dropout"),
    *("audio_patch_size", "text_patch_size", "image_patch_size", "image_size", "image_channels", "image_signal_side"),
    *("vocab_size", "word_vector_size", "train_word_vectors", "front_ends", "embeddings"),
    *("num_mels", "patch_dictionary_size", "dictionary_patch_size"),
    *("descriptor_size", "descriptor_whitening", "network_gain"),
)


class Solved(NamedTuple):
    """
    Support sets of T tasks, solved.

    Attributes:
        tensors: all that classifying queries needs, by name; the first dimension of each is T.
        support_loss: the loss of each task before each of its steps, where the method takes any.
    """

    tensors: dict[str, Float[Tensor, "T ..."]]
    support_loss: Float[Tensor, "T steps"] | None = None


class BaselineNetwork(nn.Module):
    """The trained parts of a baseline: its features, and what the method itself has, by name."""

    def __init__(self, features: Features, parts: Mapping[str, nn.Module]):
        super().__init__()
        self.features = features
        for name, part in parts.items():
            self.add_module(name, part)


class BaselineTasks(TaskNetworkKind):
    """
    A method that compares features: `solve` makes of those of the support samples what `logits` classifies queries
    with. A subclass says what it trains beyond the features in `parts`, and its own options in `options_class`.

    The features are those of `build_features`: with `level_encoders` the last level of a frozen encoder, otherwise the
    convolutional network, trained from scratch. Classes may have any numbers of support samples, and tasks any number
    of classes.
    """

    # Options of the config that the method reads, beyond those of its features.
    reads: tuple[str, ...] = ()
    # Whether the method trains a factor of its logits, `network.cosine_scale.value`, which starts at `cosine_scale`.
    has_scale = False
    # Whether the features are trained to classify among all training classes, and not on episodes.
    is_supervised = False
    # Whether `parts` has layers, which compute in the model's own precision.
    has_layers = False

    trains_inner_steps = False
    takes_inner_steps = False
    takes_inner_lr = False
    checkpoints_inner_loop = False
    reported: tuple[str, ...] = ()

    def parts(self, config: MSMAMLConfig, size: int) -> dict[str, nn.Module]:
        """
        What the method trains beyond the features, by name; by default nothing.

        Args:
            size: of the features.
        """
        return {}

    @abstractmethod
    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        """
        Solves support sets.

        Args:
            model: the [`MSMAMLModel`], whose `task_network` has the parts by their names.
            features: of the support samples.
            labels: from 0 to `n_way - 1`.
        """

    @abstractmethod
    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        """Logits of queries by what `solve` returned. No query has a part in another's."""

    def check(self, config: MSMAMLConfig) -> None:
        super().check(config)
        name = f"task_network={config.task_network!r}"
        known = {*_OF_ALL, *self.reads, *(("cosine_scale",) if self.has_scale or config.auxiliary_classes else ())}
        known.update(("level_encoders",) if config.level_encoders is not None else _OF_CONVOLUTIONS)
        for field in options_of(type(config)):
            value, default = getattr(config, field.name), default_of(field)
            if field.name in known or value == default:
                continue
            where = " on level_encoders" if config.level_encoders is not None else ""
            raise ValueError(
                f"{field.name}={value!r} has no effect with {name}{where}: leave it out, or give its default, {default}"
            )
        if config.pooling == "flatten":
            raise ValueError(f"pooling='flatten' needs inputs of one size, but {name} reads sequences: take another")
        if config.level_encoders is not None and config.norm_statistics != "support":
            raise ValueError(
                f"norm_statistics={config.norm_statistics!r} does not go with level_encoders, which have no norm"
            )
        if self.is_supervised and (not config.auxiliary_classes or config.episode_weight != 0):
            raise ValueError(
                f"{name} is trained to classify among all training classes, not on episodes: give a run auxiliary=true "
                "and episode_weight=0, a config auxiliary_classes and episode_weight=0"
            )

    def has_linear_classifier(self, config: MSMAMLConfig) -> bool:
        return False

    def can_read_rows_once(self, config: MSMAMLConfig) -> bool:
        return config.level_encoders is None

    def build(self, model: MSMAMLPreTrainedModel, config: MSMAMLConfig) -> None:
        features = build_features(model, config)
        classes = config.auxiliary_classes or {}
        parts = {"cosine_scale": CosineScale(config.cosine_scale)} if self.has_scale else {}
        model.task_network = BaselineNetwork(features, parts | self.parts(config, features.size))
        model.task_encoder = model.inner_rates = None
        model.auxiliary = nn.ModuleDict(
            {name: nn.Linear(features.size, classes[name], bias=False) for name in config.modalities if name in classes}
        )

    def read(
        self, model: MSMAMLPreTrainedModel, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float
    ) -> Samples:
        return model.task_network.features.read(model, modality, raw, dropout)

    def adapt(
        self,
        model: MSMAMLPreTrainedModel,
        modality: str,
        support: Samples,
        labels: Int[Tensor, "T S"],
        n_way: int,
        unlabelled: Samples | None,
    ) -> Adaptation:
        features: Features = model.task_network.features
        inductive = model.config.norm != "group" and model.config.norm_statistics == "support"
        statistics = features.statistics(support, modality) if inductive else None
        found = self._precise(model, features(support, modality))
        with autocast(found.device.type, enabled=False):
            solved = self.solve(model, modality, found, labels, n_way)
        losses = found.new_zeros(len(labels), 0) if solved.support_loss is None else solved.support_loss
        return Adaptation(AdaptedTasks(modality, solved.tensors, (), statistics, losses), {}, _state(support), [])

    def classify(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, query: Samples, state: tuple[Tensor, ...] = ()
    ) -> Float[Tensor, "T Q N"]:
        queries = self._features(model, adapted, query)
        with autocast(queries.device.type, enabled=False):
            return self.logits(model, adapted.parameters, queries)

    def _features(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, samples: Samples
    ) -> Float[Tensor, "T samples d"]:
        features = model.task_network.features(samples, adapted.modality, adapted.statistics)
        return self._precise(model, features)

    def _precise(self, model: MSMAMLPreTrainedModel, features: Tensor) -> Tensor:
        """In float32 at least, as what is solved on features needs; but a model in half precision has such layers."""
        if self.has_layers:
            return features.to(model.dtype)
        return features if features.dtype in (torch.float32, torch.float64) else features.float()

    def auxiliary_features(
        self, model: MSMAMLPreTrainedModel, adaptation: Adaptation, query: Samples
    ) -> Float[Tensor, "T samples own"]:
        support = _samples(adaptation.state)
        both = [self._features(model, adaptation.adapted, samples) for samples in (support, query)]
        return F.normalize(torch.cat(both, dim=1), dim=-1)

    def similarities(
        self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks, support: Samples, query: Samples
    ) -> Float[Tensor, "T Q S"]:
        examples, queries = (F.normalize(self._features(model, adapted, own), dim=-1) for own in (support, query))
        return queries @ examples.transpose(1, 2)

    def level_weights(self, model: MSMAMLPreTrainedModel, adapted: AdaptedTasks) -> list[dict[str, float]]:
        if model.config.level_encoders is None:
            return super().level_weights(model, adapted)
        recorded: Any = model.config.level_encoders
        return [{recorded[adapted.modality]["last_level"]: 1.0} for _ in adapted.support_loss]

    def fit(
        self,
        model: MSMAMLPreTrainedModel,
        rows: Mapping[str, Shaped[Tensor, "samples ..."]],
        groups: Mapping[str, Int[Tensor, " samples"]],
        seed: int,
    ) -> None:
        features = model.task_network.features
        if not isinstance(features, LevelFeatures):
            return fit_frontends(model, rows, groups, seed)
        for modality, samples in rows.items():
            standard = cast(Standard, features.standards[modality])
            # A model without parameters has no `device`.
            levels = model.frontends[modality](samples.to(standard.mean.device), torch.float32)
            standard.fit(features.last_level(modality, levels))


def _state(samples: Samples) -> tuple[Tensor, ...]:
    empty = torch.empty(0)
    return tuple(empty if part is None else part for part in (samples.maps, samples.sequences, samples.descriptors))


def _samples(state: tuple[Tensor, ...]) -> Samples:
    maps, sequences, descriptors = (part if part.numel() else None for part in state)
    return Samples(maps, sequences, descriptors)
