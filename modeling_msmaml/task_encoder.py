"""The task encoder: reads a support set, emits one modulation vector a layer of the task network."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .convolution import conv1d
from .modality_embeddings import build_embeddings
from .normalisation import batch_norm


class NormParameters(nn.Module):
    """Scale and shift of a batch norm that always uses the statistics of its batch and keeps no running ones."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.weight = nn.Parameter(Tensor(num_channels).fill_(1.0))
        self.bias = nn.Parameter(Tensor(num_channels).fill_(0.0))


class TaskEncoder(nn.Module):
    """
    Embedding of the modality -> `num_layers` x [convolution -> batch norm -> ReLU] -> mean over length -> linear ->
    ReLU -> mean over the support samples -> one linear map a layer (MMAML, arXiv 1910.13616, section 4.1, with a
    convolutional encoder in place of the recurrent one).
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.norm_eps = config.norm_eps
        self.embeddings = build_embeddings(config)
        channels = [config.num_channels, *config.layer_channels]
        kernel = config.task_encoder_kernel_size
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels[layer], channels[layer + 1], kernel, padding=kernel // 2)
            for layer in range(config.num_layers)
        )
        self.norms = nn.ModuleList(NormParameters(size) for size in config.layer_channels)
        self.projection = nn.Linear(channels[-1], config.task_encoder_hidden_size)
        self.modulations = nn.ModuleList(
            nn.Linear(config.task_encoder_hidden_size, size) for size in config.modulation_sizes
        )

    def forward(self, support: Float[Tensor, "T support ..."], modality: str) -> tuple[Float[Tensor, "T size"], ...]:
        """
        Args:
            support: the support samples of each task, as the modality's frontend leaves them.
            modality: whose embedding reads them.

        Returns:
            One modulation vector a layer and task; `"affine"`: scale first, then shift.
        """
        tasks, samples = support.shape[:2]
        hidden = self.embeddings[modality](support.flatten(0, 1)).unflatten(0, (tasks, samples))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # All tasks share the kernel, so that they are one batch to it; to the norm each is its own.
            weight, bias = convolution.weight[None], convolution.bias[None]
            hidden = conv1d(hidden.flatten(0, 1)[None], weight, bias, padding=convolution.padding[0])
            hidden = hidden[0].unflatten(0, (tasks, samples))
            hidden, _ = batch_norm(hidden, norm.weight[None], norm.bias[None], self.norm_eps)
            hidden = F.relu_(hidden)
        task = F.relu(self.projection(hidden.mean(dim=3))).mean(dim=1)
        return tuple(modulation(task) for modulation in self.modulations)
