"""`msmaml classify` on many files: what may be a query, formats, files that cannot be read, and runs that go on."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference.streamed_predictions import stream_predictions
from modeling_msmaml.inputs.kinds import KINDS
from msmaml.classifying import run
from msmaml.classifying.formats import Csv
from msmaml.classifying.queries import Queries
from msmaml.classifying.results_file import ResultsFile
from msmaml.commands import classify

from ..own_data import MAKERS, save_tiny_model, write_file

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = ("crow", "wren")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), num_inner_steps=2)


@pytest.fixture
def birds(tmp_path) -> tuple[Path, Path]:
    """A support folder, and a folder of twelve queries at two depths."""
    for kind, name in enumerate(CLASSES):
        for number in range(2):
            write_file("image", tmp_path / "support" / name, kind, number)
        for number in range(10, 16):
            write_file("image", tmp_path / "queries" / ("deep" if number % 2 else ""), kind, number)
    return tmp_path / "support", tmp_path / "queries"


def called(*words: object) -> int:
    return classify.main([str(word) for word in words])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_modalities_are_those_of_files():
    assert tuple(KINDS) == classify.MODALITIES


# Queries, support sets and formats


def as_table(suffix: str, rows: list[dict[str, str]], path: Path) -> Path:
    path = path.with_suffix(suffix)
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["folder", "files", "glob", "twice", ".csv", ".tsv", ".jsonl"])
def test_queries_of_every_kind_are_the_same(kind, model, birds, tmp_path):
    support, folder = birds
    files = sorted(folder.rglob("*.png"), key=lambda path: path.relative_to(folder).parts)
    (folder / "notes.pdf").write_text("no picture")
    rows = [{"file_name": str(file.relative_to(tmp_path)), "id": "7"} for file in files]
    given = {
        "folder": [folder],
        "files": files,
        "glob": [f"{folder}/*.png", f"{folder}/d*/**"],
        "twice": [folder, files[0], f"{folder}/**"],
    }
    queries = given[kind] if kind in given else [as_table(kind, rows, tmp_path / "table")]
    output = tmp_path / "results.csv"
    assert called("--model", model, "--support", support, "--query", *queries, "--output", output) == 0
    found = rows_of(output)
    assert sorted(row["file"] for row in found) == sorted(map(str, files))
    classifier = FewShotClassifier.from_pretrained(model).fit(*zip(*examples_in(support), strict=True))
    expected = dict(zip(map(str, files), classifier.predict_proba(files)[:, 1], strict=True))
    for row in found:
        assert float(row["p_wren"]) == pytest.approx(expected[row["file"]], abs=2e-6)
        assert row["class"] == CLASSES[int(expected[row["file"]] > 0.5)]


def examples_in(support: Path) -> list[tuple[Path, str]]:
    return [(path, path.parent.name) for path in sorted(support.rglob("*.png"))]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("column", ["file_name", "text"])
def test_a_support_set_may_be_a_table(suffix, column, model, birds, tmp_path, capsys):
    support, folder = birds
    if column == "file_name":
        rows = [{"file_name": f"support/{p.parent.name}/{p.name}", "label": name} for p, name in examples_in(support)]
        queries = folder
    else:
        rows = [{"text": MAKERS["text"](kind, n), "label": CLASSES[kind]} for kind in range(2) for n in range(2)]
        asked = [{"text": MAKERS["text"](kind, 9)} for kind in range(2)]
        queries = as_table(suffix, asked, tmp_path / "queries_of_text")
    table = as_table(suffix, rows, tmp_path / "table")
    assert called("--model", model, "--support", table, "--query", queries, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    if column == "text":
        start = 1 if suffix == ".jsonl" else 2
        assert [row["file"] for row in found] == [f"{queries}, line {line}" for line in (start, start + 1)]
        texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
        expected = FewShotClassifier.from_pretrained(model).fit(texts, labels).predict([row["text"] for row in asked])
        assert [row["class"] for row in found] == expected.tolist()
    else:
        called("--model", model, "--support", support, "--query", queries, "--json")
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,kind\na.png,crow\n", "line 2: the columns are file_name, kind; it needs either file_name or text"),
        ("file_name,text,label\na.png,b,crow\n", "needs either file_name or text"),
        ("file_name,label\na.png,crow\n", "line 2: there is no file .*a.png"),
        ("text,label\nword1,\n", "line 2: there is no label"),
        ("text,label\n,crow\n", "line 2: text is ''"),
        ("text,label\n", "has no rows"),
        ("text,label,text\na,b,c\n", "line 1: the columns text are there twice"),
    ],
)
def test_a_table_that_is_none_is_refused_by_its_line(content, message, model, birds, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text(content)
    with pytest.raises(SystemExit, match=rf"classify: .*table.csv.*{message}") as error:
        called("--model", model, "--support", table, "--query", birds[1])
    assert error.value.code == 2 and "table.csv" in capsys.readouterr().err


def test_texts_are_no_queries_of_a_classifier_of_pictures(model, birds, tmp_path):
    (tmp_path / "texts.csv").write_text("text\nword1\n")
    with pytest.raises(SystemExit, match="texts.csv, line 2: the table has texts, and this classifier is one of image"):
        called("--model", model, "--support", birds[0], "--query", tmp_path / "texts.csv")


def test_names_that_break_lines_are_one_line(model, birds, tmp_path):
    support, folder = birds
    shutil.copy(folder / "0_10.png", folder / 'a\nb, "c".png')
    output = tmp_path / "results.csv"
    words = ["--model", model, "--support", support, "--query", folder, "--output", output]
    for _ in range(2):
        assert called(*words) == 0
    names = [row["file"] for row in rows_of(output)]
    assert len(names) == len(set(names)) == 13 and str(folder / 'a\\nb, "c".png') in names


def test_a_saved_classifier_gives_the_same_results(model, birds, tmp_path, capsys):
    saved = tmp_path / "saved"
    words = ["--query", birds[1], "--json"]
    assert called("--model", model, "--support", birds[0], "--save-classifier", saved, *words) == 0
    first = capsys.readouterr().out
    assert called("--classifier", saved, *words) == 0
    assert capsys.readouterr().out == first
    output = tmp_path / "results.jsonl"
    assert called("--classifier", saved, *words, "--output", output) == 0
    assert output.read_text() == first


# Files that cannot be read


@pytest.mark.parametrize(("suffix", "workers"), [("csv", 0), ("jsonl", 2)])
def test_ten_bad_files_among_500(suffix, workers, model, birds, tmp_path, capsys):
    support, good = birds
    folder = tmp_path / "many"
    folder.mkdir()
    one = sorted(good.glob("*.png"))[0]
    for number in range(500):
        if number % 50 == 7:
            (folder / f"{number:03}.png").write_bytes(b"no picture")
        else:
            os.link(one, folder / f"{number:03}.png")
    output = tmp_path / f"results.{suffix}"
    words = ["--model", model, "--support", support, "--query", folder, "--output", output, "--workers", workers]
    with pytest.raises(SystemExit, match="007.png: it is of no kind that Pillow knows") as error:
        called(*words)
    assert error.value.code == 2
    capsys.readouterr()
    assert called(*words, "--skip-errors") == 1
    said = capsys.readouterr().err
    bad = [str(folder / f"{number:03}.png") for number in range(7, 500, 50)]
    rows = rows_of(output) if suffix == "csv" else [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["file"] for row in rows] == sorted(map(str, folder.iterdir()))
    assert [row["file"] for row in rows if row.get("error")] == bad
    assert all(row["class"] == "unreadable" and row["file"] in row["error"] for row in rows if row.get("error"))
    assert all(said.count(f"classify: cannot decode the image in {name}: ") == 1 for name in bad)
    before = output.read_bytes()
    assert called(*words, "--skip-errors") == 1  # nothing is left to do, and the ten are still unreadable
    assert output.read_bytes() == before


def test_the_bar_has_rate_and_remaining_time(model, birds, capsys):
    words = ["--model", model, "--support", birds[0], "--query", birds[1]]
    called(*words)
    assert not capsys.readouterr().err
    called(*words, "--progress")
    assert "12/12" in (said := capsys.readouterr().err) and "files/s" in said and "<" in said


# Runs that go on


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_run_goes_on_wherever_its_output_was_cut(suffix, model, birds, tmp_path):
    support, folder = birds
    output = tmp_path / f"results.{suffix}"
    words = ["--model", model, "--support", support, "--query", folder, "--output", output]
    called(*words)
    whole, modified = output.read_bytes(), output.stat().st_mtime_ns
    called(*words)
    assert output.read_bytes() == whole and output.stat().st_mtime_ns == modified
    for kept in (0, 3, whole.index(b"\n"), whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1):
        output.write_bytes(whole[:kept])
        assert called(*words) == 0
        again = rows_of(output) if suffix == "csv" else [json.loads(line) for line in output.read_text().splitlines()]
        assert [row["file"] for row in again] == [query.name for query in Queries([str(folder)], "image")], kept
        # A row that was cut is computed again, in another batch, which rounds otherwise.
        assert output.read_bytes().startswith(whole[: whole.rfind(b"\n", 0, kept) + 1])


def test_two_runs_do_not_write_to_one_output(model, birds, tmp_path):
    output = tmp_path / "results.csv"
    words = ["--model", model, "--support", birds[0], "--query", birds[1], "--output", output]
    called(*words)
    other = ResultsFile(output, Csv(list(CLASSES)))
    with pytest.raises(SystemExit, match="results.csv: another process is writing to it"):
        called(*words)
    other.close()
    assert called(*words) == 0


def other_model(words, tmp_path):
    words[words.index("--model") + 1] = save_tiny_model(tmp_path / "other", num_inner_steps=1)


def other_support(words, tmp_path):
    write_file("image", tmp_path / "support" / "crow", 0, 99)


def changed_example(words, tmp_path):
    write_file("image", tmp_path, 0, 99).rename(next((tmp_path / "support" / "crow").iterdir()))


def renamed_class(words, tmp_path):
    (tmp_path / "support" / "crow").rename(tmp_path / "support" / "rook")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_model, "the model has changed"),
        (other_support, "the support set has changed"),
        (changed_example, "the support set has changed"),
        (renamed_class, "the support set has changed, the classes have changed"),
        (lambda words, _: words.extend(["--reject-below", "0.9"]), "--reject-below was another"),
        (lambda words, _: words.append("--json"), "its format is another"),
        (lambda _, folder: (folder / "results.csv.run.json").unlink(), "is there, but not .*results.csv.run.json"),
    ],
)
def test_results_of_another_run_are_not_continued(change, message, model, birds, tmp_path):
    output = tmp_path / "results.csv"
    words = ["--model", model, "--support", birds[0], "--query", birds[1], "--output", output]
    called(*words)
    change(words, tmp_path)
    before = output.read_bytes()
    with pytest.raises(SystemExit, match=f"classify: --output .*results.csv .*{message}.* --overwrite"):
        called(*words)
    assert output.read_bytes() == before
    assert called(*words, "--overwrite") == 0
    assert called(*words) == 0  # which the new record allows


def test_a_moved_support_folder_is_the_same(model, birds, tmp_path):
    support, folder = birds
    called("--model", model, "--support", support, "--query", folder, "--output", tmp_path / "results.csv")
    support.rename(tmp_path / "elsewhere")
    words = ["--support", tmp_path / "elsewhere", "--query", folder, "--output", tmp_path / "results.csv"]
    assert called("--model", model, *words) == 0


def test_an_interrupted_run_keeps_what_it_has(model, birds, tmp_path, monkeypatch, capsys):
    output = tmp_path / "results.csv"
    words = ["--model", model, "--support", birds[0], "--query", birds[1], "--output", output]

    def interrupted(classifier, queries, workers, num_nearest):
        yield next(stream_predictions(classifier, list(queries)[:5], workers, num_nearest))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "stream_predictions", interrupted)
        assert called(*words) == 130
    assert capsys.readouterr().err == "classify: interrupted\n" and len(rows_of(output)) == 5
    assert called(*words) == 0 and len(rows_of(output)) == 12


def test_who_reads_the_results_may_stop(model, birds):
    words = ["--model", str(model), "--support", str(birds[0]), "--query", str(birds[1])]
    command = [sys.executable, "-m", "msmaml", "classify", *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=100) == 2


def slow_queries(folder: Path, number: int) -> None:
    """Pictures whose decoding takes milliseconds."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(256, size=(250, 250, 3), dtype=np.uint8)
    from PIL import Image

    Image.fromarray(pixels).save(folder / "0000.png")
    for copy in range(1, number):
        os.link(folder / "0000.png", folder / f"{copy:04}.png")


