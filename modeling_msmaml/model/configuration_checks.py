"""What joins several arguments of a config: which combinations are impossible, or leave an argument without effect."""

import copy
import os
from typing import TYPE_CHECKING, Any

from .adapted_parameters import adapts_embeddings
from .encoder_registry import check_embeddings

if TYPE_CHECKING:
    from .configuration_msmaml import MSMAMLConfig

_MOST_CHANNELS = 2**20  # of a layer


def check_combinations(config: "MSMAMLConfig") -> None:
    """Raises `ValueError` where arguments do not go together, or one would leave another without effect or meaning."""
    if not config.modalities or len(set(config.modalities)) != len(config.modalities):
        raise ValueError(f"modalities={config.modalities} must name at least one modality and none twice")
    if (most := max(config.layer_channels, default=0)) > _MOST_CHANNELS:
        given = f"num_channels={config.num_channels} and num_layers={config.num_layers}"
        given = given if config.layer_widths is None else f"layer_widths={config.layer_widths}"
        raise ValueError(f"{given} would make {most:,} channels: at most {_MOST_CHANNELS:,} are allowed")
    for name in ("kernel_size", "stride", "padding"):
        values = config.per_layer(name)
        if len(values) != config.num_layers:
            raise ValueError(f"{name}={values} must be one integer, or one for each of num_layers={config.num_layers}")
    if config.layer_widths is not None and len(config.layer_widths) != config.num_layers:
        raise ValueError(
            f"layer_widths={config.layer_widths} must have one integer for each of num_layers={config.num_layers}"
        )
    for name, default in (("drop_block_size", 5), ("drop_block_steps", 0)):
        if getattr(config, name) != default and not config.drop_block:
            raise ValueError(f"{name}={getattr(config, name)} has no effect with drop_block=0.0")
    if config.n_way < 2 and config.task_loss == "cross_entropy":
        raise ValueError(f"n_way={config.n_way} must be an integer of at least 2")
    if config.label_smoothing and config.task_loss != "cross_entropy":
        raise ValueError(f"label_smoothing={config.label_smoothing} has no effect with task_loss={config.task_loss!r}")
    if config.task_encoder_kernel_size % 2 == 0:
        raise ValueError(f"task_encoder_kernel_size={config.task_encoder_kernel_size} must be odd")
    if config.front_ends == "raw" and config.cuts_patches and config.image_size % config.image_patch_size:
        raise ValueError(
            f"image_size={config.image_size} must be a multiple of image_patch_size={config.image_patch_size}"
        )
    if config.front_ends == "fitted" and config.image_size < config.dictionary_patch_size + 2:
        raise ValueError(
            f"image_size={config.image_size} must be at least dictionary_patch_size + 2 = "
            f"{config.dictionary_patch_size + 2}, for responses to be averaged over 3 x 3 positions"
        )
    for name in ("network_gain", "descriptor_whitening", "auxiliary_classes"):
        value = getattr(config, name)
        if isinstance(value, dict) and (unknown := value.keys() - set(config.modalities)):
            raise ValueError(f"{name} names {sorted(unknown)}, but modalities={config.modalities}")
    if config.norm != "batch" and config.norm_statistics != "support":
        raise ValueError(
            f"norm_statistics={config.norm_statistics!r} does not go with norm={config.norm!r}, which normalises no "
            "query with others: leave it out"
        )
    if config.embeddings is not None:
        check_embeddings(config.embeddings, config.modalities)
    if config.image_signal_side:
        for name in ("audio", "image"):
            if name not in config.modalities or config.front_ends_of(name) != "raw":
                raise ValueError(
                    f"image_signal_side={config.image_signal_side} needs front_ends='raw' for audio and image, whose "
                    f"embedding they share; modalities={config.modalities}"
                )
        if config.image_patch_size != 2:
            raise ValueError(
                f"image_patch_size={config.image_patch_size} has no effect with "
                f"image_signal_side={config.image_signal_side}, which cuts no patches"
            )
    if config.descriptor_size and any(config.front_ends_of(name) == "raw" for name in config.modalities):
        raise ValueError(
            f"descriptor_size={config.descriptor_size} needs front_ends='fitted', or embeddings for all modalities"
        )
    if config.train_word_vectors and config.front_ends_of("text") == "pretrained":
        raise ValueError("train_word_vectors=True has no effect on text that embeddings['text'] reads")
    if config.network_gain != 1.0 and not config.descriptor_size:
        raise ValueError(f"network_gain={config.network_gain} needs a descriptor: give descriptor_size, or leave it")
    if set(config.descriptor_whitenings.values()) != {"total"} and not config.descriptor_size:
        raise ValueError(
            f"descriptor_whitening={config.descriptor_whitening!r} needs a descriptor: give descriptor_size, or "
            "leave it"
        )
    if config.inner_rates != "fixed" and not config.num_inner_steps:
        raise ValueError(f"inner_rates={config.inner_rates!r} has no effect with num_inner_steps=0")
    if config.inner_optimizer != "sgd" and not config.num_inner_steps:
        raise ValueError(f"inner_optimizer={config.inner_optimizer!r} has no effect with num_inner_steps=0")
    if config.outer_gradient == "implicit":
        for name in ("first_order", "inner_loop_checkpointing"):
            if getattr(config, name):
                raise ValueError(f"{name}=True has no effect with outer_gradient='implicit', which unrolls no steps")
        if not config.num_inner_steps:
            raise ValueError("outer_gradient='implicit' has no effect with num_inner_steps=0")
    for name, default in (("proximal_weight", 2.0), ("conjugate_gradient_steps", 5)):
        if getattr(config, name) != default and config.outer_gradient != "implicit":
            raise ValueError(f"{name}={getattr(config, name)} has no effect without outer_gradient='implicit'")
    if config.modulation_init == "identity" and config.conditioning not in ("affine", "kernel"):
        raise ValueError(
            f"modulation_init='identity' needs conditioning='affine' or 'kernel', not {config.conditioning!r}"
        )
    if config.conditioning == "none":
        for name in ("task_encoder", "task_encoder_pooling", "share_embeddings"):
            if getattr(config, name) not in ("conv1d", "mean", False):
                raise ValueError(f"{name}={getattr(config, name)!r} has no effect with conditioning='none'")
    if config.task_encoder_gru_layers != 1 and (config.conditioning == "none" or config.task_encoder != "conv_gru"):
        raise ValueError(
            f"task_encoder_gru_layers={config.task_encoder_gru_layers} has no effect without task_encoder='conv_gru'"
        )
    if config.task_network in ("conv1d", "conv2d", "resnet12", "levels"):
        check_adapted_network(config)
    if config.episode_weight == 0 and not config.auxiliary_classes:
        raise ValueError("episode_weight=0.0 trains on auxiliary_classes alone: give them, or a positive weight")
    if config.auxiliary_classes is None and config.auxiliary_weight != 1.0:
        raise ValueError(f"auxiliary_weight={config.auxiliary_weight} has no effect without auxiliary_classes")


