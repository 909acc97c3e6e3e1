"""
Serve a web page on which the model learns to tell apart your own sounds, texts or pictures from a few examples.

    msmaml web [--model FOLDER_OR_REPOSITORY] [--port 7860]

`demo/` makes the page the program of a Hugging Face Space.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which may connect to the network

import gradio as gr
import numpy as np
from gradio.themes import Default

from modeling_msmaml import FewShotClassifier, MSMAMLProcessor
from modeling_msmaml.inference.few_shot_classifier import UNREADABLE
from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.inputs.label_values import clean, is_absent, refuse_look_alikes

from . import page_html as html
from .example_tasks import ExampleTask, draw_task
from .page_inputs import SKIP_HELP, SKIP_LABEL, ReadInputs, read_inputs
from .page_limits import MAX_CLASSES, MAX_MEGABYTES, PageError, PageInput, inputs_of_field, limits_in_words
from .page_options import option_parser

NEIGHBOURS = 3  # examples that are shown beside a query
SECONDS_PER_STEP = 0.15  # between the points of the curve, so that a visitor sees it fall
TITLE = "Five examples per class"
INTRODUCTION = f"""# {TITLE}
Give a few examples of each of your classes and press **Adapt**; the model then classifies your queries.
{limits_in_words()} Your files are only decoded, and none is kept for more than about an hour.
"""


@dataclass
class Fitted:
    """The classifiers that a visitor's examples give.

    Attributes:
        adapted: the classifier after all inner steps.
        before: the classifier after none of them.
        shown: the HTML of each example.
    """

    adapted: FewShotClassifier
    before: FewShotClassifier
    shown: list[str]

    @property
    def compares(self) -> bool:
        """Whether the model compares queries with single examples, so that it can show the nearest."""
        return self.adapted.examples_ is not None


class Demo:
    """
    Computes the answers of the page. It holds the model, and nothing that a visitor gave.

    Args:
        model: folder or repository of the model; by default the model that [`FewShotClassifier`] takes.
        folder: the folder to which the files of the example tasks are written.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the model has no processor for any of its modalities.
    """

    def __init__(self, model: str | None, folder: Path):
        self.base = FewShotClassifier.from_pretrained(model)
        self.model, processor = self.base.base_model()
        own = [name for name in self.model.config.modalities if name in KINDS]
        self.modalities = [name for name in own if getattr(processor, KINDS[name].part, None) is not None]
        if not (self.modalities and isinstance(processor, MSMAMLProcessor)):
            raise ValueError(f"{self.base.model} has no processor for sounds, texts or pictures")
        self.processor = processor
        self.folder = folder
        self.tasks: dict[str, ExampleTask] = {}

    def example_task(self, modality: str) -> ExampleTask:
        """Returns the example task of a modality, which is drawn on the first call."""
        if modality not in self.tasks:
            self.tasks[modality] = draw_task(modality, self.folder, self.model, self.processor)
        return self.tasks[modality]

    def preview(self, modality: str, files: list[str] | None, lines: str | None, what: str) -> str:
        """Returns the HTML of some inputs, and of the reasons why others are refused."""
        try:
            read = read_inputs(inputs_of_field(modality, files, lines, what), modality, self.processor, True)
        except PageError as error:
            return html.message(str(error), error=True)
        reasons = "".join(html.message(reason, error=True) for reason in read.unreadable.values())
        return html.in_a_row(read.shown) + reasons + read.notes.html()

    def adapt(
        self, modality: str, count: int, skip_unreadable: bool, fields: tuple
    ) -> Iterator[tuple[str, str, Fitted | None]]:
        """
        Yields (message, curve, fitted classifiers) after each inner step; the last is `None` until all steps are done.

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
            fitted = Fitted(self._fit(modality, read, labels), self._fit(modality, read, labels, steps=0), shown)
        except (ValueError, OSError) as error:
            yield html.message(str(error), error=True), "", None
            return
        losses = fitted.adapted.support_losses_.tolist()
        done = f"Adapted to {len(labels)} examples of {len(fitted.adapted.classes_)} classes: "
        curve = ""
        if not any(losses):  # one example a class, and a model that compares examples with others of their class
            done += "with one example of each, there are none to compare, and no step is taken."
        else:
            for steps in range(len(losses)):
                curve = html.losses(losses[: steps + 1], len(losses) - 1)
                yield html.message(f"Step {steps} of {len(losses) - 1} …"), curve, None
                time.sleep(SECONDS_PER_STEP)
            done += f"their loss went from {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses) - 1} steps."
        done += " Now give the model something to classify."
        yield html.message(done) + read.summary("examples", "left out"), curve, fitted

    def classify(
        self, fitted: Fitted | None, modality: str, skip_unreadable: bool, files: list[str] | None, lines: str | None
    ) -> str:
        """
        Returns the HTML of the class probabilities of all queries, or of the reason why there are none.

        With `skip_unreadable` a query that cannot be read is predicted as `"unreadable"`, and named with the reason.
        """
        try:
            if fitted is None:
                raise PageError("Press Adapt first: the model does not know your classes yet.")
            queries = inputs_of_field(modality, files, lines, "Queries")
            if not queries:
                raise PageError("Queries: give at least one.")
            read = self._read(queries, modality, skip_unreadable)
            if not read.readable:
                raise PageError(f"Queries: none of {len(queries)} can be read. {'; '.join(read.unreadable.values())}")
            adapted, before = (_probabilities(classifier, read) for classifier in (fitted.adapted, fitted.before))
            guesses = fitted.adapted.decide(adapted).tolist()  # "unreadable" where the probabilities are NaN
            nearest = _nearest(fitted, read) if fitted.compares else None
        except (ValueError, OSError) as error:
            return html.message(str(error), error=True)
        table = html.probabilities(read.shown, fitted.adapted.classes_.tolist(), adapted, before, guesses, nearest)
        levels = html.level_weights(fitted.adapted.level_weights_) if fitted.compares else ""
        return table + levels + read.summary("queries", "not classified")

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
            own = inputs_of_field(modality, files[number], lines[number], name)
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
            return read_inputs(inputs, modality, self.processor, skip_unreadable)
        except PageError as error:
            raise PageError(f"{error}. Remove it, or tick “{SKIP_LABEL}”.") from error

    def _fit(self, modality: str, read: ReadInputs, labels: list[str], steps: int | None = None) -> FewShotClassifier:
        classifier = FewShotClassifier(self.base.model, modality=modality, num_inner_steps=steps)
        return classifier.fit(read.rows, labels, read.sampling_rate)


