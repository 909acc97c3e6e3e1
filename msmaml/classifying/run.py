"""A run of `msmaml classify`: adapts to the support set, and writes the results of the queries as they come."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from modeling_msmaml.inference.base_model import default_model
from modeling_msmaml.inference.few_shot_classifier import FewShotClassifier
from modeling_msmaml.inference.streamed_predictions import Prediction, stream_predictions
from modeling_msmaml.inputs.label_values import printable
from modeling_msmaml.inputs.labelled_files import labelled_support

from .. import __version__
from . import run_record
from .formats import Csv, Explanation, Format, JsonLines, Table, lines_of
from .processes import Processes
from .queries import Queries
from .results_file import ResultsFile, errors_in, merge, names_in, part_of, parts_of

_MOST_WORKERS = 8


def run(arguments: argparse.Namespace) -> int:
    """
    Does what `msmaml classify` was asked for.

    Returns:
        The number of queries that could not be read.

    Raises:
        ValueError, OSError: an option or a file cannot be used.
    """
    processes = Processes()
    if processes.count > 1 and arguments.query and arguments.output is None:
        raise ValueError(f"{processes.count} processes share the queries: give --output, the file of all results")
    classifier, rests_on = _classifier(arguments, processes)
    explanation = _explanation(arguments.explain, classifier)
    if arguments.save_classifier is not None and processes.is_first:
        with _writing("--save-classifier", arguments.save_classifier):
            classifier.save_pretrained(arguments.save_classifier)
    if not arguments.query:
        return 0
    names = [str(label) for label in classifier.classes_]
    queries = Queries(arguments.query, classifier.modality_)
    if arguments.output is None:
        format = _format(arguments.format or "table", names, queries, explanation)
        sys.stdout.write(format.header())
        return _classify(arguments, classifier, queries, format, processes, _print)
    format = _format(arguments.format, names, queries, explanation)
    rests_on |= {"format": arguments.format, "classes": names, "explain": arguments.explain}
    return _classify_into(arguments, classifier, queries, format, processes, rests_on)


def _classifier(arguments: argparse.Namespace, processes: Processes) -> tuple[FewShotClassifier, dict[str, Any]]:
    """The adapted classifier, and what its predictions rest on, where that will be asked for."""
    model = arguments.classifier or arguments.model or default_model()
    given: dict[str, Any] = {"device": arguments.device or processes.device()}
    if arguments.skip_errors:
        given["skip_unreadable"] = True
    if arguments.reject_below is not None:
        given["reject_below"] = arguments.reject_below
    classifier = FewShotClassifier.from_pretrained(model, **given)
    support = None
    if arguments.support is not None:
        items, labels, _ = labelled_support(arguments.support, arguments.modality)
        modality = "text" if any(isinstance(item, str) for item in items) else arguments.modality
        if arguments.output is not None:
            support = run_record.support_hash(items, labels)
        classifier.set_params(modality=modality).fit(items, labels)
    else:
        _check_is_adapted(classifier, model, arguments.modality)
    if arguments.output is None:
        return classifier, {}
    below = classifier.reject_below
    rests_on = {"model": run_record.model_hash(model), "support": support, "modality": classifier.modality_}
    return classifier, {**rests_on, "reject_below": below}


def _check_is_adapted(classifier: FewShotClassifier, model: str, modality: str | None) -> None:
    try:
        check_is_fitted(classifier, "adapted_")
    except NotFittedError:
        raise ValueError(
            f"{model} is no adapted classifier: give --support, a folder with one sub-folder per class, or a table"
        ) from None
    if modality not in (None, classifier.modality_):
        raise ValueError(
            f"--modality {modality}: this classifier is one of {classifier.modality_}; leave the option out"
        )


def _explanation(num_nearest: int | None, classifier: FewShotClassifier) -> Explanation | None:
    """What is said beside each result, if that was asked for."""
    if num_nearest is None:
        return None
    if classifier.examples_ is None:
        raise ValueError(
            "--explain: this model reads no levels and keeps nothing of the examples, so that there is nothing to "
            "compare with; leave the option out, or adapt a model on levels, such as the one that comes along"
        )
    return Explanation(classifier.level_weights_, min(num_nearest, len(classifier.examples_.labels)))


def _format(name: str, classes: list[str], queries: Queries, explanation: Explanation | None) -> Format:
    if name == "table":
        return Table([printable(label) for label in classes], queries.longest_name, explanation)
    return Csv(classes, explanation) if name == "csv" else JsonLines(classes, explanation)


def _classify_into(
    arguments: argparse.Namespace,
    classifier: FewShotClassifier,
    queries: Queries,
    format: Format,
    processes: Processes,
    rests_on: dict[str, Any],
) -> int:
    """Classifies what the output does not have yet, and returns how many of its queries could not be read."""
    output: Path = arguments.output
    run_record.check_place(output)
    if not arguments.overwrite:
        run_record.check(output, rests_on)
    processes.wait()  # until all have looked
    if processes.is_first:
        with _writing("--output", output):
            if arguments.overwrite:
                run_record.remove(output)
            run_record.write(output, rests_on, msmaml=__version__, support_set=_named(arguments.support))
    processes.wait()  # until there is nothing of another run
    # Each process has a share of all queries, and looks for results of its own share only, which no other writes.
    share = queries.share(processes.number, processes.count)
    done = set().union(*(names_in(path, format) for path in (output, *parts_of(output))))
    own_file = output if processes.count == 1 else part_of(output, processes.number)
    with _writing("--output", output):
        results = ResultsFile(own_file, format)

    def write(lines: str) -> None:
        with _writing("--output", output):
            results.append(lines)

    try:
        _classify(arguments, classifier, share.without(done), format, processes, write)
    finally:
        results.close()
    processes.wait()  # until all have written
    if processes.is_first and parts_of(output):
        with _writing("--output", output):
            merge(output, format, (query.name for query in queries))
    processes.wait()
    processes.part()
    return errors_in(output, format) if processes.is_first else 0


@contextmanager
def _writing(option: str, place: Path) -> Iterator[None]:
    """Names the option in the error of what is written to its place."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename not in (None, str(place)) else ""
        raise ValueError(f"{option} {place} cannot be written: {reason}{where}") from error


def _named(support: Path | None) -> str | None:
    return None if support is None else printable(os.path.abspath(support))


def _classify(
    arguments: argparse.Namespace,
    classifier: FewShotClassifier,
    queries: Queries,
    format: Format,
    processes: Processes,
    write: Any,
) -> int:
    """Writes the result of each query, names those that cannot be read, and returns how many these are."""
    workers = arguments.workers
    if workers is None:
        workers = min(_MOST_WORKERS, max(1, _processors() // processes.count))
    unread = 0
    hidden = None if arguments.progress is None else not arguments.progress  # None: where stderr is no terminal
    bar = tqdm(total=len(queries), unit=" files", disable=hidden if processes.is_first else True)
    with bar:
        for predictions in _streamed(classifier, queries, workers, arguments.explain or 0):
            decided = classifier.decide(np.stack([one.probabilities for one in predictions]))
            write(lines_of(format, predictions, decided))
            for one in predictions:
                if one.error is not None:
                    unread += 1
                    bar.write(f"classify: {printable(one.error)}", file=sys.stderr)
            bar.update(len(predictions))
    return unread


def _streamed(
    classifier: FewShotClassifier, queries: Queries, workers: int, num_nearest: int
) -> Iterator[list[Prediction]]:
    return stream_predictions(classifier, queries, workers, num_nearest) if len(queries) else iter(())


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print(lines: str) -> None:
    sys.stdout.write(lines)
    sys.stdout.flush()
