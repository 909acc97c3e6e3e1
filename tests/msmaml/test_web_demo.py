"""The web page in a real browser, served from the folder that would be uploaded as a Space."""

import csv
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from playwright.sync_api import Page, expect

from modeling_msmaml import FewShotClassifier
from msmaml.web import example_tasks
from scripts import make_space

from .page_actions import IMAGE_SIZE, MODALITIES, SECONDS, STEPS, choose, clear, tone, upload

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTHS = (375, 768, 1440)
# Whatever reaches beyond the window, or hides a part of itself.
CUT_OFF = """() => [...document.querySelectorAll('.gradio-container *')].filter(element => {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (!box.width || !box.height || style.visibility === 'hidden' || style.position === 'absolute') return false;
    const hides = ['hidden', 'clip'].includes(style.overflowX) && element.scrollWidth > element.clientWidth + 1;
    return hides || box.left < -1 || box.right > document.documentElement.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 200))"""


def losses(page: Page) -> list[float]:
    """What the curve shows."""
    curve = page.locator("#curve svg")
    values = curve.get_attribute("data-losses") if curve.count() else None
    return [float(value) for value in values.split(",")] if values else []


def expected_rows(modality: str, space: Path):
    """(probabilities, predictions, losses) that the classifier itself gives for the example task."""
    base = FewShotClassifier.from_pretrained(space / "pretrained" / "msmaml-base", modality=modality)
    task = example_tasks.example_task(modality)
    labels = [name for name, own in zip(task.names, task.examples, strict=True) for _ in own]
    classifier = base.fit([item for own in task.examples for item in own], labels)
    return classifier.predict_proba(task.queries), classifier.predict(task.queries), classifier.support_losses_


@pytest.mark.filterwarnings("ignore:the model reads the first 1 s")
@pytest.mark.parametrize("modality", MODALITIES)
def test_the_whole_story(page, space, tmp_path, modality):
    choose(page, modality)
    page.click("#load")
    shown = page.locator("#preview_2 .example")
    expect(shown).to_have_count(example_tasks.N_EXAMPLES)
    if modality == "audio":
        player = page.locator("#preview_0 audio").first
        page.wait_for_function("player => player.duration > 0", arg=player.element_handle())
        assert 0.1 < player.evaluate("player => player.duration") <= SECONDS, "without the silence at its end"
    if modality == "text":
        assert "The striker scored twice." in shown.first.inner_text()
    else:
        width = page.locator("#preview_0 img").first.evaluate("image => image.naturalWidth")
        assert width == (180 if modality == "audio" else IMAGE_SIZE)
    probabilities, predictions, expected_losses = expected_rows(modality, space)

    page.click("#adapt")
    seen, deadline = set(), time.monotonic() + 20
    while len(values := losses(page)) <= STEPS and time.monotonic() < deadline:
        seen.add(len(values))
    assert len(seen) >= 3, "the curve grows step by step"
    expect(page.locator("#status")).to_contain_text("Adapted to 15 examples of 3 classes")
    expect(page.locator(".confusion")).to_contain_text("of 15 right")
    np.testing.assert_allclose(losses(page), expected_losses, atol=1e-3)
    assert values[-1] < values[0]

    page.click("#classify")
    rows = page.locator("#results tr.query")
    expect(rows).to_have_count(len(predictions))
    assert rows.locator(".guess").all_inner_texts() == predictions.tolist()
    for row, row_probabilities in zip(rows.all(), probabilities, strict=True):
        adapted, before = row.locator("td").nth(2), row.locator("td").nth(3)
        for cell, values in ((adapted, row_probabilities), (before, np.full(3, 1 / 3))):
            widths = [
                re.search(r"width:\s*([\d.]+)%", fill.get_attribute("style"))[1] for fill in cell.locator(".fill").all()
            ]
            np.testing.assert_allclose([float(width) for width in widths], 100 * values, atol=0.2)
        assert adapted.locator(".best .label").inner_text() == row.locator(".guess").inner_text()
        assert before.locator(".best").count() == 0, "which has no favourite: its classifier starts from equal rows"
    with page.expect_download() as results:
        page.click("#table")
    with results.value.path().open(encoding="utf-8-sig", newline="") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == predictions.tolist()
    with page.expect_download() as archive:
        page.click("#save")
    assert "classifier/config.json" in zipfile.ZipFile(archive.value.path()).namelist()

    page.locator("#name_0 input, #name_0 textarea").fill("another name")
    expect(page.locator("#stale")).to_contain_text("Your classes or examples have changed since")
    page.locator("#name_0 input, #name_0 textarea").fill(example_tasks.example_task(modality).names[0])
    expect(page.locator("#stale")).not_to_contain_text("have changed")


