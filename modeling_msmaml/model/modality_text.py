"""
The text modality: how token ids become a sequence of features. Token id 0 is padding.

In order:

1. The raw front end: word vectors (`WordVectors`), read by linear patches of tokens (`TextEmbedding`).
2. The fitted front end: word vectors of latent semantic analysis, weighted (`WeightedWordsFrontend`), read by a
   convolutional embedding (`TextStem`) and summarised for the descriptor by `sum_over_positions`.
3. The pretrained front end: a frozen encoder of transformers (`PretrainedTextFrontend`), read by the embedding
   `PretrainedTextStem`; pretrained_encoder.py has its descriptor statistics.
4. The registration of the three.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .descriptors import DescriptorStatistics
from .modalities import ModalityEmbedding, SequencePatches, register_modality
from .norms import make_group_norm
from .pretrained_encoder import PretrainedFrontend, PretrainedStem, build_transformer, hidden_states

DEVIATION_FLOOR = 0.05  # added to the standard deviation of the square root of a word's count in a sample


class WordVectors(nn.Embedding):
    """Maps token ids to word vectors. Token 0 is padding; its vector is zero and is never trained."""

    def forward(self, inputs: Int[Tensor, "... tokens"], dtype: torch.dtype) -> Float[Tensor, "... tokens size"]:
        """
        Returns the word vectors in floating point of type `dtype`.

        Raises:
            `ValueError`: inputs that are not integers or, on the CPU, ids outside the vocabulary.
        """
        if inputs.is_floating_point():
            raise ValueError(f"text inputs have dtype {inputs.dtype}: give integer token ids")
        # On an accelerator this check would make the CPU wait, and an exported graph can hold none; there the lookup
        # itself fails for a wrong id.
        if (
            inputs.device.type == "cpu"
            and not torch.compiler.is_exporting()
            and inputs.numel()
            and not 0 <= inputs.min() <= inputs.max() < self.num_embeddings
        ):
            raise ValueError(
                f"token ids range from {inputs.min()} to {inputs.max()}, but this model has "
                f"vocab_size={self.num_embeddings}: tokenise with the processor that was saved with the model"
            )
        return super().forward(inputs.long()).to(dtype)


class TextEmbedding(ModalityEmbedding):
    """Maps word vectors (batch, tokens, word_vector_size) to sequences (batch, C, tokens // text_patch_size)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.proj = SequencePatches(config.word_vector_size, config.num_channels, config.text_patch_size)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return WordVectors(config.vocab_size, config.word_vector_size, padding_idx=0)

    def forward(self, inputs: Float[Tensor, "batch tokens size"]) -> Float[Tensor, "batch channels length"]:
        return self.proj(inputs)


class WeightedWordsFrontend(WordVectors):
    """
    Maps token ids (.., tokens) to weighted word vectors, summed over each `text_patch_size` tokens
    (.., size, positions).

    Each of the n occurrences of a word in a sample has weight 1 / sqrt(n), so that together they count sqrt(n): a
    sublinear term frequency (Manning et al. 2008, section 6.4.1, with a square root in place of the logarithm). The
    weights of words are part of their vectors, so that, once `fit` has computed these, the sum over positions is the
    sample's latent semantic representation (Deerwester et al. 1990).

    Args:
        config: of the model.
        weights: further arguments of `nn.Embedding`, which loading a model passes.
    """

    def __init__(self, config: MSMAMLConfig, **weights: Any):
        super().__init__(config.vocab_size, config.word_vector_size, padding_idx=0, **weights)
        self.patch_size = config.text_patch_size

    def fit(self, rows: Int[Tensor, "samples tokens"], generator: torch.Generator) -> None:
        """
        Replaces the word vectors by those of latent semantic analysis.

        Each training sample is described by one number per word, the square root of the word's count divided by (its
        standard deviation over the samples + 0.05). The word vectors hold the principal directions of these
        descriptions. A word that occurs in fewer than two samples gets a zero vector.

        Weights by standard deviation take the place of inverse document frequencies; they also distinguish common words
        whose frequency varies from those that are equally frequent everywhere (Burrows 2002, "Delta").

        Args:
            rows: token ids of training samples.
            generator: not used, since nothing is drawn.
        """
        counts = torch.zeros(len(rows), self.num_embeddings, device=rows.device)
        counts.scatter_add_(1, rows.long(), torch.ones_like(rows, dtype=counts.dtype))
        counts[:, self.padding_idx] = 0
        weights = ((counts > 0).sum(dim=0) > 1) / (counts.sqrt().std(dim=0) + DEVIATION_FLOOR)
        weighted = counts.sqrt() * weights
        # The directions are computed from inner products of samples, since there are fewer samples than words.
        centred = weighted - weighted.mean(dim=0)
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())
        kept = min(self.embedding_dim, len(rows) - 1)
        scale = values[-kept:].clamp(min=1e-12).rsqrt()
        directions = centred.T @ (vectors[:, -kept:] * scale).flip(1).float()
        self.weight.data.zero_()
        self.weight.data[:, :kept] = (weights[:, None] * directions).to(self.weight)

    def forward(self, inputs: Int[Tensor, "... tokens"], dtype: torch.dtype) -> Float[Tensor, "... size positions"]:
        vectors = super().forward(inputs, dtype) * occurrences(inputs).to(dtype).rsqrt()[..., None]
        rest = -inputs.shape[-1] % self.patch_size
        return F.pad(vectors, (0, 0, 0, rest)).unflatten(-2, (-1, self.patch_size)).sum(dim=-2).transpose(-1, -2)


