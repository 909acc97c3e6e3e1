"""A run of a model on levels, and the classifier on what it leaves."""

import pytest
import yaml
from PIL import Image

import run_meta
from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inputs.processing_msmaml import MOST_TOKENS
from modeling_msmaml.model.level_encoder import save_level_encoder

from ..level_models import words_of_tiny_encoder
from ..model.level_encoders import BERT, tiny
from .test_run_meta import options


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    encoders = {}
    for modality in ("image", "text"):
        encoders[modality] = str(folder / modality)
        changes = {"config": {**BERT, "vocab_size": 900}} if modality == "text" else {}  # of the synthetic texts
        save_level_encoder(tiny(modality, **changes), encoders[modality])
    words_of_tiny_encoder().save_pretrained(encoders["text"])
    config = {"datasets": ["synthetic:image", "synthetic:text"], "task_network": "levels", "level_encoders": encoders}
    (folder / "levels.yaml").write_text(yaml.safe_dump(config))
    run_meta.main([str(folder / "levels.yaml"), *options(output_dir=folder / "model", do_train=True)])
    return folder / "model"


def test_a_run_leaves_a_processor_that_takes_inputs_whole(trained):
    classifier = FewShotClassifier.from_pretrained(trained)
    _, processor = classifier.base_model()
    assert processor.image_processor.size is None and processor.text_padding == "longest"
    assert processor.tokenizer.model_max_length == MOST_TOKENS and processor.feature_extractor is None
    pictures = [
        Image.new("RGB", size, colour) for colour in ("red", "blue") for size in ((64, 48), (9, 30), (700, 640))
    ]
    classifier.fit(pictures, ["red"] * 3 + ["blue"] * 3)
    assert classifier.predict(pictures).shape == (6,) and classifier.level_weights_
