"""FewShotClassifier with a model on levels: whole inputs, what is encoded when, more examples, explanations, saving."""

import itertools
import os
import re
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from transformers import pipeline

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference import encoded_inputs, unchanged_files
from modeling_msmaml.inference.classifier_files import TASKS_FILE
from modeling_msmaml.inference.encoded_inputs import LevelMemory, encoded_batches
from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor

from ..level_models import MODALITIES, save_level_model
from ..model.level_encoders import sounds, texts, tiny
from ..own_data import MAKERS, SAMPLING_RATE, write_file
from .test_few_shot_classifier import examples, save_tiny_model


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return str(save_level_model(tmp_path_factory.mktemp("levels")))


@pytest.fixture(autouse=True)
def nothing_remembered():
    encoded_inputs.MEMORY.clear()


@pytest.fixture
def encoded(monkeypatch, model_dir):
    """The number of raw rows in each call of an encoder."""
    calls = []
    base, _ = FewShotClassifier(model_dir).base_model()
    for modality in MODALITIES:
        encoder = base.frontends[modality].encoder(base.device)
        levels = encoder.levels
        monkeypatch.setattr(encoder, "levels", lambda raw, own=levels: calls.append(len(raw)) or own(raw))
    return calls


def fitted(model_dir, modality="image", shots=(3, 3, 3), **arguments) -> FewShotClassifier:
    classifier = FewShotClassifier(model_dir, sampling_rate=SAMPLING_RATE, **arguments)
    return classifier.fit(*examples(modality, shots))


# Whole inputs


def long_input(modality: str, kind: int, number: int, times: int, last_kind: int | None = None):
    """An input that is many times as long, or a picture as wide, as those of `own_data`."""
    kinds = [kind] * (times - 1) + [kind if last_kind is None else last_kind]
    parts = [MAKERS[modality](own, number + part) for part, own in enumerate(kinds)]
    if modality == "text":
        return " ".join(parts)
    if modality == "audio":
        return np.concatenate(parts)
    return Image.fromarray(np.concatenate([np.asarray(part) for part in parts], axis=1))


@pytest.mark.parametrize("modality", MODALITIES)
def test_inputs_of_any_length_and_aspect_are_read_to_their_end(model_dir, modality):
    queries = [long_input(modality, kind, 40, times) for kind in range(3) for times in (1, 2, 40)]
    classifier = fitted(model_dir, modality)
    encoded = classifier.encode(queries)
    assert encoded.dtype == torch.float16 and len(encoded) == 9
    other_end = long_input(modality, 0, 40, 40, last_kind=1)
    assert not torch.equal(classifier.encode([other_end])[0], encoded[2]), "what comes last counts"
    together = classifier.predict_proba(queries)
    encoded_inputs.MEMORY.clear()
    alone = np.concatenate([classifier.predict_proba([query]) for query in queries])
    np.testing.assert_allclose(together, alone, atol=2e-3)  # levels are rounded to float16


BEYOND = {
    "text": (" word3" * 8200, "word3", r"first 8192 tokens of a text; .*text\[1\]"),
    "audio": (np.full(9_000 * 601, 0.5), np.full(9, 0.5), r"first 600 s of a sound; .*audio\[1\].*601.0 s"),
}


@pytest.mark.parametrize("modality", BEYOND)
def test_what_is_beyond_the_bounds_is_cut_and_said(model_dir, modality):
    _, processor = FewShotClassifier(model_dir).base_model()
    given, short, message = BEYOND[modality]
    rate = {"sampling_rate": SAMPLING_RATE} if modality == "audio" else {}
    with pytest.warns(UserWarning, match=message):
        (rows,) = processor(**{modality: [short, given]}, **rate).values()
    assert rows.shape == (2, {"text": 8192, "audio": 5_400_000}[modality]) and rows[0].any() and not rows[0, 9:].any()


@pytest.mark.parametrize(
    ("size", "row"), [((30, 20), (20, 30)), ((1024, 600), (512, 874)), ((9000, 30), (14, 4096)), ((9000, 1), (1, 4096))]
)
def test_pictures_keep_their_aspect_and_are_never_enlarged(model_dir, size, row):
    _, processor = FewShotClassifier(model_dir).base_model()
    assert processor.image_processor.row(Image.new("RGB", size, "red")).shape == (3, *row)


def test_whole_inputs_are_saved_with_the_processor(model_dir):
    processor = MSMAMLProcessor.from_pretrained(model_dir)
    assert processor.feature_extractor.duration is processor.image_processor.size is None
    assert processor.text_padding == "longest" and processor.tokenizer.model_max_length == 8192
    assert processor(text=["word1 word2", "word3"])["input_ids"].shape == (2, 2)
    with pytest.raises(ValueError, match=r"images have several shapes"):
        processor(images=[Image.new("RGB", (6, 4)), Image.new("RGB", (4, 6))])


