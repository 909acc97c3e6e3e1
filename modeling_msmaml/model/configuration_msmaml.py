"""Configuration of an MS-MAML model."""

import os
from typing import Any, Literal

from transformers import PreTrainedConfig
from transformers.utils.hub import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .configuration_checks import check_combinations, refuse_own_folders, without_sources
from .configuration_layers import RESNET12_WIDTHS, LayerOptions
from .configuration_values import DerivedValues
from .options import (
    at_least,
    check_options,
    declared,
    each,
    fraction,
    not_negative,
    one_of,
    option,
    positive,
    refuse_unknown,
)

# Keywords that transformers passes to any config besides its attributes.
_KNOWN_ELSEWHERE = ("pad_token_id", "use_cache", "torch_dtype", "name_or_path", "attn_implementation", "auto_map")
# `pipeline` runs the code that a config names, and no other: it is for those alone who do not have this package.
_IS_SAVED_CODE = __name__.split(".")[0] == TRANSFORMERS_DYNAMIC_MODULE_NAME
WHITENINGS, MOST_STEPS = ("total", "source", "class"), 100_000


@declared
class MSMAMLConfig(LayerOptions, DerivedValues, PreTrainedConfig):
    r"""
    Everything that defines an [`MSMAMLModel`]. The defaults are the architecture of the published checkpoints.

    Args:
        {options}

    Raises:
        `ValueError`: an argument outside of its range, or misspelt.
    """

    model_type = "msmaml"

    modalities: list[str] | tuple[str, ...] = option(
        ("audio", "text", "image"),
        "The modalities that the model has embeddings for: any non-empty subset of the registered ones (see "
        "[`register_modality`]).",
    )
    n_way: int = option(5, "The number of classes in an episode, which is the size of the classifier.", at_least(1))
    task_network: str = option(
        "conv1d",
        "The task network: 'conv1d', modulated convolutions that the inner loop adapts; 'conv2d', the same over "
        "pictures, which are the only modality then; 'resnet12', residual layers over pictures; 'levels', weighted "
        "levels of frozen encoders; a baseline, such as 'prototypical'; or one that [`register_task_network`] has "
        "added.",
    )
    task_network_kwargs: dict[str, Any] | None = option(
        None, "The options of that task network, such as {'num_layers': 4} of 'in_context'; others have their defaults."
    )
    level_encoders: dict[str, Any] | str | None = option(
        None,
        "The frozen encoder of each modality with `task_network='levels'`, or under a baseline, which then reads its "
        "last level in place of what it would train: {'text': folder}, a folder or repository "
        "that holds what `save_level_encoder` writes, a pretrained model, see `find_level_encoder`, or a saved model "
        "that has such an encoder; or one saved model, all of whose encoders are taken. The config of a model records "
        "checksum and levels, with which it is built again, and encoders are saved with it.",
    )
    level_rank: int | None = option(
        None,
        "With `task_network='levels'`: the most eigenvectors that the whitening of a level keeps, by default all. "
        "Fewer make a saved model smaller.",
        at_least(1),
    )
    conditioning: Literal["affine", "sigmoid", "softmax", "none", "kernel"] = option(
        "affine",
        "What the modulation m of a layer does to its normalised activation h: 'affine', h * (1 + scale) + shift "
        "with m = (scale, shift) (FiLM, arXiv 1709.07871); 'sigmoid', h * sigmoid(m); 'softmax', h * softmax(m) "
        "over channels; 'none', no task encoder at all, which is plain MAML; 'kernel', every element w[o, i, k] "
        "of the layer's kernel times 1 + r[o] + c[i] with m = (r, c), the modulation of kernels of KML (arXiv "
        "2110.14202, section 4) reduced to one term for each row and column.",
    )
    task_encoder: str = option(
        "conv1d",
        "The task encoder: 'conv1d', convolutions over the sequences of an embedding; 'conv2d', over pictures, with a "
        "stride of 2; 'conv_gru', the same with a recurrent network over the support samples (MMAML); or one that "
        "[`register_task_encoder`] has added. It has no part in a model without conditioning.",
    )
    task_encoder_kernel_size: int = option(
        3,
        "The kernel size of the task encoder's convolutions, an odd number; those over sequences have a stride of 1 "
        "and keep the length.",
        at_least(1),
    )
    task_encoder_hidden_size: int = option(
        128, "The size of the task representation, of which every layer's modulation is a linear map.", at_least(1)
    )
    task_encoder_gru_layers: int = option(
        1, "With task_encoder='conv_gru': the number of layers of the recurrent network.", at_least(1)
    )
    num_inner_steps: int = option(
        5,
        "The number of gradient steps of the inner loop. 0 gives the modulated network without adaptation.",
        at_least(0, MOST_STEPS),
    )
    num_eval_inner_steps: int | None = option(
        None,
        "The number of these steps in evaluation mode, by default the same. Beyond the steps that there are trained "
        "rates for, those of the last step go on.",
        at_least(0, MOST_STEPS),
    )
    num_head_steps: int = option(
        5,
        "With task_network='levels': the number of steps after these on the factors of the head (its temperature, the "
        "share of the regression and its ridge), against its own leave-one-out loss. None are taken with "
        "num_inner_steps=0.",
        at_least(0, MOST_STEPS),
    )
    inner_lr: float = option(0.05, "The learning rate of the inner loop.", positive)
    inner_optimizer: str = option(
        "sgd",
        "The optimiser of the inner loop: 'sgd', 'momentum', 'adam', 'meta_sgd' (another name of "
        "inner_rates='per_element'), 'meta_curvature', or one that [`register_inner_optimizer`] has added.",
    )
    inner_optimizer_kwargs: dict[str, Any] | None = option(
        None,
        "The options of that optimiser, such as {'momentum': 0.9, 'nesterov': true}; see the documentation of each. "
        "What is left out has its default.",
    )
    inner_grad_clip: float | None = option(
        20.0,
        "Every element of an inner gradient is clamped to [-inner_grad_clip, inner_grad_clip]; None (0 on a "
        "command line) clamps nothing.",
        positive,
    )
    task_chunk_size: int | None = option(
        None,
        "The number of tasks of one modality that run as one; fewer take less memory. By default it is one on "
        "the CPU, where chunks are spread over threads, and all on an accelerator. No result depends on it.",
        at_least(1),
    )
    inner_loop_checkpointing: bool = option(
        False,
        "Whether training keeps the graph of one inner step at a time instead of all of them, at the cost of "
        "running the steps forwards twice (up to 5 of them), three times (up to 15), four times (up to 35), and "
        "so on. No result depends on it. It is meant for many inner steps or little memory.",
    )
    first_order: bool = option(
        False,
        "Whether the outer gradient ignores how the inner gradients depend on the parameters (FOMAML, arXiv "
        "1703.03400, section 5.2).",
    )
    outer_gradient: Literal["unrolled", "implicit"] = option(
        "unrolled",
        "How the outer gradient goes through the inner loop: 'unrolled', through every step (MAML); 'implicit', "
        "through the minimum that the steps come near, in memory that does not grow with their number (iMAML, arXiv "
        "1909.04630).",
    )
    proximal_weight: float = option(
        2.0,
        "With outer_gradient='implicit': lambda, by which half the squared distance from the start is added to the "
        "support loss in the inner loop.",
        positive,
    )
    conjugate_gradient_steps: int = option(
        5,
        "With outer_gradient='implicit': the most products with the Hessian, in conjugate gradients, for an outer "
        "gradient.",
        at_least(1, MOST_STEPS),
    )
    norm: Literal["batch", "group", "task"] = option(
        "batch",
        "What the task network and the task encoder normalise with: 'batch', batch norm over a task's samples "
        "(as published); 'group', group norm over the channels of one sample (arXiv 1803.08494), so that a "
        "sample's features depend on no other sample; 'task', TaskNorm-I (arXiv 2003.03284), which mixes the "
        "statistics of the support set with those of the sample itself in trained shares (the task encoder, "
        "which sees nothing but the support set, then has batch norm).",
    )
    norm_statistics: Literal["transductive", "support"] | None = option(
        None,
        "Where batch norm takes the mean and variance of queries from: 'transductive' (its default), all queries "
        "of the episode (as published); 'support', the support set, so that the prediction for a query depends "
        "on no other query. With group norm and task norm it is always 'support', since their predictions never "
        "depend on other queries.",
    )
    norm_eps: float = option(1e-5, "What is added to the variance before its square root is taken.", positive)
    audio_patch_size: int = option(
        320, "The number of samples (at 16 kHz) in one position of the audio sequence.", at_least(1)
    )
    text_patch_size: int = option(12, "The number of tokens in one position of the text sequence.", at_least(1))
    image_patch_size: int = option(
        2, "The side, in pixels, of the square in one position of the image sequence.", at_least(1)
    )
    image_size: int = option(32, "The side of an image in pixels, a multiple of `image_patch_size`.", at_least(1))
    image_channels: int = option(3, "The number of colour channels of an image.", at_least(1))
    image_signal_side: int = option(
        0,
        "Above 0, images have no embedding of their own (the published ablation of modality-aware embeddings): "
        "each is resized to this side, flattened colour by colour to a signal of `image_channels * "
        "image_signal_side**2` values and read by the audio embedding, with its weights. 163 gives about as many "
        "values as 5 seconds of sound. This needs both modalities and raw front ends.",
        at_least(0),
    )
    vocab_size: int = option(
        400, "The number of word vectors of the text modality. Token 0 is padding, and its vector is zero.", at_least(2)
    )
    word_vector_size: int = option(128, "The size of a word vector.", at_least(1))
    train_word_vectors: bool = option(
        False, "Whether the outer loop trains the word vectors. The inner loop never does."
    )
    front_ends: Literal["raw", "fitted"] = option(
        "raw",
        "How raw inputs become features: 'raw', linear patches of samples, word vectors and pixels (as "
        "published); 'fitted', log-mel spectrograms, weighted word vectors and a dictionary of image patches, "
        "which [`MSMAMLModel.fit_front_ends`] fits to unlabelled training samples, each with a convolutional "
        "stem.",
    )
    num_mels: int = option(64, "The number of mel bands, with fitted front ends.", at_least(1))
    patch_dictionary_size: int = option(
        128, "The number of image patches in the dictionary, with fitted front ends.", at_least(1)
    )
    dictionary_patch_size: int = option(
        6, "The side, in pixels, of the image patches in the dictionary, with fitted front ends.", at_least(1)
    )
    descriptor_size: int = option(
        0,
        "The size of the fitted descriptor of a sample (see [`Descriptor`]) that stands beside the network's "
        "features; 0 for none. It needs fitted front ends.",
        at_least(0),
    )
    descriptor_whitening: str | dict[str, str] = option(
        "total",
        "How [`MSMAMLModel.fit_front_ends`] whitens the descriptor's components: 'total', each divided by a "
        "power of its deviation over all training samples, without labels; 'source' or 'class', all together by "
        "their covariance between samples of one source (recording, document) or of one class, see "
        "`descriptors.within_group_whitening`. One value for all modalities, or one per modality. It needs a "
        "descriptor.",
        each(one_of(*WHITENINGS)),
    )
    network_gain: float | dict[str, float] = option(
        1.0,
        "The length of the network's features beside the descriptor, which has length 1. One value for all "
        "modalities, or one per modality. It needs a descriptor.",
        each(positive),
    )
    head: Literal["linear", "prototype"] = option(
        "linear",
        "How a classifier begins: 'linear', a trained linear layer of `n_way` classes (as published); "
        "'prototype', unit-length features and each class's mean over the support set, compared by their cosine "
        "(ProtoMAML, arXiv 1903.03096, section 3.2, with a cosine for the distance). That works for any number "
        "of classes; `n_way` is then only what the model was evaluated with.",
    )
    cosine_scale: float = option(
        10.0, "What the cosine is multiplied with at first; it is trained. Only with `head='prototype'`.", positive
    )
    soft_kmeans_steps: int = option(
        0,
        "The number of steps in which the unlabelled samples of an episode, if it has any, refine the prototypes (soft "
        "k-means, arXiv 1803.00676). Only with `head='prototype'`.",
        at_least(0, MOST_STEPS),
    )
    adapted_parameters: str = option(
        "all",
        "What the inner loop adapts of the task network: 'all' (as published); 'upper', everything above the "
        "embeddings; 'head', the classifier alone (ANIL, arXiv 1909.09157); 'biases_and_norms', the classifier, the "
        "biases above the embeddings, and a scale and a shift of each norm; 'lora', the classifier and low-rank "
        "factors beside the weights in `lora_layers` (arXiv 2106.09685); or one that "
        "[`register_adapted_parameters`] has added.",
    )
    lora_rank: int | None = option(
        None, "The rank of these factors, by default 4. Only with `adapted_parameters='lora'`.", at_least(1)
    )
    lora_layers: list[str] | None = option(
        None,
        "The layers that have such factors, or the beginnings of their names in the task network: 'embeddings', "
        "'embeddings.audio', 'convolutions.0' and so on; by default convolutions and projection.",
    )
    inner_rates: Literal["fixed", "per_layer_per_step", "per_element"] = option(
        "fixed",
        "The learning rates of the inner loop: 'fixed', `inner_lr` everywhere; trained and starting from "
        "`inner_lr`, 'per_layer_per_step' (LSLR, MAML++, arXiv 1810.09502) or 'per_element' (Meta- "
        "SGD, arXiv 1707.09835).",
    )
    modulation_init: Literal["default", "identity"] = option(
        "default",
        "How the modulation starts; with 'identity' it changes nothing at first. Only with `conditioning` "
        "'affine' or 'kernel'.",
    )
    task_encoder_pooling: Literal["mean", "class"] = option(
        "mean",
        "How the task encoder sums up the support samples: 'mean' over all; 'class', mean and standard deviation "
        "over the means of the classes, so that it sees how they differ.",
    )
    share_embeddings: bool = option(
        False,
        "Whether the task encoder reads the sequences of the task network's embeddings instead of having its own.",
    )
    auxiliary_classes: dict[str, int] | None = option(
        None,
        "The number of training classes of each modality among which the samples of an episode are also "
        "classified in training (auxiliary co-training, TADAM, arXiv 1805.10123, section 3.4). Episodes then "
        "need `class_ids`.",
        each(at_least(1)),
    )
    auxiliary_weight: float = option(1.0, "The weight of that loss. Only with `auxiliary_classes`.", positive)
    episode_weight: float = option(
        1.0,
        "The weight of the episodes' query loss in training. 0 trains on the auxiliary classes alone, which "
        "makes a supervised backbone and needs `auxiliary_classes`.",
        not_negative,
    )
    task_loss: str = option(
        "cross_entropy",
        "The loss of a task, in the inner loop and in the outer one: 'cross_entropy'; 'squared_error', of episodes "
        "whose labels are numbers, where `n_way` is the number of outputs; or one that [`register_task_loss`] has "
        "added.",
    )
    label_smoothing: float = option(
        0.0,
        "How much of a training label is spread over all classes (Szegedy et al. 2016, arXiv 1512.00567, section "
        "7), for queries and auxiliary classes; in [0, 1). The inner loop's labels stay as they are.",
        fraction,
    )
    dropout: float = option(
        0.0,
        "The probability, in [0, 1), with which a channel of a sample's sequence is zero in a training step (see "
        "[`drop_channels`]): the same channels in all inner steps, so only where the inner loop leaves the "
        "embeddings as they are (not with `adapted_parameters='all'`).",
        fraction,
    )
    level_dropout: float = option(
        0.0,
        "With task_network='levels': the probability, in [0, 1), with which noise takes the place of a level in a "
        "training task with several samples per class, so that the inner loop has something to mend.",
        fraction,
    )
    embeddings: dict[str, Any] | None = option(
        None,
        "The frozen pretrained encoder that reads a modality in place of `front_ends`, by modality: {'image': "
        "{'timm': 'resnet18'}, 'text': {'transformers': folder or name}, 'audio': {'transformers': folder or "
        "name}}. Further keys: 'pretrained' (false: random weights; true by default); 'adapter_size', the width "
        "of a trained bottleneck on its features; 'layer' (audio and text), whose hidden states to take, 0 being "
        "what goes into the first layer, by default what the encoder gives out; 'pool' (audio and text), how "
        "many positions are averaged to one; 'window' (text), the tokens that go through the encoder at once, "
        "special tokens included, by default as many as it takes; 'special_tokens' (text), the ids before and "
        "after a text, if the tokenizer cannot be asked; 'input_size' (image), the side in pixels to which "
        "pictures are resized. [`MSMAMLModel`] adds 'recorded': architecture and preprocessing, with which a "
        "saved model is built again.",
    )

    def __post_init__(self, **kwargs: Any) -> None:
        self.modalities = list(self.modalities)
        if self.norm_statistics is None:
            pools = self.norm == "batch" and self.task_network != "levels" and self.level_encoders is None
            self.norm_statistics = "transductive" if pools else "support"
        if self.task_network == "resnet12" and self.layer_widths is None and self.num_layers == len(RESNET12_WIDTHS):
            self.layer_widths = list(RESNET12_WIDTHS)
        kwargs.setdefault("pad_token_id", 0)
        if not _IS_SAVED_CODE:
            kwargs.pop("custom_pipelines", None)
        # PreTrainedConfig keeps whatever keyword it is given, so that a typo would be an option without effect. Only a
        # saved config, which names its version, may hold what another version of transformers wrote there.
        if self.transformers_version is None:
            refuse_unknown(type(self), kwargs, {*vars(PreTrainedConfig()), *dir(PreTrainedConfig), *_KNOWN_ELSEWHERE})
        self.check()
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As in transformers; places of level encoders, and pipelines, whose code is saved by others, are left out."""
        content = {**super().to_dict(), "level_encoders": without_sources(self.level_encoders)}
        return {name: value for name, value in content.items() if name != "custom_pipelines"}

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in transformers. Raises `ValueError` for level encoders in folders that only this machine has."""
        refuse_own_folders(self.level_encoders)
        super().save_pretrained(save_directory, *args, **kwargs)

    def check(self) -> None:
        """Raises `ValueError` at the first argument outside of its range. Also called before every training."""
        check_options(self)
        check_combinations(self)
