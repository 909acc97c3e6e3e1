"""Runs on several data sets: one table per set, other sets for tests, leave-one-out, a data set of one's own."""

import json
import textwrap

import numpy as np
import pytest

import run_meta
from data_builders import DataSetFacts, FewShotSplit
from modeling_msmaml import MSMAMLProcessor
from modeling_msmaml.hub import model_card
from msmaml.runs import run_data

from .test_run_meta import options

SETS = ["synthetic:audio", "synthetic:image", "mine"]
MODULE = """
import numpy as np

from data_builders import FewShotSplit, register_data_set
from data_builders.splits.protocols import NoSuchSplit


def load(split, protocol, data_dir, cache_dir, size=32):
    if split == "validation":
        raise NoSuchSplit("mine has classes for training and test only")
    rng = np.random.default_rng(0 if split == "train" else 1)
    labels = np.arange(120) % 6
    rows = (40 * labels[:, None, None, None] + rng.integers(0, 40, (120, 3, size, size))).astype(np.uint8)
    return FewShotSplit.from_arrays(rows, labels, split=split, name="whatever")


register_data_set("mine", load, options=("size",))
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "my_data_sets.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    import data_builders.load

    monkeypatch.setattr(data_builders.load, "_DATA_SETS", dict(data_builders.load._DATA_SETS))
    monkeypatch.delitem(__import__("sys").modules, "my_data_sets", raising=False)
    return "my_data_sets"


def few(tmp_path, module, **changes):
    return [
        "configs/quickstart.yaml",
        *options(output_dir=tmp_path / "run", max_steps=2, num_eval_episodes=4, num_test_episodes=4, **changes),
        *("--import_module", module, "--n_way", "3", "--train_n_way", "[2, 4]", "--train_k_shot", "[1, 2]"),
        *("--train_shots", "unequal", "--head", "prototype"),
    ]


def test_a_run_on_several_data_sets_has_results_for_each(tmp_path, own_module):
    results = run_meta.main([*few(tmp_path, own_module, do_eval=True), "--datasets", *SETS])
    assert {f"test_{name}_accuracy" for name in (*SETS, "audio", "image")} <= results.keys()
    assert "eval_mine_accuracy" not in results, "it has no validation split"
    assert results["test_image_episodes"] == 8 and results["test_episodes"] == 12
    mean = (results["test_mine_accuracy"] + results["test_synthetic:image_accuracy"]) / 2
    assert results["test_image_accuracy"] == pytest.approx(mean)
    card = (tmp_path / "run" / "README.md").read_text()
    for line in ("| test | image | mine |", "| test | image | all of image |", "| test | all | all |"):
        assert line in card
    settings = json.loads((tmp_path / "run" / "test_results.json").read_text())["settings"]
    assert settings["datasets"] == SETS and settings["train_n_way"] == [2, 4]


def test_training_and_test_may_be_on_other_data_sets(tmp_path, own_module):
    results = run_meta.main(
        [*few(tmp_path, own_module), "--train_datasets", "synthetic:audio", "--test_datasets", "mine"]
    )
    assert "test_mine_accuracy" in results and "test_audio_accuracy" not in results


def test_leave_one_out_makes_a_run_for_each_data_set(tmp_path, own_module):
    results = run_meta.main([*few(tmp_path, own_module), "--datasets", *SETS, "--leave_one_out", "true"])
    assert list(results) == SETS
    for name, own in results.items():
        assert [key for key in own if key.startswith("test_") and key.endswith(":audio_accuracy")] == (
            ["test_synthetic:audio_accuracy"] if name == "synthetic:audio" else []
        )
        assert f"test_{name}_accuracy" in own
    assert (tmp_path / "run" / "synthetic_audio" / "model.safetensors").is_file()
    assert json.loads((tmp_path / "run" / "leave_one_out.json").read_text()) == results
    assert "| mine |" in (tmp_path / "run" / "leave_one_out.md").read_text()


def test_soft_kmeans_in_a_run(tmp_path, own_module):
    argv = [*few(tmp_path, own_module), "--datasets", "mine", "--num_unlabelled", "2", "--num_distractors", "1"]
    with pytest.raises(SystemExit, match="one has no effect without the other"):
        run_meta.main(argv)
    results = run_meta.main([*argv, "--soft_kmeans_steps", "1", "--norm", "group", "--adapted_parameters", "head"])
    assert results["test_episodes"] == 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--import_module", "no_such_module"], "there is no module no_such_module"),
        (["--dataset_weights", '{"brown": 2}'], "dataset_weights is for brown, but the data sets are synthetic:image"),
        (["--dataset_weights", "[1]"], "is not JSON such as"),
        (["--leave_one_out", "true"], "needs at least two data sets"),
        (["--leave_one_out", "true", "--test_datasets", "synthetic:text"], "leave out train_, eval_"),
    ],
)
def test_options_that_cannot_work_are_refused(more, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        run_meta.main(
            ["configs/quickstart.yaml", *options(output_dir=tmp_path), "--datasets", "synthetic:image", *more]
        )


def folder_of_texts(root, words):
    for c, word in enumerate(words):
        folder = root / f"class_{c}"
        folder.mkdir(parents=True)
        for number in range(24):
            (folder / f"{number}.txt").write_text(f"{word} {words[(c + number) % len(words)]} {word} number {number}")


def test_several_sets_of_texts_share_a_vocabulary_of_their_training_texts(tmp_path):
    first = ["apple", "pear", "plum", "quince", "medlar", "fig"]
    second = ["oak", "elm", "ash", "yew", "lime", "birch"]
    for name, words in (("fruits", first), ("trees", second)):
        folder_of_texts(tmp_path / "data" / name, words)
    argv = [
        "configs/quickstart.yaml",
        *options(output_dir=tmp_path / "run", max_steps=2, num_test_episodes=4, data_dir=tmp_path / "data"),
        *("--datasets", "folder:fruits", "folder:trees", "--n_way", "2", "--n_query", "2"),
        *("--cache_dir", str(tmp_path / "cache"), "--protocol", "sample_disjoint"),
        *("--dataset_options", '{"folder:fruits": {"passage_length": 400}, "folder:trees": {"passage_length": 500}}'),
    ]
    results = run_meta.main(argv)
    assert {"test_folder:fruits_accuracy", "test_folder:trees_accuracy"} <= results.keys()
    processor = MSMAMLProcessor.from_pretrained(tmp_path / "run")
    assert processor.tokenizer.model_max_length == 500
    assert {"apple", "oak"} <= processor.tokenizer.get_vocab().keys()
    changes = {"output_dir": tmp_path / "again", "model_name_or_path": tmp_path / "run", "do_train": False}
    again = run_meta.main([*argv, *options(num_test_episodes=4, **changes)])
    for name, value in again.items():
        if name.endswith("accuracy"):
            assert value == results[name], name


def test_seven_sets_of_real_data_at_once(data_dir, cache_dir, tmp_path):
    """Each is trained on, except the one without training classes, and each has its line in the table."""
    results = run_meta.main(
        [
            "configs/seven_sets.yaml",
            *options(output_dir=tmp_path, data_dir=data_dir, cache_dir=cache_dir, max_steps=4, num_test_episodes=2),
            *("--warmup_steps", "1"),
        ]
    )
    card = (tmp_path / "README.md").read_text()
    for modality, names in {
        "audio": ["esc50", "fsdd"],
        "text": ["clinc150", "banking77", "brown"],
        "image": ["cifar100", "omniglot"],
    }.items():
        assert results[f"test_{modality}_episodes"] == 2 * len(names)
        for name in names:
            assert results[f"test_{name}_episodes"] == 2
            assert f"| test | {modality} | {name} |" in card


def test_a_class_of_training_in_the_test_of_another_data_set_is_refused(monkeypatch, tmp_path):
    def load(name, split, protocol, **options):
        labels = np.arange(100) % 5
        names = tuple("abcde" if split == name.removeprefix("own_") else "fghij")
        return FewShotSplit.from_arrays(np.zeros((100, 3, 4, 4), np.uint8), labels, split=split, class_names=names)

    monkeypatch.setattr(run_data, "load_few_shot", load)
    monkeypatch.setattr(model_card, "_KNOWN", dict(model_card._KNOWN))
    for name in ("own_train", "own_test"):
        model_card.add_data_set_facts(DataSetFacts(name, name, None, "MIT", origin="own"))
    argv = ["configs/quickstart.yaml", *options(output_dir=tmp_path / "run", max_steps=2), "--train_datasets"]
    with pytest.raises(ValueError, match="5 classes a, b, c, d, e are trained on in own_train and also in the test"):
        run_meta.main([*argv, "own_train", "--eval_strategy", "no", "--test_datasets", "own_test"])