def occurrences(tokens: Int[Tensor, "... tokens"]) -> Int[Tensor, "... tokens"]:
    """Returns, for each token of a sample, how often it occurs in the sample."""
    tokens = tokens.contiguous()
    ordered = tokens.sort(dim=-1).values
    return torch.searchsorted(ordered, tokens, right=True) - torch.searchsorted(ordered, tokens)


class TextStem(ModalityEmbedding):
    """Maps weighted word vectors (batch, word_vector_size, positions) to sequences (batch, C, positions)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.projection = nn.Conv1d(config.word_vector_size, config.num_channels, 1)
        self.norm = make_group_norm(config.num_channels)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return WeightedWordsFrontend(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> DescriptorStatistics:
        return DescriptorStatistics(sum_over_positions, config.word_vector_size, standardise=False, whitening=0.25)

    def forward(self, inputs: Float[Tensor, "batch size positions"]) -> Float[Tensor, "batch channels positions"]:
        return F.relu(self.norm(self.projection(inputs)))


def sum_over_positions(maps: Float[Tensor, "batch size positions"]) -> Float[Tensor, "batch size"]:
    """Returns each sample's latent semantic representation, see `WeightedWordsFrontend`."""
    return maps.sum(dim=2)


class PretrainedTextFrontend(PretrainedFrontend):
    """
    Maps token ids (.., tokens) of the encoder's tokenizer to the hidden states of a frozen encoder
    (.., features, positions).

    A text that is longer than the encoder's window is split into as few windows of equal length as possible, whose
    states are concatenated. Each window is given the special tokens, whose states count as positions; special tokens
    that a row already has are removed first.
    """

    modality = "text"
    sample_dims = 1

    def build(self, pretrained: bool) -> nn.Module:
        return build_transformer(self.spec["transformers"], self.recorded, pretrained)

    def encode(self, inputs: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch features positions"]:
        if inputs.is_floating_point():
            raise ValueError(f"text inputs have dtype {inputs.dtype}: give integer token ids, or float16 features")
        size = self.recorded["config"]["vocab_size"]
        if inputs.device.type == "cpu" and inputs.numel() and not 0 <= inputs.min() <= inputs.max() < size:
            raise ValueError(
                f"token ids range from {inputs.min()} to {inputs.max()}, but the encoder "
                f"{self.spec['transformers']!r} has vocab_size={size}: tokenise with its tokenizer"
            )
        windows = self.windows(inputs.long())
        samples, number, length = windows.shape
        windows = windows.flatten(0, 1)
        filled = windows != 0
        used = filled.any(dim=1)
        states = hidden_states(self.encoder, self.layer, input_ids=windows[used], attention_mask=filled[used].long())
        states = states * filled[used][..., None]
        everything = states.new_zeros(samples * number, length, states.shape[-1])
        everything[used] = states
        return everything.view(samples, number * length, -1).transpose(1, 2)

    def windows(self, tokens: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch windows length"]:
        """
        Splits texts into windows of equal length, each with the special tokens. Windows after the end of a text are 0.
        """
        before, after = (torch.tensor(ids, device=tokens.device) for ids in self.recorded["special_tokens"])
        tokens = without_special_tokens(tokens, before, after)
        room = (self.recorded["window"] or tokens.shape[1] + len(before) + len(after)) - len(before) - len(after)
        number = max(1, -(-tokens.shape[1] // room))
        length = -(-tokens.shape[1] // number)
        windows = F.pad(tokens, (0, number * length - tokens.shape[1])).view(len(tokens), number, length)
        words = (windows != 0).sum(dim=2, keepdim=True)
        windows = F.pad(windows, (len(before), len(after)))
        windows[..., : len(before)] = before
        places = len(before) + words + torch.arange(len(after), device=tokens.device)
        windows = windows.scatter(2, places, after.expand_as(places)) if len(after) else windows
        used = words > 0
        used[:, 0] = True  # a text without words still has its special tokens
        return windows * used


def without_special_tokens(
    tokens: Int[Tensor, "batch length"], before: Int[Tensor, " before"], after: Int[Tensor, " after"]
) -> Int[Tensor, "batch length"]:
    """
    Removes the special tokens around the text of each row. A row that does not have all of them stays as it is.

    Args:
        tokens: token ids; 0 is padding at the end.
        before: special tokens before a text.
        after: special tokens after a text.
    """
    length = (tokens != 0).sum(dim=1)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    ends = (length - len(after)).clamp(min=0)[:, None] + torch.arange(len(after), device=tokens.device)
    if len(before) + len(after) == 0 or tokens.shape[1] < len(before) + len(after):
        return tokens
    has = (tokens[:, : len(before)] == before).all(dim=1) & (length >= len(before) + len(after))
    has &= (tokens.gather(1, ends.clamp(max=tokens.shape[1] - 1)) == after).all(dim=1)
    bare = torch.where(places < (length - len(after))[:, None], tokens, 0).roll(-len(before), dims=1)
    bare = torch.where(places < (length - len(before) - len(after))[:, None], bare, 0)
    return torch.where(has[:, None], bare, tokens)


class PretrainedTextStem(PretrainedStem):
    """Maps the hidden states of the encoder to sequences, see `PretrainedStem`."""

    frontend_class = PretrainedTextFrontend


register_modality("text", TextEmbedding)
register_modality("text", TextStem, front_ends="fitted")
register_modality("text", PretrainedTextStem, front_ends="pretrained")