def check_adapted_network(config: "MSMAMLConfig") -> None:
    """Raises `ValueError` for what is wrong only where an inner loop adapts the convolutional task network."""
    if config.soft_kmeans_steps and config.head != "prototype":
        raise ValueError(f"soft_kmeans_steps={config.soft_kmeans_steps} has no effect with head={config.head!r}")
    if config.cosine_scale != 10.0 and config.head != "prototype":
        raise ValueError(f"cosine_scale={config.cosine_scale} has no effect with head={config.head!r}")
    if config.dropout and adapts_embeddings(config):
        raise ValueError(
            f"dropout={config.dropout} drops what comes out of the embeddings, which "
            f"adapted_parameters={config.adapted_parameters!r} makes anew in every inner step: take one that leaves "
            "them, such as 'upper' or 'head'"
        )


def without_sources(level_encoders: Any) -> Any:
    """A copy of `level_encoders` in [`MSMAMLConfig`] without the places where they are now."""
    if not isinstance(level_encoders, dict):
        return level_encoders
    return {
        modality: copy.deepcopy({key: value for key, value in spec.items() if key != "source"})
        if isinstance(spec, dict)
        else spec
        for modality, spec in level_encoders.items()
    }


def refuse_own_folders(level_encoders: Any) -> None:
    """Raises `ValueError` for level encoders that are given by absolute paths, which another machine does not have."""
    for spec in level_encoders.values() if isinstance(level_encoders, dict) else [level_encoders]:
        if isinstance(spec, (str, os.PathLike)) and os.path.isabs(spec):
            raise ValueError(
                f"level_encoders={level_encoders} names a folder of this machine: save the MSMAMLModel of this config, "
                "with which its encoders are saved"
            )
