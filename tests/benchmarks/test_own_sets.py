"""The small sets of our own, and the simple classifiers beside the model."""

import json

import numpy as np
import pytest
import torch

from benchmarks.own_sets import features, media, runner, tables


@pytest.mark.parametrize("name", runner.TEXTS)
def test_texts_are_enough_and_none_occurs_twice(name):
    by_class = json.loads(runner.TEXTS[name].read_text())
    texts = [text.casefold() for own in by_class.values() for text in own]
    assert len(by_class) >= 2 and len(texts) == len(set(texts))
    assert min(map(len, by_class.values())) > max(runner.SHOTS) + 5


@pytest.mark.parametrize("name", media.PICTURES)
def test_pictures_are_a_function_of_the_seed(name, monkeypatch):
    monkeypatch.setattr(media, "PER_CLASS", 2)
    rows, labels = media.pictures(name)
    again, other = media.pictures(name)[0], media.pictures(name, seed=1)[0]
    assert rows.shape == (len(labels), 3, media.SIZE, media.SIZE) and rows.dtype == np.uint8
    assert (rows == again).all() and all((one != two).any() for one, two in zip(rows, other, strict=True))
    assert list(dict.fromkeys(labels)) == list(media.PICTURES[name][1])


@pytest.mark.parametrize("name", media.SOUNDS)
def test_sounds_are_audible_and_a_function_of_the_seed(name, monkeypatch):
    monkeypatch.setattr(media, "PER_CLASS", 2)
    rows, labels = media.sounds(name)
    assert rows.dtype == np.int16 and len(rows) == len(labels) and (rows == media.sounds(name)[0]).all()
    assert (np.abs(rows).max(axis=1) > 2000).all()


def test_gradients_of_edges_fall_into_the_bin_of_their_direction():
    rows = np.zeros((2, 3, 32, 32), np.uint8)
    rows[0, :, :, 16:] = 255  # an upright edge: the gradient points right, 0 degrees
    rows[1, :, 16:, :] = 255  # a level one: 90 degrees
    found = features.oriented_gradients(rows).reshape(2, features.BINS, 4, -1).sum(dim=(2, 3))
    assert found[1].argmax() == 4 and set(found[0].topk(2).indices.tolist()) == {0, features.BINS - 1}


def test_log_mel_statistics_leave_padding_out():
    wave = np.round(8000 * np.sin(np.arange(8000) / 5)).astype(np.int16)
    padded = np.concatenate([wave, np.zeros(4000, np.int16)])
    one, other = features.log_mel_statistics(wave[None]), features.log_mel_statistics(padded[None])
    torch.testing.assert_close(one, other)


def test_draws_share_no_sample_and_methods_are_compared_draw_by_draw(tmp_path, monkeypatch):
    labels = np.arange(3).repeat(9)
    support, query = runner.drawn(labels, 5, np.random.default_rng(0))
    assert not set(support) & set(query) and (np.bincount(labels[support]) == 5).all() and len(query) == 3 * 4
    own = {"set": "toy", "modality": "image", "classes": ["a", "b", "c"], "draws": 2, "k_shot": 1}
    other = f"{runner.REGRESSION}, C = 1"
    own["accuracies"] = {
        runner.OURS: [0.6, 0.8],
        other: [0.5, 0.5],
        "logistic regression on pixels": [0.4, 0.2],
        "logistic regression on HOG": [0.4, 0.4],
    }
    assert runner.best_other(own) == other and runner.against(own, other)[0] == pytest.approx(0.2)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "own.json")
    assert "Nothing" in tables.own_sets_tables()
    (tmp_path / "own.json").write_text(json.dumps([own, {**own, "k_shot": 5}]))
    assert "| toy | 3 | 70.0 / 70.0 | 50.0 / 50.0 | 40.0 / 40.0 | +20.0 ± " in tables.own_sets_tables()
