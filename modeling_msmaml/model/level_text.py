"""
The level encoder of text: a model of transformers such as BERT, whose hidden states are averaged over the tokens of a
text, layer by layer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .level_encoder import LevelEncoder
from .modality_text import without_special_tokens
from .options import at_least, checked
from .pretrained_encoder import build_transformer

POOLINGS = ("mean", "cls")
BATCH_TOKENS = 1024  # number of tokens, padding included, that the encoder reads at once on the CPU
ACCELERATOR_BATCH_TOKENS = 65_536  # the same on an accelerator
# Another batch costs the CPU about as much as this many tokens, for the most part since the weights are read again.
BATCH_COST = 32


class TransformersLevels(LevelEncoder):
    """
    Maps token ids (batch, tokens) of the encoder's tokenizer, with or without its special tokens, to the levels `L0`
    (the embeddings, input of the first layer) to `Ln` (the output of the last of n layers): the mean of the hidden
    states over the tokens of the text, special tokens included, as in sentence-transformers (Reimers and Gurevych 2019,
    arXiv 1908.10084, section 3).

    A text that is longer than the window is split into as few windows as possible, of equal length, each with the
    special tokens. A level is the mean over the tokens of all windows: each token counts once, wherever it stands.
    Windows are sorted by length, so that the encoder reads little padding.

    Zeros are padding, whatever token pads in the encoder's own tokenizer: where that is another one, 0 and the token
    that pads change places in the rows, so that no token is lost. `encode_texts` of the processor writes such rows.

    Args:
        config: the configuration of a model of transformers, as a dict with its `"model_type"`. Of a model with encoder
            and decoder, the encoder is read.
        window: the most tokens that the encoder reads at once, special tokens included.
        special_tokens: the ids before and after a text, in the numbers of the tokenizer. What a model expects before
            every text, such as "query: ", may be among those before.
        padding: the id with which the tokenizer pads; by default that of the configuration.
        pooling: `"mean"`, or `"cls"` where the embedding is the output at the first token: then it is one more level,
            `C`, of which a long text has the mean over its windows, by their numbers of tokens.
        levels: names of the levels to return, see `LevelEncoder.set_levels`.
    """

    modality = "text"
    sample_dims = 1
    chunk_size = accelerator_chunk_size = 1024  # many, so that texts of like lengths are found among them

    def __init__(
        self,
        config: dict[str, Any],
        window: int = 256,
        special_tokens: Sequence[Sequence[int]] = ((101,), (102,)),
        padding: int | None = None,
        pooling: str = "mean",
        levels: Sequence[str] | None = None,
    ):
        super().__init__()
        if len(special_tokens) != 2 or not all(type(number) is int for ids in special_tokens for number in ids):
            raise ValueError(f"special_tokens={special_tokens!r} must be two lists of ids: before and after a text")
        self.before, self.after = (list(ids) for ids in special_tokens)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r}: choose one of {', '.join(POOLINGS)}")
        if pooling == "cls" and not self.before:
            raise ValueError(f"pooling='cls' needs a token before each text, but special_tokens={special_tokens!r}")
        checked("window", window, at_least(len(self.before) + len(self.after) + 1))
        self.model: Any = build_transformer("", {"config": config}, pretrained=False)
        longest = longest_input(self.model)
        if longest is not None and window > longest:
            raise ValueError(f"window={window}: the encoder reads at most {longest} tokens at once")
        self.window = window
        if hasattr(self.model, "pooler"):
            self.model.pooler = None  # the head of another task, whose weights would be stored for nothing
        found = self.model.config
        self.padding = (found.pad_token_id or 0) if padding is None else padding
        if not 0 <= self.padding < found.vocab_size:
            raise ValueError(f"padding={padding} must be an id below vocab_size={found.vocab_size}")
        layers, size = found.num_hidden_layers, found.hidden_size
        sizes = {f"L{layer}": size for layer in range(layers + 1)}
        last = f"L{layers}"
        if pooling == "cls":
            last = "C"
            sizes[last] = size
        self.set_levels(sizes, last, levels)

    def check(self, raw: Int[Tensor, "batch tokens"]) -> None:
        if raw.is_floating_point():
            raise ValueError(f"text inputs have dtype {raw.dtype}: give integer token ids")
        size = self.model.config.vocab_size
        if raw.device.type == "cpu" and raw.numel() and not 0 <= raw.min() <= raw.max() < size:
            raise ValueError(
                f"token ids range from {raw.min()} to {raw.max()}, but the encoder of text has vocab_size={size}: "
                "tokenise with its tokenizer"
            )

    def encode(self, raw: Int[Tensor, "batch tokens"]) -> dict[str, Float[Tensor, "batch size"]]:
        special = len(self.before) + len(self.after)
        before, after = (self._exchanged(raw.new_tensor(ids)) for ids in (self.before, self.after))
        texts = without_special_tokens(raw, before, after)
        places = windows((texts != 0).sum(dim=1).tolist(), room=self.window - special)
        texts = self._exchanged(texts).long()
        lengths = [end - start + special for _, start, end in places]
        on_cpu = raw.device.type == "cpu"
        budget, cost = (BATCH_TOKENS, BATCH_COST) if on_cpu else (ACCELERATOR_BATCH_TOKENS, ACCELERATOR_BATCH_TOKENS)
        order, sums = [], []
        for batch in batches_by_length(lengths, budget, cost):
            order += batch
            sums.append(self._sums(*self._token_ids(texts, [places[number] for number in batch])))
        by_window = torch.cat(sums)
        texts_of = torch.tensor([places[number][0] for number in order], device=raw.device)
        totals = by_window.new_zeros(len(raw), *by_window.shape[1:]).index_add_(0, texts_of, by_window)
        tokens = totals.new_tensor([lengths[number] for number in order])
        counts = totals.new_zeros(len(raw)).index_add_(0, texts_of, tokens).clamp(min=1)
        means = totals / counts[:, None, None]
        return {name: means[:, number] for number, name in enumerate(self.level_sizes)}

    def _exchanged(self, ids: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Ids in which 0 and the token that pads have changed places: those of the tokenizer for those of rows."""
        if not self.padding:
            return ids
        return torch.where(ids == 0, self.padding, torch.where(ids == self.padding, 0, ids))

    def _token_ids(
        self, texts: Int[Tensor, "batch tokens"], places: list[tuple[int, int, int]]
    ) -> tuple[Int[Tensor, "windows length"], Int[Tensor, " windows"]]:
        """The ids of some windows, with special tokens, and how many each has, which are followed by padding."""
        first = len(self.before)
        rows, starts, ends = torch.tensor(places, device=texts.device).T
        words = ends - starts
        longest = int(words.max())
        ids = texts.new_full((len(places), longest + first + len(self.after)), self.padding)
        ids[:, :first] = texts.new_tensor(self.before)
        steps = torch.arange(longest, device=texts.device)
        columns = (starts[:, None] + steps).clamp(max=max(0, texts.shape[1] - 1))
        if longest:
            ids[:, first : first + longest] = torch.where(
                steps < words[:, None], texts[rows[:, None], columns], self.padding
            )
        if self.after:
            after = texts.new_tensor(self.after)
            at = first + words[:, None] + torch.arange(len(after), device=texts.device)
            ids.scatter_(1, at, after.expand_as(at))
        return ids, words + first + len(self.after)

    def _sums(
        self, ids: Int[Tensor, "windows length"], lengths: Int[Tensor, " windows"]
    ) -> Float[Tensor, "windows levels size"]:
        """The sum of the hidden states over the tokens of each window, of every level that is returned."""
        if not ids.shape[1]:  # without special tokens, a text without tokens leaves nothing to read
            return torch.zeros(len(ids), len(self.level_sizes), self.model.config.hidden_size, device=ids.device)
        filled = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        found = self.model(input_ids=ids, attention_mask=filled.long(), output_hidden_states=True)
        # The output of some models has passed a norm that their last hidden state has not.
        states = (*found.hidden_states[:-1], found.last_hidden_state)
        weights = filled.to(states[0].dtype)[:, None]
        sums = [
            states[-1][:, :1] * lengths[:, None, None] if name == "C" else weights @ states[int(name[1:])]
            for name in self.level_sizes
        ]
        return torch.cat(sums, dim=1).float()


