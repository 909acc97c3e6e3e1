"""
Serve a web page on which the model learns to tell apart your own sounds, texts or pictures from a few examples.

    msmaml web [--model FOLDER_OR_REPOSITORY] [--port 7860]

`demo/` makes the page the program of a Hugging Face Space.
"""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which may connect to the network

import gradio as gr
from starlette.middleware import Middleware

from .example_tasks import FOLDER, example_task
from .page_downloads import CLASSIFIER_NAME, RESULTS_NAME, what_an_archive_holds
from .page_fields import Field, with_items
from .page_files import kept_for_a_while
from .page_guard import Guard
from .page_inputs import SKIP_HELP, SKIP_LABEL
from .page_limits import MAX_CLASSES, PageError
from .page_logs import log, silence
from .page_options import limits_of, option_parser
from .page_service import Kept, PageService
from .page_style import CSS, SCRIPT, theme
from .worker_pool import WorkerPool

TITLE = "Five examples per class"
INTRODUCTION = """# {title}
Give a few examples of each of your classes and press **Adapt**; the model then classifies your queries.

{limits} Your files are only decoded, and none is kept for more than {minutes} minutes.
"""
# What the model computes waits in the queue; visitors see how many are before them.
MODEL: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "model"}
# The rest is beside the queue: a task that is loaded asks for twenty things at once, which would fill it.
LIGHT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
MAX_SESSIONS = 1_000  # visitors whose classifiers are remembered at once
THREADS = 64  # of the server, most of which wait for a worker
DOWNLOAD = "() => document.querySelector('#classifier_file')?.click()"


def build(service: PageService) -> gr.Blocks:
    """Lays out the page and connects its fields and buttons with `service`."""
    first, limits = service.modalities[0], service.limits
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION.format(title=TITLE, limits=limits.in_words(), minutes=limits.keep_minutes))
        fitted = gr.State(None, time_to_live=60 * limits.keep_minutes)
        with gr.Row():
            modality = gr.Radio(service.modalities, value=first, label="Modality", elem_id="modality")
            count = gr.Slider(2, MAX_CLASSES, value=3, step=1, label="Number of classes", elem_id="count")
            load = gr.Button("Load an example task", elem_id="load")
        gr.Markdown("## Your classes")
        groups, names, own, previews = [], [], [], []
        for number in range(MAX_CLASSES):
            with gr.Row(visible=number < 3, elem_id=f"class_{number}") as group:
                with gr.Column(scale=1, min_width=300):
                    label = f"Name of class {number + 1}"
                    names.append(gr.Textbox(_name(number), label=label, elem_id=f"name_{number}", max_length=60))
                    own.append(Field.lay_out(first, f"Examples of class {number + 1}", f"examples_{number}", limits))
                with gr.Column(scale=3, min_width=300):
                    previews.append(gr.HTML(elem_id=f"preview_{number}"))
            groups.append(group)
        skip = gr.Checkbox(False, label=SKIP_LABEL, info=SKIP_HELP, elem_id="skip_unreadable")
        adapt = gr.Button("Adapt", variant="primary", elem_id="adapt")
        stale = gr.HTML(elem_id="stale")
        status, curve = gr.HTML(elem_id="status"), gr.HTML(elem_id="curve")
        save = gr.Button("Download the classifier", visible=False, elem_id="save")
        held = gr.Markdown(what_an_archive_holds(service.reads_levels), visible=False, elem_id="held")
        file = gr.DownloadButton(CLASSIFIER_NAME, visible="hidden", elem_id="classifier_file")
        gr.Markdown("## Queries")
        queries = Field.lay_out(first, "Queries", "queries", limits)
        classify = gr.Button("Classify", variant="primary", elem_id="classify")
        results = gr.HTML(elem_id="results")
        table = gr.DownloadButton(f"Download {RESULTS_NAME}", visible=False, elem_id="table")

        fields = [part for name, field in zip(names, own, strict=True) for part in (name, *field.filled)]
        every_field = [*own, queries]
        boxes = [box for field in every_field for box in field.boxes]
        answers = [fitted, stale, status, curve, results, save, held, table]
        hidden = gr.update(visible=False)
        nothing = [None, "", "", "", "", hidden, hidden, gr.update(value=None, visible=False)]

        def show_classes(count: int) -> list:
            return [gr.update(visible=number < count) for number in range(MAX_CLASSES)]

        def start_anew(modality: str) -> list:
            emptied = [field.emptied(modality) for field in every_field]
            given = [part for number in range(MAX_CLASSES) for part in (_name(number), *emptied[number][:2])]
            shown = [part for updates in emptied for part in updates[2:]]
            return [*nothing, *given, *emptied[-1][:2], *[""] * MAX_CLASSES, *shown]

        def load_task(modality: str) -> list:
            task = example_task(modality)
            given = []
            for number in range(MAX_CLASSES):
                is_given = number < len(task.names)
                name = task.names[number] if is_given else _name(number)
                given += [name, *with_items(modality, task.examples[number] if is_given else [])]
            return [*nothing, len(task.names), *given, *with_items(modality, task.queries)]

        def run_adapt(modality: str, count: int, skip_unreadable: bool, *fields) -> Iterator[list]:
            for message, drawn, state in service.adapt(modality, int(count), skip_unreadable, fields):
                there = gr.update(visible=state is not None)
                yield [state, "", message, drawn, "", there, there, nothing[-1]]

        def run_classify(state: Kept | None, *inputs) -> tuple:
            shown, path = service.classify(state, *inputs)
            return shown, nothing[-1] if path is None else gr.update(value=path, visible=True)

        def run_save(state: Kept | None) -> str:
            if state is None:
                raise gr.Error("Press Adapt first: the model does not know your classes yet.", print_exception=False)
            try:
                return service.archive(state)
            except PageError as error:
                raise gr.Error(str(error), print_exception=False) from error

        def mark_stale(state: Kept | None, modality: str, count: int, *fields) -> str:
            return service.staleness(state, modality, count, fields)

        count.change(show_classes, count, groups, **LIGHT)
        model: dict[str, Any] = MODEL | {"concurrency_limit": limits.workers}
        filled = [*fields, *queries.filled]
        modality.change(start_anew, modality, [*answers, *filled, *previews, *boxes], **LIGHT)
        load.click(load_task, modality, [*answers, count, *filled], **LIGHT)
        for name, field, shown in zip(names, own, previews, strict=True):
            for changed in field.filled:
                changed.change(service.preview, [modality, *field.filled, name], shown, **LIGHT)
        compared = [fitted, modality, count, *fields]
        gr.on(
            [part.change for part in (count, *fields)],
            mark_stale,
            compared,
            stale,
            trigger_mode="always_last",
            **LIGHT,
        )
        adapt.click(run_adapt, [modality, count, skip, *fields], answers, show_progress_on=status, **model).then(
            mark_stale, compared, stale, **LIGHT
        )
        asked = [fitted, modality, skip, *queries.filled]
        classify.click(run_classify, asked, [results, table], show_progress_on=results, **model)
        save.click(run_save, fitted, file, show_progress_on=save, **model).success(None, js=DOWNLOAD, **LIGHT)
    return page


