"""`FewShotSplit`, the rows of one split of one data set, and how a split is made from a builder or from arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Float32, Int64
from transformers import PreTrainedTokenizerFast

from ..splits.protocols import ORIGINAL_WARNINGS, NoSuchSplit, described_split, select_rows
from .builder import FewShotBuilder
from .rows import ArrayRows, ArrowRows, LevelRows, Rows

ROWS_AT_ONCE = 256  # of which a fingerprint is made


@dataclass(frozen=True, eq=False, repr=False)
class FewShotSplit:
    """The rows of one split of one data set. It can be pickled and used in the workers of a `DataLoader`.

    Attributes:
        name: name of the data set.
        modality: `"audio"`, `"text"` or `"image"`.
        split: `"train"`, `"validation"` or `"test"`.
        protocol: name of the protocol that made the split.
        class_names: names of the classes of this split; the labels index them.
        labels: (n,) int64 labels of the rows.
        source_ids: (n,) strings, each of which names the recording, document or image that the row comes from.
        row_shape: shape of one row: (samples,), (tokens,) or (3, height, width). It is () if the rows have levels.
        level_shapes: shape of one row of each level, if the rows are features of several levels of an encoder;
            otherwise None.
        preprocessor: object that turns a user's input into such rows: an `MSMAMLFeatureExtractor` for audio, a
            tokenizer for text, or an `MSMAMLImageProcessor` for images.
        tokenizer: tokenizer of a text split.
        word_vectors: (V, 128) float32 word vectors of a text split, fitted on training documents only. Row 0, of
            `[PAD]`, is zero. It is None if the vocabulary comes from a checkpoint, which has the vectors.
        warning: text to show beside every figure that is computed from this split; it is empty unless the protocol is
            `original`.
        num_plain_rows: number of rows at the start that are as they were loaded, if `add_new_classes` has appended
            other rows; otherwise None.
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
    level_shapes: dict[str, tuple[int, ...]] | None = None
    _data: Rows | LevelRows = field(kw_only=True)
    _row_numbers: Int64[np.ndarray, " n"] = field(kw_only=True)

    def rows(self, indices: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Returns raw rows as a new array (m, *row_shape) of int16 samples, int32 token ids or uint8 pixels.

        Args:
            indices: (m,) indices of rows of the split, in any order.

        Raises:
            IndexError: an index is not in the range 0 to n - 1.
            ValueError: the rows have levels, which `levels` reads.
        """
        if isinstance(self._data, LevelRows):
            raise ValueError(f"the rows of {self!r} are features of several levels: read them with `levels`")
        return self._data.take(self._stored_numbers(indices))

    def levels(self, indices: Int64[np.ndarray, " m"], names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Returns the stored features of rows as a new float16 array (m, *shape) of each level.

        Args:
            indices: (m,) indices of rows of the split, in any order.
            names: levels to read; by default all.

        Raises:
            IndexError: an index is not in the range 0 to n - 1.
            ValueError: the rows have no levels, or none of that name.
        """
        if not isinstance(self._data, LevelRows) or self.level_shapes is None:
            raise ValueError(f"the rows of {self!r} have no levels: read them with `rows`")
        names = list(self.level_shapes if names is None else names)
        if unknown := [name for name in names if name not in self.level_shapes]:
            raise ValueError(f"levels {', '.join(unknown)} do not exist; there are {', '.join(self.level_shapes)}")
        return self._data.take(self._stored_numbers(indices), names)

    def _stored_numbers(self, indices: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Returns the places of rows in `_data`, after checking their indices."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"indices={indices.min()} to {indices.max()} do not fit a split with {len(self)} rows")
        return self._row_numbers[indices]

    def of_classes(self, classes: Sequence[int]) -> FewShotSplit:
        """Returns the split with some of its classes alone.

        Args:
            classes: labels of the classes, each once. Their order is that of the new labels.

        Raises:
            ValueError: a class that the split does not have, or one that is named twice.
        """
        if len(set(classes)) != len(classes) or not set(classes) <= set(range(len(self.class_names))):
            raise ValueError(
                f"classes={list(classes)} must name classes from 0 to {len(self.class_names) - 1}, each once"
            )
        new_labels = np.full(len(self.class_names), -1, dtype=np.int64)
        new_labels[list(classes)] = np.arange(len(classes))
        kept = np.flatnonzero(new_labels[self.labels] >= 0)
        plain = self.num_plain_rows
        return replace(
            self,
            class_names=tuple(self.class_names[number] for number in classes),
            labels=new_labels[self.labels[kept]],
            source_ids=self.source_ids[kept],
            num_plain_rows=None if plain is None else int((kept < plain).sum()),
            _row_numbers=self._row_numbers[kept],
        )

    def fingerprint(self) -> str:
        """Returns a hash of the raw rows and their order. Only rows outside a sealed cache are read for it."""
        digest = xxhash.xxh3_128(f"{self.modality} {self.row_shape}".encode())
        if isinstance(self._data, ArrowRows) and (stored := self._data.fingerprint()):
            digest.update(stored.encode())
            digest.update(self._row_numbers.tobytes())
            return digest.hexdigest()
        for start in range(0, len(self), ROWS_AT_ONCE):
            raw = self.rows(np.arange(start, min(start + ROWS_AT_ONCE, len(self))))
            digest.update(str(raw.dtype).encode())
            digest.update(raw.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = self.level_shapes or self.row_shape
        return (
            f"FewShotSplit({self.name}, {self.modality}, {self.split} of {self.protocol}: {len(self)} rows "
            f"{shape}, {len(self.class_names)} classes, {len(set(self.source_ids))} sources)"
        )

    @classmethod
    def from_arrays(
        cls,
        rows: np.ndarray,
        labels: Sequence[int] | Sequence[str] | np.ndarray,
        source_ids: Sequence[str] | np.ndarray | None = None,
        modality: str = "image",
        split: str = "train",
        name: str = "arrays",
        **fields: Any,
    ) -> FewShotSplit:
        """Makes a split from data in memory.

        Args:
            rows: (n, *row_shape) raw integers.
            labels: (n,) labels from 0 to the number of classes minus 1, or the names of the classes. Without
                `class_names` among the fields these are numbered in alphabetical order.
            source_ids: (n,) names of the sources of the rows; by default every row is its own source.
            modality, split, name, **fields: attributes of the split.

        Raises:
            ValueError: the lengths differ, or a label is negative, has no name or is neither integer nor name.
        """
        numbers, class_names = _numbered(labels, fields.pop("class_names", None))
        sources = np.arange(len(numbers)) if source_ids is None else np.asarray(source_ids)
        if not len(rows) == len(numbers) == len(sources):
            raise ValueError(
                f"{len(rows)} rows, {len(numbers)} labels and {len(sources)} source_ids: give one each per row"
            )
        n_classes = int(numbers.max()) + 1 if len(numbers) else 0
        class_names = class_names or numbered_names(n_classes)
        if len(numbers) and (numbers.min() < 0 or n_classes > len(class_names)):
            raise ValueError(f"labels={numbers.min()} to {numbers.max()} do not fit {len(class_names)} class_names")
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


def _numbered(
    labels: Sequence[int] | Sequence[str] | np.ndarray, class_names: Sequence[str] | None
) -> tuple[Int64[np.ndarray, " n"], Sequence[str] | None]:
    """Returns labels as numbers, and the names of the classes if there are any."""
    values = np.asarray(labels)
    names = values.tolist()
    if len(names) and all(isinstance(name, str) for name in names):
        class_names = class_names or sorted(set(names))
        if unknown := sorted(set(names) - set(class_names)):
            raise ValueError(f"labels has {unknown[0]!r}, which class_names={list(class_names)} lacks")
        numbers = {name: number for number, name in enumerate(class_names)}
        return np.array([numbers[name] for name in names], dtype=np.int64), class_names
    if len(names) and not all(isinstance(name, int) for name in names):
        wrong = next(name for name in names if not isinstance(name, int))
        raise ValueError(f"labels has {wrong!r}: give integers from 0 on, or the names of the classes as strings")
    return values.astype(np.int64), class_names


def numbered_names(n_classes: int) -> tuple[str, ...]:
    """Returns what classes are called that have no names."""
    return tuple(f"class_{c}" for c in range(n_classes))


def split_of_builder(builder: FewShotBuilder, split: str, protocol: str, **fields: Any) -> FewShotSplit:
    """Builds or opens a data set and selects the rows of one split.

    Args:
        builder: builder of the data set, whose `protocols()` describe the splits.
        split, protocol: names of the split and of the protocol, which the caller has checked.
        **fields: further attributes of the split (`tokenizer`, `word_vectors`, `preprocessor`, `name`).

    Warns:
        UserWarning: the protocol is `original`; `FewShotSplit.warning` has the text.

    Raises:
        NoSuchSplit: the data set has no such split under the protocol, or the split has no rows.
    """
    name = fields.pop("name", builder.dataset_name)
    description = described_split(builder.protocols(), protocol, split, name)
    if protocol == "original":
        fields["warning"] = ORIGINAL_WARNINGS[builder.modality]
        warnings.warn(f"{name}: {fields['warning']}", UserWarning, stacklevel=4)
    stored = builder.build()
    labels = stored.data.column("label").to_numpy().astype(np.int64)
    source_ids = stored.data.column("source_id").to_numpy()
    all_names = stored.features["label"].names
    row_numbers, class_names = select_rows(description, labels, source_ids, all_names)
    if not len(row_numbers):
        raise NoSuchSplit(
            f"the {split} split of {name} has no rows under protocol={protocol!r}: the data have "
            f"{len(labels)} rows from {len(set(source_ids))} sources, of which none falls into it"
        )
    position = np.full(len(all_names), -1)
    position[[all_names.index(class_name) for class_name in class_names]] = np.arange(len(class_names))
    return FewShotSplit(
        name=name,
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
