"""MS-MAML: one few-shot learner for audio, text and images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers.utils.generic import can_return_tuple

from .adaptation import Adaptation, AdaptedTasks
from .adapts_tasks import AdaptsTasks
from .configuration_msmaml import MSMAMLConfig
from .convolutional_tasks import ConvolutionalTasks as _ConvolutionalTasks  # noqa: F401, registers itself
from .execution import map_chunks, with_gradients
from .explained_tasks import ExplainedTasks
from .level_tasks import LevelTasks as _LevelTasks  # noqa: F401, registers itself
from .loading import MSMAMLPreTrainedModel
from .losses import auxiliary_losses, multi_step_losses
from .meta_batch import (
    ChunkResult,
    MetaBatch,
    MSMAMLOutput,
    check_episodes,
    chunks,
    joined,
    modality_of_group,
)
from .modalities import ModalityEmbedding
from .picture_task_encoder import ConvGRUTaskEncoder as _ConvGRUTaskEncoder  # noqa: F401, registers itself
from .picture_tasks import PictureTasks as _PictureTasks  # noqa: F401, registers itself
from .residual_tasks import ResidualTasks as _ResidualTasks  # noqa: F401, registers itself
from .samples import ReadRows, Samples, read_rows
from .task_loss import task_loss_of, training_loss_of
from .task_networks import task_network_kind
from .transformers_calls import AnswersTransformers, refuse_inner_states


class MSMAMLModel(AdaptsTasks, ExplainedTasks, AnswersTransformers, MSMAMLPreTrainedModel):
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
    # The meta-step. Which of the statistics of `fit_for_training` its episodes see is this number, counted round.
    training_turn: int = 0
    # Within `rows_read`.
    _rows: Mapping[str, ReadRows] = MappingProxyType({})

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        config.check()  # it may have been changed since it was made
        self._kind = task_network_kind(config.task_network)
        self._kind.check(config)
        self._kind.build(self, config)
        self.post_init()
        self.train_word_vectors(config.train_word_vectors)

    @can_return_tuple
    def forward(
        self,
        episodes: dict[str, MetaBatch],
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> MSMAMLOutput:
        """
        Adapts to every task's support set and classifies its queries.

        Tasks run in chunks of `task_chunk_size`, on the CPU several at a time. In training mode each chunk's gradient
        is computed at once, which spares the memory of the other chunks' graphs; then `loss` is what can be
        differentiated, and only once. In evaluation mode, and without a loss, every output can be, any number of times:
        a loss of one's own on the logits is trained with `return_loss=False`.

        Args:
            episodes: modality -> its tasks, see [`MetaBatch`]; T, S and Q may differ by modality. Tasks of one modality
                that differ in shape are under `"image"`, `"image#1"` and so on. Without `"query_labels"` there is no
                loss.
            return_loss: whether the loss is among the outputs where there are labels.
            output_hidden_states, output_attentions: refused, since tasks have networks of their own.

        `return_dict=False` returns a tuple of what the output has, loss first; by default it is as in the config.

        Raises:
            `ValueError`: no episode, a modality that the model lacks, missing or misshapen tensors, a wrong `"n_way"`.
        """
        states = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        refuse_inner_states(self.config, **states)
        n_ways = check_episodes(episodes, self.config, self.training, self.fixed_n_way)
        tasks = sum(len(batch["support"]) for batch in episodes.values())
        has_labels = return_loss and all("query_labels" in batch for batch in episodes.values())
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        eagerly = has_labels and self.training and torch.is_grad_enabled() and bool(trained)
        parts = list(chunks(episodes, self.config.task_chunk_size or (1 if self.device.type == "cpu" else None)))
        results = map_chunks(
            partial(self._solve, tasks=tasks, n_ways=n_ways, trained=trained if eagerly else None), parts, self.device
        )
        groups = [group for group, _ in parts]
        if not has_labels:
            return joined(groups, results)
        loss = torch.stack([result.loss for result in results if result.loss is not None]).sum()
        gradients = [result.gradients for result in results if result.gradients is not None]
        return joined(groups, results, with_gradients(loss, trained, gradients) if eagerly else loss)

    def _solve(
        self,
        chunk: tuple[str, MetaBatch],
        tasks: int,
        n_ways: dict[str, int],
        trained: list[nn.Parameter] | None,
    ) -> ChunkResult:
        """
        One chunk: its outputs, its share of the loss over all `tasks`, and with `trained`, that share's gradient with
        respect to each of these parameters in place of a graph. `n_ways`: classes of each meta-batch's tasks.
        """
        group, batch = chunk
        modality = modality_of_group(group)
        dropout = self.config.dropout if self.training else 0.0
        support, labels = batch["support"], batch["support_labels"]
        adaptation = self._adapt(modality, support, labels, n_ways[group], batch.get("unlabelled"), dropout)
        query = self._read(modality, batch["query"], dropout)
        logits = self._kind.classify(self, adaptation.adapted, query, adaptation.state)
        result = ChunkResult(logits, adaptation.adapted.support_loss, adaptation.adapted.modulation)
        if "query_labels" in batch:
            result.loss = self._losses(adaptation, query, batch, logits).sum() / tasks
        return result if trained is None else result.with_gradients(trained)

    def _losses(
        self, adaptation: Adaptation, query: Samples, batch: MetaBatch, logits: Float[Tensor, "T Q N"]
    ) -> Float[Tensor, " T"]:
        """Each task's query loss; in training mode with all that the config and `multi_step_weights` say."""
        config, labels = self.config, cast(Tensor, batch.get("query_labels"))
        if not self.training:
            return task_loss_of(config).function(logits, labels)
        loss = training_loss_of(config)
        if self.multi_step_weights:
            adapted = zip(self.multi_step_weights, adaptation.every_step(), strict=True)
            steps = ((weight, self._kind.classify(self, after, query)) for weight, after in adapted if weight)
            losses = config.episode_weight * multi_step_losses(steps, labels, loss)
        else:
            losses = config.episode_weight * loss(logits, labels)
        modality = adaptation.adapted.modality
        if modality in self.auxiliary:
            features = self._kind.auxiliary_features(self, adaptation, query)
            classes = cast(Tensor, batch.get("class_ids")).gather(
                1, torch.cat([batch["support_labels"], labels], dim=1)
            )
            vectors, scale = cast(nn.Linear, self.auxiliary[modality]).weight, config.cosine_scale
            auxiliary = auxiliary_losses(features, vectors, classes, scale, config.label_smoothing)
            losses = losses + config.auxiliary_weight * auxiliary
        return losses

    def _read(self, modality: str, raw: Shaped[Tensor, "T samples ..."], dropout: float = 0.0) -> Samples:
        """Raw inputs, or within `rows_read` rows by number, as far as no modulation or adaptation changes their way."""
        if modality in self._rows:
            return self._rows[modality].at(raw)
        return self._kind.read(self, modality, raw, dropout)

    @property
    def fixed_n_way(self) -> int | None:
        """The number of classes of a linear classifier; `None` where tasks may have any number of them."""
        return self.config.n_way if self._kind.has_linear_classifier(self.config) else None

    @property
    def needs_balanced_classes(self) -> bool:
        """Whether training has shown the model classes of equal size only, so that it takes them best."""
        return self._kind.needs_balanced_classes

    @property
    def reads_levels(self) -> bool:
        """
        Whether all that tasks read of an input are levels of the frozen encoder `frontends[modality].encoder(device)`,
        which takes inputs of any length and size, and whose levels, in float16, may stand in place of raw inputs.
        """
        return self._kind.reads_levels or self.config.level_encoders is not None

    @property
    def takes_inner_steps(self) -> bool:
        """Whether tasks are adapted by gradient steps, so that `num_inner_steps` has an effect."""
        return self._kind.takes_inner_steps

    @property
    def trains_inner_steps(self) -> bool:
        """Whether training takes the outer gradient through inner steps."""
        return self._kind.trains_inner_steps

    def check_options(self) -> None:
        """Raises `ValueError` for options of the config that its task network cannot have, or without effect on it."""
        self.config.check()
        self._kind.check(self.config)

    @property
    def can_read_rows_once(self) -> bool:
        """Whether all that tasks need of a sample is what neither modulation nor adaptation changes."""
        return self._kind.can_read_rows_once(self.config)

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
        self._rows = {name: read_rows(parts, partial(self._read, name), self.device) for name, parts in rows.items()}
        try:
            yield
        finally:
            self._rows = {}

    def bytes_of_row_read(self, modality: str, row: Shaped[Tensor, "1 ..."]) -> int:
        """Memory in bytes that a row like this one takes within `rows_read`; only where `can_read_rows_once`."""
        return read_rows([lambda: row], partial(self._read, modality), self.device).nbytes

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
            rows: modality -> raw inputs of training samples, see [`MetaBatch`]; a few thousand at most are needed.
            seed: of what is drawn: the image patches and their first clusters.
            groups: modality -> a number for the source or the class of each sample, of the modalities whose
                `descriptor_whitening` is by one of these.

        Raises:
            `ValueError`: a modality that the model lacks, fewer than two samples; groups that are missing, of no use,
                not one number per sample, or as many as samples; a modality without descriptor whose descriptor is to
                be whitened by groups. Nothing is fitted then.
        """
        groups = groups or {}
        if unknown := groups.keys() - rows.keys():
            raise ValueError(f"groups has {sorted(unknown)}, but rows has {sorted(rows)}")
        for modality, samples in rows.items():
            if modality not in self.frontends:
                raise ValueError(f"rows has modality {modality!r}, but this model has {self.config.modalities}")
            if len(samples) < 2:
                raise ValueError(f"rows[{modality!r}] has {len(samples)} samples; at least 2 are needed")
        self._kind.fit(self, rows, groups, seed)

    @property
    def has_statistics_for_training(self) -> bool:
        """Whether training episodes may see other statistics than those that are saved; see `fit_for_training`."""
        return self._kind.has_statistics_for_training

    @torch.no_grad()
    def fit_for_training(
        self, samples: Mapping[str, Sequence[tuple[Shaped[Tensor, "samples ..."], Int[Tensor, " samples"]]]]
    ) -> None:
        """
        Fits statistics that training episodes see, in turn, in place of those of `fit_front_ends`. They are not saved.

        Args:
            samples: modality -> one or more pairs of raw inputs and a number for the source or the class of each, all
                of other classes than the training episodes have.

        Raises:
            `ValueError`: a model without such statistics, or groups without two samples.
        """
        self._kind.fit_for_training(self, samples)


# Modalities and inner optimisers register themselves when they are imported. And with code from the Hub, transformers
# fetches what a module imports itself, and misses in some orders what only those modules import: so this one, which the
# auto classes load, names them all.
from .adapted_parameters import AdaptedParameters as _AdaptedParameters  # noqa: E402, F401
from .configuration_checks import check_combinations as _check_combinations  # noqa: E402, F401
from .configuration_layers import LayerOptions as _LayerOptions  # noqa: E402, F401
from .configuration_reading import ReadsConfig as _ReadsConfig  # noqa: E402, F401
from .configuration_values import DerivedValues as _DerivedValues  # noqa: E402, F401
from .conv_norm import conv_norm_relu as _conv_norm_relu  # noqa: E402, F401
from .conv_norm_gradients import activate as _activate  # noqa: E402, F401
from .convolution import conv1d as _conv1d  # noqa: E402, F401
from .convolution2d import conv2d as _conv2d  # noqa: E402, F401
from .cosine_scale import CosineScale as _CosineScale  # noqa: E402, F401
from .descriptors import Descriptor as _Descriptor  # noqa: E402, F401
from .drop_block import kept_factors as _kept_factors  # noqa: E402, F401
from .encoder_registry import record_encoders as _record_encoders  # noqa: E402, F401
from .folded_norms import FoldedNorms as _FoldedNorms  # noqa: E402, F401
from .hub_files import hub_file as _hub_file  # noqa: E402, F401
from .implicit_gradients import adapt_implicitly as _adapt_implicitly  # noqa: E402, F401
from .inner_adam import Adam as _Adam  # noqa: E402, F401
from .inner_loop import adapt as _adapt  # noqa: E402, F401
from .inner_meta_curvature import MetaCurvature as _MetaCurvature  # noqa: E402, F401
from .inner_meta_sgd import MetaSGD as _MetaSGD  # noqa: E402, F401
from .inner_momentum import Momentum as _Momentum  # noqa: E402, F401
from .inner_optimizers import inner_optimizer_class as _inner_optimizer_class  # noqa: E402, F401
from .inner_rates import InnerRates as _InnerRates  # noqa: E402, F401
from .inner_sgd import SGD as _SGD  # noqa: E402, F401
from .level_audio import SoundEffectLevels as _SoundEffectLevels  # noqa: E402, F401
from .level_conversion import CONVERTERS as _CONVERTERS  # noqa: E402, F401
from .level_dropout import levels_to_drop as _levels_to_drop  # noqa: E402, F401
from .level_encoder import LevelEncoder as _LevelEncoder  # noqa: E402, F401
from .level_frontend import LevelFrontend as _LevelFrontend  # noqa: E402, F401
from .level_head import fitted_head as _fitted_head  # noqa: E402, F401
from .level_image import TimmLevels as _TimmLevels  # noqa: E402, F401
from .level_inner_loop import adapted_weights as _adapted_weights  # noqa: E402, F401
from .level_kernels import centring as _centring  # noqa: E402, F401
from .level_mel import resampled as _resampled  # noqa: E402, F401
from .level_network import LevelNetwork as _LevelNetwork  # noqa: E402, F401
from .level_pretrained import find_level_encoder as _find_level_encoder  # noqa: E402, F401
from .level_sounds import TransformersSounds as _TransformersSounds  # noqa: E402, F401
from .level_sources import EncoderSource as _EncoderSource  # noqa: E402, F401
from .level_statistics import LevelStatistics as _LevelStatistics  # noqa: E402, F401
from .level_text import TransformersLevels as _TransformersLevels  # noqa: E402, F401
from .level_timm import TimmFeatures as _TimmFeatures  # noqa: E402, F401
from .level_views import ViewedImages as _ViewedImages  # noqa: E402, F401
from .low_rank import LowRankFactors as _LowRankFactors  # noqa: E402, F401
from .modality_audio import AudioEmbedding as _AudioEmbedding  # noqa: E402, F401
from .modality_image import ImageEmbedding as _ImageEmbedding  # noqa: E402, F401
from .modality_text import TextEmbedding as _TextEmbedding  # noqa: E402, F401
from .modulation import ModulationLayer as _ModulationLayer  # noqa: E402, F401
from .norms import group_norm as _group_norm  # noqa: E402, F401
from .options import option as _option  # noqa: E402, F401
from .picture_network import PictureNetwork as _PictureNetwork  # noqa: E402, F401
from .pretrained_encoder import PretrainedFrontend as _PretrainedFrontend  # noqa: E402, F401
from .products import product as _product  # noqa: E402, F401
from .published_checkpoint import find_original as _find_original  # noqa: E402, F401
from .residual_network import ResidualNetwork as _ResidualNetwork  # noqa: E402, F401
from .saved_files import read_from as _read_from  # noqa: E402, F401
from .soft_kmeans import refined_prototypes as _refined_prototypes  # noqa: E402, F401
from .task_encoder import build_task_encoder as _build_task_encoder  # noqa: E402, F401
from .task_network import TaskNetwork as _TaskNetwork  # noqa: E402, F401
from .uploads import UploadsEncoders as _UploadsEncoders  # noqa: E402, F401

__all__ = ["AdaptedTasks", "MSMAMLModel", "MSMAMLOutput", "MSMAMLPreTrainedModel", "ModalityEmbedding"]
