"""The task network: a 1-D convolutional classifier, modulated by the task encoder and adapted by the inner loop."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .modality_embeddings import build_embeddings

# Mean and biased variance of each channel, as a layer normalised with them: two tensors (C_l,).
Statistics = tuple[Tensor, Tensor]


def conv1d(
    inputs: Float[Tensor, "batch in_channels length"],
    weight: Float[Tensor, "out_channels in_channels kernel"],
    bias: Float[Tensor, " out_channels"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "batch out_channels new_length"]:
    """
    The values of `F.conv1d`, as one matrix product over gathered windows.

    `F.conv1d` is not used because its CPU kernel returns wrong float32 input gradients for some strided shapes (oneDNN
    3.12 with AVX-512 and two or more threads: kernel 5, stride 2, padding 1 at length 61, which the reference network
    meets), and because under `vmap` a weight that differs by task turns it into a slow grouped convolution.

    Raises:
        `ValueError`: `inputs` are shorter than one window.
    """
    out_channels, _, kernel = weight.shape
    padded = F.pad(inputs.transpose(1, 2), (0, 0, padding, padding))
    new_length = (padded.shape[1] - kernel) // stride + 1
    if new_length < 1:
        raise ValueError(
            f"a sequence of {inputs.shape[-1]} positions (padding {padding}) is shorter than kernel_size={kernel}: "
            "give longer inputs, or a model with fewer layers, smaller kernels or smaller strides"
        )
    first = torch.arange(0, new_length * stride, stride, device=inputs.device)
    positions = first[:, None] + torch.arange(kernel, device=inputs.device)
    windows = padded.index_select(1, positions.flatten()).reshape(inputs.shape[0], new_length, -1)
    matrix = weight.permute(2, 1, 0).reshape(-1, out_channels)
    return (windows @ matrix + bias).transpose(1, 2)


class Conv1d(nn.Conv1d):
    """`nn.Conv1d` computed by [`conv1d`]."""

    def forward(self, inputs: Float[Tensor, "batch in_channels length"]) -> Float[Tensor, "batch out_channels length"]:
        return conv1d(inputs, self.weight, self.bias, self.stride[0], self.padding[0])


def batch_statistics(inputs: Float[Tensor, "batch channels length"]) -> Statistics:
    """Mean and biased variance of each channel over batch and length."""
    mean = inputs.mean(dim=(0, 2))
    variance = (inputs - mean[:, None]).square().mean(dim=(0, 2))
    return mean, variance


def normalise(
    inputs: Float[Tensor, "batch channels length"], statistics: Statistics, eps: float
) -> Float[Tensor, "batch channels length"]:
    """
    Batch norm without affine part (Ioffe and Szegedy 2015, arXiv 1502.03167), written out: `F.batch_norm` under `vmap`
    has a silently wrong second-order gradient (pytorch/functorch#534).
    """
    mean, variance = statistics
    return (inputs - mean[:, None]) * torch.rsqrt(variance + eps)[:, None]


def modulate(
    inputs: Float[Tensor, "batch channels length"], modulation: Float[Tensor, " size"], conditioning: str
) -> Float[Tensor, "batch channels length"]:
    """Applies one layer's modulation, for the formulas see `conditioning` in [`MSMAMLConfig`]."""
    if conditioning == "affine":
        scale, shift = modulation.chunk(2)
        return inputs * (1 + scale[:, None]) + shift[:, None]
    gate = torch.sigmoid(modulation) if conditioning == "sigmoid" else torch.softmax(modulation, dim=0)
    return inputs * gate[:, None]


class TaskNetwork(nn.Module):
    """
    Embedding of the modality -> `num_layers` x [convolution -> batch norm -> modulation -> ReLU] -> mean over length ->
    linear classifier (MMAML, arXiv 1910.13616, section 4.2, on sequences).
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.conditioning = config.conditioning
        self.norm_eps = config.norm_eps
        self.embeddings = build_embeddings(config)
        channels = [config.num_channels, *config.layer_channels]
        geometry = zip(*(config.per_layer(name) for name in ("kernel_size", "stride", "padding")), strict=True)
        self.convolutions = nn.ModuleList(
            Conv1d(channels[layer], channels[layer + 1], kernel, stride=stride, padding=padding)
            for layer, (kernel, stride, padding) in enumerate(geometry)
        )
        self.classifier = nn.Linear(channels[-1], config.n_way)

    def adapted_parameters(self, modality: str) -> dict[str, nn.Parameter]:
        """What the inner loop adapts for a task of `modality`, by name: all but the other modalities' embeddings."""
        others = tuple(f"embeddings.{name}." for name in self.embeddings if name != modality)
        return {name: parameter for name, parameter in self.named_parameters() if not name.startswith(others)}

    def forward(
        self,
        inputs: Float[Tensor, "batch ..."],
        modality: str,
        modulation: tuple[Tensor, ...],
        statistics: list[Statistics] | None = None,
    ) -> tuple[Float[Tensor, "batch n_way"], list[Statistics]]:
        """
        Args:
            inputs: samples of one task, as the modality's frontend leaves them.
            modality: whose embedding reads them.
            modulation: one vector a layer (see `modulation_sizes` in the config), or an empty tuple without
                conditioning.
            statistics: what to normalise with, one pair a layer; by default those of `inputs` themselves.

        Returns:
            Logits, and the statistics that each layer was normalised with.
        """
        hidden = self.embeddings[modality](inputs)
        used = []
        for layer, convolution in enumerate(self.convolutions):
            hidden = convolution(hidden)
            used.append(batch_statistics(hidden) if statistics is None else statistics[layer])
            hidden = normalise(hidden, used[-1], self.norm_eps)
            if modulation:
                hidden = modulate(hidden, modulation[layer], self.conditioning)
            hidden = F.relu(hidden)
        return self.classifier(hidden.mean(dim=2)), used
