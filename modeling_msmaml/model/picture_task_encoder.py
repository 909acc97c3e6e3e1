"""Task encoders that read the pictures of a support set: `"conv2d"`, and MMAML's `"conv_gru"`."""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .convolution2d import conv2d
from .modality_image import check_image_shape
from .modulation import ModulationLayer
from .norms import NormParameters, affine_norm, batch_statistics, group_norm
from .task_encoder import pooled_over_classes, register_task_encoder


class PictureTaskEncoder(nn.Module):
    """
    `task_encoder="conv2d"`: `num_layers` x [convolution of stride 2 -> norm -> ReLU] -> mean over positions -> linear
    -> ReLU -> pooling over the support samples -> one linear layer per layer of the task network.

    The code that is published with MMAML (arXiv 1910.13616) takes this one for pictures unless its recurrent part is
    asked for.
    """

    pools_classes = False

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        _check(config)
        self.norm, self.norm_eps = config.norm, config.norm_eps
        self.image_shape = (config.image_channels, config.image_size, config.image_size)
        self.embeddings = nn.ModuleDict()  # of its own: it reads pixels, whatever the task network reads
        channels, kernel = [config.image_channels, *config.layer_channels], config.task_encoder_kernel_size
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[layer], channels[layer + 1], kernel, stride=2, padding=kernel // 2)
            for layer in range(config.num_layers)
        )
        self.norms = nn.ModuleList(NormParameters(size) for size in config.layer_channels)
        task_size, identity = self.make_pooling(config), config.modulation_init == "identity"
        self.modulations = nn.ModuleList(ModulationLayer(task_size, size, identity) for size in config.modulation_sizes)

    def make_pooling(self, config: MSMAMLConfig) -> int:
        """Makes what sums up the support samples; returns the size of the task representation."""
        self.pools_classes = config.task_encoder_pooling == "class"
        self.projection = nn.Linear(config.layer_channels[-1], config.task_encoder_hidden_size)
        return config.task_encoder_hidden_size * (2 if self.pools_classes else 1)

    def forward(
        self,
        support: Float[Tensor, "T support colours height width"],
        labels: Int[Tensor, "T support"],
        modality: str,
        n_way: int,
    ) -> tuple[Float[Tensor, "T size"], ...]:
        """Computes the modulation of each task, see [`TaskEncoder`]; pixels are in [0, 1]."""
        check_image_shape(tuple(support.shape[2:]), self.image_shape)
        hidden = support
        for conv, norm in zip(cast(Iterable[Any], self.convolutions), cast(Iterable[Any], self.norms), strict=True):
            # All tasks share the kernel, so they are one batch to the convolution; the norm is computed per task.
            hidden = conv2d(hidden.flatten(0, 1)[None], conv.weight[None], conv.bias[None], 2, conv.padding[0])
            hidden = hidden[0].unflatten(0, support.shape[:2])
            flat, scale, shift = hidden.flatten(3), norm.weight[None], norm.bias[None]
            if self.norm == "group":
                flat = group_norm(flat, scale, shift, self.norm_eps)
            else:
                flat = affine_norm(flat, batch_statistics(flat), scale, shift, self.norm_eps)
            hidden = F.relu(flat).unflatten(3, hidden.shape[3:])
        task = self.pooled(hidden.mean(dim=(3, 4)), labels, n_way)
        return tuple(modulation(task) for modulation in self.modulations)

    def pooled(
        self, samples: Float[Tensor, "T support channels"], labels: Int[Tensor, "T support"], n_way: int
    ) -> Float[Tensor, "T task_size"]:
        """The task representation of embedded support samples."""
        samples = F.relu(self.projection(samples))
        return pooled_over_classes(samples, labels, n_way, self.norm_eps) if self.pools_classes else samples.mean(dim=1)


class ConvGRUTaskEncoder(PictureTaskEncoder):
    """
    `task_encoder="conv_gru"`: the same convolutions, then a bidirectional GRU over the support samples in the order of
    the episode; the last states of both directions, side by side, are the task representation (MMAML, arXiv
    1910.13616, whose published code calls it ConvGRU).
    """

    def make_pooling(self, config: MSMAMLConfig) -> int:
        if config.task_encoder_pooling != "mean":
            raise ValueError(
                f"task_encoder_pooling={config.task_encoder_pooling!r} has no effect with task_encoder='conv_gru', "
                "which goes through the samples one after the other: leave it out, or take task_encoder='conv2d'"
            )
        size = config.task_encoder_hidden_size
        self.gru = nn.GRU(
            config.layer_channels[-1], size, config.task_encoder_gru_layers, batch_first=True, bidirectional=True
        )
        return 2 * size

    def pooled(
        self, samples: Float[Tensor, "T support channels"], labels: Int[Tensor, "T support"], n_way: int
    ) -> Float[Tensor, "T task_size"]:
        if samples.device.type != "cuda":
            _, last = self.gru(samples)
        else:  # cuDNN's recurrent networks cannot be differentiated in evaluation mode
            cudnn = torch.backends.cudnn
            with cudnn.flags(
                enabled=False,
                benchmark=cudnn.benchmark,
                deterministic=cudnn.deterministic,
                allow_tf32=cudnn.allow_tf32,
            ):
                _, last = self.gru(samples)
        return torch.cat([last[-2], last[-1]], dim=1)


def _check(config: MSMAMLConfig) -> None:
    """Raises `ValueError` unless the config has pictures alone, which no front end has changed."""
    name = f"task_encoder={config.task_encoder!r}"
    if config.modalities != ["image"]:
        raise ValueError(f"{name} reads pictures alone, but modalities={config.modalities}: take ['image']")
    if config.front_ends_of("image") != "raw":
        raise ValueError(
            f"{name} reads pixels, but image has {config.front_ends_of('image')} front ends: take raw ones"
        )
    if config.share_embeddings:
        raise ValueError(f"share_embeddings=True has no effect with {name}, which reads pixels: leave it out")


register_task_encoder("conv2d", PictureTaskEncoder)
register_task_encoder("conv_gru", ConvGRUTaskEncoder)