def _name(number: int) -> str:
    return f"class {number + 1}"


def main(argv: list[str] | None = None, prog: str | None = None) -> None:
    """
    Serves the page until it is interrupted.

    Args:
        argv: the command line; by default that of the process.
        prog: the name of the command in usage and error messages; by default that of its file.
    """
    parser = option_parser(prog)
    arguments = parser.parse_args(argv)
    if not hasattr(os, "fork"):  # by which workers share the model
        parser.exit(1, f"{parser.prog}: the page needs Linux or macOS; on Windows, it runs in WSL\n")
    limits = limits_of(arguments)
    signal.signal(signal.SIGTERM, _end)  # as a container is ended: files of visitors go, too
    if place := os.environ.get("GRADIO_TEMP_DIR"):
        Path(place).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="msmaml_page_", dir=place or None) as folder:
        uploads, downloads = Path(folder, "uploads"), Path(folder, "downloads")
        for path in (uploads, downloads):
            path.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        try:
            pool = WorkerPool(arguments.model, downloads, limits, is_verbose=arguments.verbose)
        except ValueError as error:
            parser.exit(1, f"{parser.prog}: {error}\n")
        try:
            with kept_for_a_while(Path(folder), limits):
                _serve(pool, uploads, downloads, arguments, parser)
        finally:
            pool.close()


def _end(*_: Any) -> None:
    raise SystemExit(0)


def _serve(
    pool: WorkerPool, uploads: Path, downloads: Path, arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> None:
    """Serves the page until it is interrupted."""
    limits = pool.limits
    page = build(PageService(pool, downloads)).queue(
        api_open=False, max_size=2 * limits.max_waiting, default_concurrency_limit=limits.workers
    )
    guard = Middleware(Guard, pool=pool, folder=uploads.parent, waiting=lambda: len(page._queue))
    try:
        page.launch(
            server_name=arguments.host,
            server_port=arguments.port,
            share=False,
            ssr_mode=False,
            prevent_thread_lock=True,
            max_threads=THREADS,
            state_session_capacity=MAX_SESSIONS,
            footer_links=[],
            max_file_size=f"{limits.max_megabytes}mb",
            allowed_paths=[str(downloads), str(FOLDER)],
            css=CSS,
            js=SCRIPT,
            theme=theme(),
            app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None, "openapi_url": None},
        )
    except OSError as error:
        port = "a free port from 7860 on" if arguments.port is None else f"--port {arguments.port}"
        parser.exit(1, f"{parser.prog}: {port} cannot be had, perhaps since other programs run there: {error}\n")
    if not arguments.verbose:
        log("what follows quotes nothing that visitors write; --verbose prints errors in full")
        silence()
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        page.close(verbose=False)
