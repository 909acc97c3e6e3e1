"""What transformers asks of any model beside its forward pass: word vectors, checkpointing, inner states."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from .configuration_msmaml import MSMAMLConfig


class AnswersTransformers(PreTrainedModel):
    """The part of [`MSMAMLModel`] that transformers, and programs written for it, call on any model."""

    config: MSMAMLConfig
    frontends: nn.ModuleDict
    supports_gradient_checkpointing = True
    _kind: Any

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
        if not isinstance(vectors := self.frontends["text"], nn.Embedding):
            raise NotImplementedError("this model has no word vectors of its own: a pretrained encoder reads text")
        return vectors

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """
        Replaces the word vectors by `value.weight` (vocab_size, word_vector_size), and `vocab_size` in the config.

        Raises:
            `NotImplementedError`: this model has no text modality, or a pretrained encoder reads it.
            `ValueError`: the vectors have another size than `word_vector_size`.
        """
        vectors = self.get_input_embeddings()
        vocab_size, size = value.weight.shape
        if size != self.config.word_vector_size:
            raise ValueError(f"word vectors of size {size} do not fit word_vector_size={self.config.word_vector_size}")
        vectors.weight = nn.Parameter(value.weight.detach().clone().to(vectors.weight))
        self.config.vocab_size = vectors.num_embeddings = vocab_size
        self.train_word_vectors(self.config.train_word_vectors)

    @property
    def gradient_checkpointing(self) -> bool:
        """`inner_loop_checkpointing` of the config, under the name that transformers looks for."""
        return self.config.inner_loop_checkpointing

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Any = None, every_n_layers: int = 1
    ) -> None:
        """
        Sets `inner_loop_checkpointing`, which has a schedule of its own in place of the function: `use_reentrant` and
        other arguments of `torch.utils.checkpoint` make no difference to results.

        Raises:
            `ValueError`: this kind of task network has no inner steps to checkpoint; `every_n_layers`.
        """
        if enable and not self._kind.checkpoints_inner_loop:
            raise ValueError(
                f"task_network={self.config.task_network!r} has no inner steps whose graphs take much memory: leave "
                "gradient checkpointing out"
            )
        if every_n_layers != 1:
            raise ValueError(f"every_n_layers={every_n_layers} has no meaning here: inner steps are checkpointed")
        self.config.inner_loop_checkpointing = enable


def refuse_inner_states(config: MSMAMLConfig, **asked: bool | None) -> None:
    """
    Refuses what other models return beside their outputs.

    Args:
        asked: whether `output_hidden_states` and `output_attentions` are wanted; `None` is as the config says.

    Raises:
        `ValueError`: one of them is.
    """
    for name, value in asked.items():
        if getattr(config, name, False) if value is None else value:
            raise ValueError(
                f"{name}=True: tasks have networks of their own, whose layers are not returned. The output has logits, "
                "support_loss and modulation; MSMAMLModel.adapt returns the adapted parameters"
            )
