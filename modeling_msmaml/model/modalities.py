"""
How raw inputs become sequences of features: the base class of a modality, the registry of modalities, and the parts
that modalities have in common. The modalities themselves are in modality_audio.py, modality_text.py, modality_image.py.

A modality has two parts. Its *frontend* turns raw integers into floats; it runs once per forward pass, is shared by the
task network and the task encoder, and the inner loop does not adapt it. Its *embedding* turns these floats into a
sequence (batch, C, L); the task network and the task encoder have one each, and the inner loop adapts that of the task
network.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .descriptors import Descriptor, DescriptorStatistics
from .options import choices
from .products import linear

INTEGER_SCALES = {torch.int16: 32767.0, torch.uint8: 255.0}


class ScaleIntegers(nn.Module):
    """Divides int16 inputs by 32767 and uint8 inputs by 255; floating-point inputs keep their scale."""

    def forward(self, inputs: Shaped[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
        """
        Returns the inputs in floating point, of type `dtype`.

        Raises:
            `ValueError`: another type of integers.
        """
        if inputs.is_floating_point():
            return inputs.to(dtype)
        if inputs.dtype not in INTEGER_SCALES:
            raise ValueError(
                f"raw inputs of dtype {inputs.dtype} have no known scale: give int16, uint8 or floating point"
            )
        # The division is in place, since allocating a second array of that size takes several times as long.
        return inputs.to(dtype).div_(INTEGER_SCALES[inputs.dtype])


class ModalityEmbedding(nn.Module):
    """
    Base class of the embedding of a modality.

    A subclass is built from an [`MSMAMLConfig`] and maps the output of its frontend, (batch, ...), to sequences
    (batch, num_channels, L). It holds parameters only (no buffers, no randomness), since it runs under
    `torch.func.functional_call` and `torch.vmap`.
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        """Returns the module that maps raw inputs with any leading dimensions, and a dtype, to floats of that dtype."""
        return ScaleIntegers()

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> DescriptorStatistics | None:
        """
        Returns which statistics of the frontend's output form a sample's descriptor. By default there are none, and the
        modality has no descriptor.
        """
        return None

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch channels length"]:
        """Maps the output of the frontend to sequences."""
        raise NotImplementedError


