"""Episodes: the invariants, on tables of any shape; determinism; meta-batches."""

import itertools
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from datasets.arrow_writer import ArrowWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders import EpisodeDataset, FewShotSplit, collate_episodes
from data_builders.episodes.random_bits import RandomBits
from data_builders.episodes.source_partition import can_fill, divide_sources, nearest_settings
from data_builders.storage.builder import row_features
from data_builders.storage.rows import ArrowRows


def table(sources_by_class, split="train", modality="image", **fields):
    """A split whose class c has one row for every entry of `sources_by_class[c]`; the row holds its own number."""
    labels = [c for c, sources in enumerate(sources_by_class) for _ in sources]
    sources = [str(source) for sources in sources_by_class for source in sources]
    rows = np.arange(len(labels), dtype=np.int32)[:, None]
    names = tuple(f"c{c}" for c in range(len(sources_by_class)))
    return FewShotSplit.from_arrays(
        rows, np.asarray(labels, np.int64), np.asarray(sources, str), modality, split, class_names=names, **fields
    )


def spread(n_classes, n_rows, **fields):
    """A table of equal classes in which every row is its own source."""
    return table([[f"{c}/{r}" for r in range(n_rows)] for c in range(n_classes)], **fields)


def episodes_of(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return EpisodeDataset(*arguments, **options)


def assert_valid(episode, split, n_way, k_shot, n_query, source_disjoint):
    support, query = episode["support_ids"].numpy(), episode["query_ids"].numpy()
    assert len(support) == n_way * k_shot and len(query) == n_way * n_query
    assert len(set(support) | set(query)) == len(support) + len(query), "a row occurs twice"
    class_ids = episode["class_ids"].numpy()
    assert len(set(class_ids)) == n_way
    for ids, labels in ((support, episode["support_labels"]), (query, episode["query_labels"])):
        assert np.array_equal(split.labels[ids], class_ids[labels.numpy()])
        assert np.array_equal(np.bincount(labels.numpy()), np.full(n_way, len(ids) // n_way))
    assert np.array_equal(episode["support"].numpy(), split.rows(support))
    assert np.array_equal(episode["query"].numpy(), split.rows(query))
    if source_disjoint:
        assert not set(split.source_ids[support]) & set(split.source_ids[query]), "a source is on both sides"


def is_feasible(sources_by_class, n_way, k_shot, n_query):
    """Brute force: some n_way classes, and some set of sources for the support, that serve all of them."""
    for classes in itertools.combinations(sources_by_class, n_way):
        every = sorted({source for sources in classes for source in sources})
        for chosen in itertools.product((False, True), repeat=len(every)):
            side = dict(zip(every, chosen, strict=True))
            if all(
                sum(side[s] for s in sources) >= k_shot and sum(not side[s] for s in sources) >= n_query
                for sources in classes
            ):
                return True
    return False


tiny_tables = st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=5)


@settings(max_examples=250, deadline=None)
@given(tiny_tables, st.integers(2, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**64))
def test_every_feasible_setting_works_and_no_other(sources_by_class, n_way, k_shot, n_query, seed):
    """Sources are shared between classes at random here, which is the hard case."""
    split = table(sources_by_class)
    try:
        dataset = episodes_of([split], n_way, k_shot, n_query, 4, seed)
    except ValueError:
        assert not is_feasible(sources_by_class, n_way, k_shot, n_query)
        return
    assert is_feasible(sources_by_class, n_way, k_shot, n_query)
    for index in range(len(dataset)):
        assert_valid(dataset[index], split, n_way, k_shot, n_query, source_disjoint=True)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 30), max_size=12), min_size=2, max_size=8),
    st.booleans(),
    st.integers(2, 6),
    st.integers(1, 6),
    st.integers(1, 20),
    st.booleans(),
)
def test_invariants_on_any_table(sizes, share_sources, n_way, k_shot, n_query, source_disjoint):
    """Classes with sources of any sizes; the class's own ones, or the same ones in all classes."""
    sources_by_class = [
        [source if share_sources else f"{c}/{source}" for source, size in enumerate(own) for _ in range(size)]
        for c, own in enumerate(sizes)
    ]
    split = table(sources_by_class)
    alone = [bool(own) and can_fill(own if source_disjoint else [1] * sum(own), k_shot, n_query) for own in sizes]
    try:
        dataset = episodes_of([split], n_way, k_shot, n_query, 3, 0, source_disjoint)
    except ValueError:
        assert sum(alone) < n_way or (share_sources and source_disjoint)
        return
    assert sum(alone) >= n_way
    for episode in dataset:
        assert_valid(episode, split, n_way, k_shot, n_query, source_disjoint)
        assert all(alone[c] for c in episode["class_ids"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=7), st.integers(1, 10), st.integers(1, 10))
