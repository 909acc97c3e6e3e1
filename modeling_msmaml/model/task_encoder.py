"""The task encoder, which reads a support set and emits one modulation vector per layer of the task network."""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .conv_norm import ConvNormLayer, conv_norm_relu
from .convolution import conv1d
from .modalities import build_embeddings
from .modulation import ModulationLayer
from .norms import NormParameters, group_norm


class TaskEncoder(nn.Module):
    """
    The convolutional task encoder, `task_encoder="conv1d"`:

    Embedding of the modality -> `num_layers` x [convolution -> norm -> ReLU] -> mean over length -> linear -> ReLU ->
    pooling over the support samples -> one linear layer per layer of the task network (MMAML, arXiv 1910.13616, section
    4.1, with a convolutional encoder in place of the recurrent one).
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.norm, self.norm_eps = config.norm, config.norm_eps
        self.pools_classes = config.task_encoder_pooling == "class"
        # Without embeddings of its own, the task encoder reads the sequences of the task network.
        self.embeddings = None if config.share_embeddings else build_embeddings(config)
        self.embedding_of = {name: config.embedding_of(name) for name in config.modalities}
        channels = [config.num_channels, *config.layer_channels]
        kernel = config.task_encoder_kernel_size
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels[layer], channels[layer + 1], kernel, padding=kernel // 2)
            for layer in range(config.num_layers)
        )
        self.norms = nn.ModuleList(NormParameters(size) for size in config.layer_channels)
        self.projection = nn.Linear(channels[-1], config.task_encoder_hidden_size)
        task_size = config.task_encoder_hidden_size * (2 if self.pools_classes else 1)
        identity = config.modulation_init == "identity"
        self.modulations = nn.ModuleList(ModulationLayer(task_size, size, identity) for size in config.modulation_sizes)

    def forward(
        self, support: Float[Tensor, "T support ..."], labels: Int[Tensor, "T support"], modality: str, n_way: int
    ) -> tuple[Float[Tensor, "T size"], ...]:
        """
        Computes the modulation of each task.

        Args:
            support: the support samples of each task: the output of the modality's frontend, or sequences of the task
                network's embedding if the embeddings are shared.
            labels: class of each support sample, from 0 to `n_way` - 1.
            modality: the modality of the tasks.
            n_way: number of classes.

        Returns:
            One tensor per layer, with one modulation vector per task. With `conditioning="affine"` a vector holds the
            scale of each channel, then the shift of each channel.
        """
        tasks, samples = support.shape[:2]
        hidden = support
        if self.embeddings is not None:
            embedding = self.embeddings[self.embedding_of[modality]]
            hidden = embedding(support.flatten(0, 1)).unflatten(0, (tasks, samples))
        pairs = zip(cast(Iterable[Any], self.convolutions), cast(Iterable[Any], self.norms), strict=True)
        layers = [
            ConvNormLayer(conv.weight[None], conv.bias[None], norm.weight[None], norm.bias[None], 1, conv.padding[0])
            for conv, norm in pairs
        ]
        if self.norm == "batch":
            hidden = conv_norm_relu(hidden, layers, self.norm_eps)
        else:
            for layer in layers:
                # All tasks share the kernel, so they are one batch to the convolution; the norm is computed per task.
                hidden = conv1d(hidden.flatten(0, 1)[None], layer.weight, layer.bias, padding=layer.padding)
                hidden = hidden[0].unflatten(0, (tasks, samples))
                hidden = F.relu_(group_norm(hidden, layer.scale, layer.shift, self.norm_eps))
        samples_of_task = F.relu(self.projection(hidden.transpose(2, 3).mean(dim=2)))
        if self.pools_classes:
            task = pooled_over_classes(samples_of_task, labels, n_way, self.norm_eps)
        else:
            task = samples_of_task.mean(dim=1)
        return tuple(modulation(task) for modulation in self.modulations)


def pooled_over_classes(
    samples: Float[Tensor, "T support size"], labels: Int[Tensor, "T support"], n_way: int, eps: float
) -> Float[Tensor, "T 2*size"]:
    """Returns the mean and standard deviation over the means of the classes; `eps` is added to the variance."""
    members = F.one_hot(labels, n_way).to(samples.dtype).transpose(1, 2)
    counts = members.sum(dim=2, keepdim=True)
    means = (members @ samples) / counts.clamp(min=1)
    # A class without support samples does not count.
    shares = (counts > 0).to(samples.dtype) / (counts > 0).sum(dim=1, keepdim=True)
    centre = (shares * means).sum(dim=1, keepdim=True)
    spread = ((shares * (means - centre).square()).sum(dim=1) + eps).sqrt()
    return torch.cat([centre[:, 0], spread], dim=1)


_REGISTRY: dict[str, type[nn.Module]] = {}


def register_task_encoder(name: str, encoder_class: type[nn.Module]) -> None:
    """
    Makes `name` a task encoder that a config may name as its `task_encoder`.

    Registering a name again replaces its class, for models that are built afterwards.

    Args:
        encoder_class: a module that builds itself from an [`MSMAMLConfig`] and whose `forward` takes and returns what
            that of [`TaskEncoder`] does: vectors of the sizes `config.modulation_sizes`. Its attribute `embeddings` is
            `None` if it reads the sequences of the task network's embeddings, and its own embeddings otherwise.

    Raises:
        `TypeError`: `encoder_class` is not a subclass of `torch.nn.Module`.
    """
    if not (isinstance(encoder_class, type) and issubclass(encoder_class, nn.Module)):
        raise TypeError(f"encoder_class={encoder_class!r} must be a subclass of torch.nn.Module")
    _REGISTRY[name] = encoder_class


def build_task_encoder(config: MSMAMLConfig) -> nn.Module | None:
    """
    Builds the task encoder that the config names; `None` without conditioning.

    Raises:
        `ValueError`: the name is not registered.
    """
    if config.conditioning == "none":
        return None
    if config.task_encoder not in _REGISTRY:
        raise ValueError(
            f"task_encoder={config.task_encoder!r} is unknown; registered are {', '.join(sorted(_REGISTRY))}. "
            "register_task_encoder(name, EncoderClass) adds one"
        )
    return _REGISTRY[config.task_encoder](config)


register_task_encoder("conv1d", TaskEncoder)