class SequencePatches(nn.Conv1d):
    """
    A convolution without bias whose stride equals its kernel size, computed as one matrix product. Positions at the end
    that do not fill a patch are dropped, as in any convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, patch_size: int):
        super().__init__(in_channels, out_channels, kernel_size=patch_size, stride=patch_size, bias=False)

    def forward(
        self, input: Float[Tensor, "batch length in_channels"]
    ) -> Float[Tensor, "batch out_channels positions"]:
        patch_size = self.kernel_size[0]
        positions = input.shape[1] // patch_size
        patches = input[:, : positions * patch_size].reshape(input.shape[0], positions, patch_size * self.in_channels)
        matrix = self.weight.transpose(1, 2).reshape(self.out_channels, -1)
        return linear(patches, matrix).transpose(1, 2)


# The class that reads a modality, by the name of the modality and the kind of its front ends.
_REGISTRY: dict[tuple[str, str], type[ModalityEmbedding]] = {}


def register_modality(name: str, embedding_class: type[ModalityEmbedding], front_ends: str = "raw") -> None:
    """
    Makes `name` a modality that configs may list, with `embedding_class` to read its inputs.

    Registering a name again replaces its class in models that are built afterwards.

    Args:
        name: name of the modality.
        embedding_class: the embedding, whose `frontend` reads the raw inputs.
        front_ends: the value of `front_ends` in configs for which the class is used, or `"pretrained"` for modalities
            that have an entry in `embeddings`. A modality without a class for `"fitted"` uses the one for `"raw"`.

    Raises:
        `ValueError`: `name` is not a Python identifier (it becomes part of parameter names), or `front_ends` is
            unknown.
        `TypeError`: `embedding_class` is not a subclass of [`ModalityEmbedding`].
    """
    if not name.isidentifier():
        raise ValueError(f"modality name {name!r} must be a Python identifier, since parameters are named after it")
    if front_ends not in (known := (*choices(MSMAMLConfig, "front_ends"), "pretrained")):
        raise ValueError(f"front_ends={front_ends!r} is unknown: choose one of {', '.join(known)}")
    if not (isinstance(embedding_class, type) and issubclass(embedding_class, ModalityEmbedding)):
        raise TypeError(f"embedding_class={embedding_class!r} must be a subclass of ModalityEmbedding")
    _REGISTRY[name, front_ends] = embedding_class


def registered_modalities() -> list[str]:
    """Returns the names that `modalities` in a config may contain, sorted."""
    return sorted({name for name, _ in _REGISTRY})


def embedding_class(name: str, front_ends: str) -> type[ModalityEmbedding]:
    """
    Returns the class that reads a modality, see `register_modality`.

    Raises:
        `ValueError`: the modality is not registered.
    """
    found = _REGISTRY.get((name, front_ends)) or _REGISTRY.get((name, "raw"))
    if found is None:
        raise ValueError(
            f"modality {name!r} is unknown; the registered ones are {', '.join(registered_modalities())}. "
            "register_modality(name, EmbeddingClass) adds one"
        )
    return found


def _build(
    config: MSMAMLConfig, names: Iterable[str], make: Callable[[type[ModalityEmbedding]], nn.Module]
) -> nn.ModuleDict:
    return nn.ModuleDict({name: make(embedding_class(name, config.front_ends_of(name))) for name in names})


def build_embeddings(config: MSMAMLConfig) -> nn.ModuleDict:
    """Builds one embedding per modality, or per group of modalities that share one, see `config.embedding_of`."""
    names = dict.fromkeys(config.embedding_of(name) for name in config.modalities)
    return _build(config, names, lambda found: found(config))


def build_frontends(config: MSMAMLConfig) -> nn.ModuleDict:
    """Builds one frontend per modality."""
    return _build(config, config.modalities, lambda found: found.frontend(config))


class FittedFrontend(nn.Module):
    """
    Base class of frontends that are fitted to training samples. The output is a feature map (channels first) in which
    each channel has zero mean and unit variance over the training samples.

    A subclass sets `sample_dims`, the number of dimensions of a raw sample, and implements `maps`.
    """

    sample_dims: int
    channel_mean: Float[Tensor, " channels"]
    channel_std: Float[Tensor, " channels"]

    def __init__(self, num_channels: int):
        super().__init__()
        self.register_buffer("channel_mean", torch.zeros(num_channels))
        self.register_buffer("channel_std", torch.ones(num_channels))

    def reset_parameters(self) -> None:
        """Resets the frontend to its state before fitting."""
        init.zeros_(self.channel_mean)
        init.ones_(self.channel_std)

    def maps(self, inputs: Shaped[Tensor, "batch ..."], dtype: torch.dtype) -> Float[Tensor, "batch channels ..."]:
        """Computes the feature maps of raw inputs, before the channels are standardised."""
        raise NotImplementedError

    def fit(self, rows: Shaped[Tensor, "samples ..."], generator: torch.Generator) -> None:
        """Fits the frontend to raw training samples. Random choices are drawn from `generator`."""
        maps = torch.cat([self.maps(part, torch.float32) for part in rows.split(256)])
        other = [0, *range(2, maps.dim())]
        self.channel_mean.copy_(maps.mean(dim=other))
        self.channel_std.copy_(maps.std(dim=other).clamp(min=1e-6))

    @torch.no_grad()
    def forward(self, inputs: Shaped[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
        leading = inputs.shape[: inputs.dim() - self.sample_dims]
        maps = self.maps(inputs.flatten(0, len(leading) - 1), dtype)
        shape = (-1, *[1] * (maps.dim() - 2))
        maps = (maps - self.channel_mean.to(dtype).view(shape)) / self.channel_std.to(dtype).view(shape)
        return maps.unflatten(0, leading)


def build_descriptors(config: MSMAMLConfig) -> nn.ModuleDict:
    """Builds one descriptor per modality that has statistics for it, if the config has a `descriptor_size`."""
    if not config.descriptor_size:
        return nn.ModuleDict()
    found = {name: embedding_class(name, config.front_ends_of(name)).statistics(config) for name in config.modalities}
    return nn.ModuleDict(
        {name: Descriptor(statistics, config.descriptor_size) for name, statistics in found.items() if statistics}
    )
