"""What splits have in common that one model reads: rows of one shape, to which texts are padded, and one vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Int64

from .few_shot_split import FewShotSplit
from .rows import Rows


class PaddedRows:
    """Rows of token ids with zeros ([PAD]) after them, up to a common length.

    Args:
        rows: the rows to pad.
        length: number of tokens of the padded rows.
    """

    def __init__(self, rows: Rows, length: int):
        self.rows, self._length = rows, length
        self.length_before = rows.take(np.arange(0)).shape[1]

    def take(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Returns rows as `Rows.take` does."""
        taken = self.rows.take(indices)
        return np.pad(taken, ((0, 0), (0, self._length - taken.shape[1])))


def of_one_length(splits: Sequence[FewShotSplit]) -> list[FewShotSplit]:
    """The splits, those of token ids padded to the longest row among them; all others as they are."""
    lengths = [split.row_shape[0] for split in splits if _is_token_ids(split)]
    longest = max(lengths, default=0)
    return [
        dataclasses.replace(split, row_shape=(longest,), _data=PaddedRows(cast(Rows, split._data), longest))
        if _is_token_ids(split) and split.row_shape[0] < longest
        else split
        for split in splits
    ]


def unpadded(split: FewShotSplit) -> FewShotSplit:
    """The split as it was before `of_one_length`."""
    rows = split._data
    if not isinstance(rows, PaddedRows):
        return split
    return dataclasses.replace(split, row_shape=(rows.length_before,), _data=rows.rows)


def _is_token_ids(split: FewShotSplit) -> bool:
    """Whether rows are token ids, and not features that an encoder has computed from them."""
    return split.modality == "text" and len(split.row_shape) == 1  # that of levels is empty


def check_alike(splits: Sequence[FewShotSplit]) -> None:
    """Checks that splits of the same modality can be read by one model.

    Raises:
        ValueError: two of them differ in row shape or vocabulary.
    """
    first: dict[str, FewShotSplit] = {}
    for split in splits:
        other = first.setdefault(split.modality, split)
        if other.row_shape != split.row_shape:
            raise ValueError(
                f"splits of modality {split.modality!r} differ in row shape: {other.name} {other.row_shape}, "
                f"{split.name} {split.row_shape}; they cannot be in one meta-batch, nor be read by one model"
            )
        if other.tokenizer is not split.tokenizer and _vocabulary(other) != _vocabulary(split):
            raise ValueError(
                f"the text splits of {other.name} and {split.name} have different vocabularies, but must have the "
                "same: give both the same option tokenizer"
            )


def _vocabulary(split: FewShotSplit) -> dict[str, int] | None:
    return None if split.tokenizer is None else split.tokenizer.get_vocab()
