"""
From raw inputs to sequences of features: one class a modality, one registry.

A modality has two parts. Its *frontend* turns raw integers into floats; it runs once a forward, is shared by the two
networks, and the inner loop does not touch it. Its *embedding* turns these into a sequence (batch, C, L); the task
network and the task encoder have one each, and the inner loop adapts the task network's.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .descriptors import Descriptor, DescriptorStatistics
from .options import choices

INTEGER_SCALES = {torch.int16: 32767.0, torch.uint8: 255.0}


class ScaleIntegers(nn.Module):
    """int16 / 32767 and uint8 / 255, in the dtype of the model; floating point passes unscaled."""

    def forward(self, inputs: Tensor, dtype: torch.dtype) -> Float[Tensor, "..."]:
        if inputs.is_floating_point():
            return inputs.to(dtype)
        if inputs.dtype not in INTEGER_SCALES:
            raise ValueError(
                f"raw inputs of dtype {inputs.dtype} have no known scale: give int16, uint8 or floating point"
            )
        # In place: a second array of that size costs several times the division.
        return inputs.to(dtype).div_(INTEGER_SCALES[inputs.dtype])


class ModalityEmbedding(nn.Module):
    """
    Base class of a modality's embedding.

    A subclass builds itself from an [`MSMAMLConfig`] and maps (batch, ...), as its frontend leaves it, to
    (batch, num_channels, L). It holds parameters only (no buffers, no randomness), since it runs under
    `torch.func.functional_call` and `torch.vmap`.
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        """Module (raw inputs of any leading shape, dtype) -> floats of that dtype."""
        return ScaleIntegers()

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> DescriptorStatistics | None:
        """Of what the frontend makes of a sample, for its descriptor; by default `None`: there is no descriptor."""
        return None

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch channels length"]:
        raise NotImplementedError


class SequencePatches(nn.Conv1d):
    """
    A convolution whose stride equals its kernel, as one matrix product (no bias; a rest shorter than the kernel is cut
    off, as a convolution does).
    """

    def __init__(self, in_channels: int, out_channels: int, patch_size: int):
        super().__init__(in_channels, out_channels, kernel_size=patch_size, stride=patch_size, bias=False)

    def forward(
        self, inputs: Float[Tensor, "batch length in_channels"]
    ) -> Float[Tensor, "batch out_channels positions"]:
        patch_size = self.kernel_size[0]
        positions = inputs.shape[1] // patch_size
        patches = inputs[:, : positions * patch_size].reshape(inputs.shape[0], positions, patch_size * self.in_channels)
        matrix = self.weight.transpose(1, 2).reshape(self.out_channels, -1)
        return (patches @ matrix.T).transpose(1, 2)


# (modality, front ends) -> class.
_REGISTRY: dict[tuple[str, str], type[ModalityEmbedding]] = {}


def register_modality(name: str, embedding_class: type[ModalityEmbedding], front_ends: str = "raw") -> None:
    """
    Makes `name` a modality that configs may list; `embedding_class` reads its inputs.

    Registering a name again replaces its class, for models that are built afterwards.

    Args:
        front_ends: for configs with these `front_ends`, or `"pretrained"`, for `embeddings`. A modality that has no
            class for `"fitted"` is read by the one for `"raw"` there too.

    Raises:
        `ValueError`: `name` is no Python identifier (it becomes part of parameter names), or unknown `front_ends`.
        `TypeError`: `embedding_class` is no subclass of [`ModalityEmbedding`].
    """
    if not name.isidentifier():
        raise ValueError(f"modality name {name!r} must be a Python identifier, since parameters are named after it")
    if front_ends not in (known := (*choices(MSMAMLConfig, "front_ends"), "pretrained")):
        raise ValueError(f"front_ends={front_ends!r} is unknown; choose one of {', '.join(known)}")
    if not (isinstance(embedding_class, type) and issubclass(embedding_class, ModalityEmbedding)):
        raise TypeError(f"embedding_class={embedding_class!r} must be a subclass of ModalityEmbedding")
    _REGISTRY[name, front_ends] = embedding_class


def registered_modalities() -> list[str]:
    """The names that `modalities` in a config may hold."""
    return sorted({name for name, _ in _REGISTRY})


def embedding_class(name: str, front_ends: str) -> type[ModalityEmbedding]:
    """
    The class that reads a modality.

    Raises:
        `ValueError`: the modality is not registered.
    """
    found = _REGISTRY.get((name, front_ends)) or _REGISTRY.get((name, "raw"))
    if found is None:
        raise ValueError(
            f"modality {name!r} is unknown; registered are {', '.join(registered_modalities())}. "
            "register_modality(name, EmbeddingClass) adds one"
        )
    return found


def _build(
    config: MSMAMLConfig, names: Iterable[str], make: Callable[[type[ModalityEmbedding]], nn.Module]
) -> nn.ModuleDict:
    return nn.ModuleDict({name: make(embedding_class(name, config.front_ends_of(name))) for name in names})


def build_embeddings(config: MSMAMLConfig) -> nn.ModuleDict:
    """One embedding for each of `config.modalities` that another one's does not read, see `config.embedding_of`."""
    names = dict.fromkeys(config.embedding_of(name) for name in config.modalities)
    return _build(config, names, lambda found: found(config))


def build_frontends(config: MSMAMLConfig) -> nn.ModuleDict:
    """One frontend for each of `config.modalities`."""
    return _build(config, config.modalities, lambda found: found.frontend(config))


class FittedFrontend(nn.Module):
    """Base class: maps of channels, each with zero mean and unit variance over the training samples."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.register_buffer("channel_mean", torch.zeros(num_channels))
        self.register_buffer("channel_std", torch.ones(num_channels))

    def reset_parameters(self) -> None:
        """The state before fitting."""
        init.zeros_(self.channel_mean)
        init.ones_(self.channel_std)

    def maps(self, inputs: Shaped[Tensor, "batch ..."], dtype: torch.dtype) -> Float[Tensor, "batch channels ..."]:
        """Of raw inputs, before the channels are standardised."""
        raise NotImplementedError

    def fit(self, rows: Shaped[Tensor, "samples ..."], generator: torch.Generator) -> None:
        """Fits everything to raw training samples; `generator` draws what is drawn."""
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
    """One descriptor for each modality that has statistics, if the config asks for them."""
    if not config.descriptor_size:
        return nn.ModuleDict()
    found = {name: embedding_class(name, config.front_ends_of(name)).statistics(config) for name in config.modalities}
    return nn.ModuleDict(
        {name: Descriptor(statistics, config.descriptor_size) for name, statistics in found.items() if statistics}
    )
