"""MS-MAML: one few-shot learner for audio, text and images."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, logging

from .adapted_tasks import AdaptedTasks
from .configuration_msmaml import MSMAMLConfig
from .dropout import drop_channels
from .encoder_registry import record_encoders
from .execution import map_chunks, with_gradients
from .inner_loop import Parameters, adapt
from .inner_rates import InnerRates
from .modalities import ModalityEmbedding, build_descriptors, build_frontends
from .modality_text import WordVectors
from .norms import NormParameters
from .pretrained_encoder import PretrainedFrontend
from .published_checkpoint import HUB_ARGUMENTS, OriginalCheckpoint, check_fit, find_original, read_config, read_weights
from .task_encoder import TaskEncoder
from .task_network import TaskNetwork

logger = logging.get_logger(__name__)


class MetaBatch(TypedDict, total=False):
    """One modality's tasks; without `query_labels` there is no loss."""

    support: Shaped[Tensor, "T S ..."]
    support_labels: Int[Tensor, "T S"]
    query: Shaped[Tensor, "T Q ..."]
    query_labels: Int[Tensor, "T Q"]
    class_ids: Int[Tensor, "T N"]  # the training class behind each label; only with `auxiliary_classes`
    n_way: int  # classes of these tasks; else read off the support labels, which makes an accelerator's host wait


@dataclass
class MSMAMLOutput(ModelOutput):
    """
    Output of [`MSMAMLModel`]; every dict has the keys of `episodes`.

    Args:
        loss (`Float[Tensor, ""]`, *optional*):
            Mean over all tasks of the query cross-entropy, in nats; absent without query labels.
        logits (`dict[str, Float[Tensor, "T Q N"]]`):
            Query logits of the adapted network.
        support_loss (`dict[str, Float[Tensor, "T num_inner_steps"]]`):
            Support cross-entropy before each inner step.
        modulation (`dict[str, tuple[Float[Tensor, "T size"], ...]]`):
            One tensor a layer, (T, 2C_l) for `"affine"`, scale first, then shift; an empty tuple without conditioning.
    """

    loss: Tensor | None = None
    logits: dict[str, Tensor] | None = None
    support_loss: dict[str, Tensor] | None = None
    modulation: dict[str, tuple[Tensor, ...]] | None = None


