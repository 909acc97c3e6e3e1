"""FewShotClassifier among scikit-learn's own: its checks, its other estimators, its names of arguments."""

import re

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from sklearn.utils.validation import has_fit_parameter

from modeling_msmaml import FewShotClassifier, ModalityEmbedding, MSMAMLConfig, MSMAMLModel, register_modality
from modeling_msmaml.model import modalities

from ..level_models import save_level_model
from ..own_data import SAMPLING_RATE, save_tiny_model
from ..test_docs import REPOSITORY, blocks
from .test_few_shot_classifier import MODALITIES, examples

PAGE = REPOSITORY / "docs" / "scikit_learn.md"
NAMES = np.array(["bittern", "crow", "wren"])


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def level_dir(tmp_path_factory):
    return str(save_level_model(tmp_path_factory.mktemp("levels")))


def task(modality: str = "text", shots: int = 4) -> tuple[list, np.ndarray]:
    items, labels = examples(modality, (shots,) * 3)
    return items, NAMES[labels]


# Its own checks


class Waveforms(FewShotClassifier):
    """Says that rows of numbers are fine, as waveforms are, so that scikit-learn runs its checks."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.classifier_tags.poor_score = True  # its data are no sounds
        return tags


def expected_failures() -> dict[str, str]:
    """The table of the docs: check -> reason."""
    return dict(re.findall(r"^\| `(check_\w+)` \| (.+) \|$", PAGE.read_text(), flags=re.MULTILINE))


@pytest.mark.filterwarnings("ignore")  # its rows of random numbers are odd sounds
def test_checks_of_scikit_learn_fail_where_the_docs_say_so_and_nowhere_else(model_dir):
    estimator = Waveforms(model_dir, modality="audio", sampling_rate=SAMPLING_RATE)
    failures, found = expected_failures(), {}
    for instance, check in estimator_checks_generator(estimator):
        name = check.func.__name__
        try:
            check(instance)
        except Exception as error:
            found[name] = error
    assert found.keys() - {"check_array_api_input"} == failures.keys(), found  # which is skipped by a variable
    assert len(failures) <= 4
    check_estimator(FewShotClassifier(model_dir))  # whose tags say that its inputs are no tables


# Among other estimators


def lower(texts):
    return [text.lower() for text in texts]


ESTIMATORS = {
    "pipeline": lambda own: make_pipeline(FunctionTransformer(lower), own),
    "search": lambda own: GridSearchCV(own, {"num_inner_steps": [0, 2]}, cv=2, error_score="raise"),
    "calibrated": lambda own: CalibratedClassifierCV(own, cv=2),
    "soft vote": lambda own: VotingClassifier([("a", own), ("b", DummyClassifier())], voting="soft"),
    "one against the rest": lambda own: OneVsRestClassifier(own),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_works_within_other_estimators(level_dir, name):
    texts, labels = task()
    estimator = clone(ESTIMATORS[name](FewShotClassifier(level_dir, modality="text")))
    probabilities = estimator.fit(texts, labels).predict_proba(texts)
    assert estimator.classes_.tolist() == NAMES.tolist() and np.isfinite(probabilities).all()
    assert estimator.score(texts, labels) > 0.6
    assert not hasattr(estimator, "n_features_in_"), "texts have no number of features"


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_is_cross_validated(level_dir, modality):
    items, labels = task(modality)
    classifier = FewShotClassifier(level_dir, sampling_rate=SAMPLING_RATE)
    scores = cross_validate(classifier, items, labels, cv=2, scoring=["accuracy", "neg_log_loss"], error_score="raise")
    assert np.isfinite(scores["test_neg_log_loss"]).all()
    log_probabilities = cross_val_predict(classifier, items, labels, cv=2, method="predict_log_proba")
    assert log_probabilities.shape == (12, 3)


def test_the_page_runs(capsys):
    """With the model that comes with the code."""
    (code,) = blocks(PAGE, "python")
    exec(compile(code, PAGE.name, "exec"), {})
    assert re.fullmatch(r"\{'num_inner_steps': \d+\} \['cooking'\]", capsys.readouterr().out.strip())


def test_a_pipeline_sets_the_output_of_its_other_steps(level_dir):
    texts, labels = task()
    steps = make_pipeline(FunctionTransformer(lower), FewShotClassifier(level_dir)).set_output(transform="default")
    assert steps.fit(texts, labels).predict(texts).shape == (12,)
    assert "FewShotClassifier" in steps._repr_html_() and level_dir in steps[-1]._repr_html_()
    fitted_model = FewShotClassifier(MSMAMLModel.from_pretrained(level_dir))
    assert "FewShotClassifier" in fitted_model._repr_html_() and len(repr(fitted_model)) < 2_000


# Names of arguments


def test_inputs_and_labels_are_also_called_x_and_y(level_dir):
    texts, labels = task()
    expected = FewShotClassifier(level_dir).fit(texts, labels)
    classifier = FewShotClassifier(level_dir).fit(X=texts, y=labels, sample_weight=None)
    np.testing.assert_array_equal(classifier.predict_proba(X=texts), expected.predict_proba(texts))
    np.testing.assert_array_equal(classifier.predict(X=texts), expected.predict(texts))
    np.testing.assert_allclose(classifier.predict_log_proba(X=texts), np.log(expected.predict_proba(texts)))
    assert classifier.score(X=texts, y=labels, sample_weight=np.ones(12)) == expected.score(texts, labels)
    assert classifier.partial_fit(X=texts[:1], y=["owl"]).classes_.tolist() == [*NAMES[:2], "owl", NAMES[2]]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"sample_weight": [1.0] * 12}, "fit takes no sample_weight: .*give an example several times"),
        ({"X": ["word1"]}, "fit got X= and inputs=, which are the same"),
        ({"classes": NAMES}, "fit takes no classes: .*leave it out"),
        ({"shots": 5}, "unexpected keyword argument 'shots'"),
    ],
)
def test_arguments_that_it_does_not_take_are_refused(level_dir, named, message):
    texts, labels = task()
    with pytest.raises(TypeError, match=message):
        FewShotClassifier(level_dir).fit(inputs=texts, labels=labels, **named)
    assert not has_fit_parameter(FewShotClassifier(), "sample_weight"), "other estimators hand it on to whom it is of"


@pytest.mark.parametrize("kind", [np.array, lambda column: torch.tensor(np.unique(column, return_inverse=True)[1])])
def test_a_column_of_labels_is_taken_with_a_warning(level_dir, kind):
    texts, labels = task()
    column = kind(labels.tolist())[:, None]
    with pytest.warns(
        DataConversionWarning, match=r"column vector of shape \(12, 1\): give labels.ravel\(\)"
    ) as caught:
        classifier = FewShotClassifier(level_dir).fit(texts, column)
    assert caught[0].filename == __file__, "the line of the call"
    assert classifier.predict(texts).shape == (12,)
    with pytest.raises(ValueError, match=r"labels\[0\] is an array of shape \(2,\)"):
        FewShotClassifier(level_dir).fit(texts, np.stack([labels, labels], axis=1))


def test_a_column_of_texts_is_a_list_of_texts(level_dir):
    texts, labels = task()
    column = np.array(texts)[:, None]
    classifier = FewShotClassifier(level_dir).fit(column, labels)
    np.testing.assert_array_equal(classifier.predict_proba(column.astype(object)), classifier.predict_proba(texts))


# Single inputs


@pytest.mark.parametrize(
    ("modality", "shape", "message"),
    [
        ("image", (6, 6, 3), r"one picture, or 6 grey ones: give a list, .*\[picture\] or list\(pictures\)"),
        ("image", (3, 6, 6), "one picture, or 3 grey ones"),
        ("image", (6, 6), r"one grey picture of shape \(6, 6\): give a list, .*\[picture\]"),
        ("audio", (36,), r"one sound of shape \(36,\): give a list, .*\[sound\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:a picture is almost black", "ignore:a sound whose samples")
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_single_input_is_no_list(level_dir, modality, shape, message, kind):
    items, labels = task(modality)
    classifier = FewShotClassifier(level_dir, sampling_rate=SAMPLING_RATE).fit(items, labels)
    one = kind(np.zeros(shape, np.uint8 if modality == "image" else np.int16) + 9)
    for ask in (classifier.predict, classifier.predict_proba, classifier.nearest_examples):
        with pytest.raises(ValueError, match=message):
            ask(one)
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(level_dir, modality=modality).fit(one, labels)
    assert classifier.predict([one]).shape == (1,)


def test_grey_pictures_in_one_array_are_several(level_dir):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 9, 8), dtype=np.uint8)
    items, labels = task("image")
    assert FewShotClassifier(level_dir).fit(items, labels).predict(pictures).shape == (5,)


def test_sparse_data_are_refused_by_name(level_dir):
    with pytest.raises(ValueError, match=r"sparse matrix of shape \(3, 4\).*sparse data are not supported"):
        FewShotClassifier(level_dir).fit(scipy.sparse.csr_array(np.eye(3, 4)), [0, 1, 1])


# A registered modality


class Motion(ModalityEmbedding):
    """Readings (batch, time, 3)."""

    def __init__(self, config):
        super().__init__(config)
        self.linear = torch.nn.Linear(3, config.num_channels)

    def forward(self, inputs):
        return self.linear(inputs).transpose(1, 2)


READINGS = np.random.default_rng(0).normal(size=(6, 20, 3))
WITH_NAN = np.where(np.arange(360).reshape(6, 20, 3) == 60, np.nan, READINGS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (READINGS[:, :, 0], r"inputs of shape \(20,\) do not fit the embedding of modality 'motion'"),
        (READINGS[:, 0, 0], r"inputs of shape \(\) do not fit"),
        (READINGS[:, :, :2], r"inputs of shape \(20, 2\) do not fit"),
        (WITH_NAN, r"inputs\[1\]: it has values that are not finite"),
        (np.full((6, 20, 3), None), r"inputs\[0\]: it is no array of numbers"),
        (["a"] * 6, r"inputs\[0\]: it is no array of numbers, but a str"),
    ],
)
def test_rows_that_a_registered_modality_cannot_read_are_named(monkeypatch, rows, message):
    monkeypatch.setattr(modalities, "_REGISTRY", {})
    register_modality("motion", Motion)
    model = MSMAMLModel(MSMAMLConfig(modalities=["motion"], num_channels=4, num_layers=2))
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(model, modality="motion").fit(rows, [0, 1] * 3)
    classifier = FewShotClassifier(model, modality="motion").fit(READINGS, [0, 1] * 3)
    with pytest.raises(ValueError, match=message):
        classifier.predict(rows)