@pytest.mark.parametrize("modality", MODALITIES)
def test_batches_keep_the_order_and_are_bounded(monkeypatch, modality):
    monkeypatch.setattr(encoded_inputs, "READ_AHEAD", 5)
    monkeypatch.setattr(encoded_inputs, "BATCH_BYTES", 5_000)
    encoder = tiny(modality)
    if modality == "text":
        rows = [row[row != 0].numpy() for row in texts([3, 9, 700, 3, 5, 1, 9], width=700)]
    elif modality == "audio":
        rows = [row[:length].numpy() for length in (900, 2_000, 50, 900) for row in sounds([length, length], length)]
    else:
        rng = np.random.default_rng(0)
        rows = [rng.integers(0, 256, (3, *shape), dtype=np.uint8) for shape in [(9, 9), (9, 30), (40, 50), (9, 9)] * 2]
    sizes, levels = [], encoder.levels
    monkeypatch.setattr(encoder, "levels", lambda raw: sizes.append((len(raw), raw.numpy().nbytes)) or levels(raw))
    batches = list(encoded_batches(encoder, iter(rows), LevelMemory(10**7)))
    assert [len(batch) for batch in batches][:-1] == [5] * (len(batches) - 1)
    alone = torch.cat([levels(torch.from_numpy(row[None])) for row in rows])
    torch.testing.assert_close(torch.cat(batches).float(), alone, atol=2e-3, rtol=2e-3)
    assert all(size <= 5_000 or number == 1 for number, size in sizes) and max(number for number, _ in sizes) > 1


# What is encoded when


def test_an_input_is_encoded_once(model_dir, encoded):
    items, labels = examples("image")
    queries, _ = examples("image", start=20)
    classifier = fitted(model_dir)
    assert sum(encoded) == 9, "the losses of the examples cost no second time"
    classifier.predict(queries)
    assert sum(encoded) == 18
    classifier.predict_proba(queries)
    classifier.nearest_examples(queries)
    more, more_labels = examples("image", (1, 1, 1), start=50)
    refitted = clone(classifier).fit(items + more, labels + more_labels)
    assert sum(encoded) == 21, "only the new ones"
    added = classifier.partial_fit(more, more_labels)
    assert sum(encoded) == 21
    np.testing.assert_array_equal(added.predict_proba(queries), refitted.predict_proba(queries))
    cross_val_score(classifier, items, labels, cv=3)
    assert sum(encoded) == 21, "nor does cross-validation"
    fitted(model_dir, "image", num_inner_steps=0)
    assert sum(encoded) == 21


def test_the_same_input_twice_is_encoded_once(model_dir, encoded):
    FewShotClassifier(model_dir).fit(["word1", "word1", "word1", "word2"], [0, 1, 1, 1])
    assert sum(encoded) == 2


def test_memory_is_bounded_and_forgets_the_oldest():
    memory = LevelMemory(most_bytes=40)
    for key in "abab":
        memory.put(key, torch.zeros(8, dtype=torch.float16))
    assert memory.get("a") is not None
    memory.put("c", torch.zeros(8, dtype=torch.float16))
    assert memory.get("b") is None and memory.get("a") is not None and memory.get("c") is not None


def test_encoders_without_checksum_are_not_taken_for_each_other():
    memory, row = LevelMemory(10**6), sounds([700], 700)[0].numpy()
    first, second = tiny("audio"), tiny("audio")
    with torch.no_grad():
        second.blocks[0].conv1.weight.mul_(-1)
    results = [next(encoded_batches(encoder, [row], memory)) for encoder in (first, second, first)]
    assert torch.equal(results[0], results[2]) and not torch.equal(results[0], results[1])


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_files_are_decoded_again_only_if_they_have_changed(model_dir, tmp_path, monkeypatch, modality):
    read = []
    for part in (MSMAMLFeatureExtractor, MSMAMLImageProcessor):
        counted = lambda self, item, *a, own=part.row, **k: read.append(item) or own(self, item, *a, **k)  # noqa: E731
        monkeypatch.setattr(part, "row", counted)
    paths = [write_file(modality, tmp_path, kind, number) for kind in range(2) for number in range(2)]
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(90), SAMPLING_RATE)
    given = paths + [silent] * (modality == "audio")
    classifier = FewShotClassifier(model_dir)
    fit = partial(classifier.fit, given, list(range(len(given))))
    before = fit().predict_proba(paths)
    assert read == [*given, *paths], "what was written a moment ago may be written again"
    for path in given:
        os.utime(path, (1, 1))
    monkeypatch.setattr(unchanged_files, "_SETTLED", 0)
    fit()
    read.clear()
    with pytest.warns(UserWarning, match="silence") if modality == "audio" else nullcontext():
        fit()
    assert read == given[4:], "what was noted is said again"
    np.testing.assert_array_equal(classifier.predict_proba(map(str, paths)), before)
    assert read == given[4:]
    paths[0].write_bytes(paths[3].read_bytes())
    after = classifier.predict_proba(paths)
    assert read == [*given[4:], paths[0]] and np.allclose(after[0], before[3], rtol=1e-4)
    encoded_inputs.MEMORY.clear()
    np.testing.assert_allclose(classifier.predict_proba(paths[1:]), before[1:], rtol=1e-3)


