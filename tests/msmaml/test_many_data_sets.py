"""Runs on several data sets: one table per set, other sets for tests, leave-one-out, a data set of one's own."""

import json
import textwrap

import numpy as np
import pytest

import data_builders.load
import run_meta
from data_builders import DataSetFacts, FewShotSplit, NoSuchSplit, register_data_set
from modeling_msmaml import MSMAMLProcessor
from modeling_msmaml.hub import model_card
from msmaml.runs import run_data

from .test_run_meta import options

SETS = ["synthetic:audio", "synthetic:image", "mine"]
MODULE = """
import numpy as np

from data_builders import FewShotSplit, NoSuchSplit, register_data_set


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


@pytest.fixture
def texts(tmp_path) -> list[str]:
    """Options of two folders of texts with different words."""
    for name, words in (
        ("fruits", ["apple", "pear", "plum", "quince", "medlar", "fig"]),
        ("trees", ["oak", "elm", "ash", "yew", "lime", "birch"]),
    ):
        folder_of_texts(tmp_path / "data" / name, words)
    return [
        "configs/quickstart.yaml",
        *options(output_dir=tmp_path / "run", max_steps=1, num_test_episodes=2, data_dir=tmp_path / "data"),
        *("--n_way", "2", "--n_query", "2", "--protocol", "sample_disjoint", "--cache_dir", str(tmp_path / "cache")),
        *("--dataset_options", '{"folder:fruits": {"passage_length": 400}, "folder:trees": {"passage_length": 500}}'),
    ]


def test_texts_that_are_left_out_have_no_part_in_the_vocabulary(texts, tmp_path):
    run_meta.main([*texts, "--datasets", "folder:fruits", "folder:trees", "--leave_one_out", "true"])
    for left_out, absent, present in (("fruits", "apple", "oak"), ("trees", "oak", "apple")):
        processor = MSMAMLProcessor.from_pretrained(tmp_path / "run" / f"folder_{left_out}")
        vocabulary = processor.tokenizer.get_vocab()
        assert absent not in vocabulary and present in vocabulary
        assert processor.tokenizer.model_max_length == 500


def test_texts_that_are_tested_only_share_a_vocabulary_and_a_length(texts, tmp_path):
    shares = '{"folder:fruits": {"shares": [0.5, 0, 0.5]}, "folder:trees": {"shares": [0.5, 0, 0.5]}}'
    argv = [*texts, "--train_datasets", "synthetic:image", "--test_datasets", "folder:fruits", "folder:trees"]
    results = run_meta.main([*argv, "--protocol", "class_disjoint", "--dataset_options", shares])
    assert results["test_text_episodes"] == 4
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| test | text | folder:trees |" in card
    licences = card.split("## ")
    assert not any("| text | fruits" in part for part in licences), "it was not trained on them"


def test_vocabularies_that_differ_are_refused(texts):
    argv = [*texts, "--train_datasets", "synthetic:text", "--test_datasets", "folder:fruits"]
    argv += ["--protocol", "class_disjoint", "--dataset_options", '{"folder:fruits": {"shares": [0.5, 0, 0.5]}}']
    with pytest.raises(ValueError, match="synthetic:text and folder:fruits have different vocabularies"):
        run_meta.main(argv)


def test_data_sets_that_a_run_does_not_read_are_not_asked_for(tmp_path, own_module):
    argv = [*few(tmp_path, own_module), "--train_datasets", "mine", "--test_datasets", "synthetic:audio"]
    run_meta.main([*argv, "--datasets", "brown", "--data_dir", str(tmp_path)])
    settings = json.loads((tmp_path / "run" / "test_results.json").read_text())["settings"]
    assert settings["train_datasets"] == ["mine"] and settings["datasets"] == ["mine", "synthetic:audio"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--dataset_weights", '{"mine": 1, "synthetic:audio": 2}'],
            "for mine too, but the run trains on synthetic:aud",
        ),
        (["--n_query", '{"audio": 2, "imgae": 3}'], "n_query has an entry for imgae, which is neither a modality"),
        (["--front_ends", "fitted"], "front ends of image are fitted to training rows, but no data set"),
    ],
)
def test_what_would_have_no_effect_is_refused(more, message, tmp_path, own_module, monkeypatch):
    def only_tests(split, protocol, data_dir, cache_dir):
        if split != "test":
            raise NoSuchSplit("mine has classes for tests only")
        return FewShotSplit.from_arrays(np.zeros((120, 3, 32, 32), np.uint8), np.arange(120) % 6, split=split)

    argv = ["configs/quickstart.yaml", *options(output_dir=tmp_path, max_steps=1)]
    others = {name: entry for name, entry in data_builders.load._DATA_SETS.items() if name != "mine"}
    monkeypatch.setattr(data_builders.load, "_DATA_SETS", others)
    register_data_set("mine", only_tests)
    names = ["--datasets", "synthetic:audio", "mine"]
    with pytest.raises(ValueError, match=message):
        run_meta.main([*argv, *names, "--n_way", "3", *more])


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
