"""The options of a config that say which layers the task network has."""

from dataclasses import dataclass

from .options import at_least, each, option


@dataclass(kw_only=True)
class LayerOptions:
    """The part of [`MSMAMLConfig`] that describes the layers of the task network."""

    num_channels: int = option(
        32,
        "C, the channels of every modality's sequence. Layer l (counted from 0) has `num_channels * 2**l` channels.",
        at_least(1),
    )
    num_layers: int = option(4, "The number of layers of the task network, and of the task encoder.", at_least(1))
    layer_widths: list[int] | None = option(
        None,
        "The channels of each layer, in place of `num_channels * 2**l`, such as [64, 64, 64, 64].",
        each(at_least(1)),
    )
    kernel_size: int | list[int] = option(
        5, "The kernel size of the task network's convolutions; a list has one value per layer.", each(at_least(1))
    )
    stride: int | list[int] = option(
        2, "The stride of the task network's convolutions; a list has one value per layer.", each(at_least(1))
    )
    padding: int | list[int] = option(
        1, "The padding of the task network's convolutions; a list has one value per layer.", each(at_least(0))
    )
    max_pooling: bool = option(
        False,
        "With task_network='conv2d': whether every layer ends with the maximum over squares of 2 x 2 positions.",
    )
    norm_affine: bool = option(
        False,
        "Whether every norm of the task network has a trained scale and shift, which come before the modulation and "
        "which the inner loop adapts with 'all', 'upper' and 'biases_and_norms' (the last has them in any case).",
    )