def test_feasibility_equals_brute_force(sizes, k_shot, n_query):
    total = sum(sizes)
    sums = {
        sum(s for s, taken in zip(sizes, pick, strict=True) if taken)
        for pick in itertools.product((0, 1), repeat=len(sizes))
    }

    def brute(k, q):
        return any(k <= s <= total - q for s in sums)

    assert can_fill(sizes, k_shot, n_query) == brute(k_shot, n_query)
    counts = np.asarray(sizes)[:, None]
    assert (divide_sources(counts, k_shot, n_query, RandomBits(1)) is not None) == brute(k_shot, n_query)
    if not brute(k_shot, n_query):
        nearest = nearest_settings(sizes, k_shot, n_query)
        assert bool(nearest) == brute(1, 1)
        for k, q in nearest:
            assert 1 <= k <= k_shot and 1 <= q <= n_query and brute(k, q)
            assert not (q < n_query and k == k_shot and brute(k, q + 1))


def test_sources_that_fit_in_one_way_only():
    """Support and query can only be divided in one way, which chance will hardly find: 1 + 30 sources of 1 row."""
    split = table([[f"{c}/big"] * 30 + [f"{c}/{s}" for s in range(30)] for c in range(5)])
    dataset = episodes_of([split], 5, 30, 30, 5)
    for episode in dataset:
        assert_valid(episode, split, 5, 30, 30, True)


def test_classes_that_cannot_be_together():
    """Each class alone is feasible; only c0 and c2 together are, so every episode has these."""
    crossed = [["x", "y", "y"], ["y", "x", "x"], ["p", "q", "q"]]
    split = table(crossed[:2])
    with pytest.raises(ValueError, match="together"):
        episodes_of([split], 2, 1, 2, 5)
    split = table(crossed)
    for episode in episodes_of([split], 2, 1, 2, 20):
        assert 2 in episode["class_ids"]
        assert_valid(episode, split, 2, 1, 2, True)


def equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) if isinstance(first[key], torch.Tensor) else first[key] == second[key]
        for key in first
    )


def test_episode_is_a_function_of_seed_and_index():
    splits = [spread(8, 20), spread(6, 30, modality="audio")]
    first, again = (EpisodeDataset(splits, 5, 1, 5, 40, seed=3) for _ in range(2))
    expected = [first[index] for index in range(40)]
    order = np.random.default_rng(0).permutation(40)
    assert all(equal(again[index], expected[index]) for index in order)
    longer = EpisodeDataset(splits, 5, 1, 5, 1000, seed=3)
    assert all(equal(longer[index], expected[index]) for index in range(40))
    assert not equal(EpisodeDataset(splits, 5, 1, 5, 40, seed=4)[0], expected[0])
    assert not equal(expected[0], expected[2])
    assert equal(pickle.loads(pickle.dumps(first))[7], expected[7])
    assert equal(first[-1], expected[39])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_episodes(workers):
    dataset = EpisodeDataset([spread(8, 20)], 5, 1, 5, 12, seed=3)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
    assert all(equal(episode, dataset[index]) for index, episode in enumerate(loader))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 300), st.integers(0, 2**32))
def test_prefix_of_a_random_order(n, size, seed):
    """Different numbers in range; all of them for a small n, and then the same as the whole order."""
    drawn = RandomBits(seed).prefix(n, size)
    assert len(set(drawn.tolist())) == len(drawn) and 0 <= drawn.min() <= drawn.max() < n
    if n <= 2_048:
        assert np.array_equal(drawn, RandomBits(seed).permutation(n))
    else:
        assert 0.7 * size < len(drawn) <= size