def test_a_killed_run_goes_on(model, birds, tmp_path):
    slow_queries(tmp_path / "many", 900)
    output = tmp_path / "results.csv"
    words = ["--model", model, "--support", birds[0], "--query", tmp_path / "many", "--output", output]
    command = [sys.executable, "-m", "msmaml", "classify", *map(str, words), "--workers", "1"]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    deadline = time.monotonic() + 120
    while not (output.exists() and output.stat().st_size > 5_000) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    written = len(rows_of(output))
    assert 0 < written < 900
    with output.open("a") as file:
        file.write("/half/a/li")
    assert called(*words) == 0
    assert [row["file"] for row in rows_of(output)] == sorted(map(str, (tmp_path / "many").iterdir()))


# Several processes


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_shares_are_all_queries_once(count, birds):
    queries = Queries([str(birds[1]), f"{birds[1]}/**"], "image")
    shares = [[query.name for query in queries.share(number, count)] for number in range(count)]
    assert sum(shares, []) == [query.name for query in queries]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_processes_share_the_queries(model, birds, tmp_path):
    """After a run of one process that was cut, and left the part of a third behind."""
    support, folder = birds
    (folder / "0_20.png").write_bytes(b"no picture")
    output = tmp_path / "results.csv"
    words = ["--model", model, "--support", support, "--query", folder, "--output", output, "--skip-errors"]
    called(*words)
    whole = output.read_text()
    header, *lines = whole.splitlines(keepends=True)
    output.write_text("".join([header, lines[4], lines[0]]))
    (tmp_path / "results.csv.part-2").write_text("".join([header, lines[7], lines[12][:9]]))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "msmaml", "classify", *map(str, words)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert output.read_text() == whole, done.stderr[-2000:]
    assert done.returncode == 1  # one query cannot be read
    assert not list(tmp_path.glob("*.part-*"))


def test_processes_need_one_output(model, birds, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2 processes share the queries: give --output"):
        called("--model", model, "--support", birds[0], "--query", birds[1])
