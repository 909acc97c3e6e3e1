"""Rows of one split of one data set, wherever they are stored."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from transformers import PreTrainedTokenizerFast

from ..splits.protocols import ORIGINAL_WARNINGS, select_rows
from .builder import FewShotBuilder
from .rows import ArrayRows, ArrowRows, Rows


@dataclass(frozen=True, eq=False, repr=False)
class FewShotSplit:
    """Rows of one split of one data set. Can be pickled and used in `DataLoader` workers.

    Attributes:
        name: the data set.
        modality: `"audio"`, `"text"` or `"image"`.
        split: `"train"`, `"validation"` or `"test"`.
        protocol: how the splits were made.
        class_names: classes of this split; `labels` index them.
        labels: (n,) int64.
        source_ids: (n,) strings: the recording, document or image a row comes from.
        row_shape: shape of one row: (samples,), (tokens,) or (3, height, width).
        preprocessor: what turns a person's own input into such rows: `MSMAMLFeatureExtractor` (audio), tokenizer
            (text), `MSMAMLImageProcessor` (image).
        tokenizer: of a text split.
        word_vectors: (V, 128) float32 of a text split, row 0 ([PAD]) zero; fitted on training documents only. None
            when the vocabulary is that of a checkpoint, which has the vectors.
        warning: what to say beside every figure that comes from this split; empty for protocols that can be trusted.
        num_plain_rows: how many rows, the first ones, are as they were loaded where `add_new_classes` has appended
            others; None where it has not.
    """

    name: str
    modality: str
    split: str
    protocol: str
    class_names: tuple[str, ...]
    labels: Int64[np.ndarray, " n"]
    source_ids: np.ndarray
    row_shape: tuple[int, ...]
    preprocessor: Any = None
    tokenizer: PreTrainedTokenizerFast | None = None
    word_vectors: Float32[np.ndarray, "vocabulary 128"] | None = None
    warning: str = ""
    num_plain_rows: int | None = None
    _data: Rows = field(kw_only=True)
    _row_numbers: Int64[np.ndarray, " n"] = field(kw_only=True)

    def rows(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Raw rows as a new array (m, *row_shape): int16 audio, int32 token ids or uint8 pixels.

        Raises:
            IndexError: an index is outside 0..len-1.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"rows {indices.min()} to {indices.max()} asked of a split with {len(self)} rows")
        return self._data.take(self._row_numbers[indices])

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"FewShotSplit({self.name}, {self.modality}, {self.split} of {self.protocol}: {len(self)} rows "
            f"{self.row_shape}, {len(self.class_names)} classes, {len(set(self.source_ids))} sources)"
        )

    @classmethod
    def from_arrays(
        cls,
        rows: np.ndarray,
        labels: Sequence[int] | Int64[np.ndarray, " n"],
        source_ids: Sequence[str] | np.ndarray | None = None,
        modality: str = "image",
        split: str = "train",
        name: str = "arrays",
        **fields: Any,
    ) -> FewShotSplit:
        """A split of data in memory.

        Args:
            rows: (n, ...) raw integers.
            labels: (n,) in 0..number of classes - 1.
            source_ids: (n,); each row its own source when left out.
            modality, split, name, **fields: as the attributes.

        Raises:
            ValueError: lengths differ, or a label is negative or has no name.
        """
        numbers = np.asarray(labels, dtype=np.int64)
        sources = np.arange(len(numbers)) if source_ids is None else np.asarray(source_ids)
        if not len(rows) == len(numbers) == len(sources):
            raise ValueError(f"{len(rows)} rows, {len(numbers)} labels and {len(sources)} source_ids do not match")
        n_classes = int(numbers.max()) + 1 if len(numbers) else 0
        class_names = fields.pop("class_names", None) or tuple(f"class_{c}" for c in range(n_classes))
        if len(numbers) and (numbers.min() < 0 or n_classes > len(class_names)):
            raise ValueError(f"labels {numbers.min()} to {numbers.max()} do not fit {len(class_names)} class names")
        return cls(
            name=name,
            modality=modality,
            split=split,
            protocol=fields.pop("protocol", "class_disjoint"),
            class_names=tuple(class_names),
            labels=numbers,
            source_ids=sources.astype(str),
            row_shape=tuple(rows.shape[1:]),
            _data=ArrayRows(rows),
            _row_numbers=np.arange(len(numbers)),
            **fields,
        )


def split_of_builder(builder: FewShotBuilder, split: str, protocol: str, **fields: Any) -> FewShotSplit:
    """Builds (or opens) a data set and selects the rows of one split from it.

    Args:
        builder: its `protocols()` describe the splits.
        split, protocol: checked by the caller.
        **fields: further attributes of the split (`tokenizer`, `word_vectors`, `preprocessor`, `name`).
    """
    if protocol == "original":
        fields["warning"] = ORIGINAL_WARNINGS[builder.modality]
        warnings.warn(f"{builder.dataset_name}: {fields['warning']}", UserWarning, stacklevel=4)
    stored = builder.build()
    labels = stored.data.column("label").to_numpy().astype(np.int64)
    source_ids = stored.data.column("source_id").to_numpy()
    all_names = stored.features["label"].names
    row_numbers, class_names = select_rows(builder.protocols()[protocol][split], labels, source_ids, all_names)
    position = np.full(len(all_names), -1)
    position[[all_names.index(class_name) for class_name in class_names]] = np.arange(len(class_names))
    return FewShotSplit(
        name=fields.pop("name", builder.dataset_name),
        modality=builder.modality,
        split=split,
        protocol=protocol,
        class_names=tuple(class_names),
        labels=position[labels[row_numbers]],
        source_ids=source_ids[row_numbers],
        row_shape=builder.row_shape,
        _data=ArrowRows([file["filename"] for file in stored.cache_files], builder.modality, builder.row_shape),
        _row_numbers=row_numbers,
        **fields,
    )
