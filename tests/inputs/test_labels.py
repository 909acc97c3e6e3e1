"""A label is the same class however it is written and wherever it comes in, and a missing one is refused."""

import csv
import datetime
import os
from decimal import Decimal

import datasets
import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from data_builders import load_few_shot
from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference.class_labels import labels_of
from modeling_msmaml.inputs.label_values import clean
from modeling_msmaml.inputs.labelled_files import support_set
from modeling_msmaml.inputs.labelled_tables import labelled_tables

from ..own_data import picture, save_tiny_model

# Doors: the labels of four pictures -> the names of the classes


def by_list(labels, folder):
    return sorted(set(labels_of(labels)))


def by_table(labels, folder):
    table = datasets.Dataset.from_dict({"text": ["a word"] * len(labels), "label": labels})
    return labelled_tables({"train": table}, "table").class_names


def by_hub(labels, folder):
    (folder / "hub").mkdir()
    datasets.Dataset.from_dict({"text": ["a word"] * len(labels), "label": labels}).to_parquet(
        folder / "hub" / "train.parquet"
    )
    options = {"repo": str(folder / "hub"), "cache_dir": folder / "cache", "shares": (1, 0, 0)}
    return list(load_few_shot("hub", "train", **options).class_names)


def by_metadata(labels, folder):
    (folder / "own").mkdir()
    with (folder / "own" / "metadata.csv").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table, quoting=csv.QUOTE_ALL).writerows(
            [("file_name", "label"), *((f"{number}.png", label) for number, label in enumerate(labels))]
        )
    return _of_folder(folder, [f"{number}.png" for number in range(len(labels))])


def by_folders(labels, folder):
    return _of_folder(folder, [f"{label}/{number}.png" for number, label in enumerate(labels)])


def _of_folder(folder, names):
    for number, name in enumerate(names):
        path = folder / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
    options = {"data_dir": folder / "own", "cache_dir": folder / "cache", "shares": (1, 0, 0)}
    found = list(load_few_shot("folder", "train", **options).class_names)
    assert found == sorted(set(support_set(folder / "own")[1]))
    return found


DOORS = (by_list, by_table, by_hub, by_metadata, by_folders)


@pytest.mark.parametrize("door", DOORS)
def test_what_looks_the_same_at_its_ends_is_one_class(door, tmp_path):
    labels = ["cat", "cat ", "\u200bcat\ufeff", "caf\u00e9", "cafe\u0301", "Cat", "\u00a0dog"]
    assert door(labels, tmp_path) == ["Cat", "caf\u00e9", "cat", "dog"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "other", ["a  b", "a\u00a0b", "a\u200b b", "a b\ufe0f", "a\u200d b", "\u0430 b", "\u0430 b\u200c"]
)
def test_what_looks_the_same_but_differs_within_is_refused(door, other, tmp_path):
    with pytest.raises(ValueError, match="the labels .*'a b'.* look the same but are two classes"):
        door(["a b", other, "c"], tmp_path)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("absent", [" ", "\u200b", "\u2800", "nan", "NaN", "<NA>", "NaT"])
def test_missing_labels_are_refused_with_their_place(door, absent, tmp_path):
    place = {by_list: r"labels\[1\]", by_metadata: "line 3", by_folders: "is no name of a class"}.get(door, "row 1")
    with pytest.raises(ValueError, match=place):
        door(["a", absent, "b"], tmp_path)


@pytest.mark.parametrize("cell", ["", "NA", "N/A", "null", "NULL", "None", "#N/A"])
def test_cells_that_stand_for_nothing(cell, tmp_path):
    with pytest.raises(ValueError, match=r"1.png in .*metadata.csv, line 3, has no label"):
        by_metadata(["a", cell, "b"], tmp_path)
    if cell:
        with pytest.raises(ValueError, match=f"; {cell} stands for a missing one: .* write another, such as class_"):
            support_set(tmp_path / "own")
    if cell:  # elsewhere they may be the names of classes, such as those of countries
        assert by_list(["a", cell], tmp_path) == by_table(["a", cell], tmp_path)


