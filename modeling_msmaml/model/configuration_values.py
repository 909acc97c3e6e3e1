"""What follows from the options of a config."""

from typing import Any

from .configuration_reading import ReadsConfig
from .options import options_of


class DerivedValues(ReadsConfig):
    """The part of [`MSMAMLConfig`] that is computed from its options."""

    # Options that are read here; they are declared there.
    modalities: Any
    num_channels: Any
    num_layers: Any
    layer_widths: Any
    task_network: Any
    task_encoder: Any
    conditioning: Any
    embeddings: Any
    front_ends: Any
    image_signal_side: Any
    network_gain: Any
    descriptor_whitening: Any

    @classmethod
    def own_arguments(cls) -> list[str]:
        """The names of the arguments that the config adds to `PreTrainedConfig`."""
        return [field.name for field in options_of(cls)]

    def own_values(self) -> dict[str, Any]:
        """The values of these arguments."""
        return {name: getattr(self, name) for name in self.own_arguments()}

    @property
    def layer_channels(self) -> list[int]:
        """Output channels of each layer: `layer_widths`, or C, 2C, 4C, ..."""
        if self.layer_widths is not None:
            return list(self.layer_widths)
        return [self.num_channels * 2**layer for layer in range(self.num_layers)]

    def front_ends_of(self, modality: str) -> str:
        """`"pretrained"` for a modality in `embeddings`, else `front_ends`."""
        return "pretrained" if modality in (self.embeddings or {}) else self.front_ends

    def embedding_of(self, modality: str) -> str:
        """Whose embedding reads a modality: its own, or with `image_signal_side` that of audio."""
        return "audio" if modality == "image" and self.image_signal_side else modality

    @property
    def cuts_patches(self) -> bool:
        """Whether the task network or the task encoder reads pictures as sequences of patches."""
        encoder = self.conditioning != "none" and self.task_encoder == "conv1d"
        return encoder or self.task_network not in ("conv2d", "resnet12")

    def per_layer(self, name: str) -> list[int]:
        """`kernel_size`, `stride` or `padding` as one value per layer."""
        value = getattr(self, name)
        return [value] * self.num_layers if isinstance(value, int) else list(value)

    @property
    def modulation_sizes(self) -> list[int]:
        """Length of each layer's modulation vector; empty without conditioning."""
        if self.conditioning == "none":
            return []
        if self.conditioning == "kernel":
            inputs = [self.num_channels, *self.layer_channels]
            return [own + before for own, before in zip(self.layer_channels, inputs, strict=False)]
        factor = 2 if self.conditioning == "affine" else 1
        return [factor * channels for channels in self.layer_channels]

    @property
    def network_gains(self) -> dict[str, float]:
        """`network_gain` of each modality."""
        return self._of_each_modality(self.network_gain, 1.0)

    @property
    def descriptor_whitenings(self) -> dict[str, str]:
        """`descriptor_whitening` of each modality."""
        return self._of_each_modality(self.descriptor_whitening, "total")

    def _of_each_modality(self, given: Any, default: Any) -> dict[str, Any]:
        """One value for all modalities, or those of some and the default for the others."""
        if isinstance(given, dict):
            return {modality: given.get(modality, default) for modality in self.modalities}
        return dict.fromkeys(self.modalities, given)
