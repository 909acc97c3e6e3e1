"""The folder of a saved classifier: what travels with it, and what its card says."""

import json
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard
from transformers import pipeline

from modeling_msmaml import FewShotClassifier, MSMAMLModel
from modeling_msmaml.inference.classifier_card import classifier_card
from modeling_msmaml.inference.classifier_files import CLASSIFIER_FILE
from modeling_msmaml.inputs.processing_msmaml import MSMAMLProcessor

from ..level_models import MODALITIES, save_level_model
from ..own_data import SAMPLING_RATE, save_tiny_model
from .test_few_shot_classifier import examples

NAMES = ["wren", "great | *crow*", "a\nbittern"]
PARTS = {"audio": "feature_extractor", "text": "tokenizer", "image": "image_processor"}
# As the card of a model on levels ends.
CARD = """---
license: cc-by-4.0
library_name: transformers
---

# MS-MAML

## Results

| modality | accuracy |
| --- | --- |
| text | 99 |

## Encoders and licences

The weights are works of others:

| modality | encoder | licence |
| --- | --- | --- |
| audio | network of sounds | CC BY 4.0 |
| image | network of pictures | Apache-2.0 |
| text | network of texts | MIT |

## Data and licences

| modality | data | licence |
| --- | --- | --- |
| text | topics | CC BY 3.0 |
| image | letters | MIT |

## Reproduce
"""


@pytest.fixture(scope="module")
def level_dir(tmp_path_factory):
    folder = save_level_model(tmp_path_factory.mktemp("levels"))
    (folder / "README.md").write_text(CARD)
    return str(folder)


def fitted(model, modality="text", shots=(3, 1, 2)) -> FewShotClassifier:
    items, labels = examples(modality, shots)
    return FewShotClassifier(model, sampling_rate=SAMPLING_RATE).fit(items, [NAMES[label] for label in labels])


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_what_its_modality_needs_travels_with_a_classifier(level_dir, tmp_path, modality):
    classifier = fitted(level_dir, modality)
    classifier.save_pretrained(tmp_path)
    assert [path.name for path in (tmp_path / "encoders").iterdir()] == [modality]
    assert (tmp_path / "tokenizer.json").exists() == (modality == "text")
    model, processor = MSMAMLModel.from_pretrained(tmp_path), MSMAMLProcessor.from_pretrained(tmp_path)
    assert list(model.config.modalities) == [modality] and processor.get_attributes() == [PARTS[modality]]
    assert {name.split(".")[2] for name in model.state_dict() if not name.startswith("task_network.head")} == {modality}
    items, labels = examples(modality, start=40)
    loaded = FewShotClassifier.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(items), classifier.predict_proba(items))
    np.testing.assert_array_equal(loaded.fit(items, labels).predict(items), labels)
    loaded.save_pretrained(tmp_path / "again")
    again = FewShotClassifier.from_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(again.predict_proba(items), loaded.predict_proba(items))
    assert classifier.predict(items).shape == (9,), "the classifier itself is left as it was"


def test_a_model_without_levels_is_saved_whole(tmp_path):
    classifier = fitted(str(save_tiny_model(tmp_path / "model")), "image")
    classifier.save_pretrained(tmp_path / "saved")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "saved")
    assert list(loaded._model.config.modalities) == list(MODALITIES)
    assert loaded.class_count_.tolist() == classifier.class_count_.tolist() == [2, 1, 3]
    assert "names none for its encoders" in (tmp_path / "saved" / "README.md").read_text()
    content = json.loads((tmp_path / "saved" / CLASSIFIER_FILE).read_text())
    del content["class_count"]  # as earlier versions saved it
    (tmp_path / "saved" / CLASSIFIER_FILE).write_text(json.dumps(content))
    early = FewShotClassifier.from_pretrained(tmp_path / "saved")
    early.save_pretrained(tmp_path / "early")
    assert "| wren | unknown |" in (tmp_path / "early" / "README.md").read_text()


def test_the_card_says_classes_counts_and_licences(level_dir, tmp_path):
    fitted(level_dir).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "apache-2.0" and "text" in card.data.tags and card.data.base_model is None
    rows = re.findall(r"^\| (.*) \| (\d+) \|$", card.text, flags=re.MULTILINE)
    assert rows == [("a bittern", "2"), (r"great \| \*crow\*", "1"), ("wren", "3")]
    assert "texts with 3 classes" in card.text and "from 6 labelled examples" in card.text
    assert "| text | network of texts | MIT |" in card.text and "| text | topics | CC BY 3.0 |" in card.text
    assert "| image | letters | MIT |" in card.text, "the head was trained on it, too"
    assert "pictures" not in card.text and "network of sounds" not in card.text and "| text | 99 |" not in card.text
    (tmp_path / "README.md").rename(tmp_path / "first.md")
    (tmp_path / "README.md").write_text((tmp_path / "first.md").read_text())
    FewShotClassifier.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == (tmp_path / "first.md").read_text()


