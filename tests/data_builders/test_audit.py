"""What the audit counts, on splits with known leaks and on the real data; stored episodes; the table of settings."""

import json
import multiprocessing
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from data_builders.audit import audit, audit_episodes, check_class_disjoint, classes_in_both, main, shared_with_test
from data_builders.splits.protocols import read_protocols
from data_builders.storage import vocabulary
from modeling_msmaml.inputs.labelled_inputs import SPLITS
from scripts import episode_hashes, feasibility

from .test_episodes import assert_valid, episodes_of, spread, table

SETTINGS = [(name, protocol) for name in episode_hashes.DATA_SETS for protocol in read_protocols(name)]


class _NoWord2Vec:
    """Word vectors of zeros: they take most of the time of building Brown, and no episode depends on them."""

    def __init__(self, sentences, vector_size, **options):
        words = {word for sentence in sentences for word in sentence}
        self.wv = {word: np.zeros(vector_size, np.float32) for word in words}


@pytest.fixture(scope="module")
def quick_cache(tmp_path_factory, data_dir, cache_dir):
    """A cache of its own, because of the word vectors in it; with what the other tests have of sounds and images."""
    quick = tmp_path_factory.mktemp("quick")
    for name in ("esc50", "cifar100"):
        load_few_shot(name, data_dir=data_dir, cache_dir=cache_dir)
        shutil.copytree(cache_dir / name, quick / name, copy_function=os.link)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(vocabulary, "Word2Vec", _NoWord2Vec)
        yield quick


# The counts


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=8, max_size=20), min_size=3, max_size=6),
    st.booleans(),
    st.integers(1, 2),
    st.integers(1, 3),
)
def test_no_leak_in_any_table(sources_by_class, source_disjoint, k_shot, n_query):
    split = table(sources_by_class, protocol="sample_disjoint")
    try:
        dataset = episodes_of([split], 3, k_shot, n_query, 5, 0, source_disjoint)
    except ValueError:
        return
    found = audit_episodes(dataset)
    assert found.episodes == 5 and found.pairs == 5 * 9 * k_shot * n_query
    assert found.repeated_samples == found.same_sample == 0
    if source_disjoint:
        assert found.same_source == found.leaking_episodes == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=3, max_size=5), st.integers(1, 3), st.integers(1, 6))
def test_original_repeats_exactly_where_a_class_is_short(sources_by_class, k_shot, n_query):
    """And the audit's counts are those of a slow count by hand."""
    split = table(sources_by_class, "test", protocol="original")
    if sum(bool(sources) for sources in sources_by_class) < 3:
        with pytest.raises(ValueError, match="n_way=3"):
            episodes_of([split], 3, k_shot, n_query, 4)
        return
    dataset = episodes_of([split], 3, k_shot, n_query, 4)
    repeated = same = of_source = 0
    for episode in dataset:
        support, query = episode["support_ids"].tolist(), episode["query_ids"].tolist()
        repeated += len(support + query) - len(set(support + query))
        same += sum(s == q for s in support for q in query)
        of_source += sum(split.source_ids[s] == split.source_ids[q] for s in support for q in query)
        if all(len(sources_by_class[c]) >= k_shot + n_query for c in episode["class_ids"]):
            assert_valid(episode, split, 3, k_shot, n_query, source_disjoint=False)
    found = audit_episodes(dataset)
    assert (found.repeated_samples, found.same_sample, found.same_source) == (repeated, same, of_source)


def test_shared_with_test():
    train, test = table([["a", "b"], ["c"]]), table([["b", "x"], ["y"]], "test")
    assert shared_with_test(train, test) == (2, 1)


def test_report_of_leaks(tmp_path, capsys):
    """A folder whose classes are divided, and one whose samples are."""
    for name in ("bittern", "crane", "wren"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "own" / name / f"{number}.txt").write_text(f"{name} {number} word word")
    arguments = ["folder", "--data_dir", str(tmp_path / "own"), "--cache_dir", str(tmp_path / "cache")]
    options = ["--n_way", "2", "--n_query", "1", "--episodes", "7", "--protocol", "sample_disjoint"]
    assert main([*arguments, *options, "--options", '{"passage_length": 4}']) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert lines[2] == "| train | 3 | 42 | 42 | 3 | 0 | 0 | 28 | 0 | 0 | 0 (0.0%) |"
    assert lines[4] == "| test | 3 | 9 | 9 |  |  | 0 | 28 | 0 | 0 | 0 (0.0%) |"
    assert main([*arguments, *options, "--n_query", "50"]) == 1
    assert "not possible" in capsys.readouterr().out


