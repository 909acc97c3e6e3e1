"""Fixtures of the tests that drive the page in a real browser, served from the folder that would be uploaded."""

import os
import re
from pathlib import Path

import pytest
import torch
from playwright.sync_api import sync_playwright

from data_builders.storage.vocabulary import word_level_tokenizer
from modeling_msmaml import (
    MSMAMLConfig,
    MSMAMLFeatureExtractor,
    MSMAMLImageProcessor,
    MSMAMLModel,
    MSMAMLProcessor,
)
from msmaml.web import example_tasks
from scripts import make_space

from .page_actions import CHROMIUM, FLAGS, IMAGE_SIZE, SAMPLING_RATE, SECONDS, STEPS, served


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    """A Space with a small untrained model, which knows the words of the example task."""
    words = re.findall(r"\w+|\.", " ".join(text.lower() for own in example_tasks.SENTENCES.values() for text in own))
    tokens = ["[PAD]", "[UNK]", *sorted(set(words))]
    torch.manual_seed(0)
    model = MSMAMLModel(MSMAMLConfig(num_channels=8, num_layers=3, num_inner_steps=STEPS, vocab_size=len(tokens)))
    folder = tmp_path_factory.mktemp("demo")
    model.save_pretrained(folder / "model")
    MSMAMLProcessor(
        feature_extractor=MSMAMLFeatureExtractor(SAMPLING_RATE, SECONDS),
        image_processor=MSMAMLImageProcessor(IMAGE_SIZE),
        tokenizer=word_level_tokenizer(tokens, max_length=480),
    ).save_pretrained(folder / "model")
    make_space.make_space(folder / "space", folder / "model")
    return folder / "space"


@pytest.fixture(scope="module")
def address(space, tmp_path_factory):
    """Of the running page."""
    with served(space, tmp_path_factory.mktemp("served")) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        message = "there is no chromium: `apt-get install chromium` (`make browser` does it for root)"
        if os.environ.get("MSMAML_REQUIRE_SHARED") == "1":
            pytest.fail(message)
        pytest.skip(reason=message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A fresh visit, without errors in the console, and without a request to anywhere else."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(20_000)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#adapt")
    yield page
    page.close()
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