@pytest.mark.parametrize("modality", MODALITIES)
def test_nothing_is_cut_off_and_nothing_is_hard_to_reach(page, modality):
    """At the widths of a phone, a tablet and a desk; "hard to reach" is what axe-core calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    choose(page, modality)
    page.click("#load")
    expect(page.locator("#preview_2 .example")).to_have_count(example_tasks.N_EXAMPLES)
    page.click("#adapt")
    expect(page.locator(".confusion")).to_be_visible()
    page.click("#classify")
    expect(page.locator("#results tr.query")).to_have_count(6)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT_OFF) == [], width
    found = axe.Axe().run(page).response["violations"]
    serious = [(rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")]
    assert serious == []


def test_own_sounds_with_mistakes_on_the_way(page, tmp_path):
    """Every mistake is told in words, by the file's or class's name, and can be put right."""
    low, high = (tone(tmp_path / f"{name}.wav", hertz) for name, hertz in (("low", 200), ("high", 2_000)))
    broken, text = tmp_path / "broken.wav", tmp_path / "notes.txt"
    broken.write_bytes(b"RIFF what is this?")
    text.write_text("not a sound")
    alert = page.locator("#status [role=alert]")
    choose(page, "audio")

    page.click("#classify")
    expect(page.locator("#results [role=alert]")).to_contain_text("Press Adapt first")
    page.click("#adapt")
    expect(alert).to_contain_text("Class class 1 has no examples")

    page.locator("#count input[type=number]").fill("2")
    page.locator("#count input[type=number]").press("Enter")
    expect(page.locator("#class_2")).to_be_hidden()
    page.locator("#name_0 input, #name_0 textarea").fill("low <img src=x onerror='window.harmed=1'>")
    page.locator("#name_1 input, #name_1 textarea").fill("")
    upload(page, "examples_0", low)
    expect(page.locator("#preview_0 audio")).to_have_count(1)
    upload(page, "examples_1", broken)
    expect(page.locator("#preview_1 [role=alert]")).to_contain_text("cannot decode the sound in broken.wav")
    assert "/" not in page.locator("#preview_1").inner_text(), "where the server keeps it is nobody's business"
    page.click("#adapt")
    expect(alert).to_contain_text("Class 2 has no name")
    page.locator("#name_1 input, #name_1 textarea").fill("high")
    page.click("#adapt")
    expect(alert).to_contain_text("high: cannot decode the sound in broken.wav")

    clear(page, "examples_1")
    upload(page, "examples_1", text)
    expect(page.locator("#preview_1 [role=alert]")).to_contain_text("files of these kinds are read: .wav")
    clear(page, "examples_1")
    page.click("#adapt")
    expect(alert).to_contain_text("Class high has no examples")
    upload(page, "examples_1", high)
    expect(page.locator("#preview_1 audio")).to_have_count(1)
    page.click("#adapt")
    expect(page.locator("#status")).to_contain_text("Adapted to 2 examples of 2 classes")
    page.click("#classify")
    expect(page.locator("#results [role=alert]")).to_contain_text("Queries: give at least one")
    upload(page, "queries", tone(tmp_path / "another_high.wav", 1_900))
    expect(page.locator("#queries_files")).to_contain_text("another_high")
    page.click("#classify")
    row = page.locator("#results tr.query")
    expect(row).to_have_count(1)
    expect(row.locator(".label").first).to_contain_text("high")
    assert "low <img src=x" in row.inner_text() and page.evaluate("window.harmed") is None

    choose(page, "text")  # starts anew
    expect(page.locator("#results tr.query")).to_have_count(0)
    page.locator("#queries_lines textarea").fill("Chop the onions.")
    page.click("#classify")
    expect(page.locator("#results [role=alert]")).to_contain_text("Press Adapt first")


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_of_the_results_is_cut_off_and_what_is_left_out_is_named(page, tmp_path, width):
    """With the box, an example and a query that cannot be read; on a phone and on a desk."""
    page.set_viewport_size({"width": width, "height": 844})
    broken = tmp_path / "a broken sound.wav"
    broken.write_bytes(b"RIFF")
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(9_000), 9_000)
    choose(page, "audio")
    page.locator("#count input[type=number]").fill("2")
    page.locator("#count input[type=number]").press("Enter")
    page.locator("#name_0 input, #name_0 textarea").fill("a class with quite a long name for a small screen")
    upload(page, "examples_0", tone(tmp_path / "low.wav", 200), broken)
    upload(page, "examples_1", tone(tmp_path / "high.wav", 2_000))
    expect(page.locator("#preview_0 [role=alert]")).to_contain_text("cannot decode the sound in a broken sound.wav")
    expect(page.locator("#preview_0 audio")).to_have_count(1)
    expect(page.locator("#preview_1 audio")).to_have_count(1)
    page.click("#adapt")
    expect(page.locator("#status [role=alert]")).to_contain_text("tick “Leave out what cannot be read”")
    page.get_by_label("Leave out what cannot be read").check()
    page.click("#adapt")
    expect(page.locator("#status")).to_contain_text("Adapted to 2 examples of 2 classes")
    left_out = page.locator("#status .message.warning")
    expect(left_out).to_contain_text("1 of 3 examples cannot be read and were left out")
    expect(left_out.locator("li")).to_contain_text("cannot decode the sound in a broken sound.wav")

    upload(page, "queries", broken, silent)
    expect(page.locator("#queries_files")).to_contain_text("silent")
    page.click("#classify")
    expect(page.locator("#results tr.query")).to_have_count(2)
    assert page.locator("#results .guess").first.inner_text().endswith("unreadable")
    expect(page.locator("#results .message.warning")).to_contain_text(["1 of 2 queries", "nothing but silence"])
    assert "/" not in page.locator("#results").inner_text(), "where the server keeps it is nobody's business"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = "[...document.querySelectorAll('#results td, #results .bar > *')].map(e => e.getBoundingClientRect())"
    boxes = page.evaluate(f"{shown}.map(box => [box.left, box.right])")
    assert len(boxes) > 8 and min(left for left, _ in boxes) >= 0 and max(right for _, right in boxes) <= width
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)


# Without a browser


def test_the_space_says_what_it_needs(space):
    front_matter = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), flags=re.MULTILINE))
    assert front_matter["sdk"] == "gradio" and front_matter["sdk_version"] == pins["gradio"]
    assert (space / front_matter["app_file"]).is_file()
    requirements = (space / "requirements.txt").read_text()
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)$", requirements, flags=re.MULTILINE):
        assert pins[name] == version, name
    needed = re.findall(
        r'^    "([a-z0-9-]+)', (REPOSITORY / "setup.py").read_text().split("EXTRAS_REQUIRE")[0], re.MULTILINE
    )
    missing = [name for name in needed if not re.search(rf"^{name}\b", requirements, flags=re.MULTILINE)]
    assert needed and missing == []


def test_a_space_goes_into_an_empty_folder(space, tmp_path):
    with pytest.raises(ValueError, match="is not empty"):
        make_space.make_space(space, space / "pretrained" / "msmaml-base")
    with pytest.raises(FileNotFoundError, match="no folder of a model"):
        make_space.make_space(tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()
