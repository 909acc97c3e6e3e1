"""The command line `msmaml classify` and the pipeline "few-shot-classification"."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from transformers import pipeline

from modeling_msmaml import FewShotClassificationPipeline, FewShotClassifier
from msmaml.commands import classify

from ..inference.test_few_shot_classifier import examples
from ..own_data import MAKERS, SAMPLING_RATE, save_tiny_model, write_file

CLASSES = ("crow", "wren")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model"), num_inner_steps=10))


@pytest.fixture(params=("audio", "text", "image"))
def folders(request, tmp_path):
    """(modality, support folder with three and two examples, query folder with two files)."""
    modality, support, query = request.param, tmp_path / "support", tmp_path / "query"
    for kind, name in enumerate(CLASSES):
        for number in range(3 - kind):
            write_file(modality, support / name, kind, number)
        write_file(modality, query, kind, 10)
    return modality, support, query


def lines(capsys, *arguments) -> list[str]:
    classify.main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def test_json_lines_are_the_classifiers_predictions(model_dir, folders, capsys):
    modality, support, query = folders
    printed = [
        json.loads(line)
        for line in lines(capsys, "--model", model_dir, "--support", support, "--query", query, "--json")
    ]
    paths = [*sorted((support / "crow").iterdir()), *sorted((support / "wren").iterdir())]
    classifier = FewShotClassifier.from_pretrained(model_dir).fit(paths, ["crow"] * 3 + ["wren"] * 2)
    queries = sorted(query.iterdir())
    assert [line["file"] for line in printed] == [str(path) for path in queries]
    assert [line["class"] for line in printed] == classifier.predict(queries).tolist()
    probabilities = [[line["probabilities"][name] for name in CLASSES] for line in printed]
    np.testing.assert_allclose(probabilities, classifier.predict_proba(queries), rtol=1e-12)
    assert classifier.modality_ == modality


def test_table_and_unsure(model_dir, folders, capsys):
    modality, support, query = folders
    header, *rows = lines(capsys, "--model", model_dir, "--support", support, "--query", *query.iterdir())
    assert header.split() == ["file", "class", "crow", "wren"]
    for row in rows:
        file, guess, *probabilities = row.split()
        assert guess == CLASSES[np.argmax([float(value) for value in probabilities])]
    rows = lines(capsys, "--model", model_dir, "--support", support, "--query", query, "--reject_below", "1")[1:]
    assert [row.split()[1] for row in rows] == ["unsure", "unsure"]


def test_a_saved_classifier_needs_no_examples(model_dir, folders, capsys, tmp_path):
    modality, support, query = folders
    saved = tmp_path / "saved"
    before = lines(capsys, "--model", model_dir, "--support", support, "--query", query, "--save", saved)
    assert lines(capsys, "--model", saved, "--query", query) == before
    assert lines(capsys, "--model", saved, "--support", support, "--query", query) == before
    with pytest.raises(SystemExit, match="this classifier is one of"):
        other = "text" if modality == "audio" else "audio"
        classify.main(["--model", str(saved), "--query", str(query), "--modality", other])


def test_modality_among_files_of_several_kinds(model_dir, tmp_path, capsys):
    for kind, name in enumerate(CLASSES):
        for modality in ("text", "image"):
            write_file(modality, tmp_path / "support" / name, kind, 0)
            write_file(modality, tmp_path / "query", kind, 1)
    options = ["--model", model_dir, "--support", tmp_path / "support", "--query", tmp_path / "query", "--json"]
    with pytest.raises(SystemExit, match="several modalities"):
        lines(capsys, *options)
    printed = [json.loads(line) for line in lines(capsys, *options, "--modality", "text")]
    assert [line["file"][-4:] for line in printed] == [".txt", ".txt"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "is no folder; it should have one sub-folder per class"),
        (lambda folder: folder.mkdir(), "has no sub-folders"),
        (
            lambda folder: [(folder / name).mkdir(parents=True) for name in CLASSES],
            "crow.*wren: no files of these kinds",
        ),
        (lambda folder: write_file("text", folder / "crow", 0, 0), "labels hold 1 class, 'crow'"),
    ],
)
def test_errors_are_one_line_in_words(model_dir, tmp_path, prepare, message):
    prepare(tmp_path / "support")
    with pytest.raises(SystemExit, match=message):
        classify.main(["--model", model_dir, "--support", str(tmp_path / "support"), "--query", str(tmp_path)])


def test_what_there_is_to_do_must_be_said(model_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        classify.main(["--model", model_dir])
    assert "nothing to do: give --query files, or --save" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="is no adapted classifier: give --support"):
        classify.main(["--model", model_dir, "--query", str(tmp_path)])


def test_a_query_of_another_kind_is_refused(model_dir, folders):
    modality, support, query = folders
    other = write_file("audio" if modality == "text" else "text", query, 0, 0)
    with pytest.raises(SystemExit, match=rf"classify: .*{other.name}"):
        classify.main(["--model", model_dir, "--support", str(support), "--query", str(other)])


def test_a_query_folder_says_what_it_leaves_out(model_dir, folders, capsys):
    modality, support, query = folders
    (query / "deep").mkdir()
    for name in ("crow.heic", "deep/wren.m4a"):
        (query / name).write_bytes(b"of a phone")
    with pytest.warns(UserWarning, match=rf"{query}: 2 files are of another kind.*crow\.heic, deep/wren\.m4a"):
        assert len(lines(capsys, "--model", model_dir, "--support", support, "--query", query)) == 3


def test_a_class_called_unreadable(model_dir, folders, capsys):
    modality, support, query = folders
    (support / "crow").rename(support / "unreadable")
    words = ["--model", model_dir, "--support", support, "--query", support / "unreadable", "--json"]
    printed = [json.loads(line) for line in lines(capsys, *words)]
    assert "unreadable" in {line["class"] for line in printed}
    assert all(set(line["probabilities"]) == {"unreadable", "wren"} for line in printed)
    with pytest.raises(SystemExit, match="classify: a class is called 'unreadable'"):
        lines(capsys, *words, "--skip-errors")


@pytest.mark.parametrize("option", ["--support", "--query", "--save"])
def test_an_empty_name_is_not_the_current_folder(model_dir, folders, option, capsys):
    given = {"--support": folders[1], "--query": folders[2], option: ""}
    with pytest.raises(SystemExit) as error:
        lines(capsys, "--model", model_dir, *[word for pair in given.items() for word in pair])
    assert "names no f" in f"{error.value}{capsys.readouterr().err}"


def test_it_runs_as_a_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["msmaml", "classify", "--model", str(tmp_path), "--query", "a.wav"])
    with pytest.raises(SystemExit, match="classify: model=.* is no folder or repository of a model"):
        runpy.run_module("msmaml", run_name="__main__", alter_sys=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "results.txt"], "call it .csv or .jsonl"),
        (["--output", "results.csv", "--format", "table"], "call it .csv or .jsonl"),
        (["--json", "--format", "csv"], "--json and --format csv"),
        (["--overwrite"], "--overwrite is for --output"),
        (["--classifier", "x", "--support", "y"], "--classifier is adapted already"),
        (["--workers", "-1"], "must be an integer of at least 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, message, capsys):
    with pytest.raises(SystemExit) as status:
        classify.main(["--query", "a.png", *words])
    assert status.value.code == 2 and message in capsys.readouterr().err


# The pipeline


@pytest.mark.parametrize("modality", ["audio", "text", "image"])
def test_pipeline_gives_the_classifiers_probabilities(model_dir, modality):
    items, labels = examples(modality)
    queries, _ = examples(modality, (2, 2, 1), start=10)
    rate = {"sampling_rate": SAMPLING_RATE} if modality == "audio" else {}
    classifier = FewShotClassifier.from_pretrained(model_dir).fit(items, labels, **rate)
    classify_all = pipeline("few-shot-classification", model=model_dir, device="cpu")
    assert isinstance(classify_all, FewShotClassificationPipeline)
    given = {"examples": items, "labels": labels, **rate}
    expected = classifier.predict_proba(queries, **rate)
    for options in ({}, {"batch_size": 2}):
        found = classify_all(queries, **given, **options)
        for row, entries in zip(expected, found, strict=True):
            assert [entry["score"] for entry in entries] == sorted((entry["score"] for entry in entries), reverse=True)
            np.testing.assert_allclose([e["score"] for e in sorted(entries, key=lambda e: e["label"])], row, rtol=1e-5)
    kept = pipeline("few-shot-classification", model=model_dir, device="cpu", top_k=1, **given)
    assert [entries[0]["label"] for entries in kept(queries)] == classifier.predict(queries, **rate).tolist()
    assert len(kept(queries[0])) == 1 and len(kept(queries[0], top_k=2)) == 2


def test_pipeline_on_a_saved_classifier(model_dir, tmp_path):
    classifier = FewShotClassifier.from_pretrained(model_dir).fit(*examples("image"))
    classifier.save_pretrained(tmp_path)
    query = MAKERS["image"](1, 10)
    found = pipeline("few-shot-classification", model=str(tmp_path), device="cpu")(query)
    np.testing.assert_allclose(
        [entry["score"] for entry in sorted(found, key=lambda entry: entry["label"])],
        classifier.predict_proba([query])[0],
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "there are no classes yet: give examples and labels"),
        ({"examples": ["word1"]}, "give examples and labels together"),
        ({"modality": "text"}, "modality='text' has an effect only beside examples"),
        ({"top_k": 0}, "top_k=0"),
    ],
)
def test_pipeline_refuses_what_would_do_nothing(model_dir, options, message):
    classify_all = pipeline("few-shot-classification", model=model_dir, device="cpu")
    with pytest.raises(ValueError, match=message):
        classify_all("word1 word2", **options)


def test_a_saved_pipeline_is_the_same(model_dir, tmp_path):
    items, labels = examples("image")
    for name, given in (("with", {"examples": items, "labels": labels}), ("without", {})):
        classify_all = pipeline("few-shot-classification", model=model_dir, device="cpu", **given)
        classify_all.save_pretrained(tmp_path / name)
        loaded = pipeline("few-shot-classification", model=str(tmp_path / name), device="cpu")
        needed = {} if given else {"examples": items, "labels": labels}
        assert loaded(items, **needed) == classify_all(items, **needed)


def test_pipeline_leaves_its_model_as_it_is(model_dir):
    classify_all = pipeline("few-shot-classification", model=model_dir, device="cpu")
    before = {name: value.clone() for name, value in classify_all.model.state_dict().items()}
    items, labels = examples("image")
    classify_all(items, examples=items, labels=labels)
    assert classify_all.model.config.norm_statistics == "transductive"
    assert all(torch.equal(value, before[name]) for name, value in classify_all.model.state_dict().items())
