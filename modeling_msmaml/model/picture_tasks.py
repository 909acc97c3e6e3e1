"""The kind `task_network="conv2d"`: 2-D convolutions over pictures, modulated and adapted as those over sequences."""

from __future__ import annotations

from .configuration_msmaml import MSMAMLConfig
from .convolutional_tasks import ConvolutionalTasks
from .options import default_of, options_of
from .picture_network import PictureNetwork
from .task_networks import register_task_network

# The options that a task network over pictures does not read.
_OF_SEQUENCES = ("front_ends", "embeddings", "image_signal_side", "descriptor_size", "dropout")


class PictureTasks(ConvolutionalTasks):
    """[`PictureNetwork`] with its task encoder, inner rates and frontend."""

    network_class = PictureNetwork
    without_effect = (*(name for name in ConvolutionalTasks.without_effect if name != "max_pooling"), *_OF_SEQUENCES)
    reads_one_size = True

    def check(self, config: MSMAMLConfig) -> None:
        """Also raises `ValueError` for other modalities than images."""
        kind = f"task_network={config.task_network!r}"
        if config.modalities != ["image"]:
            raise ValueError(f"{kind} reads pictures alone, but modalities={config.modalities}: take ['image']")
        super().check(config)
        defaults = {field.name: default_of(field) for field in options_of(type(config))}
        if config.conditioning == "kernel":
            raise ValueError(f"conditioning='kernel' modulates kernels of sequences, not those of {kind}")
        if config.layer_widths is not None and config.num_channels != defaults["num_channels"]:
            raise ValueError(f"num_channels={config.num_channels} has no effect with layer_widths and {kind}")
        if config.image_patch_size != defaults["image_patch_size"] and not config.cuts_patches:
            raise ValueError(f"image_patch_size={config.image_patch_size} has no effect with {kind}, which cuts none")


register_task_network("conv2d", PictureTasks())
