"""The answers of the page: what the model says about the examples and queries of a visitor."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modeling_msmaml import FewShotClassifier, MSMAMLProcessor
from modeling_msmaml.inference.cross_validation import DEFAULT_FOLDS, cross_validate
from modeling_msmaml.inference.few_shot_classifier import UNREADABLE
from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.inputs.label_values import clean, is_absent, refuse_look_alikes

from . import page_html as html
from .page_charts import charts, confusion, level_weights, losses
from .page_downloads import classifier_archive, results_table
from .page_inputs import SKIP_LABEL, ReadInputs, read_inputs
from .page_limits import PageError, PageInput, PageLimits, given_to_adapt, inputs_of_field

NEIGHBOURS = 3  # examples that are shown beside a query
SECONDS_PER_STEP = 0.08  # between the points of the curve, so that a visitor sees it fall
STALE = "Your classes or examples have changed since: what is shown below is of the earlier ones. Press Adapt."


@dataclass
class Fitted:
    """The classifiers that a visitor's examples give.

    Attributes:
        adapted: the classifier after all inner steps.
        before: the classifier after none of them.
        shown: the HTML of each example.
        given: what the visitor gave, see [`given_to_adapt`].
    """

    adapted: FewShotClassifier
    before: FewShotClassifier
    shown: list[str]
    given: tuple

    @property
    def compares(self) -> bool:
        """Whether the model compares queries with single examples, so that it can show the nearest."""
        return self.adapted.examples_ is not None


class Answer(NamedTuple):
    """What the page says about the queries.

    Args:
        html: the class probabilities of all of them, or the reason why there are none.
        table: the results as CSV; `None` if there are none.
    """

    html: str
    table: str | None = None


class Demo:
    """
    Computes the answers of the page. It holds the model, and nothing that a visitor gave.

    Args:
        model: folder or repository of the model; by default the model that [`FewShotClassifier`] takes.
        folder: the folder to which downloads are written.
        limits: of the page; by default the usual ones.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the model has no processor for any of its modalities.
    """

    def __init__(self, model: str | None, folder: Path, limits: PageLimits | None = None):
        self.base = FewShotClassifier.from_pretrained(model)
        self.model, processor = self.base.base_model()
        own = [name for name in self.model.config.modalities if name in KINDS]
        self.modalities = [name for name in own if getattr(processor, KINDS[name].part, None) is not None]
        if not (self.modalities and isinstance(processor, MSMAMLProcessor)):
            raise ValueError(f"{self.base.model} has no processor for sounds, texts or pictures")
        self.processor = processor
        self.reads_levels = self.model.reads_levels
        self.folder = folder
        self.limits = limits or PageLimits()

    def preview(self, modality: str, files: list[str] | None, lines: str | None, what: str) -> str:
        """Returns the HTML of some inputs, and of the reasons why others are refused."""
        try:
            inputs = inputs_of_field(modality, files, lines, what, self.limits)
            read = read_inputs(inputs, modality, self.processor, True, self.limits)
        except PageError as error:
            return html.message(str(error), error=True)
        reasons = "".join(html.message(reason, error=True) for reason in read.unreadable.values())
        return html.in_a_row(read.shown) + reasons + read.notes.html()

    def adapt(
        self, modality: str, count: int, skip_unreadable: bool, fields: tuple
    ) -> Iterator[tuple[str, str, Fitted | None]]:
        """
        Yields (message, charts, fitted classifiers) after each inner step; the last is `None` until all steps are done.
        At the end there is a chart of the examples as they are predicted when they are held out, if each class has two.

        Args:
            modality: the modality of all inputs.
            count: the number of classes that the visitor has chosen.
            skip_unreadable: whether examples that cannot be read are left out; they are named in the last message.
            fields: name, files and lines of the first class, then of the second, and so on.
        """
        yield html.message("Adapting …"), "", None
        try:
            read = self._support(modality, int(count), skip_unreadable, fields)
            labels = [read.inputs[number].field for number in read.readable]
            shown = [read.shown_small[number] for number in read.readable]
            adapted, before = self._fit(modality, read, labels), self._fit(modality, read, labels, steps=0)
            fitted = Fitted(adapted, before, shown, given_to_adapt(modality, count, fields))
        except (ValueError, OSError) as error:
            yield html.message(str(error), error=True), "", None
            return
        values = adapted.support_losses_.tolist()
        done = f"Adapted to {len(labels)} examples of {len(adapted.classes_)} classes: "
        curve = ""
        if not any(values):  # one example a class, and a model that compares examples with others of their class
            done += "with one example of each, there are none to compare, and no step is taken."
        else:
            for steps in range(len(values)):
                curve = losses(values[: steps + 1], len(values) - 1)
                yield html.message(f"Step {steps} of {len(values) - 1} …"), charts([curve]), None
                time.sleep(SECONDS_PER_STEP)
            done += f"their loss went from {values[0]:.3g} to {values[-1]:.3g} in {len(values) - 1} steps."
        done += " Now give the model something to classify."
        message = html.message(done) + read.summary("examples", "left out")
        drawn = [curve, level_weights(adapted.level_weights_) if fitted.compares else ""]
        yield message, charts(drawn), fitted
        if held_out := self._held_out(modality, read, labels):
            yield message, charts([*drawn, held_out]), fitted

    def staleness(self, fitted: Fitted | None, modality: str, count: int, fields: tuple) -> str:
        """Returns the HTML that says that what is shown is of earlier classes or examples; nothing if it is not."""
        return staleness(None if fitted is None else fitted.given, modality, count, fields)

    def classify(
        self, fitted: Fitted | None, modality: str, skip_unreadable: bool, files: list[str] | None, lines: str | None
    ) -> Answer:
        """
        Returns the class probabilities of all queries, or the reason why there are none.

        With `skip_unreadable` a query that cannot be read is predicted as `"unreadable"`, and named with the reason.
        """
        try:
            if fitted is None:
                raise PageError("Press Adapt first: the model does not know your classes yet.")
            queries = inputs_of_field(modality, files, lines, "Queries", self.limits)
            if not queries:
                raise PageError("Queries: give at least one.")
            read = self._read(queries, modality, skip_unreadable)
            if not read.readable:
                raise PageError(f"Queries: none of {len(queries)} can be read. {'; '.join(read.unreadable.values())}")
            adapted, before = (_probabilities(classifier, read) for classifier in (fitted.adapted, fitted.before))
            guesses = fitted.adapted.decide(adapted).tolist()  # "unreadable" where the probabilities are NaN
            nearest = _nearest(fitted, read) if fitted.compares else None
        except (ValueError, OSError) as error:
            return Answer(html.message(str(error), error=True))
        classes = fitted.adapted.classes_.tolist()
        shown = html.probabilities(read.shown, classes, adapted, before, guesses, nearest)
        names = [given.item if isinstance(given.item, str) else given.name for given in queries]
        table = results_table(names, classes, adapted, guesses)
        return Answer(shown + read.summary("queries", "not classified"), table)

    def archive(self, fitted: Fitted) -> Path:
        """Writes the adapted classifier as a zip archive, see [`classifier_archive`]."""
        return classifier_archive(fitted.adapted, self.folder)

    def _support(self, modality: str, count: int, skip_unreadable: bool, fields: tuple) -> ReadInputs:
        names, files, lines = (fields[start::3][:count] for start in range(3))
        names = [clean(name or "") for name in names]
        inputs = []
        for number, name in enumerate(names):
            if not name:
                raise PageError(f"Class {number + 1} has no name.")
            if is_absent(name):
                raise PageError(f"Class {number + 1} is called {name}, as missing values are written: rename it.")
            if skip_unreadable and name == UNREADABLE:
                raise PageError(
                    f"Class {number + 1} is called {name}, as what cannot be read is: rename it, or untick "
                    f"“{SKIP_LABEL}”."
                )
            if names.index(name) != number:
                raise PageError(f"Two classes are called {name}: give each class a different name.")
            own = inputs_of_field(modality, files[number], lines[number], name, self.limits)
            if not own:
                raise PageError(f"Class {name} has no examples: give at least one, or choose fewer classes.")
            inputs += own
        refuse_look_alikes(names, "Names of classes")
        read = self._read(inputs, modality, skip_unreadable)
        left = {inputs[number].field for number in read.readable}
        for name in names:
            if name not in left:
                reasons = [reason for number, reason in read.unreadable.items() if inputs[number].field == name]
                raise PageError(f"Class {name} has no example that can be read. {'; '.join(reasons)}")
        return read

    def _read(self, inputs: list[PageInput], modality: str, skip_unreadable: bool) -> ReadInputs:
        try:
            return read_inputs(inputs, modality, self.processor, skip_unreadable, self.limits)
        except PageError as error:
            raise PageError(f"{error}. Remove it, or tick “{SKIP_LABEL}”.") from error

    def _fit(self, modality: str, read: ReadInputs, labels: list[str], steps: int | None = None) -> FewShotClassifier:
        return self._classifier(modality, read, steps).fit(read.rows, labels)

    def _classifier(self, modality: str, read: ReadInputs, steps: int | None = None) -> FewShotClassifier:
        rate = read.sampling_rate if modality == "audio" else None
        steps = steps if self.model.takes_inner_steps else None
        return FewShotClassifier(self.base.model, modality=modality, sampling_rate=rate, num_inner_steps=steps)

    def _held_out(self, modality: str, read: ReadInputs, labels: list[str]) -> str:
        """The HTML of a cross-validation in which one example of each class is held out at a time, or a few."""
        fewest = min(labels.count(name) for name in set(labels))
        if fewest < 2:
            return ""
        folds = fewest if self.model.reads_levels else min(fewest, DEFAULT_FOLDS)  # others read raw inputs in each
        return confusion(cross_validate(self._classifier(modality, read), read.rows, labels, folds=folds))


def staleness(given: tuple | None, modality: str, count: int, fields: tuple) -> str:
    """Returns what [`Demo.staleness`] does, from what the visitor gave when the model adapted; `None` if it did not."""
    if given is None or given == given_to_adapt(modality, count, fields):
        return ""
    return html.message(STALE, warning=True)


def _probabilities(classifier: FewShotClassifier, read: ReadInputs) -> np.ndarray:
    """(queries, classes); NaN for what cannot be read."""
    found = np.full((len(read.inputs), len(classifier.classes_)), np.nan)
    found[read.readable] = classifier.predict_proba(read.rows)
    return found


def _nearest(fitted: Fitted, read: ReadInputs) -> list[str]:
    """The HTML of the examples that are nearest to each query; of those that cannot be read there are none."""
    modality = fitted.adapted.modality_
    found = dict.fromkeys(range(len(read.inputs)), html.neighbours([], modality))
    rows = fitted.adapted.nearest_examples(read.rows, NEIGHBOURS)
    for number, own in zip(read.readable, rows, strict=True):
        found[number] = html.neighbours([(fitted.shown[e.position], str(e.label), e.similarity) for e in own], modality)
    return list(found.values())
