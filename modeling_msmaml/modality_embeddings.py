"""
From raw inputs to sequences of features: one class a modality, one registry.

A modality has two parts. Its *frontend* turns raw integers into floats; it runs once a forward, is shared by the two
networks, and the inner loop does not touch it. Its *embedding* turns these into a sequence (batch, C, L); the task
network and the task encoder have one each, and the inner loop adapts the task network's.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from timm.layers import PatchEmbed
from torch import Tensor, nn

from .configuration_msmaml import FRONT_ENDS, MSMAMLConfig
from .descriptors import Statistics

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


class ImageSignals(ScaleIntegers):
    """
    Images (.., colours, height, width) -> 1-D signals (.., colours * side**2): scaled as integers are, resized, then
    flattened colour by colour and row by row. See `image_signal_side` in [`MSMAMLConfig`].
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.side, self.image_shape = config.image_signal_side, (config.image_channels, *2 * (config.image_size,))

    def forward(
        self, inputs: Shaped[Tensor, "*leading colours height width"], dtype: torch.dtype
    ) -> Float[Tensor, "*leading samples"]:
        check_image_shape(tuple(inputs.shape[-3:]), self.image_shape)
        images = super().forward(inputs, dtype)
        resized = F.interpolate(images.flatten(0, -4), size=2 * (self.side,), mode="bicubic", align_corners=False)
        return resized.reshape(*inputs.shape[:-3], -1)


def check_image_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raises `ValueError` unless an image has the shape that a model takes."""
    if shape != expected:
        raise ValueError(
            f"an image has shape {shape}, but this model takes {expected}: colours first, in the size of its config; "
            "the processor that was saved with it resizes"
        )


class WordVectors(nn.Embedding):
    """Token ids -> word vectors. Token 0 is padding; its vector is zero and stays so."""

    def forward(self, inputs: Int[Tensor, "... tokens"], dtype: torch.dtype) -> Float[Tensor, "... tokens size"]:
        if inputs.is_floating_point():
            raise ValueError(f"text inputs have dtype {inputs.dtype}: give integer token ids")
        # On an accelerator this check would stall the queue, and the lookup itself asserts there.
        if (
            inputs.device.type == "cpu"
            and inputs.numel()
            and not 0 <= inputs.min() <= inputs.max() < self.num_embeddings
        ):
            raise ValueError(
                f"token ids run from {inputs.min()} to {inputs.max()}, but this model has "
                f"vocab_size={self.num_embeddings}: tokenise with the processor that was saved with the model"
            )
        return super().forward(inputs.long()).to(dtype)


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
    def statistics(cls, config: MSMAMLConfig) -> Statistics | None:
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


class AudioEmbedding(ModalityEmbedding):
    """Waveform (batch, samples) at 16 kHz in [-1, 1] -> (batch, C, samples // audio_patch_size)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.proj = SequencePatches(1, config.num_channels, config.audio_patch_size)

    def forward(self, inputs: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch channels length"]:
        return self.proj(inputs[..., None])


class TextEmbedding(ModalityEmbedding):
    """Word vectors (batch, tokens, word_vector_size) -> (batch, C, tokens // text_patch_size)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.proj = SequencePatches(config.word_vector_size, config.num_channels, config.text_patch_size)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return WordVectors(config.vocab_size, config.word_vector_size, padding_idx=0)

    def forward(self, inputs: Float[Tensor, "batch tokens size"]) -> Float[Tensor, "batch channels length"]:
        return self.proj(inputs)


class ImageEmbedding(ModalityEmbedding):
    """Pixels (batch, image_channels, H, W) in [0, 1] -> (batch, C, patches), patches row by row."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        # timm's layout (proj.weight, patches row by row) is the published one; only the bias is not applied there.
        self.patches = PatchEmbed(
            img_size=config.image_size,
            patch_size=config.image_patch_size,
            in_chans=config.image_channels,
            embed_dim=config.num_channels,
            bias=False,
        )

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return ImageSignals(config) if config.image_signal_side else ScaleIntegers()

    def forward(self, inputs: Float[Tensor, "batch colours height width"]) -> Float[Tensor, "batch channels length"]:
        check_image_shape(tuple(inputs.shape[1:]), (self.patches.proj.in_channels, *self.patches.img_size))
        # As one matrix product, which costs half of the convolution in `PatchEmbed.forward`.
        size = self.patches.patch_size[0]
        patches = inputs.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        return F.linear(patches.flatten(3).flatten(1, 2), self.patches.proj.weight.flatten(1)).transpose(1, 2)


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
    if front_ends not in (*FRONT_ENDS, "pretrained"):
        raise ValueError(f"front_ends={front_ends!r} is unknown; choose one of {', '.join(FRONT_ENDS)}, pretrained")
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


register_modality("audio", AudioEmbedding)
register_modality("text", TextEmbedding)
register_modality("image", ImageEmbedding)
