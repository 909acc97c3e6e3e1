"""MS-MAML: one few-shot learner for audio, text and images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_msmaml import MSMAMLConfig
from .inner_loop import Parameters, adapt
from .modality_embeddings import ModalityEmbedding, WordVectors, build_frontends
from .task_encoder import BatchNorm, TaskEncoder
from .task_network import TaskNetwork

# One modality's tasks: "support" (T, S, ...), "support_labels" (T, S), "query" (T, Q, ...), "query_labels" (T, Q).
MetaBatch = dict[str, Tensor]


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


class MSMAMLPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading, shared by all MS-MAML models."""

    config_class = MSMAMLConfig
    base_model_prefix = "msmaml"
    main_input_name = "episodes"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The architecture's init: Xavier uniform and zero bias in the task network, PyTorch's defaults elsewhere."""
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) and any(
            module is part for part in self.task_network.modules()
        ):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, BatchNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, WordVectors):
            init.normal_(module.weight)
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()


class MSMAMLModel(MSMAMLPreTrainedModel):
    """
    Frontends, task encoder, task network and the inner loop that adapts it (MMAML, arXiv 1910.13616, on sequences of
    any modality; MS-MAML, Zhao and Shao 2024).

    The whole inner loop runs inside `forward`, so that distributed training, autocast and gradient accumulation see one
    ordinary forward and backward.
    """

    # The loss is a plain mean over tasks; Trainer is to divide it by the gradient accumulation steps itself.
    accepts_loss_kwargs = False

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.frontends = build_frontends(config)
        self.task_encoder = TaskEncoder(config) if config.conditioning != "none" else None
        self.task_network = TaskNetwork(config)
        self.post_init()
        self.train_word_vectors(config.train_word_vectors)

    def train_word_vectors(self, train: bool) -> None:
        """Whether the outer loop trains the word vectors (it does not, by default)."""
        self.config.train_word_vectors = train
        if "text" in self.frontends:
            self.frontends["text"].requires_grad_(train)

    def get_input_embeddings(self) -> nn.Embedding:
        """
        The word vectors of the text modality.

        Raises:
            `NotImplementedError`: this model has no text modality.
        """
        if "text" not in self.frontends:
            raise NotImplementedError(f"a model of modalities={self.config.modalities} has no word vectors")
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
        self.frontends["text"] = WordVectors(
            vocab_size, size, padding_idx=0, _weight=value.weight.detach().to(vectors.weight)
        )
        self.config.vocab_size = vocab_size
        self.train_word_vectors(self.config.train_word_vectors)

    def forward(self, episodes: dict[str, MetaBatch]) -> MSMAMLOutput:
        """
        Adapts to every task's support set and classifies its queries.

        Args:
            episodes: modality -> `{"support": (T, S, ...), "support_labels": int64 (T, S), "query": (T, Q, ...),
                "query_labels": int64 (T, Q)}`; without `"query_labels"` there is no loss. Raw inputs: audio int16 or
                float (.., samples) at 16 kHz; text integer token ids (.., tokens), 0 = padding; image uint8 or float in
                [0, 1] (.., 3, H, W). T, S and Q may differ by modality.

        Raises:
            `ValueError`: no episode, a modality that the model lacks, missing or misshapen tensors.
        """
        self._check(episodes)
        logits, support_loss, modulation = {}, {}, {}
        for modality, batch in episodes.items():
            support = self.frontends[modality](batch["support"], self.dtype)
            query = self.frontends[modality](batch["query"], self.dtype)
            learn = torch.vmap(lambda *task, modality=modality: self._learn(modality, *task))
            logits[modality], support_loss[modality], modulation[modality] = learn(
                support, batch["support_labels"], query
            )
        labels = {name: batch["query_labels"] for name, batch in episodes.items() if "query_labels" in batch}
        loss = self._loss(logits, labels) if len(labels) == len(episodes) else None
        return MSMAMLOutput(loss=loss, logits=logits, support_loss=support_loss, modulation=modulation)

    def _learn(
        self,
        modality: str,
        support: Float[Tensor, "S ..."],
        support_labels: Int[Tensor, " S"],
        query: Float[Tensor, "Q ..."],
    ) -> tuple[Float[Tensor, "Q N"], Float[Tensor, " num_inner_steps"], tuple[Float[Tensor, " size"], ...]]:
        """One task: modulate, adapt, classify. Returns query logits, support losses and modulation."""
        modulation = self.task_encoder(support, modality) if self.task_encoder is not None else ()

        def network(parameters: Parameters, inputs: Tensor, statistics=None):
            return torch.func.functional_call(self.task_network, parameters, (inputs, modality, modulation, statistics))

        def support_loss(parameters: Parameters) -> Float[Tensor, ""]:
            return F.cross_entropy(network(parameters, support)[0], support_labels)

        adapted, losses = adapt(
            support_loss,
            self.task_network.adapted_parameters(modality),
            num_inner_steps=self.config.num_inner_steps,
            inner_lr=self.config.inner_lr,
            inner_grad_clip=self.config.inner_grad_clip,
            first_order=self.config.first_order,
        )
        statistics = network(adapted, support)[1] if self.config.norm_statistics == "support" else None
        return network(adapted, query, statistics)[0], losses, modulation

    @staticmethod
    def _loss(logits: dict[str, Tensor], labels: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Mean over all tasks, whatever their modality, of the mean query cross-entropy."""
        per_task = [
            F.cross_entropy(logits[name].transpose(1, 2), labels[name], reduction="none").mean(dim=1) for name in logits
        ]
        return torch.cat(per_task).mean()

    def _check(self, episodes: dict[str, MetaBatch]) -> None:
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
            tasks = batch["support"].shape[0]
            for name, tensor in batch.items():
                samples = batch["query" if name.startswith("query") else "support"].shape[1]
                if tuple(tensor.shape[:2]) != (tasks, samples):
                    raise ValueError(
                        f"episodes[{modality!r}][{name!r}] has shape {tuple(tensor.shape)}, expected "
                        f"({tasks}, {samples}, ...): tasks first, then samples"
                    )
                # On an accelerator the comparison would stall the queue, and the cross-entropy itself asserts there.
                if name.endswith("labels") and tensor.device.type == "cpu" and not self._are_labels(tensor):
                    raise ValueError(
                        f"episodes[{modality!r}][{name!r}] must hold labels of dtype int64 from 0 to "
                        f"{self.config.n_way - 1}, since n_way={self.config.n_way}"
                    )

    def _are_labels(self, labels: Tensor) -> bool:
        return labels.dtype == torch.int64 and bool(((labels >= 0) & (labels < self.config.n_way)).all())


__all__ = ["MSMAMLModel", "MSMAMLOutput", "MSMAMLPreTrainedModel", "ModalityEmbedding"]
