"""What the README and docs/ show is what runs."""

import ast
import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run_meta
from modeling_msmaml import (
    FewShotClassifier,
    MetaTrainingArguments,
    MSMAMLConfig,
    read_level_encoder,
    save_level_encoder,
)
from modeling_msmaml.model.level_encoder import BUILT_IN
from modeling_msmaml.model.level_pretrained import KNOWN
from modeling_msmaml.model.options import options_of
from msmaml.__main__ import main as run_msmaml
from msmaml.commands import classify
from msmaml.runs.data_arguments import DataArguments
from msmaml.runs.run_arguments import parse_arguments
from scripts import options_page

from .level_models import save_level_model
from .msmaml.test_run_meta import options
from .own_data import write_file

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")), REPOSITORY / "CONTRIBUTING.md"]
RUN = "accelerate launch run_meta.py "


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def run_commands(page: Path) -> list[str]:
    return re.findall(rf"`({re.escape(RUN)}[^`]*)`", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_commands_have_options_that_exist(page):
    for command in run_commands(page):
        config = shlex.split(command.removeprefix(RUN))[0]
        assert (REPOSITORY / config).is_file(), command
        parse_arguments(shlex.split(command.removeprefix(RUN)))


def test_docs_have_a_training_and_an_evaluation_command_for_each_set_of_modalities():
    configs = [
        shlex.split(command.removeprefix(RUN))[0] for command in run_commands(REPOSITORY / "docs" / "training.md")
    ]
    for name in (
        "base",
        "flagship",
        "audio",
        "text",
        "image",
        "audio_text",
        "audio_image",
        "text_image",
        "audio_text_image",
    ):
        assert configs.count(f"configs/{name}.yaml") == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_linked_files_exist(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_python_of_the_training_page_runs(tmp_path, monkeypatch):
    """After the run that it follows, cut short; the search has a test of its own."""
    config = REPOSITORY / "configs" / "quickstart.yaml"
    monkeypatch.chdir(tmp_path)
    run_meta.main([str(config), *options(output_dir="outputs/quickstart"), "--log_tasks", "evaluation"])
    evaluating, _, logged = blocks(REPOSITORY / "docs" / "training.md", "python")
    names = {}
    exec(compile(evaluating, "docs/training.md", "exec"), names)
    assert names["logits"].shape == (2, 75, 5)
    exec(compile(logged, "docs/training.md", "exec"), names)
    assert "test" in set(names["classes"].phase)


def test_python_of_the_data_page_runs(capsys):
    for code in blocks(REPOSITORY / "docs" / "data.md", "python"):
        exec(compile(code, "docs/data.md", "exec"), {})
    levels, classes = capsys.readouterr().out.splitlines()
    assert len(classes.split(",")) == 5
    assert levels == "{'mean': (5, 3), 'small': (5, 3, 4, 4)}"


def test_fourth_modality_of_the_docs_runs():
    code = next(code for code in blocks(REPOSITORY / "docs" / "model.md", "python") if "register_modality" in code)
    names = {}
    exec(compile(code, "docs/model.md", "exec"), names)
    assert "motion" in names["model"].task_network.embeddings


def test_level_encoder_of_the_docs_runs(tmp_path):
    code = next(code for code in blocks(REPOSITORY / "docs" / "model.md", "python") if "register_level_encoder" in code)
    names = {}
    exec(compile(code, "docs/model.md", "exec"), names)
    assert names["levels"].shape == (5, 15)
    save_level_encoder(names["encoder"], tmp_path)
    assert read_level_encoder(tmp_path, levels=["mean"]).level_sizes == {"mean": 3}


def test_short_names_of_encoders_are_those_of_the_docs():
    page = (REPOSITORY / "docs" / "model.md").read_text()
    for known in KNOWN.values():
        assert ", ".join(f"`{name}`" for name in known) in page
    for name in BUILT_IN:
        assert f'| `"{name}"` |' in page


def test_level_encoder_of_its_page_is_read():
    """That of the model that comes with the code, in place of one that a script makes."""
    import torch

    code = next(code for code in blocks(REPOSITORY / "docs" / "pretrained.md", "python") if "read_level" in code)
    place = REPOSITORY / "pretrained" / "msmaml-base" / "encoders" / "image"
    names = {"pictures": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}
    exec(compile(code.replace("outputs/level_encoders/image", str(place)), "docs/pretrained.md", "exec"), names)
    shape = re.search(r"float32 \(batch, (\d+)\)", code)
    assert shape is not None and names["flat"].shape == (2, int(shape[1]))
    assert names["encoder"].split(names["flat"])["B4"].shape == (2, 224)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_python_of_every_page_imports_names_that_exist(page):
    """Also where the rest needs what only the Hub has."""
    for code in blocks(page, "python"):
        imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page.name, "exec"), {})


def test_published_checkpoint_of_the_docs_loads(shared_dir, monkeypatch):
    import torch

    code = next(code for code in blocks(REPOSITORY / "docs" / "model.md", "python") if "load_original" in code)
    monkeypatch.chdir(shared_dir / "golden")
    names = {"word_vectors": torch.zeros(7, 128)}
    exec(compile(code, "docs/model.md", "exec"), names)
    assert names["model"].config.vocab_size == 7


