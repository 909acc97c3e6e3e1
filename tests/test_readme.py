"""The README keeps its word: its examples print what it shows, its table is that of the results, its links lead on."""

import re
import runpy
from pathlib import Path

import pytest
import setuptools

from benchmarks.comparison import readme_table
from benchmarks.pages import parts_of

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=["texts", "sounds", "pictures"])
def test_an_example_prints_what_the_readme_shows(code, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed
    statements = [line for line in code.splitlines() if line and "import" not in line]
    assert len(statements) <= 5


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_its_table_is_that_of_the_results():
    shown = parts_of(REPOSITORY / "README.md", "comparison_short")[1].strip()
    assert shown == readme_table.short_table(), "run python -m benchmarks.comparison.readme_table"


def rows(*gains: str) -> list[dict[str, str]]:
    return [{"": f"set{number}", "gain over the best base": gain} for number, gain in enumerate(gains)]


def test_its_sentences_name_every_set_once_for_each_number_of_examples():
    said = readme_table.sentence(rows("+1.0 ± 0.2 / +0.1 ± 0.2", "-0.2 ± 0.2 / -1.3 ± 0.4", "+2.0 ± 0.1 / +3.0 ± 0.1"))
    assert said.splitlines() == [
        "With one example a class it is ahead on set0 and set2; not distinguishable on set1.",
        "With five examples a class it is ahead on set2; not distinguishable on set0; behind on set1.",
    ]


def test_results_without_a_column_of_the_readme_are_refused(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("<!-- comparison: begin -->\n| sets | ours |\n| --- | --- |\n| a | 1 |\n<!-- comparison: end -->\n")
    with pytest.raises(ValueError, match="this project"):
        readme_table.first_table(page)


@pytest.fixture
def setup(monkeypatch):
    """What setup.py hands to setuptools, by the url of the repository."""

    def of(url: str) -> dict:
        found = {}
        monkeypatch.setattr(setuptools, "setup", lambda **words: found.update(words))
        monkeypatch.setenv("REPOSITORY_URL", url)
        names = runpy.run_path(str(REPOSITORY / "setup.py"))
        return {**found, "names": names}

    return of


def test_an_index_shows_links_that_lead_into_the_repository(setup):
    told = setup("https://example.org/msmaml/")
    links = re.findall(r"\]\(([^)\s]+)\)", told["long_description"])
    assert links and all(link.startswith("https://") for link in links)
    assert "![The page" in told["long_description"]
    assert "https://example.org/msmaml/raw/HEAD/docs/web_demo.png" in links
    assert "https://example.org/msmaml/blob/HEAD/docs/results.md" in links
    assert told["project_urls"]["Repository"] == "https://example.org/msmaml"


def test_without_a_url_no_link_leads_nowhere(setup):
    told = setup("")
    links = re.findall(r"\]\(([^)\s]+)\)", told["long_description"])
    assert links and all(link.startswith("https://") for link in links)
    assert "[docs/results.md]" not in told["long_description"] and "docs/results.md has" in told["long_description"]
    assert "![" not in told["long_description"] and "Repository" not in told["project_urls"]


@pytest.mark.parametrize(
    ("link", "absolute"),
    [
        ("[a](docs/a.md)", "[a](https://x.org/r/blob/HEAD/docs/a.md)"),
        ("[a](docs/a.md#b)", "[a](https://x.org/r/blob/HEAD/docs/a.md#b)"),
        ("![a](docs/a.png)", "![a](https://x.org/r/raw/HEAD/docs/a.png)"),
        ("[a](#b)", "[a](#b)"),
        ("[a](https://y.org)", "[a](https://y.org)"),
        ("[a](mailto:b@y.org)", "[a](mailto:b@y.org)"),
    ],
)
def test_links_become_absolute(link, absolute, setup):
    assert setup("")["names"]["long_description"](link, "https://x.org/r") == absolute