def test_prefix_is_uniform():
    counts = np.bincount(np.concatenate([RandomBits(seed).prefix(5_000, 50)[:1] for seed in range(20_000)]) // 500)
    assert abs(counts - 2_000).max() < 5 * np.sqrt(2_000)


def test_large_classes():
    """Classes far beyond the size up to which all rows are put in order, with sources of very different sizes."""
    sources = [[f"{c}/{int(s**0.5)}" for s in range(6_000)] for c in range(6)]
    split = table(sources)
    for episode in episodes_of([split], 5, 5, 15, 10):
        assert_valid(episode, split, 5, 5, 15, True)


def rows_file(path, rows, batch):
    """An Arrow file as `datasets` writes it, with `batch` rows a record batch."""
    features = row_features("image", rows.shape[1], ["a"])
    with ArrowWriter(features=features, path=str(path), writer_batch_size=batch) as writer:
        for row in rows:
            writer.write({"image": row, "label": 0, "source_id": "s"})
        writer.finalize()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 15), st.randoms())
def test_arrow_rows_of_any_files(tmp_path_factory, lengths, batch, random):
    """Several files of several record batches; rows in any order, also twice, and after pickling."""
    folder, expected = tmp_path_factory.mktemp("rows"), []
    for number, length in enumerate(lengths):
        expected.append(np.random.default_rng(number).integers(0, 256, (length, 6), dtype=np.uint8))
        rows_file(folder / f"{number}.arrow", expected[-1], batch)
    rows, everything = ArrowRows(sorted(folder.iterdir()), "image", (2, 3)), np.concatenate(expected).reshape(-1, 2, 3)
    indices = [random.randrange(len(everything)) for _ in range(50)]
    for source in (rows, pickle.loads(pickle.dumps(rows))):
        taken = source.take(indices)
        assert taken.dtype == np.uint8 and np.array_equal(taken, everything[indices])
        assert source.take([]).shape == (0, 2, 3)
    with pytest.raises(IndexError, match=f"{len(everything)} rows"):
        rows.take([len(everything)])


def test_arrow_rows_of_a_file_that_is_cut_off(tmp_path):
    rows_file(tmp_path / "rows.arrow", np.zeros((2_000, 600), np.uint8), 100)
    rows = ArrowRows([tmp_path / "rows.arrow"], "image", (600,))
    os.truncate(tmp_path / "rows.arrow", 50_000)
    with pytest.raises(OSError, match="rows.arrow was cut off"):
        rows.take([1_999])


def test_stored_episode():
    """Guards the random stream: these numbers hold on every machine and with every version of NumPy."""
    episode = EpisodeDataset([spread(7, 9)], 3, 1, 2, 10, seed=11)[5]
    assert episode["class_ids"].tolist() == [1, 4, 0]
    assert episode["support_ids"].tolist() == [15, 43, 1]
    assert episode["query_ids"].tolist() == [17, 10, 39, 36, 5, 2]


def test_everything_is_drawn():
    """All classes, all rows, and every label for every class: nothing is out of reach."""
    dataset = EpisodeDataset([spread(6, 5)], 3, 1, 2, 400)
    pairs, rows = set(), set()
    for episode in dataset:
        pairs |= set(enumerate(episode["class_ids"].tolist()))
        rows |= set(episode["support_ids"].tolist()) | {-1 - row for row in episode["query_ids"].tolist()}
    assert pairs == set(itertools.product(range(3), range(6)))
    assert rows == set(range(30)) | {-1 - row for row in range(30)}


def test_classes_are_drawn_evenly():
    dataset = EpisodeDataset([spread(10, 6)], 5, 1, 1, 2000)
    counts = np.bincount(np.concatenate([episode["class_ids"] for episode in dataset]), minlength=10)
    assert abs(counts - 1000).max() < 5 * np.sqrt(2000 * 0.25)


def test_modalities_are_interleaved():
    dataset = EpisodeDataset([spread(5, 9, modality=m) for m in ("audio", "image")], 5, 1, {"audio": 2, "image": 4}, 4)
    assert [episode["modality"] for episode in dataset] == ["audio", "image"] * 2
    assert [len(episode["query"]) for episode in dataset] == [10, 20] * 2


def test_short_training_class_is_left_out_with_a_warning():
    sources = [[f"{c}/{s}" for s in range(9)] for c in range(5)] + [["one"] * 20, ["a", "a", "b"]]
    for split in ("train", "validation"):
        with pytest.warns(UserWarning) as caught:
            dataset = EpisodeDataset([table(sources, split)], 5, 1, 5, 50)
        message = str(caught[0].message)
        assert (
            "'c5' has 20 samples from 1 sources (nearest that works: nothing, except source_disjoint=False" in message
        )
        assert "'c6' has 3 samples from 2 sources (nearest that works: k_shot=1, n_query=2" in message
        assert not {5, 6} & {int(c) for episode in dataset for c in episode["class_ids"]}


