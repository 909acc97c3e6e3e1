"""
The level encoder of text: a model of transformers such as BERT, whose hidden states are averaged over the tokens of a
text, layer by layer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .level_encoder import LevelEncoder
from .modality_text import without_special_tokens
from .options import at_least, checked
from .pretrained_encoder import build_transformer

BATCH_TOKENS = 1024  # number of tokens, padding included, that the encoder reads at once on the CPU
ACCELERATOR_BATCH_TOKENS = 65_536  # the same on an accelerator


class TransformersLevels(LevelEncoder):
    """
    Maps token ids (batch, tokens) of the encoder's tokenizer, with or without its special tokens, to the levels `L0`
    (the embeddings, input of the first layer) to `Ln` (the output of the last of n layers): the mean of the hidden
    states over the tokens of the text, special tokens included, as in sentence-transformers (Reimers and Gurevych 2019,
    arXiv 1908.10084, section 3).

    A text that is longer than the window is split into as few windows as possible, of equal length, each with the
    special tokens. A level is the mean over the tokens of all windows: each token counts once, wherever it stands.
    Windows are sorted by length, so that the encoder reads little padding.

    Zeros are padding, whatever token pads in the encoder's own tokenizer: an encoder to which 0 is a token, as to
    RoBERTa, must be given texts without special tokens.

    Args:
        config: the configuration of a model of transformers, as a dict with its `"model_type"`.
        window: the most tokens that the encoder reads at once, special tokens included.
        special_tokens: the ids before and after a text.
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
        levels: Sequence[str] | None = None,
    ):
        super().__init__()
        if len(special_tokens) != 2:
            raise ValueError(f"special_tokens={special_tokens!r} must be two lists of ids: before and after a text")
        self.before, self.after = (list(ids) for ids in special_tokens)
        longest = config.get("max_position_embeddings") or window
        checked("window", window, at_least(len(self.before) + len(self.after) + 1))
        if window > longest:
            raise ValueError(f"window={window}: the encoder reads at most {longest} tokens at once")
        self.window = window
        self.model: Any = build_transformer("", {"config": config}, pretrained=False)
        if hasattr(self.model, "pooler"):
            self.model.pooler = None  # the head of another task, whose weights would be stored for nothing
        layers, size = self.model.config.num_hidden_layers, self.model.config.hidden_size
        self.set_levels({f"L{layer}": size for layer in range(layers + 1)}, f"L{layers}", levels)

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
        texts = without_special_tokens(raw, raw.new_tensor(self.before), raw.new_tensor(self.after))
        places = windows((texts != 0).sum(dim=1).tolist(), room=self.window - special)
        lengths = [end - start + special for _, start, end in places]
        budget = BATCH_TOKENS if raw.device.type == "cpu" else ACCELERATOR_BATCH_TOKENS
        sums: list[Any] = [None] * len(places)
        for batch in batches_by_length(lengths, budget):
            found = self._sums(self._token_ids(texts, [places[number] for number in batch]))
            for number, window in zip(batch, found, strict=True):
                sums[number] = window
        windows_of, tokens_of = [0] * len(raw), [0] * len(raw)
        for (text, _, _), length in zip(places, lengths, strict=True):
            windows_of[text] += 1
            tokens_of[text] += length
        totals = torch.stack([part.sum(dim=0) for part in torch.stack(sums).split(windows_of)])
        means = totals / totals.new_tensor(tokens_of).clamp(min=1)[:, None, None]
        return {name: means[:, number] for number, name in enumerate(self.level_sizes)}

    def _token_ids(
        self, texts: Int[Tensor, "batch tokens"], places: list[tuple[int, int, int]]
    ) -> list[Int[Tensor, " tokens"]]:
        """The ids of some windows, with special tokens."""
        before, after = texts.new_tensor(self.before), texts.new_tensor(self.after)
        return [torch.cat([before, texts[text, start:end], after]).long() for text, start, end in places]

    def _sums(self, rows: list[Int[Tensor, " tokens"]]) -> Float[Tensor, "windows levels size"]:
        """The sum of the hidden states over the tokens of each window, of every level that is returned."""
        padding = self.model.config.pad_token_id or 0
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        if not ids.shape[1]:  # without special tokens, a text without tokens leaves nothing to read
            return torch.zeros(len(ids), len(self.level_sizes), self.model.config.hidden_size, device=ids.device)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        filled = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        states = self.model(input_ids=ids, attention_mask=filled.long(), output_hidden_states=True).hidden_states
        weights = filled.to(states[0].dtype)[:, None]
        return torch.cat([weights @ states[int(name[1:])] for name in self.level_sizes], dim=1).float()


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


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """
    Yields the numbers of items in batches of similar length, the longest first. A batch takes at most `budget`
    positions, padding included, or is one item.
    """
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
