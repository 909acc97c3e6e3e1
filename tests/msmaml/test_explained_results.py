"""`msmaml classify --explain`: level weights and the nearest examples beside each result, in every format."""

import csv
import json

import pytest

from modeling_msmaml import FewShotClassifier
from msmaml.commands import classify

from ..own_data import MAKERS, save_tiny_model, write_file
from ..saved_levels import MODALITIES, save_level_model

CLASSES = ("crow", "wren")
NUM_EXAMPLES = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    return save_level_model(folder / "model", folder / "encoders")


@pytest.fixture(params=MODALITIES)
def birds(request, tmp_path):
    """Support and query folders of one modality; the first query is an example, too."""
    for kind, name in enumerate(CLASSES):
        for number in range(NUM_EXAMPLES // 2):
            write_file(request.param, tmp_path / "support" / name, kind, number)
        write_file(request.param, tmp_path / "query", kind, 0 if kind == 0 else 9)
    return tmp_path / "support", tmp_path / "query"


def called(*words: object) -> int:
    return classify.main([str(word) for word in words])


def test_formats_say_what_the_classifier_says(birds, model, tmp_path, capsys):
    support, query = birds
    options = ("--model", model, "--support", support, "--query", query)
    for suffix in ("csv", "jsonl"):
        assert called(*options, "--explain", 2, "--output", tmp_path / f"found.{suffix}") == 0
    assert called(*options, "--explain", 2) == 0
    table = capsys.readouterr().out.splitlines()
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    paths = sorted(path for path in support.rglob("*") if path.is_file())
    classifier = FewShotClassifier.from_pretrained(str(model)).fit(paths, [path.parent.name for path in paths])
    queries = sorted(query.iterdir())
    assert table[0] == "level weights: " + ", ".join(
        f"{name} {100 * weight:.0f} %" for name, weight in classifier.level_weights_.items()
    )
    for line, row, shown, neighbours in zip(
        lines, rows, table[2:], classifier.nearest_examples(queries, k=2), strict=True
    ):
        weights = {name: round(weight, 4) for name, weight in classifier.level_weights_.items()}
        assert line["level_weights"] == weights == {name: float(row[f"level_{name}"]) for name in weights}
        for rank, neighbour in enumerate(neighbours, 1):
            found = line["nearest"][rank - 1]
            expected = (neighbour.name, neighbour.position, neighbour.label)
            assert (found["example"], found["position"], found["class"]) == expected
            assert found["similarity"] == pytest.approx(neighbour.similarity, abs=1e-3)
            written = tuple(row[f"nearest_{rank}{column}"] for column in ("", "_position", "_class"))
            assert written == tuple(map(str, expected))
            assert float(row[f"nearest_{rank}_similarity"]) == found["similarity"]
            assert f"({neighbour.label}, {found['similarity']:.2f})" in shown
    assert lines[0]["nearest"][0]["example"] == str(paths[0]), "the query that is an example"


def test_of_few_examples_all_are_named_and_of_unreadable_queries_none(model, tmp_path, capsys):
    for kind, name in enumerate(CLASSES):
        write_file("image", tmp_path / "support" / name, kind, 0)
    write_file("image", tmp_path / "query", 0, 5)
    (tmp_path / "query" / "a.png").write_bytes(b"no picture")
    options = ("--model", model, "--support", tmp_path / "support", "--query", tmp_path / "query", "--skip-errors")
    assert called(*options, "--explain", 9, "--output", tmp_path / "found.csv") == 1
    with (tmp_path / "found.csv").open(newline="") as file:
        read, unread = csv.DictReader(file)
    assert "nearest_2" in read and "nearest_3" not in read and None not in read
    assert unread["error"] and not unread["nearest_1"] and unread.keys() == read.keys()
    assert called(*options, "--explain", "--format", "jsonl") == 1
    read, unread = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert unread["nearest"] == [] and len(read["nearest"]) == 2


def test_a_run_goes_on_with_the_same_explanations_only(birds, model, tmp_path, capsys):
    support, query = birds
    options = ("--model", model, "--support", support, "--query", query, "--output", tmp_path / "found.csv")
    assert called(*options, "--explain") == 0
    whole = (tmp_path / "found.csv").read_text()
    (tmp_path / "found.csv").write_text(whole[: whole.rindex("\n", 0, -1) + 20])
    assert called(*options, "--explain", 3) == 0
    assert (tmp_path / "found.csv").read_text() == whole
    for words in ((), ("--explain", 1)):
        with pytest.raises(SystemExit):
            called(*options, *words)
        assert "--explain was another" in capsys.readouterr().err


def test_texts_and_names_take_one_line(model, tmp_path, capsys):
    """Whatever an example is called; of a saved classifier, its place stands for its name."""
    rows = [{"text": f"word1 word2\nword{3 + number}", "label": CLASSES[number % 2]} for number in range(4)]
    (tmp_path / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "query.txt").write_text("word1 word2 word3")
    saved = tmp_path / "saved"
    options = ("--query", tmp_path / "query.txt", "--explain", 1)
    assert called("--model", model, "--support", tmp_path / "topics.jsonl", *options, "--save", saved) == 0
    assert len(shown := capsys.readouterr().out.splitlines()) == 3 and "word3 (crow, " in shown[2]
    assert called("--classifier", saved, *options) == 0
    assert "  example 1 (crow, " in capsys.readouterr().out
    assert called("--classifier", saved, *options, "--json") == 0
    (nearest,) = json.loads(capsys.readouterr().out)["nearest"]
    assert nearest["example"] is None and nearest["position"] == 0


@pytest.mark.parametrize("saved", [False, True], ids=["model", "saved classifier"])
def test_a_model_without_levels_has_nothing_to_say(saved, tmp_path, capsys):
    model = save_tiny_model(tmp_path / "model", num_inner_steps=1)
    (tmp_path / "query.txt").write_text(MAKERS["text"](0, 5))
    for kind, name in enumerate(CLASSES):
        write_file("text", tmp_path / "support" / name, kind, 0)
    source = ("--model", model, "--support", tmp_path / "support")
    if saved:
        called(*source, "--save", tmp_path / "saved")
        source = ("--classifier", tmp_path / "saved")
    with pytest.raises(SystemExit):
        called(*source, "--query", tmp_path / "query.txt", "--explain", "--output", tmp_path / "found.csv")
    assert "--explain: this model reads no levels" in capsys.readouterr().err
    assert not (tmp_path / "found.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--query", "a.png", "--explain", "0"), "'0' must be an integer of at least 1"),
        (("--query", "a.png", "--explain", "many"), "'many' must be an integer"),
        (("--save", "folder", "--explain"), "--explain is for results: give --query files"),
    ],
)
def test_wrong_uses_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        called("--support", "birds", *words)
    assert message in capsys.readouterr().err
