"""The options of a config that say which layers the task network has."""

from dataclasses import dataclass
from typing import Literal

from .options import at_least, each, fraction, option

RESNET12_WIDTHS = (64, 160, 320, 640)


@dataclass(kw_only=True)
class LayerOptions:
    """The part of [`MSMAMLConfig`] that describes the layers of the task network."""

    num_channels: int = option(
        32,
        "C, the channels of every modality's sequence. Layer l (counted from 0) has `num_channels * 2**l` channels.",
        at_least(1),
    )
    num_layers: int = option(4, "The number of layers of the task network, and of the task encoder.", at_least(1, 32))
    layer_widths: list[int] | None = option(
        None,
        "The channels of each layer, in place of `num_channels * 2**l`, such as [64, 64, 64, 64]. With "
        "task_network='resnet12' and four layers they are [64, 160, 320, 640] by default.",
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
    feature_size: int = option(
        0, "The size to which the task network's pooled features are projected; 0 projects nothing.", at_least(0)
    )
    pooling: Literal["mean", "mean_max", "flatten"] = option(
        "mean",
        "How the task network sums up a sequence or picture: 'mean' over its positions; 'mean_max', mean and maximum; "
        "or 'flatten', all positions of a picture side by side.",
    )
    norm_affine: bool = option(
        False,
        "Whether every norm of the task network has a trained scale and shift, which come before the modulation and "
        "which the inner loop adapts with 'all', 'upper' and 'biases_and_norms' (the last has them in any case).",
    )
    drop_block: float = option(
        0.0,
        "With task_network='resnet12': the probability, in [0, 1), with which a position of a channel is zero in a "
        "training step. In the last two layers, squares of positions are dropped together (DropBlock, arXiv "
        "1810.12890).",
        fraction,
    )
    drop_block_size: int = option(5, "The height and width of these squares, in positions.", at_least(1))
    drop_block_steps: int = option(
        0,
        "The number of training steps in which the probability for squares rises from 0 to `drop_block`; MetaOptNet "
        "(arXiv 1904.03758) takes 40,000 passes.",
        at_least(0),
    )
