"""Probabilities of any number of inputs, as they are computed, while worker processes read what comes next."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import ProcessorMixin

from ..inputs.notes import Notes, UnreadableInput
from ..inputs.reading import rows_one_by_one, stacked
from ..model.level_frontend import LevelFrontend
from .encoded_inputs import READ_AHEAD_BYTES, encoded_batches
from .few_shot_classifier import FewShotClassifier

_READ_AT_ONCE = 8  # by a worker, before it hands the rows over; few, since a row of a long sound has 19 MB


class Query(NamedTuple):
    """An input that is to be classified: the path of a file, or a text, and how results and messages name it."""

    name: str
    item: Any


class Prediction(NamedTuple):
    """
    What was found of a query.

    Args:
        name: of the query.
        probabilities: (classes,), NaN if the query cannot be read.
        error: why it cannot be read; `None` if it was.
    """

    name: str
    probabilities: Float[np.ndarray, " classes"]
    error: str | None


class _Read(NamedTuple):
    name: str
    row: np.ndarray | None
    error: str | None
    notes: Notes


class _Reading(IterableDataset):
    """Reads queries; of several workers, each reads every n-th lot, so that the loader has them in their order."""

    def __init__(self, queries: Iterable[Query], modality: str, processor: ProcessorMixin | None, is_text: bool):
        self.queries = queries
        self.modality = modality
        self.processor = processor
        self.is_text = is_text

    def __iter__(self) -> Iterator[list[_Read]]:
        worker, queries = get_worker_info(), iter(self.queries)
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for lot in itertools.count():
            queries_of_lot = list(itertools.islice(queries, _READ_AT_ONCE))
            if not queries_of_lot:
                return
            if lot % count == number:
                yield [self._read(query) for query in queries_of_lot]

    def _read(self, query: Query) -> _Read:
        own, told, start = Notes(), Notes(), "inputs[0]: "
        instead = "" if str(query.item) == query.name else f"{query.name}: "
        try:
            rows = list(rows_one_by_one([query.item], self.modality, self.processor, own, named_as_text=self.is_text))
        except (ValueError, OSError) as error:
            message = str(error).removeprefix(start)
            return _Read(query.name, None, f"{instead}{message}", told)
        told.take(own, start, instead)
        return _Read(query.name, rows[0], None, told)


def stream_predictions(
    classifier: FewShotClassifier, queries: Iterable[Query], workers: int = 0
) -> Iterator[list[Prediction]]:
    """
    Yields the probabilities of queries in their order, a few at a time, as `predict_proba` would give them. Each query
    is read once, and no more rows are in memory than are encoded at once or wait to be. What is noticed of single
    queries is said in warnings at the end.

    Args:
        classifier: it is fitted. With `skip_unreadable`, queries that cannot be read have an error in place of
            probabilities.
        queries: files or texts; they are gone through once, and once more by each worker.
        workers: processes that read; with 0 they are read between two batches.

    Raises:
        UnreadableInput: a query cannot be read, and `skip_unreadable` is off. What comes before it has been yielded.
    """
    modality, is_text, notes = classifier.modality_, classifier.modality == "text", Notes()
    reading = _Reading(queries, modality, classifier._processor, is_text)
    loader = DataLoader(reading, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    waiting: list[_Read] = []
    size = 0
    for read in itertools.chain.from_iterable(loader):
        if read.error is not None and not classifier.skip_unreadable:
            if waiting:
                yield _predictions(classifier, waiting)
            notes.warn()
            raise UnreadableInput(read.error)
        notes.take(read.notes, "", "")
        waiting.append(read)
        size += 0 if read.row is None else read.row.nbytes
        if len(waiting) >= classifier.batch_size or size >= READ_AHEAD_BYTES:
            yield _predictions(classifier, waiting)
            waiting, size = [], 0
    if waiting:
        yield _predictions(classifier, waiting)
    notes.warn()


def _as_it_is(reads: list[_Read]) -> list[_Read]:
    return reads


def _predictions(classifier: FewShotClassifier, reads: list[_Read]) -> list[Prediction]:
    rows = [read.row for read in reads if read.row is not None]
    found = np.full((len(reads), len(classifier.classes_)), np.nan)
    if rows:
        model, modality = classifier._model, classifier.modality_
        if model.reads_levels:
            encoder = cast(LevelFrontend, model.frontends[modality]).encoder(model.device)
            encoded = torch.cat(list(encoded_batches(encoder, rows)))
        else:
            encoded = torch.from_numpy(stacked(rows, modality, "inputs"))
        probabilities = classifier.logits(encoded).double().softmax(dim=-1).cpu().numpy()
        found[[number for number, read in enumerate(reads) if read.row is not None]] = probabilities
    return [Prediction(read.name, row, read.error) for read, row in zip(reads, found, strict=True)]
