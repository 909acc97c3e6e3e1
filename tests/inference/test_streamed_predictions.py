"""Predictions that come one batch after the other, beside those of `predict_proba`."""

import numpy as np
import pytest

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference.streamed_predictions import Query, stream_predictions
from modeling_msmaml.inputs.notes import UnreadableInput

from ..level_models import save_level_model
from ..own_data import save_tiny_model, write_file

MODALITIES = ("audio", "text", "image")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        "levels": str(save_level_model(tmp_path_factory.mktemp("levels"))),
        "from scratch": str(save_tiny_model(tmp_path_factory.mktemp("model"), num_inner_steps=2)),
    }


def fitted(model: str, modality: str, folder, **arguments) -> FewShotClassifier:
    files = [write_file(modality, folder / "support", kind, number) for kind in range(2) for number in range(2)]
    return FewShotClassifier.from_pretrained(model, **arguments).fit(files, ["a", "a", "b", "b"])


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("kind", ["levels", "from scratch"])
def test_it_gives_what_predict_proba_gives(kind, modality, workers, models, tmp_path):
    classifier = fitted(models[kind], modality, tmp_path, batch_size=4)
    files = [write_file(modality, tmp_path / "queries", number % 2, number) for number in range(10)]
    batches = list(stream_predictions(classifier, [Query(f"q{i}", file) for i, file in enumerate(files)], workers))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    found = sum(batches, [])
    assert [one.name for one in found] == [f"q{i}" for i in range(10)]
    expected = classifier.predict_proba(files)
    np.testing.assert_allclose(np.stack([one.probabilities for one in found]), expected, rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("modality", MODALITIES)
def test_what_cannot_be_read_stops_it_or_has_an_error(modality, workers, models, tmp_path):
    classifier = fitted(models["levels"], modality, tmp_path)
    files = [write_file(modality, tmp_path / "queries", number % 2, number) for number in range(6)]
    files[4].write_bytes(b"\xff\xfe\xff")
    queries = [Query(str(file), file) for file in files]
    found = []
    with pytest.raises(UnreadableInput, match=rf"^(?!inputs).*{files[4].name}"):
        for batch in stream_predictions(classifier, queries, workers):
            found += batch
    assert [one.name for one in found] == list(map(str, files[:4]))
    classifier.set_params(skip_unreadable=True)
    (found,) = stream_predictions(classifier, queries, workers)
    assert [one.error is None for one in found] == [True] * 4 + [False, True]
    assert np.isnan(found[4].probabilities).all() and files[4].name in found[4].error


def test_what_is_noticed_is_said_once_by_names(models, tmp_path):
    classifier = fitted(models["levels"], "text", tmp_path)
    queries = [Query("letters.csv, line 2", "nothing known here"), Query("letters.csv, line 3", "nor here at all")]
    with pytest.warns(UserWarning, match="lacks more than half of .*: letters.csv, line 2, letters.csv, line 3$"):
        list(stream_predictions(classifier, queries))


def test_a_string_is_a_text_even_if_it_is_written_like_a_path(models, tmp_path):
    classifier = fitted(models["levels"], "text", tmp_path)
    with pytest.warns(UserWarning, match="letters.csv, line 2"):
        ((found,),) = stream_predictions(classifier, [Query("letters.csv, line 2", "word1.wav")])
    assert found.error is None


def test_few_queries_are_read_ahead(models, tmp_path):
    """Of a stream that never ends, what is asked for comes, and not many more queries are taken."""
    classifier = fitted(models["from scratch"], "image", tmp_path, batch_size=4)
    file = write_file("image", tmp_path, 0, 0)
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield Query("q", file)

    predictions = stream_predictions(classifier, endless(), 2)
    assert len(next(predictions)) == 4 and len(taken) <= 4 + 8
    predictions.close()