def test_short_test_class_raises():
    sources = [[f"{c}/{s}" for s in range(9)] for c in range(5)] + [["a", "a", "b"]]
    with pytest.raises(
        ValueError, match=r"'c5' has 3 samples from 2 sources \(nearest that works: k_shot=1, n_query=2"
    ):
        EpisodeDataset([table(sources, "test")], 5, 1, 5, 10)


def test_too_few_usable_classes_raise():
    sources = [[f"{c}/{s}" for s in range(9)] for c in range(3)] + [["a", "b"]] * 4
    with pytest.raises(ValueError, match="only 3 of 7 classes.*nearest that works: k_shot=1, n_query=1"):
        EpisodeDataset([table(sources)], 5, 1, 5, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_way": 1}, "n_way=1"),
        ({"n_way": 9}, "only 8 train categories exist"),
        ({"n_way": 2.0}, "n_way=2.0"),
        ({"k_shot": 0}, "k_shot=0"),
        ({"n_query": 0}, "n_query"),
        ({"n_query": {"audio": 3}}, "no entry for modality image"),
        ({"num_episodes": 0}, "num_episodes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"splits": []}, "splits is empty"),
        ({"splits": ["cifar100"]}, "load_few_shot"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"splits": [spread(8, 9)], "n_way": 5, "k_shot": 1, "n_query": 3, "num_episodes": 10} | change
    with pytest.raises(ValueError, match=message):
        EpisodeDataset(**arguments)


def test_index_out_of_range():
    dataset = EpisodeDataset([spread(5, 9)], 5, 1, 3, 10)
    for index in (10, -11):
        with pytest.raises(IndexError):
            dataset[index]


def test_splits_of_one_modality_must_agree():
    other = FewShotSplit.from_arrays(np.zeros((45, 2), np.int32), np.arange(45) % 5, name="other")
    with pytest.raises(ValueError, match="differ in row shape"):
        EpisodeDataset([spread(5, 9), other], 5, 1, 3, 10)
    with pytest.raises(ValueError, match="several image splits have the name 'arrays'"):
        EpisodeDataset([spread(5, 9), spread(5, 9)], 5, 1, 3, 10)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8])
def test_collate_groups_by_modality_and_keeps_types(dtype):
    rows = np.arange(180).astype(dtype).reshape(60, 3)
    splits = [FewShotSplit.from_arrays(rows, np.arange(60) % 6, modality=m) for m in ("audio", "image")]
    batch = collate_episodes([EpisodeDataset(splits, 5, 2, {"audio": 3, "image": 4}, 6)[i] for i in (1, 0, 3)])
    assert list(batch) == ["episodes"] and list(batch["episodes"]) == ["image", "audio"]
    image = batch["episodes"]["image"]
    assert {key: tuple(value.shape) for key, value in image.items()} == {
        "support": (2, 10, 3),
        "support_labels": (2, 10),
        "query": (2, 20, 3),
        "query_labels": (2, 20),
    }
    assert image["support"].dtype == image["query"].dtype == torch.from_numpy(rows).dtype
    assert image["query_labels"].dtype == torch.int64
    assert batch["episodes"]["audio"]["query"].shape == (1, 15, 3)


def test_collate_can_say_the_number_of_classes():
    splits = [spread(5, 9)]
    batch = collate_episodes([EpisodeDataset(splits, 4, 1, 2, 3)[i] for i in range(3)], n_way=True)["episodes"]
    assert [part["n_way"] for part in batch.values()] == [4]


def test_collate_refuses_what_it_cannot_stack():
    episode = EpisodeDataset([spread(5, 9)], 5, 1, 2, 1)[0]
    wider = {name: value.repeat(1, 2) if name in ("support", "query") else value for name, value in episode.items()}
    with pytest.raises(ValueError, match=r"samples of modality 'image' differ in shape: \[\(1,\), \(2,\)\]"):
        collate_episodes([episode, wider])
    with pytest.raises(ValueError, match="no episodes"):
        collate_episodes([])
