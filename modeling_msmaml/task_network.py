"""The task network: a 1-D convolutional classifier, modulated by the task encoder and adapted by the inner loop."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .adapted_tasks import Statistics
from .configuration_msmaml import MSMAMLConfig
from .convolution import conv1d, kernel_layout
from .modality_embeddings import build_embeddings
from .normalisation import affine_norm, batch_norm


def modulation_factors(modulation: Float[Tensor, "T size"], conditioning: str) -> tuple[Tensor, Tensor | float]:
    """Scale and shift that one layer's modulation stands for, see `conditioning` in [`MSMAMLConfig`]."""
    if conditioning == "affine":
        scale, shift = modulation.chunk(2, dim=1)
        return 1 + scale, shift
    if conditioning == "sigmoid":
        return torch.sigmoid(modulation), 0.0
    if conditioning == "softmax":
        return torch.softmax(modulation, dim=1), 0.0
    raise ValueError(f"conditioning={conditioning!r} has no formula for a modulation")


class TaskNetwork(nn.Module):
    """
    Embedding of the modality -> `num_layers` x [convolution -> batch norm -> modulation -> ReLU] -> mean over length ->
    linear classifier (MMAML, arXiv 1910.13616, section 4.2, on sequences).

    The module holds the parameters that adaptation starts from; `forward` takes those of each task.
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.conditioning = config.conditioning
        self.norm_eps = config.norm_eps
        self.embeddings = build_embeddings(config)
        channels = [config.num_channels, *config.layer_channels]
        geometry = zip(*(config.per_layer(name) for name in ("kernel_size", "stride", "padding")), strict=True)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels[layer], channels[layer + 1], kernel, stride=stride, padding=padding)
            for layer, (kernel, stride, padding) in enumerate(geometry)
        )
        self.classifier = nn.Linear(channels[-1], config.n_way)

    def task_parameters(self, modality: str, tasks: int, n_way: int | None = None) -> dict[str, Float[Tensor, "T ..."]]:
        """
        What the inner loop adapts for tasks of `modality`, by name: all but the other modalities' embeddings.

        With an `n_way` that is not the classifier's, its row (weight and bias) of every class is the mean of the
        trained rows: no class is preferred, and the inner loop tells them apart from its first step on.
        """
        others = tuple(f"embeddings.{name}." for name in self.embeddings if name != modality)
        parameters = {name: value for name, value in self.named_parameters() if not name.startswith(others)}
        if n_way not in (None, self.classifier.out_features):
            for name in ("classifier.weight", "classifier.bias"):
                mean = parameters[name].mean(dim=0)
                parameters[name] = mean.expand(n_way, *mean.shape)
        for name, value in parameters.items():
            if name.startswith("convolutions.") and name.endswith(".weight"):
                parameters[name] = kernel_layout(value)
        return {name: value.expand(tasks, *value.shape) for name, value in parameters.items()}

    def forward(
        self,
        parameters: dict[str, Float[Tensor, "T ..."]],
        inputs: Float[Tensor, "T batch ..."],
        modality: str,
        modulation: tuple[Float[Tensor, "T size"], ...],
        statistics: list[Statistics] | None = None,
    ) -> tuple[Float[Tensor, "T batch n_way"], list[Statistics]]:
        """
        Args:
            parameters: as `task_parameters` names them, one set for each task.
            inputs: samples of each task, as the modality's frontend leaves them.
            modality: whose embedding reads them.
            modulation: one vector a layer and task, or an empty tuple without conditioning.
            statistics: what to normalise with, one pair a layer; by default those of `inputs` themselves.

        Returns:
            Logits, and the statistics that each layer was normalised with.
        """
        hidden = self._embed(parameters, inputs, modality)
        used = []
        for layer, convolution in enumerate(self.convolutions):
            weight, bias = parameters[f"convolutions.{layer}.weight"], parameters[f"convolutions.{layer}.bias"]
            hidden = conv1d(hidden, weight, bias, convolution.stride[0], convolution.padding[0])
            factors = modulation_factors(modulation[layer], self.conditioning) if modulation else (1.0, 0.0)
            if statistics is None:
                hidden, own = batch_norm(hidden, *factors, self.norm_eps)
                used.append(own)
            else:
                hidden = affine_norm(hidden, statistics[layer], *factors, self.norm_eps)
                used.append(statistics[layer])
            hidden = F.relu_(hidden)
        weight, bias = parameters["classifier.weight"], parameters["classifier.bias"]
        return torch.baddbmm(bias[:, None], hidden.mean(dim=3), weight.transpose(1, 2)), used

    def _embed(self, parameters: dict[str, Tensor], inputs: Tensor, modality: str) -> Float[Tensor, "T batch C L"]:
        prefix = f"embeddings.{modality}."
        own = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
        embedding = _replica(self.embeddings[modality])
        if len(inputs) == 1:
            return torch.func.functional_call(embedding, {n: v[0] for n, v in own.items()}, (inputs[0],))[None]
        return torch.vmap(lambda *task: torch.func.functional_call(embedding, *task))(own, inputs)


def _replica(module: nn.Module) -> nn.Module:
    """
    The same module with slots of its own for the same parameters: `functional_call` fills them while it runs, and
    several threads run at once.
    """
    replica = copy.copy(module)
    replica._parameters = dict(module._parameters)
    replica._modules = {name: child and _replica(child) for name, child in module._modules.items()}
    return replica
