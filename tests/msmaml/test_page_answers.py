"""What the page shows and hands out: charts, stale results, downloads, example tasks. Without a browser."""

import csv
import io
import re
import runpy
import sys
import zipfile
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inputs.kinds import KINDS
from msmaml.web import page, page_charts, page_downloads, page_html
from msmaml.web.example_tasks import FOLDER, N_EXAMPLES, example_task
from msmaml.web.page_answers import Demo, Fitted
from msmaml.web.page_limits import MAX_CLASSES, PageLimits

from ..level_models import save_level_model
from ..own_data import save_tiny_model, write_file

REPOSITORY = Path(__file__).resolve().parents[2]
MODALITIES = ("audio", "text", "image")
MODELS = {"levels": lambda folder: save_level_model(folder), "parameters": lambda f: save_tiny_model(f / "model")}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp(name) for name in MODELS}
    return {name: Demo(str(make(folders[name])), folders[name] / "downloads") for name, make in MODELS.items()}


@pytest.fixture
def fields(tmp_path):
    """Of a modality: the fields of two classes, with as many examples as asked for, as the page gets them."""

    def make(modality: str, examples: int = 2, names=("crow", "wren")) -> tuple:
        files = [[str(write_file(modality, tmp_path, kind, i)) for i in range(examples)] for kind in range(2)]
        return names[0], files[0], "", names[1], files[1], ""

    return make


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("msmaml.web.page_answers.SECONDS_PER_STEP", 0)


def adapted(demo: Demo, modality: str, fields: tuple) -> tuple[str, str, Fitted]:
    """The last answer to Adapt."""
    *_, (message, charts, fitted) = demo.adapt(modality, 2, False, fields)
    assert fitted is not None, message
    return message, charts, fitted


# Charts


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_model_on_levels_shows_levels_and_the_nearest_examples(demos, fields, modality):
    given = fields(modality)
    message, charts, fitted = adapted(demos["levels"], modality, given)
    assert "Adapted to 4 examples" in message and "loss went from" in message
    bars = dict(re.findall(r'class="label">([^<]*)</span>.*?class="value">(\d+) %', charts))
    assert bars == {name: f"{100 * weight:.0f}" for name, weight in fitted.adapted.level_weights_.items()}
    Path(given[1][0]).with_name("broken").write_bytes(b"\xff\x00")
    queries = [given[4][1], str(Path(given[1][0]).with_name("broken"))]
    shown = demos["levels"].classify(fitted, modality, True, queries, None).html
    first, second = re.findall('data-column="nearest examples">(.*?)</td>', shown)
    assert first.count('class="neighbour ') == 3 and re.search(r"wren, (1.00|0.9\d)", first) and "<audio" not in first
    assert second == "–"


def test_another_model_shows_neither(demos, fields):
    given = fields("image")
    _, charts, fitted = adapted(demos["parameters"], "image", given)
    shown = demos["parameters"].classify(fitted, "image", False, given[1], None).html
    assert "<table" in shown and "nearest" not in shown and "<details" not in charts and "<svg" in charts


def test_with_one_example_a_class_there_is_no_curve_and_none_is_held_out(demos, fields):
    given = fields("image", examples=1)
    message, charts, fitted = adapted(demos["levels"], "image", given)
    assert "no step is taken" in message and "<svg" not in charts and "held out" not in charts
    assert "<table" in demos["levels"].classify(fitted, "image", False, given[1], None).html


@pytest.mark.parametrize(("model", "folds"), [("levels", 6), ("parameters", 5)])
def test_held_out_examples_are_those_of_cross_validation(demos, fields, model, folds, monkeypatch):
    """A model on levels holds out one example of each class at a time, another, which is slower, a few."""
    found = []
    validate = Demo._held_out.__globals__["cross_validate"]
    recorded = lambda *given, **options: found.append(validate(*given, **options)) or found[-1]  # noqa: E731
    monkeypatch.setattr("msmaml.web.page_answers.cross_validate", recorded)
    _, charts, _ = adapted(demos[model], "image", fields("image", examples=6))
    (only,) = found
    assert only.folds == folds and only.count == 12
    cells = [int(cell) for cell in re.findall(r"<td style=[^>]*>(\d+)</td>", charts)]
    assert cells == only.confusion.flatten().tolist()
    assert f"{int(only.confusion.trace())} of 12 right" in charts


def test_names_in_charts_are_escaped(demos, fields):
    harm = "<img src=x>"
    _, charts, _ = adapted(demos["levels"], "image", fields("image", names=(harm, "wren")))
    assert "<img" not in charts and "&lt;img" in charts
    assert "<img" not in page_charts.level_weights({harm: 1.0})


def test_spectrogram_shows_the_pitch():
    samples = (20_000 * np.sin(2 * np.pi * 2_000 * np.arange(16_000) / 16_000)).astype(np.int16)
    rows = np.asarray(page_html.spectrogram(samples, 16_000)).sum(axis=(1, 2))
    assert abs(rows.argmax() - 48) <= 1, "2 kHz of 8 kHz, a quarter of the height from below"
    silence = np.asarray(page_html.spectrogram(0 * samples, 16_000))
    assert silence.max() < 16, "which is dark"


# Stale results


