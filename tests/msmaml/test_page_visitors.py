"""What visitors put into the fields of the page in a real browser, and what they are told when it is busy."""

import re

import pytest
from playwright.sync_api import expect

from .page_actions import IMAGE_SIZE, choose, served, tone, upload

# One visitor is served, for as long as a file is not there, and one may wait.
BUSY = """
import pathlib, sys, time
from msmaml.web import page

adapt = page.PageService.adapt

def slow(self, *given):
    while not pathlib.Path(sys.argv[1]).exists():
        time.sleep(0.05)
    yield from adapt(self, *given)

page.PageService.adapt = slow
page.main(["--workers", "1", "--max_waiting", "1", *sys.argv[2:]])
"""


def test_files_are_added_to_those_that_are_there(page, tmp_path):
    """By mouse and by keyboard."""
    choose(page, "audio")
    files = [tone(tmp_path / f"{name}.wav", hertz) for name, hertz in (("a", 200), ("b", 300), ("c", 400))]
    upload(page, "examples_0", files[0])
    expect(page.locator("#preview_0 audio")).to_have_count(1)
    add = page.locator("#examples_0_files").get_by_label("Add files")
    for count, (file, use) in enumerate([(files[1], add.click), (files[2], lambda: add.press("Enter"))], start=2):
        with page.expect_file_chooser() as chooser:
            use()
        chooser.value.set_files(file)
        expect(page.locator("#preview_0 audio")).to_have_count(count)


def test_what_is_recorded_or_taken_becomes_an_example(page):
    page.context.grant_permissions(["microphone", "camera"])
    choose(page, "audio")
    page.get_by_role("button", name="Record a sound").first.click()
    microphone = page.locator("#examples_0_microphone button")
    microphone.filter(has_text="Record").first.click()
    page.wait_for_timeout(1_000)
    microphone.filter(has_text="Stop").first.click()
    expect(page.locator("#preview_0 audio")).to_have_count(1)
    choose(page, "image")
    page.get_by_role("button", name="Take or paste a picture").first.click()
    page.locator("#examples_0_camera").get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#examples_0_camera video')?.videoWidth > 0")
    page.get_by_label("capture photo").first.click()
    expect(page.locator("#preview_0 img")).to_have_count(1)


def test_a_pasted_picture_becomes_an_example(page):
    """A picture that was copied elsewhere, here a red square."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(page, "image")
    page.evaluate("""async () => {
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 40;
        const context = canvas.getContext('2d');
        context.fillStyle = 'rgb(255, 0, 0)';
        context.fillRect(0, 0, 40, 40);
        const picture = await new Promise(resolve => canvas.toBlob(resolve, 'image/png'));
        await navigator.clipboard.write([new ClipboardItem({'image/png': picture})]);
    }""")
    for number in (1, 2):  # the field is ready for the next
        if number == 1:
            page.get_by_role("button", name="Take or paste a picture").first.click()
        page.locator("#examples_0_camera").get_by_label("Paste from clipboard").click()
        expect(page.locator("#preview_0 img")).to_have_count(number)
    shown = page.locator("#preview_0 img").last.evaluate("""image => {
        const canvas = document.createElement('canvas'), context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        return [image.naturalWidth, ...context.getImageData(5, 5, 1, 1).data];
    }""")
    assert shown == [IMAGE_SIZE, 255, 0, 0, 255]


@pytest.fixture
def release(space, tmp_path):
    """(address of a page that lets one visitor wait, file that ends the work for the first)."""
    with served(space, tmp_path, ("-c", BUSY, str(tmp_path / "go"))) as url:
        yield url, tmp_path / "go"


def test_who_comes_while_the_queue_is_full_is_told_so_and_may_try_again(browser, release):
    address, go = release
    visitors = [browser.new_page() for _ in range(3)]
    for visitor in visitors:
        visitor.goto(address)
        visitor.click("#load")
        expect(visitor.locator("#name_0 input, #name_0 textarea")).to_have_value("dog")
        expect(visitor.locator("#preview_2 .example")).to_have_count(5)
    for visitor in visitors:
        visitor.click("#adapt")
        visitor.wait_for_timeout(500)
    expect(visitors[2].locator("body")).to_contain_text(
        re.compile(r"The page is busy: 1 requests? waits? already\. Try again in \d+ s")
    )
    go.touch()
    for visitor in visitors[:2]:
        expect(visitor.locator("#status")).to_contain_text("Adapted to 15 examples of 3 classes")
    expect(visitors[2].locator("#status")).not_to_contain_text("Adapted")
    visitors[2].click("#adapt")
    expect(visitors[2].locator("#status")).to_contain_text("Adapted to 15 examples of 3 classes")
    for visitor in visitors:
        visitor.close()