@pytest.mark.parametrize("text", ["\U0001f468\u200d\U0001f467", "\U0001f3f4\U000e0067\U000e0062\U000e007f", "ന്\u200d"])
def test_characters_that_are_joined_stay_joined(text):
    assert clean(f" {text} ") == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\U0001f468\u200d\U0001f467", "\U0001f468\U0001f467"),
        ("\u2764\ufe0f\u200d\U0001f525", "\u2764\ufe0f\U0001f525"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u0937"),
        ("\u0436\u0443\u043a", "x"),
    ],
    ids=["family", "emoji with a selector", "Persian", "Devanagari", "Cyrillic"],
)
def test_joiners_that_change_what_is_drawn_tell_classes_apart(one, other):
    assert labels_of([one, other]) == [one, other]


# Values in Python


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ma.array([1.0, 2.0], mask=[False, True]), r"labels\[1\] is masked: fill it"),
        (np.ma.array([1, 2], mask=[False, True]), r"labels\[1\] is masked"),
        (np.ma.array(["a", "b"], mask=[False, True]), r"labels\[1\] is masked"),
        (["a", np.ma.masked], r"labels\[1\] is masked"),
        ([b"a", b" "], r"labels\[1\] is missing"),
        (np.array(["2020-01-01", "NaT"], "datetime64[ns]"), r"labels\[1\] is missing"),
        (np.array([1, "NaT"], "timedelta64[D]"), r"labels\[1\] is missing"),
        ([("a", 1), ("a", float("nan"))], r"labels\[1\]\[1\] is missing"),
        ([("a", 1), ("a", (None,))], r"labels\[1\]\[1\]\[0\] is missing"),
        ([("a", 1), ("a", [1])], r"labels\[1\]\[1\] is a list, which is not hashable"),
        ([1, Decimal("sNaN")], r"labels\[1\] is missing"),
        ([1, "1"], "the labels 1 and '1' look the same"),
        (["cat", "c\u0430t"], "look the same but are two classes: write both in one way, or rename one"),
        (["a", "b\ud83d"], r"labels\[1\] is 'b\\ud83d', which has half of a surrogate pair at position 1"),
        ([("a",), ("b", "\udfff")], r"labels\[1\]\[1\] is .* surrogate pair at position 0"),
        (torch.zeros(2, device="meta"), r"labels\[0\] is a tensor without a value"),
    ],
)
def test_values_that_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        labels_of(labels)


def test_class_labels_of_minus_one_are_missing():
    features = datasets.Features({"label": datasets.ClassLabel(names=["a", "b"])})
    column = datasets.Dataset.from_dict({"label": [0, -1]}, features=features)["label"]
    with pytest.raises(ValueError, match=r"labels\[1\] is missing \(-1 in a column of class labels\)"):
        labels_of(column)
    assert labels_of([0, -1]) == [0, -1]