def _probabilities(classifier: FewShotClassifier, read: ReadInputs) -> np.ndarray:
    """(queries, classes); NaN for what cannot be read."""
    found = np.full((len(read.inputs), len(classifier.classes_)), np.nan)
    found[read.readable] = classifier.predict_proba(read.rows, read.sampling_rate)
    return found


def _nearest(fitted: Fitted, read: ReadInputs) -> list[str]:
    """The HTML of the examples that are nearest to each query; of those that cannot be read there are none."""
    modality = fitted.adapted.modality_
    found = dict.fromkeys(range(len(read.inputs)), html.neighbours([], modality))
    rows = fitted.adapted.nearest_examples(read.rows, NEIGHBOURS, read.sampling_rate)
    for number, own in zip(read.readable, rows, strict=True):
        found[number] = html.neighbours([(fitted.shown[e.position], str(e.label), e.similarity) for e in own], modality)
    return list(found.values())


def build(demo: Demo) -> gr.Blocks:
    """Lays out the page and connects its fields and buttons with `demo`."""
    first = demo.modalities[0]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(INTRODUCTION)
        fitted = gr.State(None)
        with gr.Row():
            modality = gr.Radio(demo.modalities, value=first, label="Modality", elem_id="modality")
            count = gr.Slider(2, MAX_CLASSES, value=3, step=1, label="Number of classes", elem_id="count")
            load = gr.Button("Load an example task", elem_id="load")
        groups, fields, previews = [], [], []
        for number in range(MAX_CLASSES):
            with gr.Row(visible=number < 3, elem_id=f"class_{number}") as group:
                with gr.Column(scale=1, min_width=300):
                    name = gr.Textbox(f"class {number + 1}", label="Class", elem_id=f"name_{number}", max_length=60)
                    files, lines = _field(first, f"examples_{number}")
                with gr.Column(scale=3):
                    shown = gr.HTML(elem_id=f"preview_{number}")
            for changed in (files, lines):
                changed.change(demo.preview, [modality, files, lines, name], shown, **private)
            groups.append(group)
            fields += [name, files, lines]
            previews.append(shown)
        skip = gr.Checkbox(False, label=SKIP_LABEL, info=SKIP_HELP, elem_id="skip_unreadable")
        adapt = gr.Button("Adapt", variant="primary", elem_id="adapt")
        status, curve = gr.HTML(elem_id="status"), gr.HTML(elem_id="curve")
        gr.Markdown("## Queries")
        query_files, query_lines = _field(first, "queries")
        classify = gr.Button("Classify", variant="primary", elem_id="classify")
        results = gr.HTML(elem_id="results")
        inputs = [modality, skip, query_files, query_lines]

        def show_classes(count: int) -> list:
            return [gr.update(visible=number < count) for number in range(MAX_CLASSES)]

        def start_anew(modality: str) -> list:
            names = [f"class {number + 1}" for number in range(MAX_CLASSES)]
            own = [value for name in names for value in (name, *_emptied(modality))]
            return [None, "", "", "", *own, *[""] * MAX_CLASSES, *_emptied(modality)]

        def load_task(modality: str) -> list:
            task = demo.example_task(modality)
            own = []
            for number in range(MAX_CLASSES):
                given = number < len(task.names)
                name = task.names[number] if given else f"class {number + 1}"
                own += [name, *_filled(modality, task.examples[number] if given else [])]
            return [None, "", "", "", len(task.names), *own, *_filled(modality, task.queries)]

        def run_adapt(modality: str, count: int, skip_unreadable: bool, *fields) -> Iterator[tuple]:
            for message, drawn, state in demo.adapt(modality, count, skip_unreadable, fields):
                yield message, drawn, state, ""

        count.change(show_classes, count, groups, **private)
        answers = [fitted, status, curve, results]
        modality.change(start_anew, modality, [*answers, *fields, *previews, query_files, query_lines], **private)
        load.click(load_task, modality, [*answers, count, *fields, query_files, query_lines], **private)
        adapt.click(run_adapt, [modality, count, skip, *fields], [status, curve, fitted, results], **private)
        classify.click(demo.classify, [fitted, *inputs], results, **private)
    return page


