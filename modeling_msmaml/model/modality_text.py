"""Texts: how token ids become a sequence, by word vectors, by weighted word vectors or by a frozen encoder."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .configuration_msmaml import MSMAMLConfig
from .descriptors import DescriptorStatistics
from .modalities import ModalityEmbedding, SequencePatches, register_modality
from .norms import make_group_norm
from .pretrained_encoder import PretrainedFrontend, PretrainedStem, build_transformer, hidden_states


class WordVectors(nn.Embedding):
    """Token ids -> word vectors. Token 0 is padding; its vector is zero and stays so."""

    def forward(self, inputs: Int[Tensor, "... tokens"], dtype: torch.dtype) -> Float[Tensor, "... tokens size"]:
        if inputs.is_floating_point():
            raise ValueError(f"text inputs have dtype {inputs.dtype}: give integer token ids")
        # On an accelerator this check would stall the queue, and the lookup itself asserts there.
        if (
            inputs.device.type == "cpu"
            and inputs.numel()
            and not 0 <= inputs.min() <= inputs.max() < self.num_embeddings
        ):
            raise ValueError(
                f"token ids run from {inputs.min()} to {inputs.max()}, but this model has "
                f"vocab_size={self.num_embeddings}: tokenise with the processor that was saved with the model"
            )
        return super().forward(inputs.long()).to(dtype)


class TextEmbedding(ModalityEmbedding):
    """Word vectors (batch, tokens, word_vector_size) -> (batch, C, tokens // text_patch_size)."""

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
    Token ids (.., tokens) -> word vectors, weighted and summed over `text_patch_size` tokens, (.., size, positions).

    A word that occurs n times in a sample counts sqrt(n) there in all, each time 1 / sqrt(n): sublinear term frequency
    (Manning et al. 2008, section 6.4.1, with a square root for the logarithm). The weights of words are part
    of their vectors, so that the sum over positions is the sample's latent
    semantic representation (Deerwester et al. 1990) where `fit` has made the word vectors.
    """

    def __init__(self, config: MSMAMLConfig, **weights):
        super().__init__(config.vocab_size, config.word_vector_size, padding_idx=0, **weights)
        self.patch_size = config.text_patch_size

    def fit(self, rows: Int[Tensor, "samples tokens"], generator: torch.Generator) -> None:
        """
        Replaces the word vectors by those of latent semantic analysis: the principal directions of the samples' vectors
        of sqrt(count) / (its standard deviation + 0.05). A word that fewer than two samples have gets a zero vector.

        Weights by standard deviation take the place of inverse document frequencies; they also tell common words apart
        whose frequency varies much from those that are everywhere alike (Burrows 2002, "Delta").
        """
        counts = torch.zeros(len(rows), self.num_embeddings, device=rows.device)
        counts.scatter_add_(1, rows.long(), torch.ones_like(rows, dtype=counts.dtype))
        counts[:, self.padding_idx] = 0
        weights = ((counts > 0).sum(dim=0) > 1) / (counts.sqrt().std(dim=0) + DEVIATION_FLOOR)
        weighted = counts.sqrt() * weights
        # The directions from the samples' inner products, of which there are fewer than of words.
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
    """How often each token of a sample occurs in it."""
    tokens = tokens.contiguous()
    ordered = tokens.sort(dim=-1).values
    return torch.searchsorted(ordered, tokens, right=True) - torch.searchsorted(ordered, tokens)


class TextStem(ModalityEmbedding):
    """Weighted word vectors (batch, word_vector_size, positions) -> (batch, C, positions)."""

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
    """The sample's latent semantic representation, see `WeightedWordsFrontend`."""
    return maps.sum(dim=2)


class PretrainedTextFrontend(PretrainedFrontend):
    """
    Token ids (.., tokens) of the encoder's tokenizer, 0 = padding -> hidden states (.., features, positions).

    A text longer than the encoder's window is split into the fewest windows, equally long, and their states follow one
    another. Each window gets the special tokens, whose states count as positions. Those that a row has already are
    taken off first.
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
                f"token ids run from {inputs.min()} to {inputs.max()}, but the encoder "
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
        """Bare text in equally long windows, each with its special tokens; windows after a text's end are all 0."""
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
        used[:, 0] = True  # a text without words is its special tokens
        return windows * used


def without_special_tokens(
    tokens: Int[Tensor, "batch length"], before: Int[Tensor, " before"], after: Int[Tensor, " after"]
) -> Int[Tensor, "batch length"]:
    """Rows without the special tokens around their text, of those rows that have them all."""
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
    frontend_class = PretrainedTextFrontend


DEVIATION_FLOOR = 0.05  # of the square root of a word's count in a sample


register_modality("text", TextEmbedding)
register_modality("text", TextStem, front_ends="fitted")
register_modality("text", PretrainedTextStem, front_ends="pretrained")