def _after_loading(model: PreTrainedModel) -> None:
    """
    Copies tensors out of the mapped file, where they lie at any address: a matrix product may round differently at
    another alignment, and a loaded model is to give the results of the saved one to the last bit. And sets what loading
    makes trainable back to what the config says.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    if "text" in model.frontends and isinstance(model.frontends["text"], WordVectors):
        model.train_word_vectors(model.config.train_word_vectors)
    for module in model.modules():
        if isinstance(module, PretrainedFrontend):
            module.after_loading()


class MSMAMLPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading, shared by all MS-MAML models."""

    config_class = MSMAMLConfig
    base_model_prefix = "msmaml"
    main_input_name = "episodes"

    def __init__(self, config: MSMAMLConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        self.add_model_tags(["ms-maml", "meta-learning", "few-shot-learning"])  # of the card that push_to_hub writes

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *model_args,
        run: str | None = None,
        iteration: int | None = None,
        **kwargs,
    ) -> "MSMAMLPreTrainedModel":
        """
        As in transformers; it also reads a folder or repository of the published layout, which has no `config.json`
        but `train_dir/<run>/maml_gated_conv_1d_<iteration>.pt`.

        Args:
            run: which run of the published layout; by default the three-modality 5-way 1-shot one. `subfolder`, the
                path of its folder, does the same.
            iteration: which checkpoint of that run; by default its last.

        Raises:
            `ValueError`: no such run or iteration (the message lists those that exist), or a file that is not a
                published checkpoint, or not of its `train_config.json`.
            `OSError`: no such folder or repository, or files are missing in it.
        """
        found = None
        if pretrained_model_name_or_path is not None or run is not None or iteration is not None:
            hub = {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}
            found = find_original(pretrained_model_name_or_path, run=run, iteration=iteration, **hub)
        if found is None:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
            _after_loading(loaded[0] if isinstance(loaded, tuple) else loaded)
            return loaded
        kwargs = {name: value for name, value in kwargs.items() if name not in HUB_ARGUMENTS}
        loaded = cls._from_original(found, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with output_loading_info=True
        _after_loading(model)
        model.name_or_path = model.config.name_or_path = str(pretrained_model_name_or_path)
        return loaded

    @classmethod
    def _from_original(cls, checkpoint: OriginalCheckpoint, *model_args, **kwargs):
        if not kwargs.get("weights_only", True):
            raise ValueError(f"weights_only=False is refused: {checkpoint.weights} is read as tensors only")
        config, weights = read_config(checkpoint.options), read_weights(checkpoint.weights)
        check_fit(weights, cls(config).state_dict(), checkpoint.weights)
        if kwargs.get("config") is None:
            changes = {name: kwargs.pop(name) for name in config.own_arguments() if name in kwargs}
            kwargs["config"] = type(config)(**{**config.own_values(), **changes})
        if "text" in config.modalities:
            logger.warning(
                "Published checkpoints hold no word vectors; those of this model are random until "
                "`set_input_embeddings` gives it the ones of your texts."
            )
        return super().from_pretrained(None, *model_args, state_dict=weights, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The architecture's init: Xavier uniform and zero bias in the task network, PyTorch's defaults elsewhere."""
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) and any(
            module is part for part in self.task_network.modules()
        ):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, NormParameters):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, WordVectors):
            init.normal_(module.weight)
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()


def task_losses(
    logits: Float[Tensor, "T samples N"], labels: Int[Tensor, "T samples"], label_smoothing: float = 0.0
) -> Float[Tensor, " T"]:
    """Mean cross-entropy of each task, in nats."""
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none", label_smoothing=label_smoothing)
    return losses.mean(dim=1)


@dataclass
class _ChunkResult:
    logits: Tensor
    support_loss: Tensor
    modulation: tuple[Tensor, ...]
    loss: Tensor | None = None
    gradients: tuple[Tensor | None, ...] | None = None

    def with_gradients(self, parameters: list[nn.Parameter]) -> "_ChunkResult":
        """The same without its graph, which ends here."""
        gradients = torch.autograd.grad(self.loss, parameters, allow_unused=True)
        modulation = tuple(tensor.detach() for tensor in self.modulation)
        return _ChunkResult(self.logits.detach(), self.support_loss.detach(), modulation, self.loss.detach(), gradients)


@dataclass
class _Samples:
    """
    Samples of T tasks: the frontend's maps (unless nothing after them needs them), the embedding's sequences (if it is
    not adapted), the descriptors.
    """

    maps: Float[Tensor, "T samples ..."] | None
    sequences: Float[Tensor, "T samples C L"] | None
    descriptors: Float[Tensor, "T samples size"] | None


@dataclass
class _ReadRows:
    """What `_Samples` holds of rows that were read before any task, as far as tasks need it."""

    sequences: Float[Tensor, "rows C L"]
    descriptors: Float[Tensor, "rows size"] | None

    def at(self, numbers: Int[Tensor, "T samples"]) -> _Samples:
        descriptors = None if self.descriptors is None else self.descriptors[numbers]
        return _Samples(None, self.sequences[numbers], descriptors)


@dataclass
class _Adaptation:
    """
    Adapted tasks, the parameters that they started from, the support set as `TaskNetwork.prepare` left it, and the
    parameters after every step under a multi-step loss, else the last ones alone.
    """

    adapted: AdaptedTasks
    start: Parameters
    state: tuple[Tensor, ...]
    path: list[Parameters]


def _join(modalities: list[str], results: list[_ChunkResult]) -> MSMAMLOutput:
    """The outputs of all chunks, given the modality of each, as one meta-batch a modality; without the loss."""
    parts = {name: [] for name in modalities}
    for name, result in zip(modalities, results, strict=True):
        parts[name].append(result)
    return MSMAMLOutput(
        logits={name: torch.cat([part.logits for part in group]) for name, group in parts.items()},
        support_loss={name: torch.cat([part.support_loss for part in group]) for name, group in parts.items()},
        modulation={
            name: tuple(map(torch.cat, zip(*(part.modulation for part in group), strict=True)))
            for name, group in parts.items()
        },
    )


class MSMAMLModel(MSMAMLPreTrainedModel):
    """
    Frontends, task encoder, task network and the inner loop that adapts it (MMAML, arXiv 1910.13616, on sequences of
    any modality; MS-MAML, Zhao and Shao 2024).

    The whole inner loop runs inside `forward`, so that distributed training, autocast and gradient accumulation see one
    ordinary forward and backward.
    """

    # The loss is a plain mean over tasks; Trainer is to divide it by the gradient accumulation steps itself.
    accepts_loss_kwargs = False

    # How MetaTrainer anneals the inner loop in training: weights of the query losses after each inner step, which sum
    # to 1 (none: the last alone counts), and whether second derivatives are left out for now.
    multi_step_weights: tuple[float, ...] | None = None
    first_order_for_now: bool = False
    # Within `rows_read`.
    _rows: Mapping[str, "_ReadRows"] = MappingProxyType({})

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        config.check()  # it may have been changed since it was made
        if config.embeddings is not None:
            config.embeddings = record_encoders(config.embeddings)
        self.frontends = build_frontends(config)
        self.task_encoder = TaskEncoder(config) if config.conditioning != "none" else None
        self.task_network = TaskNetwork(config)
        self.descriptors = build_descriptors(config)
        self.inner_rates = InnerRates(config, self.task_network) if config.inner_rates != "fixed" else None
        size, numbers = self.task_network.feature_size, config.auxiliary_classes or {}
        self.auxiliary = nn.ModuleDict(
            {name: nn.Linear(size, numbers[name], bias=False) for name in config.modalities if name in numbers}
        )
        self.post_init()
        self.train_word_vectors(config.train_word_vectors)

    def train_word_vectors(self, train: bool) -> None:
        """Whether the outer loop trains the word vectors (it does not, by default)."""
        self.config.train_word_vectors = train
        if "text" in self.frontends and isinstance(self.frontends["text"], nn.Embedding):
            self.frontends["text"].requires_grad_(train)

    def get_input_embeddings(self) -> nn.Embedding:
        """
        The word vectors of the text modality.

        Raises:
            `NotImplementedError`: this model has no text modality, or a pretrained encoder reads it.
        """
        if "text" not in self.frontends:
            raise NotImplementedError(f"a model of modalities={self.config.modalities} has no word vectors")
        if not isinstance(self.frontends["text"], nn.Embedding):
            raise NotImplementedError("this model has no word vectors of its own: embeddings['text'] reads text")
        return self.frontends["text"]

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """
        Replaces the word vectors by `value.weight` (vocab_size, word_vector_size), and `vocab_size` in the config.

        Raises:
            `NotImplementedError`: this model has no text modality.
            `ValueError`: the vectors have another size than `word_vector_size`.
        """
        vectors = self.get_input_embeddings()
        vocab_size, size = value.weight.shape
        if size != self.config.word_vector_size:
            raise ValueError(f"word vectors of size {size} do not fit word_vector_size={self.config.word_vector_size}")
        vectors.weight = nn.Parameter(value.weight.detach().clone().to(vectors.weight))
        self.config.vocab_size = vectors.num_embeddings = vocab_size
        self.train_word_vectors(self.config.train_word_vectors)

    def forward(self, episodes: dict[str, MetaBatch]) -> MSMAMLOutput:
        """
        Adapts to every task's support set and classifies its queries.

        Tasks run in chunks of `task_chunk_size`, on the CPU several at a time. In training mode each chunk's gradient
        is computed at once, which spares the memory of the other chunks' graphs; then `loss` is what can be
        differentiated, and only once. In evaluation mode every output can be, any number of times.

        Args:
            episodes: modality -> `{"support": (T, S, ...), "support_labels": int64 (T, S), "query": (T, Q, ...),
                "query_labels": int64 (T, Q)}`; without `"query_labels"` there is no loss. Raw inputs: audio int16 or
                float (.., samples) at 16 kHz; text integer token ids (.., tokens), 0 = padding; image uint8 or float in
                [0, 1] (.., 3, H, W). T, S and Q may differ by modality. With prototypes, `"n_way"` may say how many
                classes the tasks have; else the labels are read, for which an accelerator's host waits. On the CPU it
                must be that of the labels; on an accelerator it is trusted.

        Raises:
            `ValueError`: no episode, a modality that the model lacks, missing or misshapen tensors, a wrong `"n_way"`.
        """
        n_ways = self._check(episodes)
        tasks = sum(len(batch["support"]) for batch in episodes.values())
        has_labels = all("query_labels" in batch for batch in episodes.values())
        eagerly = has_labels and self.training and torch.is_grad_enabled()
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad] if eagerly else None
        chunks = list(self._chunks(episodes))
        results = map_chunks(partial(self._solve, tasks=tasks, n_ways=n_ways, trained=trained), chunks, self.device)
        output = _join([modality for modality, _ in chunks], results)
        if has_labels:
            output.loss = torch.stack([result.loss for result in results]).sum()
        if eagerly:
            output.loss = with_gradients(output.loss, trained, [result.gradients for result in results])
        return output

    def _chunks(self, episodes: dict[str, MetaBatch]) -> Iterator[tuple[str, MetaBatch]]:
        """(modality, meta-batch) of at most `task_chunk_size` tasks."""
        size = self.config.task_chunk_size
        for modality, batch in episodes.items():
            tasks = len(batch["support"])
            step = size or (1 if self.device.type == "cpu" else tasks)
            for start in range(0, tasks, step):
                parts = {name: tensor[start : start + step] for name, tensor in batch.items() if name != "n_way"}
                yield modality, parts

    def _solve(
        self,
        chunk: tuple[str, MetaBatch],
        tasks: int,
        n_ways: dict[str, int],
        trained: list[nn.Parameter] | None,
    ) -> "_ChunkResult":
        """
        One chunk: its outputs, its share of the loss over all `tasks`, and with `trained`, that share's gradient by
        each of these parameters in place of a graph. `n_ways`: classes of each modality's tasks.
        """
        modality, batch = chunk
        dropout = self.config.dropout if self.training else 0.0
        adaptation = self._adapt(modality, batch["support"], batch["support_labels"], n_ways[modality], dropout)
        adapted = adaptation.adapted
        query = self._read(modality, batch["query"], dropout)
        logits = self._classify(adapted, query)
        result = _ChunkResult(logits, adapted.support_loss, adapted.modulation)
        if "query_labels" in batch:
            losses = task_losses(logits, batch["query_labels"])
            if self.training:
                losses = self.config.episode_weight * self._training_losses(adaptation, query, batch, logits)
                if modality in self.auxiliary:
                    losses = losses + self.config.auxiliary_weight * self._auxiliary_losses(adaptation, query, batch)
            result.loss = losses.sum() / tasks
        return result if trained is None else result.with_gradients(trained)

    def _training_losses(
        self, adaptation: "_Adaptation", query: "_Samples", batch: MetaBatch, logits: Float[Tensor, "T Q N"]
    ) -> Float[Tensor, " T"]:
        """Query losses with label smoothing and, under a multi-step loss, weighted over the inner steps."""
        labels, smoothing = batch["query_labels"], self.config.label_smoothing
        if not self.multi_step_weights:
            return task_losses(logits, labels, smoothing)
        total = 0.0
        for weight, parameters in zip(self.multi_step_weights, adaptation.path, strict=True):
            if weight:
                after = self._classify(dataclasses.replace(adaptation.adapted, parameters=parameters), query)
                total = total + weight * task_losses(after, labels, smoothing)
        return total

    def _n_way(self, support_labels: Int[Tensor, "T S"], given: int | None = None) -> int:
        # A linear classifier has its number of classes. Else it is that of the labels, which the host must read.
        if self.config.head == "linear":
            return self.config.n_way
        if given is not None and support_labels.device.type != "cpu":
            return given
        return int(support_labels.max()) + 1 if support_labels.numel() else 0

    def _read(self, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float = 0.0) -> "_Samples":
        """Raw inputs, or within `rows_read` rows by number, as far as no modulation or adaptation changes their way."""
        if modality in self._rows:
            return self._rows[modality].at(raw)
        maps = _differentiable(self.frontends[modality](raw, self.dtype))
        descriptors = None
        if modality in self.descriptors:
            descriptors = self.descriptors[modality](maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        sequences = None
        if self.config.adapted_parameters != "all":
            sequences = self.task_network.embed(maps, modality)
            if dropout:
                sequences = drop_channels(sequences, dropout, raw)
        return _Samples(maps, sequences, descriptors)

    @property
    def can_read_rows_once(self) -> bool:
        """Whether all that tasks need of a sample is what neither modulation nor adaptation changes."""
        shared = self.task_encoder is None or self.config.share_embeddings
        return shared and self.config.adapted_parameters != "all"

    @contextmanager
    def rows_read(self, rows: Mapping[str, Sequence[Callable[[], Shaped[Tensor, "batch ..."]]]]) -> Iterator[None]:
        """
        Reads rows once for all tasks that they occur in: within, `forward`, `adapt` and `classify` take row numbers,
        int64 (T, samples), in place of raw inputs of these modalities. Nothing of it can be differentiated.

        Args:
            rows: modality -> functions that return raw inputs part by part, whose rows are numbered through. Not more
                parts than there are threads are in memory at a time.

        Raises:
            `ValueError`: a model that `can_read_rows_once` says no to.
        """
        if rows and not self.can_read_rows_once:
            raise ValueError("rows cannot be read once: this model adapts its embeddings, or modulates by others")
        read = {}
        for modality, parts in rows.items():
            samples = map_chunks(partial(self._read_part, modality), parts, self.device)
            described = None if samples[0].descriptors is None else torch.cat([s.descriptors[0] for s in samples])
            read[modality] = _ReadRows(torch.cat([s.sequences[0] for s in samples]), described)
        self._rows = read
        try:
            yield
        finally:
            self._rows = {}

    def bytes_of_row_read(self, modality: str, row: Shaped[Tensor, "1 ..."]) -> int:
        """Memory that a row like this one takes within `rows_read`."""
        samples = self._read_part(modality, lambda: row)
        return sum(t.numel() * t.element_size() for t in (samples.sequences, samples.descriptors) if t is not None)

    @torch.no_grad()
    def _read_part(self, modality: str, part: Callable[[], Shaped[Tensor, "batch ..."]]) -> "_Samples":
        samples = self._read(modality, part().to(self.device)[None])
        return dataclasses.replace(samples, maps=None)

    def _auxiliary_losses(self, adaptation: "_Adaptation", query: "_Samples", batch: MetaBatch) -> Float[Tensor, " T"]:
        """
        Cross-entropy of all samples among the training classes, by the cosine of the network's own features before
        adaptation and a trained vector for each class.
        """
        adapted = adaptation.adapted
        modality, modulation = adapted.modality, adapted.modulation
        states = [adaptation.state, self._prepare(adaptation.start, query, modality, modulation)]
        features = torch.cat(
            [self.task_network.features(adaptation.start, state, modality, modulation) for state in states], dim=1
        )
        own = self.task_network.own_features(features)
        weight = F.normalize(self.auxiliary[modality].weight, dim=1)
        labels = torch.cat([batch["support_labels"], batch["query_labels"]], dim=1)
        classes = batch["class_ids"].gather(1, labels)
        return task_losses(self.config.cosine_scale * own @ weight.T, classes, self.config.label_smoothing)

    def _prepare(self, parameters: Parameters, samples: "_Samples", modality: str, modulation, statistics=None):
        return self.task_network.prepare(
            parameters, samples.maps, samples.sequences, samples.descriptors, modality, modulation, statistics
        )

    def adapt(
        self,
        modality: str,
        support: Shaped[Tensor, "T S ..."],
        support_labels: Int[Tensor, "T S"],
        n_way: int | None = None,
    ) -> AdaptedTasks:
        """
        Modulates and adapts the task network to T support sets of one modality, as one.

        Without `torch.no_grad()` the result keeps the graph of the whole inner loop.

        Args:
            modality: one of the model's modalities.
            support: raw inputs, see [`MSMAMLModel.forward`].
            support_labels: from 0 to `n_way - 1`.
            n_way: classes of these tasks, by default `config.n_way`, with prototypes as many as the labels. With
                another number than `config.n_way` the row of every class in a linear classifier starts from the mean of
                the trained rows (weight and bias): a symmetric new start, that gives the trained rows' average logit to
                every class until the inner loop tells them apart.

        Raises:
            `ValueError`: a modality that the model lacks, `n_way` below 2, misshapen tensors, labels out of range.
        """
        n_way = self._n_way(support_labels) if n_way is None else n_way
        if modality not in self.frontends:
            raise ValueError(f"modality={modality!r} is unknown to this model, which has {self.config.modalities}")
        if n_way < 2:
            raise ValueError(f"n_way={n_way} must be at least 2")
        if support.dim() < 2 or not len(support):
            raise ValueError(f"support has shape {tuple(support.shape)}, expected (tasks, samples, ...)")
        if support_labels.shape != support.shape[:2]:
            raise ValueError(
                f"support_labels has shape {tuple(support_labels.shape)}, expected {tuple(support.shape[:2])}: one "
                "label for each task and sample of support"
            )
        _check_labels("support_labels", support_labels, n_way)
        return self._adapt(modality, support, support_labels, n_way).adapted

    def _adapt(
        self, modality: str, support: Tensor, support_labels: Tensor, n_way: int, dropout: float = 0.0
    ) -> "_Adaptation":
        graph = torch.is_grad_enabled()
        # The inner loop differentiates, which inference mode does not allow.
        with torch.inference_mode(False), torch.set_grad_enabled(graph):
            support_labels = _differentiable(support_labels)
            samples, network = self._read(modality, _differentiable(support), dropout), self.task_network
            modulation = ()
            if self.task_encoder is not None:
                inputs = samples.maps
                if self.config.share_embeddings:
                    inputs = network.embed(inputs, modality) if samples.sequences is None else samples.sequences
                modulation = self.task_encoder(inputs, support_labels, modality, n_way)
            start = network.task_parameters(modality, len(support), n_way)
            start = {name: _differentiable(value) for name, value in start.items()}
            state = self._prepare(start, samples, modality, modulation)
            if self.config.head == "prototype":
                features = network.features(start, state, modality, modulation)
                start |= network.prototype_classifier(features, support_labels, n_way)
            moving = [name for name in start if network.is_adapted(name)]
            fixed = [name for name in start if name not in moving]

            def support_losses(parameters: Parameters, *others: Tensor) -> Float[Tensor, " T"]:
                state_now, others = others[: len(state)], others[len(state) :]
                modulation_now, values = others[: len(modulation)], others[len(modulation) :]
                parameters = parameters | dict(zip(fixed, values, strict=True))
                return task_losses(network(parameters, state_now, modality, modulation_now), support_labels)

            steps = self.config.num_inner_steps
            rates = self.inner_rates.of_steps(moving, steps) if self.inner_rates else None
            values, trace, path = {name: start[name] for name in moving}, [], []
            # With a multi-step loss the inner loop stops after every step, for the queries to be classified.
            length = 1 if self.multi_step_weights and self.training else max(steps, 1)
            for done in range(0, max(steps, 1), length):
                values, losses = adapt(
                    support_losses,
                    values,
                    (*state, *modulation, *(start[name] for name in fixed)),
                    rates and rates[done : done + length],
                    num_inner_steps=min(length, steps),
                    inner_lr=self.config.inner_lr,
                    inner_grad_clip=self.config.inner_grad_clip,
                    first_order=self.config.first_order or self.first_order_for_now,
                    checkpointing=self.config.inner_loop_checkpointing,
                )
                trace.append(losses)
                path.append(values | {name: start[name] for name in fixed})
            parameters, losses = path[-1], torch.cat(trace, dim=1)
            statistics = None
            if self.config.norm != "group" and self.config.norm_statistics == "support":
                statistics = network.statistics(parameters, state, modality, modulation)
        return _Adaptation(AdaptedTasks(modality, parameters, modulation, statistics, losses), start, state, path)

    def classify(self, adapted: AdaptedTasks, query: Shaped[Tensor, "T Q ..."]) -> Float[Tensor, "T Q N"]:
        """
        Logits of the queries of adapted tasks.

        Args:
            adapted: what [`MSMAMLModel.adapt`] returned. It can be used any number of times.
            query: raw inputs of each task, see [`MSMAMLModel.forward`].

        Raises:
            `ValueError`: `query` has another number of tasks.
        """
        tasks = len(adapted.support_loss)
        if query.dim() < 2 or len(query) != tasks:
            raise ValueError(f"query has shape {tuple(query.shape)}, expected ({tasks}, samples, ...): tasks first")
        return self._classify(adapted, self._read(adapted.modality, query))

    def _classify(self, adapted: AdaptedTasks, query: "_Samples") -> Float[Tensor, "T Q N"]:
        arguments = (adapted.modality, adapted.modulation, adapted.statistics)
        state = self._prepare(adapted.parameters, query, *arguments)
        return self.task_network(adapted.parameters, state, *arguments)

    @torch.no_grad()
    def fit_front_ends(
        self,
        rows: Mapping[str, Shaped[Tensor, "samples ..."]],
        seed: int = 0,
        groups: Mapping[str, Int[Tensor, " samples"]] | None = None,
    ) -> None:
        """
        Fits frontends and descriptors to training samples; what cannot be fitted stays as it is.

        Args:
            rows: modality -> raw inputs of training samples, see [`MSMAMLModel.forward`]; a few thousand at most are
                needed.
            seed: of what is drawn: the image patches and their first clusters.
            groups: modality -> a number for the source or the class of each sample, of the modalities whose
                `descriptor_whitening` is by one of these.

        Raises:
            `ValueError`: a modality that the model lacks, fewer than two samples; groups that are missing, of no use,
                not one number a sample, or as many as samples; a modality without descriptor whose descriptor is to be
                whitened by groups. Nothing is fitted then.
        """
        groups = groups or {}
        if unknown := groups.keys() - rows.keys():
            raise ValueError(f"groups has {sorted(unknown)}, but rows has {sorted(rows)}")
        for modality, samples in rows.items():
            if modality not in self.frontends:
                raise ValueError(f"rows has modality {modality!r}, but this model has {self.config.modalities}")
            if len(samples) < 2:
                raise ValueError(f"rows[{modality!r}] has {len(samples)} samples; at least 2 are needed")
            self._check_groups(modality, len(samples), groups.get(modality))
        for modality, samples in rows.items():
            frontend, samples = self.frontends[modality], samples.to(self.device)
            if hasattr(frontend, "fit"):
                frontend.fit(samples, torch.Generator().manual_seed(seed))
            if modality in self.descriptors:
                descriptor = self.descriptors[modality]
                parts = (descriptor.statistics.function(frontend(part, self.dtype)) for part in samples.split(256))
                descriptor.fit_statistics(torch.cat(list(parts)), groups.get(modality))

    def _check_groups(self, modality: str, samples: int, groups: Int[Tensor, " samples"] | None) -> None:
        """Raises `ValueError` unless the groups of samples are what the modality's descriptor is to be whitened by."""
        kind = self.config.descriptor_whitenings[modality]
        is_kind = f"descriptor_whitening is {kind!r} for {modality}"
        if kind == "total":
            if groups is not None:
                raise ValueError(f"{is_kind}, so that groups[{modality!r}] has no use: leave it out")
            return
        if modality not in self.descriptors:
            raise ValueError(f"{is_kind}, which has no descriptor: give descriptor_whitening for the others alone")
        if groups is None:
            raise ValueError(f"{is_kind}: give groups[{modality!r}], a number for the {kind} of each sample")
        if not isinstance(groups, Tensor) or groups.shape != (samples,):
            given = tuple(groups.shape) if isinstance(groups, Tensor) else type(groups).__name__
            raise ValueError(
                f"groups[{modality!r}] must be a tensor of shape ({samples},), a number a sample, not {given}"
            )
        if len(groups.unique()) == samples:
            other = "class" if kind == "source" else "source"
            raise ValueError(
                f"{is_kind}, but no two of {samples} samples share their {kind}: take {other!r} or 'total'"
            )

    def _check(self, episodes: dict[str, MetaBatch]) -> dict[str, int]:
        """Raises `ValueError` if they are not as `forward` says; returns the number of classes of each modality."""
        n_ways = {}
        if not episodes:
            raise ValueError("episodes is empty: give at least one modality's meta-batch")
        for modality, batch in episodes.items():
            if modality not in self.frontends:
                raise ValueError(f"episodes has modality {modality!r}, but this model has {self.config.modalities}")
            for part in ("support", "query"):
                if part not in batch:
                    raise ValueError(f"episodes[{modality!r}] lacks {part!r}; it has {sorted(batch)}")
            if "support_labels" not in batch:
                raise ValueError(f"episodes[{modality!r}] lacks 'support_labels'; it has {sorted(batch)}")
            known = MetaBatch.__annotations__.keys() - (set() if self.config.auxiliary_classes else {"class_ids"})
            if unknown := batch.keys() - known:
                raise ValueError(f"episodes[{modality!r}] has {sorted(unknown)}, of which the model knows nothing")
            n_ways[modality] = self._n_way(batch["support_labels"], batch.get("n_way"))
            if "n_way" in batch:
                name = f"episodes[{modality!r}]['n_way']"
                _check_n_way(name, batch["n_way"], batch["support_labels"].shape[-1], n_ways[modality])
            tasks = batch["support"].shape[0]
            if not tasks:
                raise ValueError(f"episodes[{modality!r}] holds no task: leave the modality out")
            if modality in self.auxiliary and self.training and "query_labels" in batch and "class_ids" not in batch:
                raise ValueError(f"episodes[{modality!r}] lacks 'class_ids', which auxiliary_classes needs in training")
            for name, tensor in batch.items():
                if name in ("class_ids", "n_way"):
                    continue
                samples = batch["query" if name.startswith("query") else "support"].shape[1]
                if tuple(tensor.shape[:2]) != (tasks, samples):
                    raise ValueError(
                        f"episodes[{modality!r}][{name!r}] has shape {tuple(tensor.shape)}, expected "
                        f"({tasks}, {samples}, ...): tasks first, then samples"
                    )
                if name.endswith("labels"):
                    _check_labels(f"episodes[{modality!r}][{name!r}]", tensor, n_ways[modality])
        return n_ways


def _differentiable(tensor: Tensor) -> Tensor:
    """A copy of tensors of inference mode, which autograd refuses."""
    return tensor.clone() if tensor.is_inference() else tensor


def _check_n_way(name: str, given: int, support_samples: int, n_way: int) -> None:
    if type(given) is not int or not 2 <= given <= support_samples:
        raise ValueError(
            f"{name} is {given!r}, but must be an integer from 2 to {support_samples}, the support samples"
        )
    if given != n_way:
        raise ValueError(f"{name} is {given}, but the labels or a linear classifier have {n_way} classes")


def _check_labels(name: str, labels: Tensor, n_way: int) -> None:
    # On an accelerator the comparison would stall the queue, and the cross-entropy itself asserts there.
    if labels.device.type != "cpu":
        return
    if labels.dtype != torch.int64 or (labels.numel() and not 0 <= labels.min() <= labels.max() < n_way):
        raise ValueError(f"{name} must hold labels of dtype int64 from 0 to {n_way - 1}, since n_way={n_way}")


# With code from the Hub, transformers fetches what a module imports itself, and misses in some orders what only those
# modules import: so this one, which the auto classes load, names them all.
from .conv_norm import conv_norm_relu as _conv_norm_relu  # noqa: E402, F401
from .conv_norm_gradients import activate as _activate  # noqa: E402, F401
from .convolution import conv1d as _conv1d  # noqa: E402, F401
from .descriptors import Descriptor as _Descriptor  # noqa: E402, F401
from .modality_audio import AudioEmbedding as _AudioEmbedding  # noqa: E402, F401
from .modality_image import ImageEmbedding as _ImageEmbedding  # noqa: E402, F401
from .modulation import ModulationLayer as _ModulationLayer  # noqa: E402, F401

__all__ = ["AdaptedTasks", "MSMAMLModel", "MSMAMLOutput", "MSMAMLPreTrainedModel", "ModalityEmbedding"]