def _field(modality: str, name: str) -> tuple[gr.File, gr.Textbox]:
    """Makes the fields for the inputs of one class, or for the queries: files, and for texts also a box."""
    files = gr.File(
        file_count="multiple", type="filepath", label=_file_label(modality), elem_id=f"{name}_files", height=120
    )
    lines = gr.Textbox(
        lines=3, max_lines=3, label="Texts, one per line", elem_id=f"{name}_lines", visible=modality == "text"
    )
    return files, lines


def _file_label(modality: str) -> str:
    suffixes = KINDS[modality].suffixes
    return f"Files ({', '.join(suffixes[:4])}{', …' if len(suffixes) > 4 else ''})"


def _emptied(modality: str) -> tuple:
    return gr.update(value=None, label=_file_label(modality)), gr.update(value="", visible=modality == "text")


def _filled(modality: str, items: list[str]) -> tuple:
    if modality == "text":
        return gr.update(value=None), gr.update(value="\n".join(items))
    return gr.update(value=items or None), gr.update(value="")


def main(argv: list[str] | None = None, prog: str | None = None) -> None:
    """
    Serves the page until it is interrupted.

    Args:
        argv: the command line; by default that of the process.
        prog: the name of the command in usage and error messages; by default that of its file.
    """
    parser = option_parser(prog)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="msmaml_demo_") as folder:
        try:
            demo = Demo(arguments.model, Path(folder))
        except (FileNotFoundError, ValueError) as error:
            parser.exit(1, f"{parser.prog}: {error}\n")
        page = build(demo).queue(api_open=False, max_size=32, default_concurrency_limit=1)
        page.launch(
            server_port=arguments.port,
            share=False,
            ssr_mode=False,
            footer_links=[],
            max_file_size=f"{MAX_MEGABYTES}mb",
            allowed_paths=[folder],
            css=html.CSS,
            theme=Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )
