"""The task network: a 1-D convolutional classifier, modulated by the task encoder and adapted by the inner loop."""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .adapted_parameters import AdaptedParameters, adapted_parameters_of, adapts_embeddings
from .configuration_msmaml import MSMAMLConfig
from .conv_norm import ConvNormLayer, conv_norm_relu
from .convolution import conv1d, kernel_layout
from .cosine_scale import CosineScale
from .execution import replica
from .inner_rates import key_of
from .low_rank import DEFAULT_RANK, low_rank_layers, make_factors, with_factors
from .modalities import build_embeddings
from .modulation import modulated_kernel, modulation_factors
from .norms import (
    NormParameters,
    NormStatistics,
    TaskNormShare,
    affine_norm,
    batch_statistics,
    group_norm,
    mixed_statistics,
)


class TaskNetwork(nn.Module):
    """
    Embedding of the modality -> `num_layers` x [convolution -> norm -> modulation -> ReLU] -> pooling over length ->
    classifier (MMAML, arXiv 1910.13616, section 4.2, on sequences).

    The module holds the parameters from which adaptation starts; its methods are given the parameters of each task.
    What no inner step changes (see `config.adapted_parameters`) is computed once, by `prepare`.
    """

    # The kind of convolution, and whether norms have a scale and a shift of their own in any case.
    convolution: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv1d
    always_affine = False

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.conditioning = config.conditioning
        self.norm, self.norm_eps = config.norm, config.norm_eps
        choice = adapted_parameters_of(config)
        self.pools_maximum = config.pooling == "mean_max"
        self.descriptor_size = config.descriptor_size
        self.gains = config.network_gains
        self.embeddings = self.make_embeddings(config)
        # Inner steps change nothing of what has no parameters.
        self.adapts_embeddings = adapts_embeddings(config) and any(True for _ in self.embeddings.parameters())
        self.embedding_of = {name: config.embedding_of(name) for name in config.modalities}
        self.convolutions = self.make_convolutions(config)
        sizes = self.norm_sizes(config)
        self.task_norms = nn.ModuleList(TaskNormShare() for _ in sizes if self.norm == "task")
        pooled = self.pooled_size(config)
        self.projection = nn.Linear(pooled, config.feature_size) if config.feature_size else None
        # The size of the network's own features, without the descriptor.
        self.feature_size = config.feature_size or pooled
        self.classifier = self.cosine_scale = None
        if config.head == "linear":
            self.classifier = nn.Linear(self.feature_size + config.descriptor_size, config.n_way)
        else:
            self.cosine_scale = CosineScale(config.cosine_scale)
        has_affine_norms = choice.affine_norms or config.norm_affine or self.always_affine
        self.affine_norm = nn.ModuleList(map(NormParameters, sizes if has_affine_norms else []))
        layers = low_rank_layers(self, config.lora_layers) if choice.low_rank else {}
        self.low_rank_layers = list(layers)
        self.factors = make_factors(layers, config.lora_rank or DEFAULT_RANK)
        # Names and not the choice itself, whose function need not be one that can be pickled.
        names = [name for name, _ in self.named_parameters()]
        self._adapted = frozenset(filter(choice.is_adapted, [*names, "classifier.weight", "classifier.bias"]))
        self.adapts_features = self._adapts_features(config, choice)

    def make_embeddings(self, config: MSMAMLConfig) -> nn.ModuleDict:
        """The embedding of each modality."""
        return build_embeddings(config)

    def make_convolutions(self, config: MSMAMLConfig) -> nn.ModuleList:
        """The convolution of each layer."""
        channels = [self.first_channels(config), *config.layer_channels]
        geometry = zip(*(config.per_layer(name) for name in ("kernel_size", "stride", "padding")), strict=True)
        return nn.ModuleList(
            self.convolution(channels[layer], channels[layer + 1], kernel, stride=stride, padding=padding)
            for layer, (kernel, stride, padding) in enumerate(geometry)
        )

    def first_channels(self, config: MSMAMLConfig) -> int:
        """The channels of embedded samples."""
        return config.num_channels

    def norm_sizes(self, config: MSMAMLConfig) -> list[int]:
        """The channels of each norm."""
        return config.layer_channels

    def pooled_size(self, config: MSMAMLConfig) -> int:
        """The number of values that the last layer's output is pooled to."""
        return config.layer_channels[-1] * (2 if self.pools_maximum else 1)

    def _adapts_features(self, config: MSMAMLConfig, choice: AdaptedParameters) -> bool:
        """
        Whether inner steps change the features that the classifier reads.

        Raises:
            `ValueError`: `adapted_parameters` adapts nothing, or embeddings without saying so; an option of low-rank
                factors without any.
        """
        adapted = [name for name, _ in self.named_parameters() if self.is_adapted(name)]
        name = f"adapted_parameters={config.adapted_parameters!r}"
        if not adapted and not self.is_adapted("classifier.weight"):
            raise ValueError(f"{name} adapts no parameter of the task network")
        if not self.adapts_embeddings and any(own.startswith("embeddings.") for own in adapted):
            raise ValueError(f"{name} adapts embeddings: give AdaptedParameters(..., embeddings=True)")
        if not choice.low_rank and (config.lora_layers is not None or config.lora_rank is not None):
            raise ValueError(
                f"lora_rank={config.lora_rank} and lora_layers={config.lora_layers} have no effect with {name}"
            )
        return any(not own.startswith("classifier.") for own in adapted)

    def task_parameters(self, modality: str, tasks: int, n_way: int | None = None) -> dict[str, Float[Tensor, "T ..."]]:
        """
        Returns the parameters from which tasks of `modality` start, by name: all parameters except the embeddings. The
        embedding of this modality is included if the inner loop adapts it.

        If `n_way` is not that of the trained classifier, the classifier's row (weight and bias) for every class is the
        mean of the trained rows: no class is preferred, and the inner loop distinguishes them from its first step on.

        Args:
            modality: the modality of the tasks.
            tasks: number of tasks, T.
            n_way: number of classes; by default that of the trained classifier.
        """
        others = tuple(f"embeddings.{name}." for name in self.embeddings if name != self.embedding_of[modality])
        of_others = [layer for layer in self.low_rank_layers if layer.startswith(others)]
        others = others if self.adapts_embeddings else ("embeddings.",)
        others += tuple(f"factors.{key_of(layer)}." for layer in of_others)
        parameters: dict[str, Tensor] = {
            name: value for name, value in self.named_parameters() if not name.startswith(others)
        }
        if self.classifier is not None and n_way is not None and n_way != self.classifier.out_features:
            for name in ("classifier.weight", "classifier.bias"):
                mean = parameters[name].mean(dim=0)
                parameters[name] = mean.expand(n_way, *mean.shape)
        for name, value in parameters.items():
            if name.startswith("convolutions.") and value.dim() == 3:
                parameters[name] = kernel_layout(value)
        return {name: value.expand(tasks, *value.shape) for name, value in parameters.items()}

    def is_adapted(self, name: str) -> bool:
        """Returns whether the inner loop adapts the parameter of this name."""
        return name in self._adapted

    def prototype_classifier(
        self, features: Float[Tensor, "T S features"], labels: Int[Tensor, "T S"], n_way: int
    ) -> dict[str, Float[Tensor, "T ..."]]:
        """
        Returns a classifier of `n_way` classes that compares features with prototypes: the mean of each class's
        features, scaled to unit length. A class without support samples has a weight of zero.

        Args:
            features: features of the support samples, see `features`.
            labels: class of each support sample, from 0 to `n_way` - 1.
            n_way: number of classes.
        """
        members = F.one_hot(labels, n_way).to(features.dtype).transpose(1, 2)
        sums = members @ features
        # The smallest length to divide by must not be rounded to zero in half precision.
        weight = F.normalize(sums, dim=-1, eps=torch.finfo(sums.dtype).eps)
        return {"classifier.weight": weight, "classifier.bias": weight.new_zeros(weight.shape[:2])}

    def embed(self, inputs: Float[Tensor, "T batch ..."], modality: str) -> Float[Tensor, "T batch C L"]:
        """Applies the embedding, as it is before adaptation, to the output of the modality's frontend."""
        embedding = self.embeddings[self.embedding_of[modality]]
        return embedding(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])

    def prepare(
        self,
        parameters: dict[str, Float[Tensor, "T ..."]],
        inputs: Float[Tensor, "T batch ..."],
        sequences: Float[Tensor, "T batch C L"] | None,
        descriptors: Float[Tensor, "T batch size"] | None,
        modality: str,
        modulation: tuple[Float[Tensor, "T size"], ...],
        statistics: list[NormStatistics] | None = None,
        kept: tuple[Float[Tensor, "T batch ..."], ...] = (),
    ) -> tuple[Tensor, ...]:
        """
        Computes as much of the network's output for some samples as does not change with inner steps. `forward`,
        `features` and `statistics` start from the result.

        Args:
            parameters: see `forward`.
            inputs: the samples, as the output of the modality's frontend.
            sequences: the result of `embed` for them; needed unless the inner loop adapts the embedding.
            descriptors: descriptors of the samples, or `None` if the model has none for this modality.
            modality: the modality of the tasks.
            modulation: see `forward`.
            statistics: see `forward`.
            kept: factors of the layers' outputs in a training step, where a subclass drops any.

        Raises:
            `ValueError`: `sequences` are needed and missing.
        """
        samples = inputs if self.adapts_embeddings else sequences
        if samples is None:
            raise ValueError("sequences=None: they are needed unless the inner loop adapts embeddings, see embed")
        state = (samples, *kept) if descriptors is None else (samples, descriptors)
        if not self.adapts_features and self.norm == "group":
            return (self._features(parameters, state, modality, modulation, statistics),)
        return state

    def forward(
        self,
        parameters: dict[str, Float[Tensor, "T ..."]],
        state: tuple[Tensor, ...],
        modality: str,
        modulation: tuple[Float[Tensor, "T size"], ...],
        statistics: list[NormStatistics] | None = None,
    ) -> Float[Tensor, "T batch n_way"]:
        """
        Classifies samples.

        Args:
            parameters: one set of parameters per task, with the names of `task_parameters`, and a classifier.
            state: the samples, as the result of `prepare`.
            modality: the modality of the tasks.
            modulation: one tensor per layer, with one vector per task; an empty tuple without conditioning.
            statistics: statistics that batch norm or task norm uses, one tuple per layer; by default those of the
                samples themselves.

        Returns:
            The logits.
        """
        features = self.features(parameters, state, modality, modulation, statistics)
        weight, bias = parameters["classifier.weight"], parameters["classifier.bias"]
        if self.cosine_scale is not None:
            features = features * parameters["cosine_scale.value"][:, None, None]
        return torch.baddbmm(bias[:, None], features, weight.transpose(1, 2))

    def features(
        self,
        parameters: dict[str, Float[Tensor, "T ..."]],
        state: tuple[Tensor, ...],
        modality: str,
        modulation: tuple[Float[Tensor, "T size"], ...],
        statistics: list[NormStatistics] | None = None,
    ) -> Float[Tensor, "T batch features"]:
        """
        Returns the features that the classifier reads; arguments as for `forward`.

        With `head="prototype"` or a descriptor, features have unit length. The descriptor comes first, then the
        network's own features, `network_gain` times as long as the descriptor.
        """
        if not self.adapts_features and self.norm == "group":
            return state[0]
        return self._features(parameters, state, modality, modulation, statistics)

    def statistics(
        self,
        parameters: dict[str, Float[Tensor, "T ..."]],
        state: tuple[Tensor, ...],
        modality: str,
        modulation: tuple[Float[Tensor, "T size"], ...],
    ) -> list[NormStatistics]:
        """Returns the statistics of these samples for batch norm or task norm, one tuple per layer."""
        found: list[NormStatistics] = []
        self._features(parameters, state, modality, modulation, found=found)
        return found

    def own_features(self, features: Float[Tensor, "... features"]) -> Float[Tensor, "... own"]:
        """Returns the network's own part of `features` (without the descriptor), scaled to unit length."""
        return F.normalize(features[..., -self.feature_size :], dim=-1)

    def _features(
        self,
        parameters: dict[str, Tensor],
        state: tuple[Tensor, ...],
        modality: str,
        modulation: tuple[Tensor, ...],
        statistics: list[NormStatistics] | None = None,
        found: list[NormStatistics] | None = None,
    ) -> Float[Tensor, "T batch features"]:
        """Computes the features; appends the statistics that the norms used to `found`, if it is given."""
        if self.low_rank_layers:
            parameters = with_factors(parameters, self.low_rank_layers)
        hidden = self._embed(parameters, state[0], modality) if self.adapts_embeddings else state[0]
        layers = self._layers(parameters, modulation)
        descriptors, kept = (state[1:], ()) if self.descriptor_size else ((), state[1:])  # no network has both
        pooled = self.pooled(self.through_layers(layers, hidden, parameters, statistics, found, kept))
        if self.projection is not None:
            weight, bias = parameters["projection.weight"], parameters["projection.bias"]
            pooled = torch.baddbmm(bias[:, None], pooled, weight.transpose(1, 2))
        return self._beside_descriptor(pooled, descriptors[0] if descriptors else None, self.gains[modality])

    def through_layers(
        self,
        layers: list[ConvNormLayer],
        hidden: Float[Tensor, "T batch channels length"],
        parameters: dict[str, Tensor],
        statistics: list[NormStatistics] | None,
        found: list[NormStatistics] | None,
        kept: tuple[Float[Tensor, "T batch ..."], ...],
    ) -> Float[Tensor, "T batch channels new_length"]:
        """What the layers make of embedded samples; see `_features`, and for `kept` `prepare`."""
        if self.norm == "batch" and statistics is None and found is None:
            return conv_norm_relu(hidden, layers, self.norm_eps)
        for number, layer in enumerate(layers):
            hidden = conv1d(hidden, layer.weight, layer.bias, layer.stride, layer.padding)
            hidden = F.relu_(self.normalised(hidden, number, layer.scale, layer.shift, parameters, statistics, found))
        return hidden

    def normalised(
        self,
        hidden: Float[Tensor, "T batch channels length"],
        number: int,
        scale: Float[Tensor, "#T channels"] | float,
        shift: Float[Tensor, "#T channels"] | float,
        parameters: dict[str, Tensor],
        statistics: list[NormStatistics] | None,
        found: list[NormStatistics] | None,
    ) -> Float[Tensor, "T batch channels length"]:
        """The norm of this number, with a scale and a shift; see `_features`."""
        factors = scale, shift, self.norm_eps
        if self.norm == "group":
            return group_norm(hidden, *factors)
        used = self._set_statistics(parameters, number, hidden) if statistics is None else statistics[number]
        if found is not None:
            found.append(used)
        if self.norm == "task":
            mean, variance, share = used
            used = mixed_statistics(hidden, (mean, variance), share)
        return affine_norm(hidden, used, *factors)

    def pooled(self, hidden: Float[Tensor, "T batch channels length"]) -> Float[Tensor, "T batch pooled"]:
        """The mean over the positions, and with `pooling="mean_max"` the maximum behind it."""
        # The transposition makes the gradient have channels last in memory, like `hidden`.
        pooled = hidden.transpose(2, 3).mean(dim=2)
        return torch.cat([pooled, hidden.amax(dim=3)], dim=2) if self.pools_maximum else pooled

    def _layers(self, parameters: dict[str, Tensor], modulation: tuple[Tensor, ...]) -> list[ConvNormLayer]:
        """Returns the layers of each task, with its modulation."""
        layers = []
        for number, convolution in enumerate(cast(Iterable[Any], self.convolutions)):
            weight, bias = parameters[f"convolutions.{number}.weight"], parameters[f"convolutions.{number}.bias"]
            if self.conditioning == "kernel":
                weight = modulated_kernel(weight, modulation[number])
            scale, shift = modulation_factors(modulation[number], self.conditioning) if modulation else (1.0, 0.0)
            if len(self.affine_norm):
                own_scale, own_shift = (parameters[f"affine_norm.{number}.{kind}"] for kind in ("weight", "bias"))
                scale, shift = own_scale * scale, own_shift * scale + shift
            layers.append(ConvNormLayer(weight, bias, scale, shift, convolution.stride[0], convolution.padding[0]))
        return layers

    def _set_statistics(
        self, parameters: dict[str, Tensor], layer: int, hidden: Float[Tensor, "T batch channels length"]
    ) -> NormStatistics:
        """Returns the mean and variance of a set of samples, and with task norm their share, see `NormStatistics`."""
        statistics = batch_statistics(hidden)
        if self.norm == "batch":
            return statistics
        scale, offset = (parameters[f"task_norms.{layer}.{name}"] for name in ("scale", "offset"))
        return *statistics, torch.sigmoid(scale * hidden.shape[1] + offset)

    def _beside_descriptor(
        self,
        own: Float[Tensor, "T batch own"],
        descriptors: Float[Tensor, "T batch size"] | None,
        gain: float,
    ) -> Float[Tensor, "T batch features"]:
        """Concatenates the descriptors and the network's own features, see `features`."""
        if self.cosine_scale is None and not self.descriptor_size:
            return own
        own = F.normalize(own, dim=2, eps=torch.finfo(own.dtype).eps)
        if not self.descriptor_size:
            return own
        if descriptors is None:  # the modality has no descriptor
            descriptors = own.new_zeros(*own.shape[:2], self.descriptor_size)
        return torch.cat([descriptors.to(own.dtype), gain * own], dim=2) / (1 + gain**2) ** 0.5

    def _embed(self, parameters: dict[str, Tensor], inputs: Tensor, modality: str) -> Float[Tensor, "T batch C L"]:
        """Applies each task's adapted embedding to the output of the modality's frontend."""
        prefix = f"embeddings.{self.embedding_of[modality]}."
        own = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
        embedding = self.embeddings[self.embedding_of[modality]]
        if len(inputs) == 1:
            return replica(embedding, {name: value[0] for name, value in own.items()})(inputs[0])[None]
        return torch.vmap(lambda task, samples: replica(embedding, task)(samples))(own, inputs)