DAY = datetime.date(2020, 1, 2)
MIDNIGHT = datetime.datetime(2020, 1, 2)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([DAY], "datetime64[D]"), [DAY]),
        (np.array([DAY], "datetime64[ns]"), [MIDNIGHT]),
        (pandas.Series([MIDNIGHT]), [MIDNIGHT]),
        (
            np.array(["2020-01-02T00:00:00.000000001"], "datetime64[ns]"),
            [np.datetime64("2020-01-02T00:00:00.000000001")],
        ),
        (np.array([90], "timedelta64[s]").astype("timedelta64[ns]"), [datetime.timedelta(seconds=90)]),
        ([("a ", np.int64(1))], [("a", 1)]),
        ([b"a ", "b"], [b"a", "b"]),
    ],
    ids=str,
)
def test_values_stay_what_they_are(labels, expected):
    found = labels_of(labels)
    assert found == expected and not any(isinstance(label, int) for label in found)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([2**63 + 2, 2**63 + 1, 5, 5], np.uint64), [5, 2**63 + 1, 2**63 + 2]),
        ([2**63, -1, -1, 2**63], [-1, 2**63]),
        ([2**64, 5, 5, 2**70], [5, 2**64, 2**70]),
        (pandas.Series([2**53 + 1, 2**53, 1, 1]), [1, 2**53, 2**53 + 1]),
        (torch.tensor([0, 1, 1, 0]).to_sparse(), [0, 1]),
        ([0.1, 0.1, 2.5, 2.5], [0.1, 2.5]),
        ([True, False, True, False], [False, True]),
        (["a", 5, 2.5, "a"], ["a", 5, 2.5]),
    ],
    ids=["uint64", "either sign", "beyond 64 bits", "beyond floats", "sparse", "floats", "booleans", "mixed"],
)
def test_a_classifier_keeps_every_value_exactly(labels, classes, tmp_path):
    items = [picture(kind, kind) for kind in range(4)]
    classifier = FewShotClassifier.from_pretrained(str(save_tiny_model(tmp_path / "model"))).fit(items, labels)
    classifier.save_pretrained(tmp_path / "saved")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "saved")
    for found in (classifier.classes_, loaded.classes_):
        assert found.tolist() == classes and [type(c) for c in found.tolist()] == [type(c) for c in classes]
    assert {(type(guess), guess) for guess in loaded.predict(items).tolist()} <= {(type(c), c) for c in classes}


def test_a_classifier_names_cleaned_classes(tmp_path):
    items = [picture(kind, number) for kind in range(2) for number in range(2)]
    classifier = FewShotClassifier.from_pretrained(str(save_tiny_model(tmp_path)))
    assert classifier.fit(items, ["a", "a ", "b", "b\u200b"]).classes_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"labels\[3\] is masked"):
        classifier.fit(items, np.ma.array([0, 0, 1, 1], mask=[0, 0, 0, 1]))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("unsure", {}, {"reject_below": 0.5}), ("unreadable", {}, {"skip_unreadable": True})],
)
def test_a_class_may_not_be_called_like_what_is_no_class(name, before, after, tmp_path):
    items, labels = [picture(kind, kind) for kind in range(4)], [name, "b", name, "b"]
    model = str(save_tiny_model(tmp_path / "model"))
    with pytest.raises(ValueError, match=f"a class is called '{name}', which .* rename the class"):
        FewShotClassifier.from_pretrained(model, **after).fit(items, labels)
    fitted = FewShotClassifier.from_pretrained(model, **before).fit(items, labels)
    assert name in fitted.predict(items)
    fitted.save_pretrained(tmp_path / "saved")
    for classifier in (fitted.set_params(**after), FewShotClassifier.from_pretrained(tmp_path / "saved", **after)):
        with pytest.raises(ValueError, match=f"a class is called '{name}'"):
            classifier.predict(items)


# Sources


@pytest.mark.parametrize("absent", [None, float("nan"), "", " \u200b", "NA", "nan", "null"])
def test_an_input_without_a_source_is_its_own(absent, tmp_path):
    sources = [absent, absent, 1.5 if isinstance(absent, float) else " tape "]
    table = datasets.Dataset.from_dict({"text": ["a word"] * 3, "label": ["a"] * 3, "source": sources})
    found = labelled_tables({"train": table}, "table", source_column="source").sources
    assert found == ["train/0", "train/1", "1.5" if isinstance(absent, float) else "tape"]
    cells = ["" if cell is None else str(cell) for cell in sources]
    lines = [f"a/{number}.png,{cell}\n" for number, cell in enumerate(cells)]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "metadata.csv").write_text("".join(["file_name,source\n", *lines]), encoding="utf-8")
    (tmp_path / "own" / "a").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "own" / "a" / f"{number}.png")
    options = {"data_dir": tmp_path / "own", "cache_dir": tmp_path / "cache", "shares": (1, 0, 0)}
    split = load_few_shot("folder", "train", **options)
    assert split.source_ids.tolist() == ["a/0.png", "a/1.png", os.fspath(found[2])]
