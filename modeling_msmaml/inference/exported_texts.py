"""The level encoder of text without control flow that depends on data, for export."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..model.level_text import TransformersLevels
from ..model.modality_text import without_special_tokens


class ExportedTexts(nn.Module):
    """
    Maps token ids (batch, tokens) to the levels of [`TransformersLevels`]. Every text has as many windows as the widest
    row needs; those that its own length does not fill count nothing.

    Args:
        encoder: its weights are shared.
    """

    def __init__(self, encoder: TransformersLevels):
        super().__init__()
        self.encoder = encoder

    def forward(self, raw: Int[Tensor, "batch tokens"]) -> dict[str, Float[Tensor, "batch size"]]:
        encoder = self.encoder
        before, after = (encoder._exchanged(raw.new_tensor(ids)) for ids in (encoder.before, encoder.after))
        special = len(before) + len(after)
        room = encoder.window - special
        # At least one place without a token, also in a row that is shorter than the special tokens.
        texts = without_special_tokens(F.pad(raw, (0, special + 1)), before, after)
        lengths = (texts != 0).sum(dim=1)
        texts = encoder._exchanged(texts).long()
        number = (raw.shape[1] + room - 1) // room
        width = torch.sym_min(raw.shape[1], room)
        starts, words = _places(lengths, room, torch.arange(number))
        ids = self._ids(texts, starts, words, width)
        sizes = words + special
        by_window = encoder._sums(ids.flatten(0, 1), sizes.flatten())
        by_window = by_window.unflatten(0, (-1, number))
        # A window without a word counts only where it is the first, of a text without words.
        counts = ((words > 0) | (torch.arange(number) == 0)).to(by_window.dtype)
        sums = (by_window * counts[..., None, None]).sum(dim=1)
        means = sums / (counts * sizes).sum(dim=1).clamp(min=1)[:, None, None]
        return {name: means[:, level] for level, name in enumerate(encoder.level_sizes)}

    def _ids(
        self,
        texts: Int[Tensor, "batch tokens"],
        starts: Int[Tensor, "batch windows"],
        words: Int[Tensor, "batch windows"],
        width: int | torch.SymInt,
    ) -> Int[Tensor, "batch windows length"]:
        """The ids of windows, each with special tokens around its words."""
        encoder, first = self.encoder, len(self.encoder.before)
        steps = torch.arange(width + first + len(encoder.after)) - first
        columns = (starts[..., None] + steps).clamp(min=0)
        columns = torch.minimum(columns, torch.full((), texts.shape[1] - 1))
        found = texts[:, None].expand(-1, starts.shape[1], -1).gather(2, columns)
        inside = (steps >= 0) & (steps < words[..., None])
        ids = torch.where(inside, found, encoder.padding)
        for place, token in enumerate(encoder.before):
            ids = torch.where(steps == place - first, token, ids)
        for place, token in enumerate(encoder.after):
            ids = torch.where(steps == words[..., None] + place, token, ids)
        return ids


def _places(
    lengths: Int[Tensor, " batch"], room: int, numbers: Int[Tensor, " windows"]
) -> tuple[Int[Tensor, "batch windows"], Int[Tensor, "batch windows"]]:
    """The first word of each window of each text, and how many words it has: those of `level_text.windows`."""
    lengths = lengths[:, None]
    parts = ((lengths + room - 1) // room).clamp(min=1)
    step = (lengths + parts - 1) // parts
    starts = step * numbers
    return starts, torch.minimum(lengths - starts, step).clamp(min=0)
