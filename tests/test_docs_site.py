"""The site of the documentation: it builds strictly and offline, and shows every public name once."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import data_builders
import modeling_msmaml
from scripts.docs_docstrings import as_google

REPOSITORY = Path(__file__).resolve().parents[1]
# What a browser fetches when it shows a page.
FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'>\s]+)")
# A proxy that no one answers at: whatever asked the network for something would fail.
OFFLINE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, **OFFLINE, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=250)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


def test_pages_fetch_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    assert not {url for page in pages for url in FETCHED.findall(page.read_text())}
    assert not {
        url for style in site.rglob("*.css") for url in re.findall(r"url\(\"?(https?:[^)]+)", style.read_text())
    }


def test_the_reference_shows_docstrings(site):
    page = (site / "docs" / "reference" / "classifier" / "index.html").read_text()
    for name in ("FewShotClassifier.fit", "FewShotClassifier.from_pretrained", "cross_validate"):
        assert f'id="modeling_msmaml.{name}"' in page
    assert "Adapts to labelled examples." in page and "FileNotFoundError" in page


def test_every_page_is_in_the_navigation(site):
    start = (site / "index.html").read_text()
    for page in (REPOSITORY / "docs").rglob("*.md"):
        place = page.relative_to(REPOSITORY).with_suffix("").as_posix().removesuffix("README")
        assert f'href="{place.rstrip("/")}/"' in start, page


def test_the_reference_has_every_public_name_once():
    pages = [page.read_text() for page in (REPOSITORY / "docs" / "reference").glob("*.md")]
    shown = Counter(name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    packages = (modeling_msmaml, data_builders)
    assert shown == Counter(f"{package.__name__}.{name}" for package in packages for name in package.__all__)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("See [`MSMAMLModel.adapt`].", "See [`MSMAMLModel.adapt`][modeling_msmaml.MSMAMLModel]."),
        ("See [`row_features`].", "See [`row_features`][data_builders.row_features]."),
        ("See [`Examples`].", "See `Examples`."),
        ("See [`a`](b.md).", "See [`a`](b.md)."),
        (
            "Args:\n    a, *b: one\n        or two.\n",
            "Args:\n    a: one\n        or two.\n    *b: one\n        or two.\n",
        ),
        ("Raises:\n    As `fit`.\n", "Raises:\n    Exception: as `fit`.\n"),
        ("One, two: three.", "One, two: three."),
    ],
)
def test_docstrings_are_read_as_they_are_written(written, read):
    assert as_google(written) == read