def test_picture_is_what_its_program_draws(tmp_path):
    script = tmp_path / "scripts" / "draw_data_flow.py"
    for folder in ("scripts", "docs"):
        (tmp_path / folder).mkdir()
    script.write_text((REPOSITORY / "scripts" / "draw_data_flow.py").read_text())
    subprocess.run([sys.executable, str(script)], check=True, env={**os.environ, "MPLBACKEND": "agg"})
    assert (tmp_path / "docs" / "data_flow.svg").read_text() == (REPOSITORY / "docs" / "data_flow.svg").read_text()


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """
    The files that the quickstart speaks of, in the working directory, and the model that comes with the code; a tiny
    one on levels, as long as that is none.
    """
    for kind, bird in enumerate(("crow", "wren")):
        for number in range(kind + 2):
            write_file("audio", tmp_path / "birds" / bird, kind, number)
        colour = ("red", "blue")[kind]
        for number in range(1, 4):
            write_file("image", tmp_path, kind, number).rename(tmp_path / f"{colour}{number}.png")
    write_file("audio", tmp_path, 0, 9).rename(tmp_path / "unknown.wav")
    write_file("image", tmp_path, 0, 9).rename(tmp_path / "unknown.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").symlink_to(REPOSITORY / "pretrained")
    if not is_on_levels("pretrained/msmaml-base"):
        (tmp_path / "pretrained").unlink()
        save_level_model(tmp_path / "levels").rename(tmp_path / "msmaml-base")
        (tmp_path / "pretrained").mkdir()
        (tmp_path / "msmaml-base").rename(tmp_path / "pretrained" / "msmaml-base")
        monkeypatch.setenv("MSMAML_MODEL", str(tmp_path / "pretrained" / "msmaml-base"))
    return tmp_path


def is_on_levels(path: str) -> bool:
    return FewShotClassifier.from_pretrained(path).base_model()[0].reads_levels


@pytest.mark.filterwarnings("ignore:the model's vocabulary lacks")
def test_quickstart_runs_on_own_files(own_files, capsys):
    page = REPOSITORY / "docs" / "quickstart.md"
    codes = blocks(page, "python")
    for code in codes:
        exec(compile(code, page.name, "exec"), {})
        assert len([line for line in code.splitlines() if line.strip()]) <= 12
    sounds, texts, pictures, weights, nearest, from_pipeline = capsys.readouterr().out.strip().splitlines()
    assert re.match(r"\['(crow|wren)'\] \[\[[\d. e+-]+\]\]", sounds)
    assert re.fullmatch(r"\['(\w+)' '(\w+)'\] \[([\d.e+-]+) +([\d.e+-]+) *\]", texts)
    assert sum(ast.literal_eval(weights).values()) == pytest.approx(1)
    assert nearest.count("Neighbour(") == 2 and re.search("label='(red|blue)'", nearest)
    if "MSMAML_MODEL" not in os.environ:  # the model that comes with the code
        assert re.match(r"\['cooking' 'weather'\]", texts), texts
        assert min(map(float, re.findall(r"\d\.\d*", texts))) > 0.8, texts
    assert re.fullmatch(r"\['(red|blue|unsure)'\]", pictures)
    assert set(re.findall(r"'label': '(\w+)'", from_pipeline)) == {"red", "blue"}
    assert FewShotClassifier.from_pretrained("red_or_blue").classes_.tolist() == ["blue", "red"]


def test_commands_of_the_quickstart_run(own_files, capsys):
    (own_files / "unknown").mkdir()
    (own_files / "unknown.wav").rename(own_files / "unknown" / "1.wav")
    (script,) = blocks(REPOSITORY / "docs" / "quickstart.md", "bash")
    for line in script.splitlines():
        words = shlex.split(line.replace("unknown/*.wav", "unknown/1.wav"), comments=True)
        assert words[:2] == ["msmaml", "classify"]
        classify.main(words[2:])
    assert capsys.readouterr().out.count("unknown/1.wav") == 3


@pytest.mark.filterwarnings("ignore:the model's vocabulary lacks")
def test_commands_of_their_page_run(own_files, capsys):
    """Each with the exit status that the page says: one recording cannot be read."""
    (own_files / "unknown.wav").rename(own_files / "unknown.keep")
    for folder in ("unknown", "recordings/2026"):
        (own_files / folder).mkdir(parents=True)
        shutil.copy(own_files / "unknown.keep", own_files / folder / "1.wav")
    (own_files / "recordings" / "2026" / "2.wav").write_bytes(b"no sound")
    page = REPOSITORY / "docs" / "command.md"
    for name, table in zip(("topics.csv", "letters.csv"), blocks(page, "csv"), strict=True):
        (own_files / name).write_text(table)
    statuses = []
    for line in "".join(blocks(page, "bash")).replace("unknown/*.wav", "unknown/1.wav").splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "msmaml", line
        if ">" in words:  # into a file, by the shell
            words = words[: words.index(">")]
        statuses.append((words[1], run_msmaml(words[1:])))
    assert [status for _, status in statuses] == [int("--skip-errors" in line) for line in page_commands(page)]
    assert {name for name, _ in statuses} == {"classify", "evaluate", "info", "completion"}
    with (own_files / "birds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["recordings/2026/1.wav", "recordings/2026/2.wav"]
    assert list(rows[0]) == re.search(r"has the columns `(.*?)`\.", page.read_text())[1].split("`, `")
    assert (own_files / "confusion.png").is_file()


def page_commands(page: Path) -> list[str]:
    return "".join(blocks(page, "bash")).splitlines()


def test_the_page_of_options_is_what_the_dataclasses_declare():
    text = (REPOSITORY / "docs" / "options.md").read_text()
    assert text == options_page.page(), "run python -m scripts.options_page"
    for declared in (MSMAMLConfig, DataArguments, MetaTrainingArguments):
        for field in options_of(declared):
            assert text.count(f"\n| `{field.name}` |") == 1, field.name
