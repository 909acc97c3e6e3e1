"""The model that comes with the code."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoProcessor

from modeling_msmaml import FewShotClassifier, MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.hub.encoder_facts import encoders_of
from modeling_msmaml.hub.model_card import NON_COMMERCIAL, stated_license
from modeling_msmaml.inference.base_model import SHIPPED
from modeling_msmaml.model.level_encoder import WEIGHTS_FILE, sha256_of
from scripts.make_base_model import FIRST_DATA_SETS, MOST_BYTES, first_accuracies

MODALITIES = ("audio", "image", "text")


@pytest.fixture(scope="module")
def model() -> MSMAMLModel:
    return MSMAMLModel.from_pretrained(SHIPPED)


def test_it_is_small_and_whole(model):
    files = {path.relative_to(SHIPPED).as_posix(): path.stat().st_size for path in SHIPPED.rglob("*")}
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "NOTICE"} <= files.keys()
    assert sum(files.values()) <= MOST_BYTES
    assert not [name for name in files if name.endswith((".py", ".pt", ".bin"))]
    assert type(AutoModel.from_pretrained(SHIPPED)) is MSMAMLModel
    assert isinstance(AutoProcessor.from_pretrained(SHIPPED), MSMAMLProcessor)
    for modality in MODALITIES:
        weights = SHIPPED / "encoders" / modality / WEIGHTS_FILE
        assert sha256_of(weights) == (model.config.level_encoders or {})[modality]["encoder"]["sha256"]
        with safe_open(weights, "pt") as tensors:
            kinds = {tensors.get_tensor(name).dtype for name in tensors.keys()}  # noqa: SIM118 (no mapping)
        assert kinds <= {torch.float16, torch.int64}


def test_it_may_be_used_for_anything_and_says_whose_work_is_in_it(model):
    card, notice = (SHIPPED / "README.md").read_text(), (SHIPPED / "NOTICE").read_text()
    assert stated_license(str(SHIPPED)) not in (None, NON_COMMERCIAL) and "non-commercial" not in card
    assert sorted(encoders_of(model.config)) == sorted(MODALITIES)
    for facts in encoders_of(model.config).values():
        assert facts.licence != "unknown"
        for words in (facts.title, facts.licence, facts.attribution):
            assert words in notice and words in card
    for words in ("CLINC150", "Banking77", "Omniglot", "ESC-10"):
        assert words in notice and words in card
    assert "trust_remote_code" not in card, "there is no code beside the weights"


def test_its_card_has_results_and_the_command():
    card, results = (SHIPPED / "README.md").read_text(), json.loads((SHIPPED / "results.json").read_text())
    assert "configs/base.yaml" in card
    accuracies = {
        name: value for name, value in results.items() if name.startswith("test_") and name.endswith("_accuracy")
    }
    assert len(accuracies) > len(MODALITIES)
    for name, value in accuracies.items():
        assert f"{100 * value:.2f} | ± " in card, name


@pytest.mark.parametrize("modality", MODALITIES)
def test_it_gives_its_recorded_results_again(modality, data_dir):
    recorded = json.loads((SHIPPED / "results.json").read_text())["first_episodes"]
    part = MSMAMLModel.from_pretrained(SHIPPED, modalities=[modality])
    found = first_accuracies(part, str(data_dir), recorded["k_shot"])
    assert recorded[modality] > 0.7, f"chance is 0.2, {FIRST_DATA_SETS[modality]}"
    # Other processors round differently, which may move a few of the queries.
    assert found[modality] == pytest.approx(recorded[modality], abs=0.02)


def test_a_few_sentences_are_enough():
    sport = ["The team won the last game.", "He hit the ball and ran.", "The coach called his players."]
    food = ["She cooked rice and fish.", "Add salt and butter to the pan.", "They ate bread with cheese."]
    classifier = FewShotClassifier.from_pretrained().fit(sport + food, ["sport"] * 3 + ["food"] * 3)
    questions = ["The players lost the game.", "We had fish and butter for dinner."]
    assert classifier.predict(questions).tolist() == ["sport", "food"]
    assert classifier.predict_proba(questions).max(axis=1).min() > 0.7