# The real data


def audited(name, protocol, data_dir, quick_cache, n_query, **options):
    """The cells of the report by split, without those of splits that do not exist or cannot fill an episode."""
    report, is_possible = audit(name, protocol, 5, 1, n_query, 30, data_dir=data_dir, cache_dir=quick_cache, **options)
    assert is_possible
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines()]
    return report, {row[0]: row[1:] for row in rows if row[0] in SPLITS and "not possible" not in row}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "protocol"), SETTINGS)
def test_real_data(name, protocol, data_dir, quick_cache):
    """Nothing is shared under class_disjoint; under original all classes of audio and text are."""
    n_query = {"esc50": 3, "omniglot": 2}.get(name, 15)
    report, cells = audited(name, protocol, data_dir, quick_cache, n_query)
    expected = {("fsdd", "class_disjoint"): ["test"], ("fsdd", "sample_disjoint"): ["train"]}
    assert list(cells) == expected.get((name, protocol), list(SPLITS))
    leaks = {split: [int(cell.split()[0]) for cell in row[5:6] + row[7:]] for split, row in cells.items()}
    shared_classes = {split: int(row[3]) for split, row in cells.items() if split != "test"}
    shared_sources = {split: int(row[4]) for split, row in cells.items() if split != "test"}
    if protocol == "original" and name != "cifar100":
        assert "protocol 'original'" in report
        assert shared_classes["train"] == {"esc50": 50, "brown": 15}[name]
        assert leaks["test"][1] > 0, "support and query overlap"
        assert name == "brown" or shared_sources["train"] > 0
    else:
        assert not any(sum(leak) for leak in leaks.values())
        assert not any(shared_sources.values())
        assert bool(shared_classes.get("train")) == (protocol == "sample_disjoint")


def test_splits_that_do_not_exist_and_sources_that_may_be_shared(data_dir, quick_cache):
    """The report says which splits are missing; with `source_disjoint=False` it counts what is shared."""
    report, cells = audited("fsdd", "class_disjoint", data_dir, quick_cache, 3)
    assert "fsdd has no train split" in report and "fsdd has no validation split" in report
    report, cells = audited("fsdd", "sample_disjoint", data_dir, quick_cache, 3, source_disjoint=False)
    assert "support and query may share a source" in report
    pairs, of_one_sample, of_one_source = (int(cells["test"][column]) for column in (6, 7, 8))
    assert list(cells) == list(SPLITS) and of_one_sample == 0 and of_one_source == pairs, "one speaker in the test"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "protocol"), SETTINGS)
def test_stored_hashes(name, protocol, data_dir, quick_cache):
    stored = json.loads(episode_hashes.STORED.read_text())
    assert len(stored) == len(SETTINGS) * len(SPLITS)
    for split in SPLITS:
        found = episode_hashes.loaded_hash(name, split, protocol, data_dir, quick_cache)
        assert found == stored[f"{name}/{protocol}/{split}"]


def _hashes_in_a_process(pickled: bytes, order: list[int]) -> list[str]:
    dataset = pickle.loads(pickled)
    return [episode_hashes.episode_hash(dataset.splits[0], dataset[index]) for index in order]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_real_episodes_are_the_same_everywhere(data_dir, quick_cache):
    """In a spawned process, in loader workers, in any order, after a resume in the middle, with more episodes."""
    split = load_few_shot("esc50", "train", data_dir=data_dir, cache_dir=quick_cache)
    dataset = episode_hashes.guarded_episodes(split)
    expected = [episode_hashes.episode_hash(split, dataset[index]) for index in range(len(dataset))]
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(_hashes_in_a_process, (pickle.dumps(dataset), order))
    assert elsewhere == [expected[index] for index in order]
    resumed = torch.utils.data.DataLoader(dataset, sampler=range(7, 20), batch_size=None, num_workers=2)
    assert [episode_hashes.episode_hash(split, episode) for episode in resumed] == expected[7:]
    longer = EpisodeDataset([split], 5, 1, {"audio": 3}, 1000, 0)
    assert [episode_hashes.episode_hash(split, longer[index]) for index in order] == elsewhere


def test_table_of_settings(data_dir, quick_cache):
    """The README says what the data say."""
    assert "\n".join(feasibility.table(str(data_dir), str(quick_cache))) == feasibility.written_table()