def longest_input(model: nn.Module) -> int | None:
    """
    Returns how many tokens a model of transformers reads at most, or None where positions are relative and it has no
    such number. Models of the RoBERTa family count positions from the id that pads, plus one.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - skipped
    longest = getattr(model.config, "max_position_embeddings", None)
    return longest if longest and longest > 0 else None


def windows(lengths: Sequence[int], room: int) -> list[tuple[int, int, int]]:
    """
    Splits texts into as few windows as possible, of equal length except for the last.

    Args:
        lengths: numbers of tokens, special tokens not counted. A text of none has one empty window.
        room: the most tokens of a window, special tokens not counted.

    Returns:
        The text, the first token and the end of each window, text by text.
    """
    found = []
    for text, length in enumerate(lengths):
        number = max(1, -(-length // room))
        step = -(-length // number)
        found += [(text, part * step, min((part + 1) * step, length)) for part in range(number)]
    return found


def batches_by_length(lengths: Sequence[int], budget: int, cost: int) -> Iterator[list[int]]:
    """
    Yields the numbers of items in batches of similar length, the longest first. A batch takes at most `budget`
    positions, padding included, and at most `cost` of padding, or is one item.
    """
    batch: list[int] = []
    longest = padding = 0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        padding += longest - lengths[number]
        if batch and ((len(batch) + 1) * longest > budget or padding > cost):
            yield batch
            batch = []
        if not batch:
            longest, padding = lengths[number], 0
        batch.append(number)
    if batch:
        yield batch