def test_results_are_stale_when_classes_or_examples_differ_from_those_that_the_model_adapted_to(demos, fields):
    demo, given = demos["levels"], fields("image")
    _, _, fitted = adapted(demo, "image", given)
    changes = {
        "a class is renamed": (2, (*given[:3], "jay", *given[4:])),
        "an example is added": (2, (given[0], [*given[1], given[4][0]], *given[2:])),
        "an example is removed": (2, (given[0], given[1][:1], *given[2:])),
        "a class is added": (3, (*given, "class 3", None, "")),
    }
    for change, (count, changed) in changes.items():
        assert "Press Adapt" in demo.staleness(fitted, "image", count, changed), change
    same = {"nothing changes": given, "hidden classes are filled": (*given, "x", given[1], "a line")}
    for change, unchanged in same.items():
        assert demo.staleness(fitted, "image", 2, unchanged) == "", change
    assert demo.staleness(None, "image", 2, given) == "", "before there is a result"


# Downloads


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("model", MODELS)
def test_the_classifier_in_the_archive_predicts_the_same_and_holds_no_example(demos, fields, tmp_path, model, modality):
    given = fields(modality)
    demo = demos[model]
    _, _, fitted = adapted(demo, modality, given)
    with zipfile.ZipFile(demo.archive(fitted)) as archive:
        archive.extractall(tmp_path / "taken home")
    folder = tmp_path / "taken home" / "classifier"
    queries = given[1] + given[4]
    paths = [Path(path) for path in queries]
    items = [path.read_text() if modality == "text" else path for path in paths]
    taken = FewShotClassifier.from_pretrained(folder).predict_proba(items)
    table = demo.classify(fitted, modality, False, queries, None).table
    rows = [[float(value) for value in row[2:]] for row in list(csv.reader(io.StringIO(table)))[1:]]
    np.testing.assert_allclose(taken, rows, atol=1e-4)

    stored = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    for path in paths:
        assert str(path.parent).encode() not in stored and path.name.encode() not in stored
        assert path.read_bytes()[-200:] not in stored


def test_at_the_button_it_says_that_features_of_examples_are_stored(demos):
    said = {name: page_downloads.what_an_archive_holds(demo.reads_levels) for name, demo in demos.items()}
    assert "features" in said["levels"] and "features" not in said["parameters"]
    for name, demo in demos.items():
        shown = [part["props"].get("value") for part in page.build(demo).get_config_file()["components"]]
        assert said[name] in shown


def test_results_are_a_table_in_which_what_cannot_be_read_has_no_probability():
    probabilities = np.array([[0.25, 0.75], [np.nan, np.nan]])
    table = page_downloads.results_table(["a, b", "c"], ["x", "y"], probabilities, ["y", "unreadable"])
    assert list(csv.reader(io.StringIO(table))) == [
        ["query", "prediction", "probability of x", "probability of y"],
        ["a, b", "y", "0.250000", "0.750000"],
        ["c", "unreadable", "", ""],
    ]


def test_downloads_are_removed_after_a_while(tmp_path, monkeypatch):
    first = page_downloads.results_file("é\n", tmp_path)
    assert first.read_bytes() == "\ufeffé\n".encode()
    second = page_downloads.results_file("b\n", tmp_path)
    assert first.exists() and second.exists()
    monkeypatch.setattr(page_downloads, "KEPT_SECONDS", -5)
    third = page_downloads.results_file("c\n", tmp_path)
    assert not first.exists() and not second.exists() and third.exists()


# Example tasks, and what the page loads


@pytest.mark.parametrize("modality", MODALITIES)
def test_an_example_task_has_other_queries_than_examples(modality):
    task = example_task(modality)
    items = [item for own in task.examples for item in own] + task.queries
    assert 2 <= len(task.names) <= MAX_CLASSES and {len(own) for own in task.examples} == {N_EXAMPLES}
    assert PageLimits().max_examples >= N_EXAMPLES and len(task.queries) == 2 * len(task.names)
    if modality != "text":
        assert all(Path(item).suffix in KINDS[modality].suffixes for item in items)
        items = [Path(item).read_bytes() for item in items]
        for item in map(io.BytesIO, items):
            seen = soundfile.info(item).frames if modality == "audio" else Image.open(item).size[0]
            assert seen >= 128
    assert len(set(items)) == len(items)


def test_every_example_is_named_with_its_source_in_the_notice():
    notice = (FOLDER / "NOTICE").read_text()
    files = [path for path in FOLDER.rglob("*.*") if path.is_file()]
    assert len(files) == 42 and sum(path.stat().st_size for path in files) < 1_000_000
    for path in files:
        name = path.stem if path.suffix == ".ogg" else f"{path.parent.name}/{path.name}"
        assert re.search(rf"^  {re.escape(name)} +\S", notice, flags=re.MULTILINE), name


def test_the_page_names_no_address_but_its_own(demos):
    """What it says, and its style sheet and fonts, come from this machine."""
    built = page.build(demos["levels"])
    config = built.get_config_file()
    said = [str(part["props"]) for part in config["components"]] + [
        page.CSS,
        page.SCRIPT,
        built.css or "",
        built.head or "",
    ]
    fonts = [str(sheet) for sheet in page.theme()._stylesheets]
    outside = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", unescape(" ".join([*said, *fonts])))
    assert outside == []


def test_without_a_model_the_page_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.setattr(sys, "argv", ["app.py", "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / "demo" / "app.py"), run_name="__main__")
    assert ended.value.code == 1
    assert re.search(r"demo/app.py: .*msmaml train quickstart", capsys.readouterr().err)