# Classes and examples


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("shots", [(1, 1), (1, 4), (1,) * 12, (5, 1, 1, 2), (4, 4, 4)])
def test_any_number_of_classes_and_examples(model_dir, modality, shots):
    classifier = fitted(model_dir, modality, shots)
    probabilities = classifier.predict_proba(examples(modality, (2,) * len(shots), start=30)[0])
    assert probabilities.shape == (2 * len(shots), len(shots))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert classifier.support_losses_.shape == (6,) and np.isfinite(classifier.support_losses_).all()
    assert (classifier.support_losses_ == 0).all() == (max(shots) == 1)


def test_two_hundred_classes(model_dir):
    sets = [chosen for size in (3, 4, 5) for chosen in itertools.combinations(range(9), size)]
    words = [" ".join(f"word{i}" for i in chosen) for chosen in sets[:200]]
    classifier = FewShotClassifier(model_dir).fit([*words, *words[:50]], [*range(200), *range(50)])
    assert (classifier.predict(words) == np.arange(200)).mean() > 0.95


def test_examples_count_once_whatever_balance_classes_says(model_dir):
    queries, _ = examples("image", start=30)
    found = [
        fitted(model_dir, shots=(1, 4, 2), balance_classes=value).predict_proba(queries) for value in (True, False)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("modality", MODALITIES)
def test_easy_classes_are_told_apart(model_dir, modality):
    classifier = fitted(model_dir, modality, (5, 5, 5))
    assert classifier.score(*examples(modality, (8, 8, 8), start=30)) > 0.8
    losses = classifier.support_losses_
    assert losses[-1] < losses[0], "of each example, compared with all others"


def test_more_examples_and_new_classes(model_dir):
    classifier = fitted(model_dir, shots=(2, 2))
    queries, _ = examples("image", (2, 2, 2), start=30)
    classifier.partial_fit([MAKERS["image"](2, 7)], [2])
    assert classifier.classes_.tolist() == [0, 1, 2]
    items, labels = examples("image", (2, 2))
    expected = FewShotClassifier(model_dir).fit([*items, MAKERS["image"](2, 7)], [*labels, 2])
    np.testing.assert_array_equal(classifier.predict_proba(queries), expected.predict_proba(queries))
    np.testing.assert_array_equal(classifier.support_losses_, expected.support_losses_)
    started = FewShotClassifier(model_dir).partial_fit(items, labels)
    np.testing.assert_array_equal(started.predict(queries), fitted(model_dir, shots=(2, 2)).predict(queries))


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (["word1"], [1, 2], "1 inputs, but 2 labels"),
        (["word1"], ["cr\u200bow"], "look the same"),
        (["word1"], [None], r"labels\[0\] is missing"),
        (["word1"], ["unsure"], "a class is called 'unsure'"),
    ],
)
def test_examples_that_cannot_be_added_are_refused_and_change_nothing(model_dir, inputs, labels, message):
    classifier = FewShotClassifier(model_dir, reject_below=0.1).fit(["word1", "word2"], ["crow", "wren"])
    before = classifier.predict_proba(["word3"])
    with pytest.raises(ValueError, match=message):
        classifier.partial_fit(inputs, labels)
    np.testing.assert_array_equal(classifier.predict_proba(["word3"]), before)


def test_a_model_that_keeps_no_examples_says_so(tmp_path):
    classifier = FewShotClassifier(save_tiny_model(tmp_path)).fit(*examples("image"))
    with pytest.raises(ValueError, match="keeps no examples to which others"):
        classifier.partial_fit(*examples("image"))
    with pytest.raises(ValueError, match="keeps no examples to compare with"):
        classifier.nearest_examples(examples("image")[0])
    assert not hasattr(classifier, "level_weights_")


# What predictions rest on