def test_feasible_settings():
    split = spread(6, 20, split="test")
    assert feasibility.feasible_settings(split) == ["6", "6", "19", "15"]
    assert feasibility.feasible_settings(spread(6, 18, split="test")) == ["6", "none", "17", "13"]
    short = table([[f"{c}/{s}" for s in range(20)] for c in range(5)] + [["a", "b"]], "train")
    assert feasibility.feasible_settings(short) == ["5", "5", "19", "15"]
    assert feasibility.feasible_settings(table([["a"]] * 3, "test")) == ["none"] * 4
    assert feasibility.feasible_settings(table([["a"]] * 3, "test", protocol="original"))[:1] == ["3"]


# Classes that data sets share


def named(name, split, classes, protocol="class_disjoint", modality="image"):
    """A split of these classes, with four rows each."""
    labels = np.arange(4 * len(classes)) % len(classes)
    rows = np.zeros((len(labels), 4), np.int16)
    names = None if classes[0].startswith("class_") else tuple(classes)
    return FewShotSplit.from_arrays(
        rows, labels, None, modality, split, name=name, class_names=names, protocol=protocol
    )


@pytest.mark.parametrize(
    ("train", "held_out", "shared"),
    [
        (("cifar100", "train", "abc"), ("cifar_fs", "test", "bcd"), "bc"),
        (("cifar_fs", "train", "abc"), ("cifar100", "validation", "cd"), "c"),
        (("miniimagenet", "train", "abc"), ("tieredimagenet", "test", "bcd"), "bc"),
        (("miniimagenet", "train", "abc"), ("tieredimagenet", "test", "de"), ""),
        (("speech_commands:digits", "train", "abc"), ("speech_commands:commands", "test", "cd"), "c"),
        (("mine", "train", "abc"), ("mine", "test", "cd"), "c"),
        (("mine", "train", "abc"), ("mine", "validation", "abc"), ""),  # as Brown has them
        (("folder:birds", "train", "abc"), ("folder:fish", "test", "abc"), ""),
        (("cifar100", "train", "abc"), ("miniimagenet", "test", "abc"), ""),
        (("mine", "train", ["class_0", "class_1"]), ("mine", "test", ["class_0", "class_1"]), ""),
    ],
)
def test_classes_that_are_trained_on_are_found_in_evaluations(train, held_out, shared):
    splits = named(*train), named(*held_out)
    found = classes_in_both([splits[0], named("other", "train", "abcd")], [named("more", "test", "xyz"), splits[1]])
    assert [(own.train, own.held_out, own.class_names) for own in found] == (
        [(*splits, list(shared))] if shared else []
    )
    datasets = {
        "train": EpisodeDataset([splits[0]], 2, 1, 1, 1),
        held_out[1]: EpisodeDataset([splits[1]], 2, 1, 1, 1),
    }
    if shared:
        remedy = "must have different classes" if train[0] == held_out[0] else f"leave out {train[0]} or {held_out[0]}"
        names = ", ".join(shared)
        message = f"classes {names} are trained on in {train[0]} and also in the {held_out[1]} split of {held_out[0]}"
        with pytest.raises(ValueError, match=f"{len(shared)} {message}.*{remedy}"):
            check_class_disjoint(datasets)
    else:
        check_class_disjoint(datasets)
    check_class_disjoint({held_out[1]: datasets[held_out[1]]})


def test_other_protocols_may_share_classes_and_modalities_are_apart():
    train = named("synthetic:audio", "train", "abc", modality="audio")
    assert not classes_in_both([train], [named("synthetic:image", "test", "abc")])
    parts = [named("cifar_fs", split, "abc", "sample_disjoint") for split in ("train", "test")]
    check_class_disjoint({part.split: EpisodeDataset([part], 2, 1, 1, 1) for part in parts})


def test_the_published_lists_of_one_origin_share_classes():
    lists = {name: read_protocols(name)["class_disjoint"] for name in ("cifar100", "cifar_fs")}
    lists |= {name: read_protocols(name)["class_disjoint"] for name in ("miniimagenet", "tieredimagenet")}
    for ours, theirs in (("cifar100", "cifar_fs"), ("miniimagenet", "tieredimagenet")):
        train = named(ours, "train", lists[ours]["train"]["classes"])
        assert classes_in_both([train], [named(theirs, "test", lists[theirs]["test"]["classes"])])
