"""The task encoder: reads a support set, emits one modulation vector a layer of the task network."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .modality_embeddings import build_embeddings
from .task_network import Conv1d, batch_statistics, normalise


class BatchNorm(nn.Module):
    """Batch norm with affine part that always uses the statistics of its batch and keeps no running ones."""

    def __init__(self, num_channels: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(Tensor(num_channels).fill_(1.0))
        self.bias = nn.Parameter(Tensor(num_channels).fill_(0.0))

    def forward(self, inputs: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch channels length"]:
        normalised = normalise(inputs, batch_statistics(inputs), self.eps)
        return normalised * self.weight[:, None] + self.bias[:, None]


class TaskEncoder(nn.Module):
    """
    Embedding of the modality -> `num_layers` x [convolution -> batch norm -> ReLU] -> mean over length -> linear ->
    ReLU -> mean over the support samples -> one linear map a layer (MMAML, arXiv 1910.13616, section 4.1, with a
    convolutional encoder in place of the recurrent one).
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.embeddings = build_embeddings(config)
        channels = [config.num_channels, *config.layer_channels]
        kernel = config.task_encoder_kernel_size
        self.convolutions = nn.ModuleList(
            Conv1d(channels[layer], channels[layer + 1], kernel, padding=kernel // 2)
            for layer in range(config.num_layers)
        )
        self.norms = nn.ModuleList(BatchNorm(size, config.norm_eps) for size in config.layer_channels)
        self.projection = nn.Linear(channels[-1], config.task_encoder_hidden_size)
        self.modulations = nn.ModuleList(
            nn.Linear(config.task_encoder_hidden_size, size) for size in config.modulation_sizes
        )

    def forward(self, support: Float[Tensor, "support ..."], modality: str) -> tuple[Float[Tensor, " size"], ...]:
        """
        Args:
            support: the support samples of one task, as the modality's frontend leaves them.
            modality: whose embedding reads them.

        Returns:
            One modulation vector a layer; `"affine"`: scale first, then shift.
        """
        hidden = self.embeddings[modality](support)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = F.relu(norm(convolution(hidden)))
        task = F.relu(self.projection(hidden.mean(dim=2))).mean(dim=0)
        return tuple(modulation(task) for modulation in self.modulations)
