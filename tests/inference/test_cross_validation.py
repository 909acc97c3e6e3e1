"""Cross-validation of a few-shot classifier, and `msmaml evaluate --support`."""

import csv
import json
import sys

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference import few_shot_classifier
from modeling_msmaml.inference.cross_validation import CrossValidation, cross_validate
from msmaml.commands import evaluate

from ..level_models import save_level_model
from ..own_data import MAKERS, save_tiny_model, write_file

NAMES = ("crow", "wren", "rook")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        "levels": str(save_level_model(tmp_path_factory.mktemp("levels"))),
        "from scratch": str(save_tiny_model(tmp_path_factory.mktemp("model"), num_inner_steps=2)),
    }


def pictures(counts=(6, 4, 3)):
    """Made so that classes are confused: two kinds for three classes."""
    made = [(MAKERS["image"](min(kind, 1), n), NAMES[kind]) for kind, count in enumerate(counts) for n in range(count)]
    return [picture for picture, _ in made], [name for _, name in made]


@pytest.mark.parametrize("kind", ["levels", "from scratch"])
def test_each_fold_is_predicted_by_a_classifier_of_the_others(kind, models):
    inputs, labels = pictures()
    classifier = FewShotClassifier.from_pretrained(models[kind])
    found = cross_validate(classifier, inputs, labels, seed=3)
    assert found.folds == 3 and found.classes == ["crow", "rook", "wren"]
    expected = np.zeros((3, 3), int)
    numbers = [found.classes.index(label) for label in labels]
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=3).split(
        inputs, numbers, list(map(str, range(len(inputs))))
    )
    for train, test in folds:
        classifier.fit([inputs[i] for i in train], [labels[i] for i in train])
        for number, guess in zip(test, classifier.predict([inputs[i] for i in test]), strict=True):
            expected[numbers[number], found.classes.index(guess)] += 1
    assert found.confusion.tolist() == expected.tolist()
    assert 0 < np.trace(expected) < len(inputs)


def test_each_example_is_read_once(models, monkeypatch):
    read = []
    inner = few_shot_classifier.rows_one_by_one

    def counted(items, *arguments):
        read.extend(items)
        return inner(items, *arguments)

    monkeypatch.setattr(few_shot_classifier, "rows_one_by_one", counted)
    inputs, labels = pictures()
    cross_validate(FewShotClassifier.from_pretrained(models["from scratch"]), inputs, labels)
    assert read == inputs


def test_examples_of_one_source_are_in_one_fold(models):
    """Each picture is there twice; by source, the copy does not give its class away."""
    rng = np.random.default_rng(0)
    inputs = [rng.integers(256, size=(6, 6, 3), dtype=np.uint8) for _ in range(8)]
    inputs, labels, sources = inputs * 2, ["crow", "wren"] * 8, [f"{i}" for i in range(8)] * 2
    classifier = FewShotClassifier.from_pretrained(models["levels"])
    seen = cross_validate(classifier, inputs, labels, folds=4)
    by_source = cross_validate(classifier, inputs, labels, sources, folds=4)
    assert by_source.accuracy < seen.accuracy
    assert by_source.confusion.sum(axis=1).tolist() == [8, 8]
    with pytest.raises(ValueError, match=r"folds=5 must lie between 2 and 4, .* sources of the class '(crow|wren)'"):
        cross_validate(classifier, inputs, labels, sources, folds=5)


def test_the_interval_is_wilsons():
    found = CrossValidation(["a", "b"], np.array([[8, 0], [2, 0]]), 2)
    assert found.accuracy == 0.8 and found.interval == pytest.approx((0.49016, 0.94331), abs=1e-5)
    assert found.accuracies == {"a": 1, "b": 0}
    assert CrossValidation(["a", "b"], np.eye(2, dtype=int), 2).interval[0] < 0.5  # two right of two say little


@pytest.fixture
def support(tmp_path):
    for kind, name in enumerate(NAMES):
        for number in range(3):
            write_file("image", tmp_path / "birds" / name, kind, number)
    return tmp_path / "birds"


def printed(capsys, *words: object) -> str:
    evaluate.main([str(word) for word in words])
    return capsys.readouterr().out


def test_the_command_prints_table_and_json_and_draws(models, support, tmp_path, capsys):
    words = ["--support", support, "--model", models["levels"]]
    found = json.loads(printed(capsys, *words, "--json"))
    counts = np.array(found["confusion"])
    assert found["examples"] == counts.sum() == 9 and found["folds"] == 3 and found["classes"] == sorted(NAMES)
    assert found["accuracy"] == pytest.approx(np.trace(counts) / 9)
    picture = tmp_path / "confusion.png"
    first, _, _, header, *rows = printed(capsys, *words, "--picture", picture).splitlines()
    low, high = found["interval"]
    assert first == (
        f"accuracy {100 * found['accuracy']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %) on 9 examples "
        "in 3 folds"
    )
    assert header.split() == ["class", *sorted(NAMES), "right"]
    assert [row.split()[1:4] for row in rows] == [[str(count) for count in row] for row in counts.tolist()]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_table_and_its_sources_are_read(models, support, tmp_path, capsys):
    rows = [(path.relative_to(tmp_path), path.parent.name, "one") for path in sorted(support.rglob("*.png"))]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "label", "source"), *rows])
    with pytest.raises(SystemExit, match="evaluate: the class 'crow' has examples of one source only"):
        evaluate.main(["--support", str(tmp_path / "table.csv"), "--model", models["levels"]])


def test_what_cannot_be_read_is_an_error_or_passed_over(models, support, capsys):
    (support / "crow" / "bad.png").write_bytes(b"no picture")
    words = ["--support", support, "--model", models["levels"]]
    with pytest.raises(SystemExit, match="evaluate: .*bad.png"):
        printed(capsys, *words)
    with pytest.warns(UserWarning, match="1 of 10 inputs cannot be read: .*bad.png"):
        assert "on 9 examples" in printed(capsys, *words, "--skip-errors")


def test_a_picture_without_matplotlib_says_what_to_install(models, support, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    words = ["--support", support, "--model", models["levels"], "--picture", tmp_path / "confusion.png"]
    with pytest.raises(SystemExit, match="evaluate: a picture needs matplotlib: pip install matplotlib"):
        evaluate.main([str(word) for word in words])
