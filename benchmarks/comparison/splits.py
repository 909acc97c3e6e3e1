"""Splits whose rows are levels in memory, what statistics are fitted to, and the texts behind rows of token ids."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_builders import EpisodeDataset, FewShotSplit, encode_split, load_few_shot
from modeling_msmaml import MSMAMLModel, MSMAMLProcessor
from msmaml.runs.run_model import groups_of_levels, rows_to_fit_to

from .cells import DATA_SETS, Cell, DataSet


class Material:
    """
    The splits of the comparison, each read once.

    Args:
        model: a model on levels, whose encoders read the data.
        path: its folder.
        data_dir: with the data sets.
        cache_dir: of the Arrow files.
    """

    def __init__(self, model: MSMAMLModel, path: str, data_dir: str | None, cache_dir: str | None):
        self.model, self.path, self.data_dir, self.cache_dir = model, path, data_dir, cache_dir
        self.levels = cache(self._levels)
        self.raw = cache(self._raw)
        self.tokenizer = cache(self._tokenizer)

    def _raw(self, title: str, split: str, **options: object) -> FewShotSplit:
        """A split with raw rows; `options` go on top of those of the comparison."""
        own = DATA_SETS[title]
        given = {"tokenizer": self.tokenizer()} if own.modality == "text" else {}
        return load_few_shot(
            own.name, split, data_dir=self.data_dir, cache_dir=self.cache_dir, **{**own.options, **given, **options}
        )

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        """Returns the tokenizer of the model's text encoder."""
        return tokenizer_of(self.path)

    def _levels(self, name: str, split: str) -> FewShotSplit:
        """
        Returns a split whose rows are flat vectors of levels, float16, in memory: all of a test split, of others at
        most 3,000, to which statistics are fitted.
        """
        title = next(title for title, own in DATA_SETS.items() if own.name == name)
        raw = self.raw(title, split)
        numbers = rows_to_fit_to(raw)
        if split != "test" and len(numbers) < len(raw):
            raw = dataclasses.replace(
                raw,
                labels=raw.labels[numbers],
                source_ids=raw.source_ids[numbers],
                _row_numbers=raw._row_numbers[numbers],
            )
        stored = encode_split(raw, self.model.frontends[DATA_SETS[title].modality], self.cache_dir)
        return in_memory(stored, stored.rows(np.arange(len(stored))))

    def of(self, data_set: DataSet) -> FewShotSplit:
        """Returns the test split of a data set, of levels."""
        return self.levels(data_set.name, "test")

    def training(self, data_set: DataSet) -> tuple[Tensor, Tensor]:
        """Returns levels of training rows that statistics are fitted to, and numbers of their classes or documents."""
        split = self.levels(data_set.fitted_on or data_set.name, "train")
        groups = np.unique(groups_of_levels(split), return_inverse=True)[1]
        return torch.from_numpy(split.rows(np.arange(len(split)))).float(), torch.from_numpy(groups)

    def last_level(self, modality: str) -> slice:
        """Where the encoder's own embedding stands in the flat vectors."""
        own, first = self.model.task_network.levels[modality], 0
        for name, size in own.sizes.items():
            if name == own.last:
                return slice(first, first + size)
            first += size
        raise ValueError(f"the encoder of {modality} has no level {own.last!r}")

    def texts(self, ids: np.ndarray) -> list[str]:
        """
        The texts behind rows of token ids.

        Raises:
            ValueError: a text is not read as it was stored.
        """
        return texts_of(self.tokenizer(), ids)


def tokenizer_of(path: str) -> PreTrainedTokenizerBase:
    """
    Returns the tokenizer that was saved with a model.

    Raises:
        ValueError: there is none.
    """
    tokenizer = MSMAMLProcessor.from_pretrained(path).tokenizer
    if tokenizer is None:
        raise ValueError(f"{path} has no tokenizer, with which texts are read")
    return tokenizer


def texts_of(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray) -> list[str]:
    """
    The texts of which a tokenizer makes some rows of ids, 0 for padding.

    Raises:
        ValueError: the tokenizer reads another text. Other pieces of the same text do not count: a word that the end
            of a passage has cut is put together otherwise.
    """
    texts = tokenizer.batch_decode([row[row != 0] for row in ids], skip_special_tokens=True)
    again = tokenizer.batch_decode(tokenizer(texts, add_special_tokens=False)["input_ids"], skip_special_tokens=True)
    for text, found in zip(texts, again, strict=True):
        if text.replace(" ", "") != found.replace(" ", ""):
            raise ValueError(f"the text {text[:100]!r} is not read as it was stored")
    return texts


def in_memory(split: FewShotSplit, rows: np.ndarray) -> FewShotSplit:
    """The same split with other rows, which are in memory."""
    names = ("modality", "split", "name", "protocol", "class_names")
    kept = {name: getattr(split, name) for name in names}
    return FewShotSplit.from_arrays(rows, split.labels, split.source_ids, **kept)


def episodes_of(cell: Cell, split: FewShotSplit, number: int, seed: int) -> EpisodeDataset:
    """The first episodes of a cell: the same rows of whatever split of the data set, raw or encoded."""
    disjoint = DATA_SETS[cell.data_set].source_disjoint
    return EpisodeDataset([split], cell.n_way, cell.k_shot, cell.n_query, number, seed, source_disjoint=disjoint)


def fingerprint(split: FewShotSplit) -> str:
    """A hash of what decides which rows an episode has: classes and sources of all rows."""
    digest = xxhash.xxh3_64(split.labels.tobytes())
    digest.update("\n".join(map(str, split.source_ids)).encode())
    return digest.hexdigest()


def folders(pairs: Sequence[str]) -> dict[str, Path]:
    """`["esc50=FOLDER"]` as a dictionary."""
    found = dict(pair.split("=", 1) for pair in pairs)
    return {name: Path(folder) for name, folder in found.items()}
