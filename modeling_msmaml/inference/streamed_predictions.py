"""Probabilities of any number of inputs, as they are computed, while threads read what comes next."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float

from ..inputs.notes import Notes, UnreadableInput
from ..inputs.reading import rows_one_by_one, stacked
from ..model.level_frontend import LevelFrontend
from .encoded_inputs import READ_AHEAD_BYTES, encoded_batches
from .explanations import Examples, Neighbour, neighbours
from .few_shot_classifier import FewShotClassifier

_AHEAD = 4  # queries for each thread; few, since a row of a long sound has 19 MB


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
        nearest: the examples that are most like it, the nearest first, where they were asked for.
    """

    name: str
    probabilities: Float[np.ndarray, " classes"]
    error: str | None
    nearest: Sequence[Neighbour] = ()


class _Read(NamedTuple):
    name: str
    row: np.ndarray | None
    error: str | None
    notes: Notes


class _Reader:
    """Reads a query; several threads may share it, except for texts, since a tokenizer serves one at a time."""

    def __init__(self, classifier: FewShotClassifier):
        self.modality = classifier.modality_
        self.processor = classifier._processor

    def __call__(self, query: Query) -> _Read:
        own, told, is_text = Notes(), Notes(), isinstance(query.item, str)
        try:
            rows = list(rows_one_by_one([query.item], self.modality, self.processor, own, named_as_text=is_text))
        except (ValueError, OSError) as error:
            return _Read(query.name, None, _renamed(str(error), query), told)
        told.take(own, lambda name: _renamed(name, query))
        return _Read(query.name, rows[0], None, told)


def _renamed(text: str, query: Query) -> str:
    """What is said of the only one of some inputs, by the name of the query; where it is a file, its path is said."""
    said = text.removeprefix("inputs[0]")
    return said.removeprefix(": ") if isinstance(query.item, os.PathLike) else f"{query.name}{said}"


def _read_ahead(read: Callable[[Query], _Read], queries: Iterable[Query], threads: int) -> Iterator[_Read]:
    """Yields what is read of queries, in their order; threads read a few of them ahead."""
    if threads == 0:
        yield from map(read, queries)
        return
    pool, pending = ThreadPoolExecutor(threads), deque[Future[_Read]]()
    try:
        for query in queries:
            pending.append(pool.submit(read, query))
            if len(pending) == _AHEAD * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def stream_predictions(
    classifier: FewShotClassifier, queries: Iterable[Query], workers: int = 0, num_nearest: int = 0
) -> Iterator[list[Prediction]]:
    """
    Yields the probabilities of queries in their order, a few at a time, as `predict_proba` would give them. Each query
    is read once, and no more rows are in memory than are encoded at once or wait to be. What is noticed of single
    queries is said in warnings at the end.

    Args:
        classifier: it is fitted. With `skip_unreadable`, queries that cannot be read have an error in place of
            probabilities.
        queries: files or texts, which are gone through once.
        workers: threads that read ahead; with 0 queries are read between two batches. Texts take one at most.
        num_nearest: how many of the nearest examples are named for each query, of a model on levels.

    Raises:
        UnreadableInput: a query cannot be read, and `skip_unreadable` is off. What comes before it has been yielded.
    """
    threads = min(workers, 1) if classifier.modality_ == "text" else workers
    notes = Notes()
    waiting: list[_Read] = []
    size = 0
    # Threads that change the filters of warnings for a moment, as the reader of pictures does, may leave them changed.
    with warnings.catch_warnings():
        for read in _read_ahead(_Reader(classifier), queries, threads):
            if read.error is not None and not classifier.skip_unreadable:
                if waiting:
                    yield _predictions(classifier, waiting, num_nearest)
                raise UnreadableInput(read.error)
            notes.take(read.notes)
            waiting.append(read)
            size += 0 if read.row is None else read.row.nbytes
            if len(waiting) >= classifier.batch_size or size >= READ_AHEAD_BYTES:
                yield _predictions(classifier, waiting, num_nearest)
                waiting, size = [], 0
        if waiting:
            yield _predictions(classifier, waiting, num_nearest)
    notes.warn()


def _predictions(classifier: FewShotClassifier, reads: list[_Read], num_nearest: int) -> list[Prediction]:
    rows = [read.row for read in reads if read.row is not None]
    nearest: list[list[Neighbour]] = []
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
        if num_nearest:
            with torch.no_grad():
                examples = cast(Examples, classifier.examples_)
                nearest = list(neighbours(model, classifier.adapted_, examples, encoded, num_nearest))
    near = iter(nearest)
    return [
        Prediction(read.name, row, read.error, [] if read.row is None else next(near, []))
        for read, row in zip(reads, found, strict=True)
    ]
