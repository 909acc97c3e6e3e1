"""FewShotClassifier: its inputs and labels, scikit-learn's conventions, independence of queries, saving."""

import copy
import json
import re
from dataclasses import dataclass

import datasets
import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from data_builders import EpisodeDataset, FewShotSplit
from modeling_msmaml import (
    FewShotClassifier,
    MetaTrainer,
    ModalityEmbedding,
    MSMAMLConfig,
    MSMAMLModel,
    register_modality,
)
from modeling_msmaml.inference import base_model
from modeling_msmaml.inference.classifier_files import CLASSIFIER_FILE, TASKS_FILE
from modeling_msmaml.inputs.reading import read
from modeling_msmaml.model import modalities

from ..own_data import MAKERS, SAMPLING_RATE, WORDS, save_tiny_model, tiny_processor, write_file
from ..toys import K_SHOT, N_QUERY, N_WAY, tiny_model, tiny_splits
from ..training.test_trainer import arguments

MODALITIES = ("audio", "text", "image")


# Of the default architecture, whose classifier starts from prototypes.
PROTOTYPES = {
    "norm": "group",
    "head": "prototype",
    "pooling": "mean_max",
    "feature_size": 8,
    "adapted_parameters": "head",
    "inner_rates": "per_layer_per_step",
    "task_encoder_pooling": "class",
    "share_embeddings": True,
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def prototype_dir(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("prototypes"), **PROTOTYPES))


@pytest.fixture(params=["linear", "prototype"])
def either_dir(request, model_dir, prototype_dir):
    """The published and the default architecture."""
    return {"linear": model_dir, "prototype": prototype_dir}[request.param]


def examples(modality: str, shots=(3, 3, 3), start: int = 0):
    """Inputs of as many classes as `shots` has entries, and the number of each one's class."""
    made = [(MAKERS[modality](kind, start + i), kind) for kind, n in enumerate(shots) for i in range(n)]
    return [item for item, _ in made], [kind for _, kind in made]


def fitted(model_dir, modality="image", shots=(3, 3, 3), **arguments) -> FewShotClassifier:
    arguments = {"sampling_rate": SAMPLING_RATE, **arguments}
    return FewShotClassifier.from_pretrained(model_dir, **arguments).fit(*examples(modality, shots))


# Inputs


def as_bytes(paths):
    return [path.read_bytes() for path in paths]


def column(paths, feature):
    """As `datasets` gives it: sounds would need torchcodec if they were decoded there."""
    return datasets.Dataset.from_dict({"own": [str(path) for path in paths]}).cast_column("own", feature)["own"]