def test_level_weights_and_nearest_examples(model_dir, tmp_path):
    items, labels = examples("image")
    paths = [write_file("image", tmp_path, kind, number % 3) for number, kind in enumerate(labels)]
    classifier = FewShotClassifier(model_dir).fit(paths, labels)
    weights = classifier.level_weights_
    assert list(weights) == sorted(weights, key=lambda name: -weights[name]) and {"H", "B1"} <= set(weights)
    assert sum(weights.values()) == pytest.approx(1)
    found = classifier.nearest_examples([items[4], examples("image", start=30)[0][0]], k=2)
    assert [len(neighbours) for neighbours in found] == [2, 2]
    nearest = found[0][0]
    assert (nearest.position, nearest.label, nearest.name) == (4, 1, str(paths[4]))
    assert 0.99 < nearest.similarity <= 1 + 1e-5 and found[0][1].similarity <= nearest.similarity
    assert len(classifier.nearest_examples(items[:1], k=99)[0]) == 9
    with pytest.raises(ValueError, match="k=0 must be"):
        classifier.nearest_examples(items, k=0)


def test_neighbours_have_the_positions_at_which_they_were_given(model_dir):
    classifier = FewShotClassifier(model_dir, skip_unreadable=True)
    with pytest.warns(UserWarning, match="1 of 4 inputs cannot be read"):
        classifier.fit(["word1", "", "word2", "word3"], [0, 1, 1, 0])
    classifier.partial_fit(["word4"], [1])
    with pytest.warns(UserWarning, match="1 of 4 inputs"):
        found = classifier.nearest_examples(["word2", "", "word4", "word1"], k=1)
    assert [[(own.position, own.name) for own in row] for row in found] == [
        [(2, "word2")],
        [],
        [(4, "word4")],
        [(0, "word1")],
    ]


def test_probabilities_are_the_softmax_of_the_logits(model_dir):
    classifier = fitted(model_dir)
    queries, _ = examples("image", start=30)
    logits = classifier.logits(classifier.encode(queries)).double()
    np.testing.assert_allclose(classifier.predict_proba(queries), logits.softmax(dim=1).numpy(), rtol=1e-12)


# Saving


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("names", [("b", "a", "c"), ("b", 1, ("c",))])
def test_a_saved_classifier_is_the_same_and_takes_more_examples(model_dir, tmp_path, modality, names):
    items, labels = examples(modality, (2, 3, 1))
    classifier = FewShotClassifier(model_dir, sampling_rate=SAMPLING_RATE, num_inner_steps=3)
    classifier.fit(items, [names[label] for label in labels])
    classifier.save_pretrained(tmp_path)
    loaded = FewShotClassifier.from_pretrained(tmp_path)
    queries, _ = examples(modality, start=30)
    np.testing.assert_array_equal(loaded.predict_proba(queries), classifier.predict_proba(queries))
    np.testing.assert_array_equal(loaded.support_losses_, classifier.support_losses_)
    assert loaded.classes_.tolist() == classifier.classes_.tolist()
    assert loaded.level_weights_ == classifier.level_weights_
    expected = [[own._replace(name=None) for own in row] for row in classifier.nearest_examples(queries)]
    assert loaded.nearest_examples(queries) == expected, "names are not kept: they may be private"
    more, more_labels = examples(modality, (1, 1), start=60)
    for own in (loaded, classifier):
        own.partial_fit(more, [names[label] for label in more_labels])
    np.testing.assert_array_equal(loaded.predict_proba(queries), classifier.predict_proba(queries))
    size = (tmp_path / TASKS_FILE).stat().st_size
    assert size < 2 * 6 * classifier.examples_.levels.shape[1] + 1_000, "levels in float16, and little else"


def test_a_damaged_classifier_is_refused(model_dir, tmp_path):
    fitted(model_dir).save_pretrained(tmp_path)
    content = (tmp_path / TASKS_FILE).read_bytes()
    (tmp_path / TASKS_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / TASKS_FILE))):
        FewShotClassifier.from_pretrained(tmp_path)


# The pipeline


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_pipeline_encodes_a_list_at_once(model_dir, encoded, modality):
    items, labels = examples(modality)
    queries, _ = examples(modality, start=30)
    rate = {"sampling_rate": SAMPLING_RATE} if modality == "audio" else {}
    expected = fitted(model_dir, modality).predict_proba(queries)
    classify = pipeline("few-shot-classification", model=model_dir, device="cpu", examples=items, labels=labels, **rate)
    encoded_inputs.MEMORY.clear()
    encoded.clear()
    for options in ({}, {"batch_size": 4}):
        found = classify(queries, **options)
        scores = [[entry["score"] for entry in sorted(row, key=lambda entry: entry["label"])] for row in found]
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert encoded == [9]
    assert classify(queries[0])[0]["label"] == found[0][0]["label"]
