"""Splits of some classes alone, the free part of ESC-50, and the procedural data sets."""

import numpy as np
import pytest

from data_builders import FewShotSplit, load_few_shot
from data_builders.data_sets import esc10, esc50
from data_builders.data_sets.procedural_scenes import SceneFamily
from data_builders.data_sets.procedural_sounds import SoundEventFamily


def test_a_split_of_some_classes_has_their_rows_under_new_labels():
    rows = np.arange(60, dtype=np.uint8).repeat(3 * 4).reshape(60, 3, 2, 2)
    split = FewShotSplit.from_arrays(rows, np.arange(60) % 6, source_ids=np.arange(60).astype(str))
    part = split.of_classes([4, 1])
    assert part.class_names == (split.class_names[4], split.class_names[1])
    assert sorted(np.unique(part.labels)) == [0, 1] and len(part) == 20
    for label, old in enumerate((4, 1)):
        numbers = np.flatnonzero(part.labels == label)
        assert np.array_equal(part.rows(numbers), split.rows(np.flatnonzero(split.labels == old)))
        assert np.array_equal(part.source_ids[numbers], split.source_ids[split.labels == old])
    assert part.fingerprint() != split.fingerprint()
    for wrong in ([1, 1], [6], [-1]):
        with pytest.raises(ValueError, match="must name classes from 0 to 5, each once"):
            split.of_classes(wrong)


def test_esc10_is_the_free_part_of_a_split_of_esc50(monkeypatch):
    names = ("airplane", "dog", "rain", "wind")
    whole = FewShotSplit.from_arrays(np.zeros((8, 5), np.int16), np.arange(8) % 4, modality="audio", class_names=names)
    monkeypatch.setattr(esc50, "load", lambda *_: whole)
    split = load_few_shot("esc10", "train")
    assert split.name == "esc10" and split.class_names == ("dog", "rain") and len(split) == 4
    monkeypatch.setattr(esc50, "load", lambda *_: whole.of_classes([0, 3]))
    with pytest.raises(ValueError, match="none of the classes of ESC-10 is in the train split"):
        load_few_shot("esc10", "train")
    assert len(esc10.CLASSES) == 10


@pytest.mark.parametrize("family", [lambda rng: SceneFamily(rng, 4, 48), lambda rng: SoundEventFamily(rng, 4, 80_000)])
def test_procedural_samples_follow_from_the_seed_and_classes_differ_more_than_samples(family):
    made = family(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    samples = np.stack([[made.sample(rng, label) for _ in range(6)] for label in range(4)])
    again = family(np.random.default_rng(0)).sample(np.random.default_rng(1), 0)
    assert np.array_equal(samples[0, 0], again) and samples.shape[2:] == made.row_shape
    assert not np.array_equal(samples[0, 0], samples[0, 1])
    if made.modality == "image":
        assert samples.dtype == np.uint8 and samples.std() > 20
    else:
        assert samples.dtype == np.int16 and not samples[..., 48_000:].any() and (abs(samples).max(axis=2) > 3000).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"modality": "text"}, "modality='text' does not exist"),
        ({"seed": -1}, "seed=-1"),
        ({"image_size": 8}, "image_size=8"),
        ({"modality": "audio", "image_size": 64}, "image_size=64 has no effect on sounds"),
    ],
)
def test_wrong_options_of_procedural_sets(options, message):
    with pytest.raises(ValueError, match=message):
        load_few_shot("procedural", "train", **options)


@pytest.mark.parametrize(
    ("labels", "class_names", "numbers", "names"),
    [
        (["b", "a", "b"], None, [1, 0, 1], ("a", "b")),
        (np.array(["b", "a", "b"]), ["b", "a", "c"], [0, 1, 0], ("b", "a", "c")),
        ([1, 0, 1], None, [1, 0, 1], ("class_0", "class_1")),
    ],
)
def test_labels_may_be_names(labels, class_names, numbers, names):
    split = FewShotSplit.from_arrays(np.zeros((3, 5), np.int16), labels, modality="audio", class_names=class_names)
    assert split.labels.tolist() == numbers and split.class_names == names


@pytest.mark.parametrize(
    ("labels", "class_names", "message"),
    [(["a", "c"], ["a", "b"], "labels has 'c', which class_names="), ([0.5, 1], None, "labels has 0.5: give integers")],
)
def test_labels_without_a_class_are_named(labels, class_names, message):
    with pytest.raises(ValueError, match=message):
        FewShotSplit.from_arrays(np.zeros((2, 5), np.int16), labels, modality="audio", class_names=class_names)