class ArrayLike:
    """What only numpy can read."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


FORMS = {
    "audio": {
        "paths as strings": lambda items, paths: [str(path) for path in paths],
        "paths": lambda items, paths: paths,
        "bytes": lambda items, paths: as_bytes(paths),
        "one array": lambda items, paths: np.stack(items),
        "array-like": lambda items, paths: ArrayLike(np.stack(items)),
        "float64": lambda items, paths: [item.astype(np.float64) for item in items],
        "lists": lambda items, paths: [item.tolist() for item in items],
        "tensors": lambda items, paths: [torch.from_numpy(item) for item in items],
        "two channels": lambda items, paths: [np.stack([item, item]) for item in items],
        "decoded dicts": lambda items, paths: [{"array": item, "sampling_rate": SAMPLING_RATE} for item in items],
        "stored dicts": lambda items, paths: [{"bytes": path.read_bytes(), "path": None} for path in paths],
        "column": lambda items, paths: column(paths, datasets.Audio()),
        "column of bytes": lambda items, paths: column(paths, datasets.Audio(decode=False)),
    },
    "text": {
        "files": lambda items, paths: paths,
        "tuple": lambda items, paths: tuple(items),
        "numpy": lambda items, paths: np.asarray(items),
        "pandas": lambda items, paths: pandas.Series(items, index=range(5, 5 + len(items))),
        "iterator": lambda items, paths: iter(items),
        "column": lambda items, paths: datasets.Dataset.from_dict({"own": items})["own"],
    },
    "image": {
        "paths as strings": lambda items, paths: [str(path) for path in paths],
        "paths": lambda items, paths: paths,
        "bytes": lambda items, paths: as_bytes(paths),
        "one array": lambda items, paths: np.stack([np.asarray(item) for item in items]),
        "channels first": lambda items, paths: [np.asarray(item).transpose(2, 0, 1) for item in items],
        "floats": lambda items, paths: [np.asarray(item) / 255 for item in items],
        "stored dicts": lambda items, paths: [{"bytes": None, "path": str(path)} for path in paths],
        "column": lambda items, paths: column(paths, datasets.Image()),
    },
}


@pytest.mark.parametrize(("modality", "form"), [(name, form) for name in FORMS for form in FORMS[name]])
def test_every_form_of_input_is_the_same_to_it(model_dir, tmp_path, modality, form):
    items, labels = examples(modality)
    paths = [write_file(modality, tmp_path, kind, i % 3) for i, kind in enumerate(labels)]
    expected = fitted(model_dir, modality)
    classifier = FewShotClassifier.from_pretrained(model_dir, sampling_rate=SAMPLING_RATE)
    classifier.fit(FORMS[modality][form](items, paths), labels)
    assert classifier.modality_ == modality
    queries, _ = examples(modality, start=10)
    np.testing.assert_array_equal(classifier.predict_proba(queries), expected.predict_proba(queries))
    given = FORMS[modality][form](items, paths)
    np.testing.assert_array_equal(classifier.predict_proba(given), expected.predict_proba(items))


def test_sampling_rate_of_a_call_goes_before_that_of_the_classifier(model_dir):
    items, labels = examples("audio")
    expected = fitted(model_dir, "audio")
    classifier = FewShotClassifier.from_pretrained(model_dir).fit(items, labels, sampling_rate=SAMPLING_RATE)
    np.testing.assert_array_equal(
        classifier.predict_proba(items, sampling_rate=SAMPLING_RATE), expected.predict_proba(items)
    )
    slower = classifier.predict_proba(items, sampling_rate=SAMPLING_RATE // 2)
    assert not np.allclose(slower, expected.predict_proba(items)), "resampled from another rate, these are other sounds"
    with pytest.raises(ValueError, match=r"inputs\[0\].*sampling_rate is needed"):
        classifier.predict(items)


def test_a_string_is_a_text_unless_it_ends_like_a_file(model_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"inputs\[0\]: 'nowhere.png' is written like a path.*modality='text'"):
        FewShotClassifier.from_pretrained(model_dir).fit(["nowhere.png", "b.png"], [0, 1])
    path = str(write_file("text", tmp_path, 0, 0))
    with pytest.raises(ValueError, match=r"pathlib.Path.*modality='text'"):
        FewShotClassifier.from_pretrained(model_dir).fit([path, path], [0, 1])
    literal = FewShotClassifier.from_pretrained(model_dir, modality="text")
    with pytest.warns(UserWarning, match=r"itself taken as the text.*inputs\[0\]: .*inputs\[1\]: 'word0.png'"):
        literal.fit([path, "word0.png"], [0, 1])
    assert literal.modality_ == "text"


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        ("a.png", ["a"], "one str: give a list"),
        ([], [], "inputs is empty"),
        (["word1", "word2"], [1], "2 inputs, but 1 labels"),
        (["word1", "word2"], [1, 1], "1 class, 1"),
        (["word1", "word2"], [1, [2]], r"labels\[1\] is a list, which is not hashable"),
        (["word1", "word2"], [1.0, float("nan")], r"labels\[1\] is missing \(nan\)"),
        (["word1", " \n"], [0, 1], r"inputs\[1\]: the text is empty"),
        (["word1", Image.new("RGB", (6, 6))], [0, 1], r"several modalities: text \(inputs\[0\]\) and image"),
        ([np.zeros((3, 4)), np.zeros((3, 4))], [0, 1], "2 dimensions: name its modality="),
        ([b"no sound", b"nor this"], [0, 1], r"inputs\[0\]: its 8 bytes are neither a sound nor a picture"),
        ([1, 2], [0, 1], r"inputs\[0\]: it is of type int: give paths"),
        ([{"path": None}, {}], [0, 1], r"inputs\[0\]: a dict needs .*this one has \['path'\]"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_by_name(model_dir, inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        FewShotClassifier.from_pretrained(model_dir).fit(inputs, labels)


def test_a_broken_query_is_named(model_dir, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    items, _ = examples("image")
    with pytest.raises(ValueError, match=r"inputs\[1\]: cannot decode the image in .*broken.png"):
        fitted(model_dir).predict([items[0], broken])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reject_below": 1.5}, "reject_below=1.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"balance_classes": "yes"}, "balance_classes='yes' must be True or False"),
        ({"num_inner_steps": -1}, "num_inner_steps=-1"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(model_dir, changes, message):
    with pytest.raises(ValueError, match=message):
        fitted(model_dir, **changes)


def test_an_unknown_modality_is_refused(model_dir):
    with pytest.raises(ValueError, match="modality='smell' is unknown to this model, which has audio, text, image"):
        FewShotClassifier.from_pretrained(model_dir, modality="smell").fit(*examples("image"))


def test_a_model_without_the_modality_or_without_a_processor(tmp_path):
    images = save_tiny_model(tmp_path / "images", modalities=["image"])
    with pytest.raises(ValueError, match="inputs look like text, but this model has image"):
        FewShotClassifier.from_pretrained(images).fit(["word1", "word2"], [0, 1])
    tiny_model(torch.float32).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="needs a processor with a image_processor"):
        FewShotClassifier.from_pretrained(tmp_path / "bare").fit(*examples("image"))
    with_processor = FewShotClassifier.from_pretrained(tmp_path / "bare", processor=tiny_processor())
    assert with_processor.fit(*examples("image")).predict(examples("image")[0]).shape == (9,)


# Labels


@dataclass(frozen=True)
class Species:
    """A label of a class of its own."""

    name: str


@pytest.mark.parametrize(
    "names",
    [
        ["wren", "crow", "bittern"],
        [7, -1, 3],
        [0.5, 0.25, 1.5],
        [("a", 1), ("a", 2), ("b", 0)],
        ["a", 1, ("b",)],
        [Species("wren"), Species("crow"), Species("bittern")],
        [np.int32(7), np.int32(5), np.int32(9)],
    ],
    ids=str,
)
def test_labels_of_any_hashable_type(model_dir, names):
    items, labels = examples("image")
    numbers = fitted(model_dir)
    classifier = FewShotClassifier.from_pretrained(model_dir).fit(items, [names[i] for i in labels])
    assert set(classifier.classes_.tolist()) == set(names)
    order = [names.index(label) for label in classifier.classes_.tolist()]
    try:
        assert classifier.classes_.tolist() == sorted(names)
    except TypeError:
        assert order == [0, 1, 2], "what cannot be sorted stays in order of appearance"
    predicted = classifier.predict(items)
    assert predicted.shape == (9,) and all(guess in names for guess in predicted.tolist())
    assert classifier.score(items, [names[i] for i in labels]) == np.mean(
        [guess == names[i] for guess, i in zip(predicted.tolist(), labels, strict=True)]
    )
    if order == [0, 1, 2]:
        np.testing.assert_array_equal(classifier.predict_proba(items), numbers.predict_proba(items))


def test_smaller_classes_are_repeated(either_dir):
    items, labels = examples("image", (1, 4, 2))
    order = [*range(7), 0, 0, 0, 5, 6]
    repeated = FewShotClassifier.from_pretrained(either_dir, balance_classes=False)
    repeated.fit([items[i] for i in order], [labels[i] for i in order])
    np.testing.assert_array_equal(
        fitted(either_dir, shots=(1, 4, 2)).predict_proba(items), repeated.predict_proba(items)
    )
    once = fitted(either_dir, shots=(1, 4, 2), balance_classes=False)
    assert not np.allclose(once.predict_proba(items), repeated.predict_proba(items))


@pytest.mark.parametrize("shots", [(2, 1), (1, 4, 2, 1)])
def test_prototypes_of_unequal_numbers_of_examples(prototype_dir, shots):
    classifier = FewShotClassifier.from_pretrained(prototype_dir).fit(*examples("image", shots))
    items, _ = examples("image", shots)
    assert classifier.predict_proba(items).shape == (sum(shots), len(shots))
    assert np.isfinite(classifier.support_losses_).all()


@pytest.mark.parametrize("shots", [(2, 1), (1, 4), (3, 1, 2), (5, 1, 1, 2), (1, 2, 3, 4, 5, 6)])
def test_unequal_numbers_of_examples_of_any_number_of_classes(model_dir, shots):
    items, labels = examples("image", shots)
    classifier = fitted(model_dir, shots=shots, num_inner_steps=30)
    probabilities = classifier.predict_proba(items)
    assert probabilities.shape == (sum(shots), len(shots))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert (classifier.predict(items) == classifier.classes_[probabilities.argmax(axis=1)]).all()
    assert classifier.support_losses_[-1] < 0.8 * classifier.support_losses_[0]
    assert classifier.score(items, labels) > 1 / len(shots)


def test_support_losses_are_those_of_the_inner_loop(either_dir):
    classifier = fitted(either_dir, num_inner_steps=3)
    assert classifier.support_losses_.shape == (4,)
    assert classifier.support_losses_[-1] < classifier.support_losses_[0]
    for steps in (0, 2):
        np.testing.assert_allclose(
            fitted(either_dir, num_inner_steps=steps).support_losses_[-1], classifier.support_losses_[steps], rtol=1e-5
        )


# Independence of queries


@pytest.mark.parametrize("modality", MODALITIES)
def test_one_by_one_equals_all_at_once(either_dir, modality):
    classifier = fitted(either_dir, modality)
    queries, _ = examples(modality, shots=(7, 7, 7), start=10)
    together = classifier.predict_proba(queries)
    alone = np.concatenate([classifier.predict_proba([query]) for query in queries])
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    shuffled = classifier.set_params(batch_size=4).predict_proba(queries[::-1])[::-1]
    np.testing.assert_allclose(shuffled, together, rtol=1e-5)


def test_a_model_that_is_given_stays_as_it_is():
    model = tiny_model(torch.float32)
    before = copy.deepcopy(model.state_dict())
    assert model.config.norm_statistics == "transductive"
    classifier = FewShotClassifier(model, tiny_processor(), num_inner_steps=1).fit(*examples("image"))
    assert (model.config.norm_statistics, model.config.num_inner_steps) == ("transductive", 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training is tiny_model().training
    with torch.no_grad():
        model.task_network.classifier.weight.zero_()
    assert classifier.predict_proba(examples("image")[0]).std() > 0


def test_no_graph_is_kept(either_dir):
    adapted = fitted(either_dir).adapted_
    for tensor in (*adapted.parameters.values(), *adapted.modulation, adapted.support_loss):
        assert tensor.grad_fn is None


@pytest.mark.parametrize("architecture", [{}, PROTOTYPES], ids=["linear", "prototype"])
def test_predictions_are_those_of_the_trainers_evaluation(tmp_path, architecture):
    """The same episodes under norm_statistics="support", through text, arrays and pictures as a person gives them."""
    splits = tiny_splits()
    dataset = EpisodeDataset(splits, N_WAY, K_SHOT, N_QUERY, num_episodes=9, seed=3)
    model = tiny_model(torch.float32, **architecture)
    trainer = MetaTrainer(
        model=copy.deepcopy(model), args=arguments(tmp_path, norm_statistics="support"), eval_dataset=dataset
    )
    predictions = trainer.predict(dataset).predictions
    for episode, expected in zip(map(dataset.__getitem__, range(9)), predictions, strict=True):
        classifier = FewShotClassifier(model, tiny_processor(), episode["modality"], SAMPLING_RATE)
        classifier.fit(as_given(episode["support"], episode["modality"]), episode["support_labels"].tolist())
        assert classifier.predict(as_given(episode["query"], episode["modality"])).tolist() == list(expected)


def as_given(rows: torch.Tensor, modality: str):
    """Rows of a split in the form in which a person has them."""
    if modality == "text":
        words = [WORDS[0], "zzz", *WORDS[2:]]  # what is written like a special token is ordinary text
        return [" ".join(words[i] for i in row if i) for row in rows.tolist()]
    return rows.numpy()


# "unsure"


@pytest.mark.parametrize("names", [("a", "b", "c"), (0, 1, 2)])
def test_what_is_too_uncertain_is_unsure(model_dir, names):
    items, labels = examples("image")
    queries, truth = examples("image", (5, 5, 5), start=20)
    classifier = FewShotClassifier.from_pretrained(model_dir).fit(items, [names[i] for i in labels])
    sure, best = classifier.predict(queries), classifier.predict_proba(queries).max(axis=1)
    threshold = float(np.median(best))
    predicted = classifier.set_params(reject_below=threshold).predict(queries)
    for guess, before, probability in zip(predicted.tolist(), sure.tolist(), best, strict=True):
        assert guess == ("unsure" if probability < threshold else before)
    right = [guess == names[i] for guess, i in zip(predicted.tolist(), truth, strict=True)]
    assert 0 < sum(predicted == "unsure") < 15
    assert classifier.score(queries, [names[i] for i in truth]) == np.mean(right)
    assert (classifier.set_params(reject_below=0.0).predict(queries) == sure).all()


def test_a_class_called_unsure_is_refused(model_dir):
    items, labels = examples("image")
    with pytest.raises(ValueError, match="a class is called 'unsure'"):
        FewShotClassifier.from_pretrained(model_dir, reject_below=0.5).fit(
            items, ["unsure" if i else 0 for i in labels]
        )


# scikit-learn


def test_conventions_of_scikit_learn(model_dir):
    classifier = FewShotClassifier.from_pretrained(model_dir, num_inner_steps=2)
    copied = clone(classifier)
    assert copied.get_params() == classifier.get_params() and copied is not classifier
    assert copied.set_params(reject_below=0.5).reject_below == 0.5 and classifier.reject_below is None
    with pytest.raises(NotFittedError):
        classifier.predict(["word1"])
    with pytest.raises(ValueError, match="shots"):
        classifier.set_params(shots=5)
    items, labels = examples("image", (4, 4, 4))
    names = ["wren", "crow", "bittern"]
    scores = cross_val_score(classifier, items, [names[i] for i in labels], cv=4)
    assert scores.shape == (4,) and np.isfinite(scores).all()
    weighted = clone(classifier).fit(items, labels).score(items, labels, sample_weight=[1] + [0] * 11)
    assert weighted in (0.0, 1.0)
    search = GridSearchCV(classifier, {"num_inner_steps": [0, 20]}, cv=2).fit(items, labels)
    assert search.best_params_ == {"num_inner_steps": 20} and search.predict(items).shape == (12,)


# Saving


@pytest.mark.parametrize("modality", MODALITIES)
def test_round_trip_without_the_examples(either_dir, tmp_path, modality):
    classifier = fitted(either_dir, modality, (2, 3, 1, 2), num_inner_steps=2, reject_below=0.3)
    classifier.save_pretrained(tmp_path)
    loaded = FewShotClassifier.from_pretrained(tmp_path)
    queries, _ = examples(modality, start=30)
    np.testing.assert_array_equal(loaded.predict_proba(queries), classifier.predict_proba(queries))
    assert (loaded.predict(queries) == classifier.predict(queries)).all()
    assert loaded.get_params() == {**classifier.get_params(), "model": tmp_path}
    assert loaded.modality_ == modality
    np.testing.assert_array_equal(loaded.support_losses_, classifier.support_losses_)
    np.testing.assert_array_equal(loaded.classes_, classifier.classes_)
    refitted = clone(loaded).fit(*examples(modality))
    np.testing.assert_array_equal(
        refitted.predict_proba(queries), fitted(either_dir, modality, num_inner_steps=2).predict_proba(queries)
    )
    assert FewShotClassifier.from_pretrained(tmp_path, reject_below=None).reject_below is None
    assert MSMAMLModel.from_pretrained(tmp_path).config.num_inner_steps == 3, "as the model was trained"


@pytest.mark.parametrize(
    "names", [["b", "a"], [3, 1], [True, False], [0.5, 0.1], [("a", (1, "x")), ("b", (2.5, True))]]
)
def test_classes_keep_their_type(model_dir, tmp_path, names):
    items, labels = examples("image", (2, 2))
    classifier = FewShotClassifier.from_pretrained(model_dir).fit(items, [names[i] for i in labels])
    classifier.save_pretrained(tmp_path)
    loaded = FewShotClassifier.from_pretrained(tmp_path)
    assert loaded.classes_.dtype == classifier.classes_.dtype
    assert [repr(label) for label in loaded.classes_.tolist()] == [repr(label) for label in sorted(names)]


def test_what_cannot_be_saved_is_refused(model_dir, tmp_path):
    with pytest.raises(NotFittedError):
        FewShotClassifier.from_pretrained(model_dir).save_pretrained(tmp_path)
    items, labels = examples("image", (2, 2))
    odd = FewShotClassifier.from_pretrained(model_dir).fit(items, [Species(str(i)) for i in labels])
    with pytest.raises(ValueError, match="Species, which cannot be saved"):
        odd.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir()), "nothing half saved"


def test_a_damaged_classifier_is_refused(model_dir, tmp_path):
    fitted(model_dir).save_pretrained(tmp_path)
    tasks = tmp_path / TASKS_FILE
    content = tasks.read_bytes()
    tasks.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=re.escape(str(tasks))):
        FewShotClassifier.from_pretrained(tmp_path)
    tasks.unlink()
    with pytest.raises(FileNotFoundError, match=TASKS_FILE):
        FewShotClassifier.from_pretrained(tmp_path)
    description = json.loads((tmp_path / CLASSIFIER_FILE).read_text())
    (tmp_path / CLASSIFIER_FILE).write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(ValueError, match="format=99"):
        FewShotClassifier.from_pretrained(tmp_path)


# Which model


def test_a_changed_model_is_read_anew(tmp_path):
    save_tiny_model(tmp_path)
    first = fitted(tmp_path).predict_proba(examples("image")[0])
    save_tiny_model(tmp_path, num_inner_steps=1)
    assert not np.allclose(fitted(tmp_path).predict_proba(examples("image")[0]), first)


def test_model_where_none_is_named(model_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("MSMAML_MODEL", raising=False)
    monkeypatch.setattr(base_model, "SHIPPED", tmp_path)
    for attempt in (FewShotClassifier.from_pretrained, lambda: FewShotClassifier().fit(["a", "b"], [0, 1])):
        with pytest.raises(FileNotFoundError, match="msmaml train quickstart"):
            attempt()
    monkeypatch.setenv("MSMAML_MODEL", model_dir)
    assert FewShotClassifier.from_pretrained().model == model_dir
    monkeypatch.delenv("MSMAML_MODEL")
    save_tiny_model(tmp_path)
    assert FewShotClassifier.from_pretrained().model == str(tmp_path)


def test_a_folder_without_a_model_says_what_to_run(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"{path}.*msmaml train quickstart"):
            FewShotClassifier.from_pretrained(path)


def test_a_registered_modality_takes_arrays_as_they_are(monkeypatch):
    class Motion(ModalityEmbedding):
        """Readings (batch, time, 3)."""

        def __init__(self, config):
            super().__init__(config)
            self.linear = torch.nn.Linear(3, config.num_channels)

        def forward(self, inputs):
            return self.linear(inputs).transpose(1, 2)

    monkeypatch.setattr(modalities, "_REGISTRY", {})
    register_modality("motion", Motion)
    config = MSMAMLConfig(modalities=["motion"], num_channels=4, num_layers=2, inner_lr=0.2)
    readings = np.random.default_rng(0).normal(size=(6, 20, 3)) + np.arange(6)[:, None, None] % 2
    classifier = FewShotClassifier(MSMAMLModel(config), modality="motion").fit(readings, [0, 1] * 3)
    assert classifier.predict(readings).shape == (6,)
    with pytest.raises(ValueError, match="inputs have several shapes, .*: give arrays of one shape"):
        classifier.predict([readings[0], readings[0][:9]])


def test_splits_and_classifier_agree_on_what_a_row_is():
    """A stored row that is given as an array comes out of the processor as it was."""
    rows = FewShotSplit.from_arrays(np.arange(-18, 18, dtype=np.int16)[None] * 1820, [0], modality="audio").rows([0])
    encoded = read(list(rows), "audio", tiny_processor(), SAMPLING_RATE)
    np.testing.assert_array_equal(encoded.numpy(), rows)
