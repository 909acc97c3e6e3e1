"""Configuration of an MS-MAML model."""

import difflib
import inspect
from typing import Any

from transformers import PreTrainedConfig

from .encoder_registry import check_embeddings

CONDITIONING_TYPES = ("affine", "sigmoid", "softmax", "none", "kernel")
NORM_STATISTICS = ("transductive", "support")
FRONT_ENDS = ("raw", "fitted")
DESCRIPTOR_WHITENINGS = ("total", "source", "class")
NORMS = ("batch", "group", "task")
HEADS = ("linear", "prototype")
POOLINGS = ("mean", "mean_max")
ADAPTED = ("all", "upper", "head")
INNER_RATES = ("fixed", "per_layer_per_step", "per_element")
MODULATION_INITS = ("default", "identity")
SUPPORT_POOLINGS = ("mean", "class")
# Keywords that transformers passes to any config besides its attributes.
_KNOWN_ELSEWHERE = ("pad_token_id", "use_cache", "torch_dtype", "name_or_path", "attn_implementation", "auto_map")


class MSMAMLConfig(PreTrainedConfig):
    r"""
    Everything that defines an [`MSMAMLModel`]. The defaults are the architecture of the published checkpoints.

    Args:
        modalities (`list[str]`, defaults to `["audio", "text", "image"]`):
            The modalities that the model has embeddings for: any non-empty subset of the registered ones (see
            [`register_modality`]).
        n_way (`int`, defaults to 5):
            Classes in an episode, the size of the classifier.
        num_channels (`int`, defaults to 32):
            C, the channels of every modality's sequence. Layer l (counted from 0) has `num_channels * 2**l` channels.
        num_layers (`int`, defaults to 4):
            Layers of the task network, and of the task encoder.
        kernel_size, stride, padding (`int` or `list[int]`, default to 5, 2 and 1):
            Geometry of the task network's convolutions; a list has one value a layer.
        conditioning (`str`, defaults to `"affine"`):
            What the modulation m of a layer does to its normalised activation h: `"affine"`, h * (1 + scale) + shift
            with m = (scale, shift) (FiLM, arXiv 1709.07871); `"sigmoid"`, h * sigmoid(m); `"softmax"`,
            h * softmax(m) over channels; `"none"`, no task encoder at all, which is plain MAML; `"kernel"`, every
            element w[o, i, k] of the layer's kernel times 1 + r[o] + c[i] with m = (r, c), the modulation of kernels
            of KML (arXiv 2110.14202, section 4) reduced to one term for each row and column.
        task_encoder_kernel_size (`int`, defaults to 3):
            Kernel of the task encoder's convolutions (stride 1, length kept; odd).
        task_encoder_hidden_size (`int`, defaults to 128):
            Size of the task representation, from which every layer's modulation is a linear map.
        num_inner_steps (`int`, defaults to 5):
            Gradient steps of the inner loop. 0 gives the modulated, unadapted network.
        inner_lr (`float`, defaults to 0.05):
            Learning rate of the inner loop's SGD.
        inner_grad_clip (`float`, *optional*, defaults to 20.0):
            Every element of an inner gradient is clamped to [-inner_grad_clip, inner_grad_clip]; `None` clamps nothing.
        task_chunk_size (`int`, *optional*):
            Tasks of one modality that run as one; fewer take less memory. By default one on the CPU, where chunks are
            spread over threads, and all on an accelerator. No result depends on it.
        inner_loop_checkpointing (`bool`, defaults to `False`):
            Whether training keeps the graph of one inner step at a time instead of all, at the cost of running the
            steps forwards twice (up to 5 of them), three times (up to 15), four times (up to 35), and so on. No result
            depends on it. For many inner steps, or little memory.
        first_order (`bool`, defaults to `False`):
            Whether the outer gradient ignores how the inner gradients depend on the parameters (FOMAML).
        norm (`str`, defaults to `"batch"`):
            What the task network and the task encoder normalise with: `"batch"`, batch norm over a task's samples (as
            published); `"group"`, group norm over the channels of one sample (arXiv 1803.08494), so that a sample's
            features depend on no other sample; `"task"`, TaskNorm-I (arXiv 2003.03284), statistics of the support set
            mixed with those of the sample itself in trained shares (the task encoder, which sees nothing but the
            support set, then has batch norm).
        norm_statistics (`str`, *optional*):
            Where batch norm takes mean and variance of queries from: `"transductive"` (its default), all queries of
            the episode (as published); `"support"`, the support set, so that the prediction for a query depends on no
            other query. With group norm and task norm it is always `"support"`: predictions never depend
            on other queries.
        norm_eps (`float`, defaults to 1e-5):
            Added to the variance before its square root.
        audio_patch_size (`int`, defaults to 320):
            Samples (at 16 kHz) in one position of the audio sequence.
        text_patch_size (`int`, defaults to 12):
            Tokens in one position of the text sequence.
        image_patch_size (`int`, defaults to 2):
            Side, in pixels, of the square in one position of the image sequence.
        image_size (`int`, defaults to 32):
            Side of an image in pixels, a multiple of `image_patch_size`.
        image_channels (`int`, defaults to 3):
            Colour channels of an image.
        image_signal_side (`int`, defaults to 0):
            Above 0, images have no embedding of their own (the published ablation of modality-aware embeddings): each
            is resized to this side, flattened colour by colour to a signal of `image_channels * image_signal_side**2`
            values and read by the audio embedding, with its weights. 163 gives about as many values as 5 seconds of
            sound. Needs both modalities and raw front ends.
        vocab_size (`int`, defaults to 400):
            Word vectors of the text modality. Token 0 is padding, its vector zero.
        word_vector_size (`int`, defaults to 128):
            Size of a word vector.
        train_word_vectors (`bool`, defaults to `False`):
            Whether the outer loop trains the word vectors. The inner loop never does.
        front_ends (`str`, defaults to `"raw"`):
            How raw inputs become features: `"raw"`, linear patches of samples, word vectors and pixels (as published);
            `"fitted"`, log-mel spectrograms, weighted word vectors and a dictionary of image patches, fitted to
            unlabelled training samples by [`MSMAMLModel.fit_front_ends`], with a convolutional stem each.
        num_mels (`int`, defaults to 64):
            Mel bands, with fitted front ends.
        patch_dictionary_size, dictionary_patch_size (`int`, default to 128 and 6):
            Image patches in the dictionary, and their side in pixels, with fitted front ends.
        descriptor_size (`int`, defaults to 0):
            Size of the fitted descriptor of a sample (see [`Descriptor`]), that stands beside the network's features;
            0 for none. Needs fitted front ends.
        descriptor_whitening (`str` or `dict[str, str]`, defaults to `"total"`):
            How [`MSMAMLModel.fit_front_ends`] whitens the descriptor's components: `"total"`, each divided by a power
            of its deviation over all training samples, without labels; `"source"` or `"class"`, all together by their
            covariance between samples of one source (recording, document) or of one class, see
            `descriptors.within_group_whitening`. One for all modalities or one a modality. Needs a descriptor.
        feature_size (`int`, defaults to 0):
            Size to which the task network's pooled features are projected; 0 projects nothing.
        pooling (`str`, defaults to `"mean"`):
            How the task network sums a sequence up: `"mean"` over its positions, or `"mean_max"`, mean and maximum.
        network_gain (`float` or `dict[str, float]`, defaults to 1.0):
            Length of the network's features beside the descriptor, which has length 1; one for all modalities or one
            a modality. Needs a descriptor.
        head (`str`, defaults to `"linear"`):
            How a classifier begins: `"linear"`, a trained linear layer of `n_way` classes (as published);
            `"prototype"`, unit-length features and each class's mean over the support set, compared by their cosine
            (ProtoMAML, arXiv 1903.03096, section 3.2, with a cosine for the distance). That works for any number of
            classes; `n_way` is then only what the model was evaluated with.
        cosine_scale (`float`, defaults to 10.0):
            What the cosine is multiplied with at first; trained. Only with `head="prototype"`.
        adapted_parameters (`str`, defaults to `"all"`):
            What the inner loop adapts of the task network: `"all"` (as published); `"upper"`, everything above the
            embeddings; `"head"`, the classifier alone (ANIL, arXiv 1909.09157).
        inner_rates (`str`, defaults to `"fixed"`):
            `"fixed"`: `inner_lr` everywhere. Trained, starting from `inner_lr`: `"per_layer_per_step"` (LSLR, MAML++,
            arXiv 1810.09502, section 4.5) or `"per_element"` (Meta-SGD, arXiv 1707.09835).
        modulation_init (`str`, defaults to `"default"`):
            `"identity"`: the modulation changes nothing at first. Only with `conditioning` `"affine"` or `"kernel"`.
        task_encoder_pooling (`str`, defaults to `"mean"`):
            How the task encoder sums support samples up: `"mean"` over all; `"class"`, mean and standard deviation
            over the means of the classes, so that it sees how they differ.
        share_embeddings (`bool`, defaults to `False`):
            Whether the task encoder reads the sequences of the task network's embeddings instead of having its own.
        auxiliary_classes (`dict[str, int]`, *optional*):
            Modality -> number of training classes among which the samples of an episode are also classified in
            training (auxiliary co-training, TADAM, arXiv 1805.10123, section 3.4). Episodes then need `class_ids`.
        auxiliary_weight (`float`, defaults to 1.0):
            Weight of that loss. Only with `auxiliary_classes`.
        episode_weight (`float`, defaults to 1.0):
            Weight of the episodes' query loss in training. 0 trains on the auxiliary classes alone, which makes a
            supervised backbone; needs `auxiliary_classes`.
        label_smoothing (`float`, defaults to 0.0):
            How much of a training label is spread over all classes (Szegedy et al. 2016, arXiv 1512.00567, section 7),
            for queries and auxiliary classes; in [0, 1). The inner loop's labels stay as they are.
        dropout (`float`, defaults to 0.0):
            Probability, in [0, 1), with which a channel of a sample's sequence is zero in a training step (see
            [`drop_channels`]): the same channels in all inner steps, so only where the inner loop leaves the embeddings
            as they are (`adapted_parameters` `"upper"` or `"head"`).
        embeddings (`dict[str, dict]`, *optional*):
            Modality -> the frozen pretrained encoder that reads it in place of `front_ends`: `{"image": {"timm":
            "resnet18"}, "text": {"transformers": folder or name}, "audio": {"transformers": folder or name}}`. Further
            keys: `"pretrained"` (`False`: random weights; default `True`); `"adapter_size"`, the width of a trained
            bottleneck on its features; `"layer"` (audio and text), whose hidden states to take, 0 being what goes into
            the first, by default what the encoder gives out; `"pool"` (audio and text), how many positions are
            averaged to one; `"window"` (text), tokens that go through the encoder at once, special tokens included, by
            default as many as it takes; `"special_tokens"` (text), ids before and after a text, if the tokenizer
            cannot be asked; `"input_size"` (image), the side in pixels to which pictures are resized. [`MSMAMLModel`]
            adds `"recorded"`: architecture and preprocessing, with which a saved model is built again.

    Raises:
        `ValueError`: an argument outside of its range, or misspelt.
    """

    model_type = "msmaml"

    def __init__(
        self,
        modalities: list[str] | tuple[str, ...] = ("audio", "text", "image"),
        n_way: int = 5,
        num_channels: int = 32,
        num_layers: int = 4,
        kernel_size: int | list[int] = 5,
        stride: int | list[int] = 2,
        padding: int | list[int] = 1,
        conditioning: str = "affine",
        task_encoder_kernel_size: int = 3,
        task_encoder_hidden_size: int = 128,
        num_inner_steps: int = 5,
        inner_lr: float = 0.05,
        inner_grad_clip: float | None = 20.0,
        task_chunk_size: int | None = None,
        inner_loop_checkpointing: bool = False,
        first_order: bool = False,
        norm: str = "batch",
        norm_statistics: str | None = None,
        norm_eps: float = 1e-5,
        audio_patch_size: int = 320,
        text_patch_size: int = 12,
        image_patch_size: int = 2,
        image_size: int = 32,
        image_channels: int = 3,
        image_signal_side: int = 0,
        vocab_size: int = 400,
        word_vector_size: int = 128,
        train_word_vectors: bool = False,
        front_ends: str = "raw",
        num_mels: int = 64,
        patch_dictionary_size: int = 128,
        dictionary_patch_size: int = 6,
        descriptor_size: int = 0,
        descriptor_whitening: str | dict[str, str] = "total",
        feature_size: int = 0,
        pooling: str = "mean",
        network_gain: float | dict[str, float] = 1.0,
        head: str = "linear",
        cosine_scale: float = 10.0,
        adapted_parameters: str = "all",
        inner_rates: str = "fixed",
        modulation_init: str = "default",
        task_encoder_pooling: str = "mean",
        share_embeddings: bool = False,
        auxiliary_classes: dict[str, int] | None = None,
        auxiliary_weight: float = 1.0,
        episode_weight: float = 1.0,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        embeddings: dict[str, dict] | None = None,
        **kwargs,
    ):
        self.modalities = list(modalities)
        self.n_way = n_way
        self.num_channels = num_channels
        self.num_layers = num_layers
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.conditioning = conditioning
        self.task_encoder_kernel_size = task_encoder_kernel_size
        self.task_encoder_hidden_size = task_encoder_hidden_size
        self.num_inner_steps = num_inner_steps
        self.inner_lr = inner_lr
        self.inner_grad_clip = inner_grad_clip
        self.task_chunk_size = task_chunk_size
        self.inner_loop_checkpointing = inner_loop_checkpointing
        self.first_order = first_order
        self.norm = norm
        self.norm_statistics = norm_statistics or ("transductive" if norm == "batch" else "support")
        self.norm_eps = norm_eps
        self.audio_patch_size = audio_patch_size
        self.text_patch_size = text_patch_size
        self.image_patch_size = image_patch_size
        self.image_size = image_size
        self.image_channels = image_channels
        self.image_signal_side = image_signal_side
        self.vocab_size = vocab_size
        self.word_vector_size = word_vector_size
        self.train_word_vectors = train_word_vectors
        self.front_ends = front_ends
        self.num_mels = num_mels
        self.patch_dictionary_size = patch_dictionary_size
        self.dictionary_patch_size = dictionary_patch_size
        self.descriptor_size = descriptor_size
        self.descriptor_whitening = descriptor_whitening
        self.feature_size = feature_size
        self.pooling = pooling
        self.network_gain = network_gain
        self.head = head
        self.cosine_scale = cosine_scale
        self.adapted_parameters = adapted_parameters
        self.inner_rates = inner_rates
        self.modulation_init = modulation_init
        self.task_encoder_pooling = task_encoder_pooling
        self.share_embeddings = share_embeddings
        self.auxiliary_classes = auxiliary_classes
        self.auxiliary_weight = auxiliary_weight
        self.episode_weight = episode_weight
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.embeddings = embeddings
        kwargs.setdefault("pad_token_id", 0)
        self._refuse_unknown(kwargs)
        self.check()
        super().__init__(**kwargs)

    @classmethod
    def own_arguments(cls) -> list[str]:
        """The names of the arguments that this class adds to `PreTrainedConfig`."""
        return [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "kwargs")]

    def own_values(self) -> dict:
        """The values of these arguments."""
        return {name: getattr(self, name) for name in self.own_arguments()}

    def _refuse_unknown(self, kwargs: dict) -> None:
        # PreTrainedConfig keeps whatever keyword it is given, so that a typo would be an option without effect. Only a
        # saved config, which names its version, may hold what another version of transformers wrote there.
        if "transformers_version" in kwargs:
            return
        known = {*vars(PreTrainedConfig()), *dir(PreTrainedConfig), *_KNOWN_ELSEWHERE}
        for name in kwargs:
            if name not in known and not name.startswith("_"):
                close = difflib.get_close_matches(name, self.own_arguments(), n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(self.own_arguments())}"
                raise ValueError(f"MSMAMLConfig has no argument {name!r}{hint}")

    @property
    def layer_channels(self) -> list[int]:
        """Output channels of each layer: C, 2C, 4C, ..."""
        return [self.num_channels * 2**layer for layer in range(self.num_layers)]

    def front_ends_of(self, modality: str) -> str:
        """`"pretrained"` for a modality in `embeddings`, else `front_ends`."""
        return "pretrained" if modality in (self.embeddings or {}) else self.front_ends

    def embedding_of(self, modality: str) -> str:
        """Whose embedding reads a modality: its own, or with `image_signal_side` that of audio."""
        return "audio" if modality == "image" and self.image_signal_side else modality

    def per_layer(self, name: str) -> list[int]:
        """`kernel_size`, `stride` or `padding` as one value a layer."""
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

    def check(self) -> None:
        """Raises `ValueError` at the first argument outside of its range. Also called before every training."""
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities={self.modalities} must name at least one modality and none twice")
        _check_choice("conditioning", self.conditioning, CONDITIONING_TYPES)
        for name, choices in (
            ("norm_statistics", NORM_STATISTICS),
            ("front_ends", FRONT_ENDS),
            ("norm", NORMS),
            ("head", HEADS),
            ("pooling", POOLINGS),
            ("adapted_parameters", ADAPTED),
            ("inner_rates", INNER_RATES),
            ("modulation_init", MODULATION_INITS),
            ("task_encoder_pooling", SUPPORT_POOLINGS),
        ):
            _check_choice(name, getattr(self, name), choices)
        for name in (
            "num_channels",
            "num_layers",
            "task_encoder_kernel_size",
            "task_encoder_hidden_size",
            "audio_patch_size",
            "text_patch_size",
            "image_patch_size",
            "image_size",
            "image_channels",
            "word_vector_size",
            "num_mels",
            "patch_dictionary_size",
            "dictionary_patch_size",
        ):
            _check_at_least(name, getattr(self, name), 1)
        _check_at_least("n_way", self.n_way, 2)
        _check_at_least("vocab_size", self.vocab_size, 2)
        for name in ("num_inner_steps", "descriptor_size", "feature_size", "image_signal_side"):
            _check_at_least(name, getattr(self, name), 0)
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            values = self.per_layer(name)
            if len(values) != self.num_layers:
                raise ValueError(
                    f"{name}={values} must be one integer, or one for each of num_layers={self.num_layers}"
                )
            for value in values:
                _check_at_least(name, value, least)
        if self.task_encoder_kernel_size % 2 == 0:
            raise ValueError(f"task_encoder_kernel_size={self.task_encoder_kernel_size} must be odd")
        if self.front_ends == "raw" and self.image_size % self.image_patch_size:
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of image_patch_size={self.image_patch_size}"
            )
        for name in ("inner_lr", "norm_eps", "cosine_scale", "auxiliary_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if self.task_chunk_size is not None:
            _check_at_least("task_chunk_size", self.task_chunk_size, 1)
        if self.inner_grad_clip is not None and not self.inner_grad_clip > 0:
            raise ValueError(f"inner_grad_clip={self.inner_grad_clip} must be positive, or None for no clipping")
        for name in ("label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1)")
        for name in ("network_gain", "descriptor_whitening"):
            value = getattr(self, name)
            if isinstance(value, dict) and (unknown := value.keys() - set(self.modalities)):
                raise ValueError(f"{name} names {sorted(unknown)}, but modalities={self.modalities}")
        for modality, whitening in self.descriptor_whitenings.items():
            _check_choice(f"descriptor_whitening of {modality}", whitening, DESCRIPTOR_WHITENINGS)
        if self.front_ends == "fitted" and self.image_size < self.dictionary_patch_size + 2:
            raise ValueError(
                f"image_size={self.image_size} must be at least dictionary_patch_size + 2 = "
                f"{self.dictionary_patch_size + 2}, for responses to be averaged over 3 x 3 positions"
            )
        for modality, gain in self.network_gains.items():
            if not gain > 0:
                raise ValueError(f"network_gain={self.network_gain} must be positive, also for {modality!r}")
        self._check_combinations()

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

    def _check_combinations(self) -> None:
        """Raises `ValueError` where one argument would leave another without effect or meaning."""
        if self.norm != "batch" and self.norm_statistics != "support":
            raise ValueError(
                f"norm_statistics={self.norm_statistics!r} does not go with norm={self.norm!r}, which normalises no "
                "query with others: leave it out"
            )
        if self.embeddings is not None:
            check_embeddings(self.embeddings, self.modalities)
        if self.image_signal_side:
            for name in ("audio", "image"):
                if name not in self.modalities or self.front_ends_of(name) != "raw":
                    raise ValueError(
                        f"image_signal_side={self.image_signal_side} needs front_ends='raw' for audio and image, whose "
                        f"embedding they share; modalities={self.modalities}"
                    )
            if self.image_patch_size != 2:
                raise ValueError(
                    f"image_patch_size={self.image_patch_size} has no effect with "
                    f"image_signal_side={self.image_signal_side}, which cuts no patches"
                )
        if self.descriptor_size and any(self.front_ends_of(name) == "raw" for name in self.modalities):
            raise ValueError(
                f"descriptor_size={self.descriptor_size} needs front_ends='fitted', or embeddings for all modalities"
            )
        if self.train_word_vectors and self.front_ends_of("text") == "pretrained":
            raise ValueError("train_word_vectors=True has no effect on text that embeddings['text'] reads")
        if self.network_gain != 1.0 and not self.descriptor_size:
            raise ValueError(f"network_gain={self.network_gain} needs a descriptor: give descriptor_size, or leave it")
        if set(self.descriptor_whitenings.values()) != {"total"} and not self.descriptor_size:
            raise ValueError(
                f"descriptor_whitening={self.descriptor_whitening!r} needs a descriptor: give descriptor_size, or "
                "leave it"
            )
        if self.cosine_scale != 10.0 and self.head != "prototype":
            raise ValueError(f"cosine_scale={self.cosine_scale} has no effect with head={self.head!r}")
        if self.inner_rates != "fixed" and not self.num_inner_steps:
            raise ValueError(f"inner_rates={self.inner_rates!r} has no effect with num_inner_steps=0")
        if self.modulation_init == "identity" and self.conditioning not in ("affine", "kernel"):
            raise ValueError(
                f"modulation_init='identity' needs conditioning='affine' or 'kernel', not {self.conditioning!r}"
            )
        if self.conditioning == "none":
            for name in ("task_encoder_pooling", "share_embeddings"):
                if getattr(self, name) not in ("mean", False):
                    raise ValueError(f"{name}={getattr(self, name)!r} has no effect with conditioning='none'")
        if self.dropout and self.adapted_parameters == "all":
            raise ValueError(
                f"dropout={self.dropout} drops what comes out of the embeddings, which adapted_parameters='all' makes "
                "anew in every inner step: take adapted_parameters='upper' or 'head'"
            )
        if self.episode_weight < 0 or (self.episode_weight == 0 and not self.auxiliary_classes):
            raise ValueError(
                f"episode_weight={self.episode_weight} must be positive, or 0 with auxiliary_classes to train on"
            )
        if self.auxiliary_classes is None:
            if self.auxiliary_weight != 1.0:
                raise ValueError(f"auxiliary_weight={self.auxiliary_weight} has no effect without auxiliary_classes")
        elif unknown := self.auxiliary_classes.keys() - set(self.modalities):
            raise ValueError(f"auxiliary_classes names {sorted(unknown)}, but modalities={self.modalities}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")


def _check_at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