@pytest.mark.parametrize(
    ("modality", "stated", "expected"),
    [
        ("audio", "cc-by-4.0", "cc-by-4.0"),
        ("image", "cc-by-4.0", "apache-2.0"),
        ("text", "cc-by-4.0", "apache-2.0"),
        ("text", "cc-by-nc-4.0", "cc-by-nc-4.0"),  # of data, which the head has seen
        ("text", "apache-2.0", "apache-2.0"),
        ("smell", "cc-by-4.0", "cc-by-4.0"),  # of its encoder the card says nothing
    ],
)
def test_the_licence_is_that_of_what_is_there(modality, stated, expected):
    base = CARD.replace("license: cc-by-4.0", f"license: {stated}")
    for own in (base, base.replace("network of texts | MIT", "network of texts | another one")):
        card = classifier_card(modality, NAMES, None, "someone/model", own)
        if own == base:
            assert card.data.license == expected and f"under `{expected}`" in card.text
    assert modality != "text" or card.data.license == stated, "a licence that is not known may have conditions"
    assert ModelCard(str(classifier_card(modality, NAMES, None, "folder", str(card)))).text == card.text


@pytest.mark.parametrize("modality", MODALITIES)
def test_no_file_holds_an_example_or_a_path(level_dir, tmp_path, modality):
    items, labels = examples(modality)
    if modality == "text":
        items = [f"{text} word{number}" for number, text in enumerate(items)]
    FewShotClassifier(level_dir, sampling_rate=SAMPLING_RATE).fit(items, labels).save_pretrained(tmp_path)
    raw = [item.encode() if isinstance(item, str) else np.asarray(item).tobytes() for item in items]
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(item in content for item in raw), path
        assert level_dir.encode() not in content, path


# In a pipeline


def test_a_pipeline_rejects_and_adapts_as_the_classifier_does(level_dir, tmp_path):
    items, labels = examples("text", (3, 2, 2))
    queries, _ = examples("text", (2, 2, 2), start=30)
    for options in ({"num_inner_steps": 0}, {"reject_below": 0.9}, {"reject_below": 0.5, "num_inner_steps": 2}):
        classifier = FewShotClassifier(level_dir, **options).fit(items, labels)
        classify = pipeline("few-shot-classification", model=level_dir, device="cpu")
        found = classify(queries, examples=items, labels=labels, **options)
        assert [row[0]["label"] for row in found] == classifier.predict(queries).tolist(), options
        np.testing.assert_allclose(
            [row[0]["score"] for row in found], classifier.predict_proba(queries).max(1), atol=1e-5
        )
    classifier.set_params(reject_below=1.0).save_pretrained(tmp_path)
    stored = pipeline("few-shot-classification", model=str(tmp_path), device="cpu")
    assert [len(row) for row in stored(queries[:2])] == [4, 4], "the stored classifier rejects what it rejected"
    assert [row[0]["label"] for row in stored(queries[:2], top_k=1)] == ["unsure"] * 2
    assert all(row[0]["label"] != "unsure" for row in stored(queries, reject_below=0.0))
    classify = pipeline("few-shot-classification", model=level_dir, device="cpu")
    unsure = {"examples": items, "labels": ["unsure" if label else "b" for label in labels]}
    for call, options, message in (
        (stored, {"num_inner_steps": 2}, "num_inner_steps=2 has an effect only beside examples and labels"),
        (stored, {"reject_below": 1.5}, "reject_below=1.5 must be a probability"),
        (classify, {"reject_below": 0.5, **unsure}, "a class is called 'unsure'"),
    ):
        with pytest.raises(ValueError, match=message):
            call(queries, **options)


@pytest.mark.parametrize("name", ["model", "predict_proba", "_model"])
def test_a_file_that_sets_another_attribute_is_refused(level_dir, tmp_path, name):
    fitted(level_dir).save_pretrained(tmp_path)
    file = tmp_path / CLASSIFIER_FILE
    content = json.loads(file.read_text())
    content["arguments"][name] = "someone/else"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"has arguments that none has that was saved, {name}"):
        FewShotClassifier.from_pretrained(tmp_path)
