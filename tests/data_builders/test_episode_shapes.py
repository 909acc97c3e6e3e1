"""Shapes that differ from episode to episode, several data sets of one modality, and unlabelled samples."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders import EpisodeDataset, collate_episodes
from data_builders.episodes.episode_order import EpisodeOrder, default_weights
from data_builders.episodes.episode_shape import MOST_SUPPORT, meta_dataset_shape
from data_builders.episodes.random_bits import RandomBits

from .test_episodes import episodes_of, spread, table

ways = st.tuples(st.integers(2, 5), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))
counts = st.tuples(st.integers(1, 4), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def assert_whole(episode, split, n_query=None):
    """Every class of the labels has support and query rows of its own, and no source is on both sides."""
    support, query = episode["support_ids"].numpy(), episode["query_ids"].numpy()
    classes = episode["class_ids"].numpy()
    labels, asked = episode["support_labels"].numpy(), episode["query_labels"].numpy()
    assert len(set(support) | set(query)) == len(support) + len(query), "a row occurs twice"
    assert not set(split.source_ids[support]) & set(split.source_ids[query])
    assert set(labels) == set(asked) == set(range(len(classes)))
    assert np.array_equal(split.labels[support], classes[labels])
    assert np.array_equal(split.labels[query], classes[asked])
    assert len(set(np.bincount(asked))) == 1 and n_query in (None, np.bincount(asked)[0])
    assert np.array_equal(episode["support"].numpy(), split.rows(support))


@settings(max_examples=60)
@given(
    *(ways, counts, st.integers(1, 3)),
    *(st.sampled_from(["equal", "log_equal", "unequal"]), st.booleans(), st.integers(0, 99)),
)
def test_shapes_stay_within_their_ranges(n_way, k_shot, n_query, shots, one_source_of_two, seed):
    if shots != "equal" and k_shot[0] == k_shot[1]:
        k_shot = (k_shot[0], k_shot[0] + 1)
    sources = [[f"{c}/{r // 2 if one_source_of_two else r}" for r in range(24)] for c in range(9)]
    split = table(sources)
    dataset = EpisodeDataset([split], list(n_way), list(k_shot), n_query, 6, seed, shots=shots)
    for episode in dataset:
        assert_whole(episode, split, n_query)
        numbers = np.bincount(episode["support_labels"].numpy())
        assert n_way[0] <= len(numbers) <= n_way[1]
        assert k_shot[0] <= numbers.min() and numbers.max() <= k_shot[1]
        assert shots == "unequal" or len(set(numbers)) == 1


def test_log_equal_draws_few_samples_as_often_as_many():
    """Of 1 to 15 samples, 1, 2 to 3, 4 to 7 and 8 to 15 are equally likely."""
    dataset = EpisodeDataset([spread(3, 40)], 3, [1, 15], 1, 800, shots="log_equal")
    octaves = np.bincount([int(np.log2(len(episode["support_labels"]) // 3)) for episode in dataset])
    assert len(octaves) == 4 and (abs(octaves - 200) < 60).all()


def test_every_shape_of_a_range_occurs():
    dataset = EpisodeDataset([spread(8, 12)], [3, 5], [1, 2], 2, 200)
    shapes = {(len(e["class_ids"]), len(e["support_labels"]) // len(e["class_ids"])) for e in dataset}
    assert shapes == set(itertools.product((3, 4, 5), (1, 2)))


@settings(max_examples=40)
@given(st.lists(st.integers(4, 40), min_size=5, max_size=9), st.integers(0, 99))
def test_meta_dataset_shapes_follow_the_sizes_of_classes(sizes, seed):
    split = table([[f"{c}/{r}" for r in range(size)] for c, size in enumerate(sizes)])
    for episode in EpisodeDataset([split], [2, 50], [1, 100], 10, 5, seed, shots="meta_dataset"):
        assert_whole(episode, split)
        own = [sizes[c] for c in episode["class_ids"].tolist()]
        n_query = len(episode["query_labels"]) // len(own)
        assert n_query <= min(10, min(own) // 2)
        assert all(n + n_query <= size for n, size in zip(np.bincount(episode["support_labels"]), own, strict=True))


def test_meta_dataset_shapes_are_those_of_the_paper():
    sizes = np.asarray([20] * 5 + [600] * 5)
    drawn = [meta_dataset_shape(sizes, (1, 100), 10, RandomBits(seed)) for seed in range(300)]
    assert {shape.n_query for shape in drawn} == {10}
    assert max(shape.shots.sum() for shape in drawn) <= MOST_SUPPORT
    assert min(shape.shots.min() for shape in drawn) == 1
    means = np.mean([shape.shots for shape in drawn], axis=0)
    assert means[5:].min() > 5 * means[:5].max()
    assert len({int(shape.shots.sum()) for shape in drawn}) > 100


def test_sources_that_are_few_make_meta_dataset_episodes_smaller_and_not_impossible():
    split = table([[f"{c}/{r % 2}" for r in range(20)] for c in range(4)])  # two sources per class
    for episode in EpisodeDataset([split], [2, 4], [1, 100], 10, 20, shots="meta_dataset"):
        assert_whole(episode, split)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(0, 10**6), st.integers(0, 10**9))
def test_every_section_of_the_episodes_has_the_shares_of_the_weights(weights, seed, start):
    order = EpisodeOrder(len(weights), weights, seed)
    length = 400
    found = np.bincount([order(index) for index in range(start, start + length)], minlength=len(weights)) / length
    assert np.abs(found - np.asarray(weights) / sum(weights)).max() < 0.025


def test_without_weights_the_splits_take_turns():
    splits = [spread(4, 6, name=name, modality=m) for name, m in (("a", "audio"), ("b", "image"), ("c", "image"))]
    assert [e["data_set"] for e in EpisodeDataset(splits, 3, 1, 2, 6)] == ["a", "b", "c"] * 2


def test_default_weights_give_modalities_equal_shares_and_sets_the_square_root_of_their_classes():
    one_each = [spread(4, 6, name="a", modality="audio"), spread(9, 6, name="b", modality="image")]
    assert default_weights(one_each) is None
    weights = default_weights([*one_each, spread(36, 6, name="c", modality="image")])
    assert weights == pytest.approx({"a": 1, "b": 1 / 3, "c": 2 / 3})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, "one entry for each of the data sets a, b"),
        ({"a": 1, "b": 0}, r"weights\[b\]=0 must be a positive number"),
        ({"a": 1, "b": float("nan")}, r"weights\[b\]=nan"),
        ({"a": 1, "b": 1, "c": 1}, "one entry for each"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    splits = [spread(4, 6, name="a", modality="audio"), spread(4, 6, name="b")]
    with pytest.raises(ValueError, match=message):
        EpisodeDataset(splits, 3, 1, 2, 6, weights=weights)


def test_text_rows_of_several_lengths_are_padded_to_the_longest():
    def texts(name, length):
        rows = np.full((40, length), 7, np.int32)
        return spread(4, 10).from_arrays(rows, np.arange(40) % 4, modality="text", name=name)

    short, long = EpisodeDataset([texts("a", 3), texts("b", 5)], 3, 1, 2, 2)
    assert short["support"].shape == long["support"].shape == (3, 5)
    assert short["support"][0].tolist() == [7, 7, 7, 0, 0]


def test_collate_groups_episodes_by_shape():
    splits = [spread(8, 30, name="a", modality="audio"), spread(8, 30, name="b")]
    episodes = list(EpisodeDataset(splits, [2, 6], [1, 3], 2, 24))
    groups = collate_episodes(episodes, n_way=True)["episodes"]
    assert {name.partition("#")[0] for name in groups} == {"audio", "image"}
    assert sum(len(group["support"]) for group in groups.values()) == 24
    shapes = [(name.partition("#")[0], g["n_way"], g["support"].shape[1:]) for name, g in groups.items()]
    assert len(set(shapes)) == len(shapes)
    for group in groups.values():
        assert (torch.nn.functional.one_hot(group["support_labels"]).sum(dim=1) > 0).all()


def test_tasks_with_as_many_samples_but_other_numbers_of_classes_are_apart():
    """Six support and six query samples each: 2 classes of 3, and 3 classes of 2."""
    two, three = EpisodeDataset([spread(4, 9)], 2, 3, 3, 1)[0], EpisodeDataset([spread(4, 9)], 3, 2, 2, 1)[0]
    groups = collate_episodes([two, three, two])["episodes"]
    assert [len(group["support"]) for group in groups.values()] == [2, 1] and list(groups) == ["image", "image#1"]


@settings(max_examples=30)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 99))
def test_unlabelled_samples_are_of_no_other_part_of_the_episode(n_way, k_shot, unlabelled, distractors, seed):
    split = table([[f"{c}/{r // 2}" for r in range(24)] for c in range(7)])
    dataset = EpisodeDataset([split], n_way, k_shot, 3, 3, seed, num_unlabelled=unlabelled, num_distractors=distractors)
    for episode in dataset:
        assert_whole(episode, split, 3)
        ids = episode["unlabelled_ids"].numpy()
        assert len(ids) == len(set(ids)) == (n_way + distractors) * unlabelled
        assert not set(ids) & set(episode["support_ids"].tolist())
        assert not set(split.source_ids[ids]) & set(split.source_ids[episode["query_ids"].numpy()])
        own = np.isin(split.labels[ids], episode["class_ids"].numpy())
        assert own.sum() == n_way * unlabelled and len(set(split.labels[ids][~own])) == distractors
        assert np.array_equal(episode["unlabelled"].numpy(), split.rows(ids))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_way": [4, 3]}, "must begin with the smaller number"),
        ({"n_way": [2, 3, 4]}, "an integer or a range of two"),
        ({"n_way": [1, 3]}, "at least 2"),
        ({"k_shot": {"text": 1}}, "no entry for modality image or data set arrays"),
        ({"shots": "many"}, "choose one of equal, log_equal, unequal, meta_dataset"),
        ({"shots": "unequal"}, "'unequal' has no effect on arrays with k_shot=1: give a range"),
        ({"shots": "unequal", "k_shot": [2, 2]}, "'unequal' has no effect on arrays with k_shot=2"),
        ({"shots": "meta_dataset"}, "'meta_dataset' has no effect on arrays with k_shot=1: give a range"),
        ({"shots": "meta_dataset", "k_shot": {"image": 2}}, "'meta_dataset' has no effect on arrays with k_shot=2"),
        ({"num_distractors": 1}, "no effect without num_unlabelled"),
        ({"mix_classes": 0.5, "n_way": [2, 3]}, "needs one n_way"),
        ({"mix_classes": 0.5, "num_unlabelled": 1}, "exclude each other"),
        ({"shots": "meta_dataset", "num_unlabelled": 1, "k_shot": [1, 5]}, "number per class"),
        ({"n_way": [3, 9]}, "n_way=9 asks for more classes"),
    ],
)
def test_arguments_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EpisodeDataset([spread(8, 9)], **{"n_way": 3, "k_shot": 1, "n_query": 2, "num_episodes": 1, **options})


def test_shapes_may_differ_by_data_set():
    splits = [spread(8, 30, name="a", modality="audio"), spread(8, 30, name="b", modality="audio")]
    first, second = episodes_of(splits, {"audio": 3, "b": 5}, 1, {"a": 2, "audio": 4}, 2)
    assert (len(first["class_ids"]), len(first["query_labels"])) == (3, 6)
    assert (len(second["class_ids"]), len(second["query_labels"])) == (5, 20)


@pytest.mark.parametrize(("name", "modality"), [("text", "image"), ("image", "image"), ("pressure", "pressure")])
def test_a_data_set_that_is_called_like_a_modality_is_refused(name, modality):
    splits = [spread(8, 9, name=name, modality="image"), spread(8, 9, name="b", modality=modality)]
    with pytest.raises(ValueError, match=f"name='{name}' is the name of a modality"):
        episodes_of(splits, 3, 1, 2, 2)


def test_a_data_set_of_episodes_says_what_it_holds():
    dataset = EpisodeDataset([spread(4, 10)], n_way=(2, 3), k_shot=2, n_query=1, num_episodes=7, seed=5)
    text = repr(dataset)
    assert text.startswith("EpisodeDataset(7 episodes, seed 5:")
    assert f"2 to 3 classes, with 2 support and 1 query samples each, of {dataset.splits[0]!r}" in text
