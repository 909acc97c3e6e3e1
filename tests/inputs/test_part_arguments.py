"""Arguments of the processor and its parts when they are loaded and called."""

import json

import numpy as np
import pytest
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoProcessor
from transformers.image_processing_utils import BaseImageProcessor

from modeling_msmaml import MSMAMLConfig, MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor

from ..level_models import words_of_tiny_encoder

PICTURE, SOUND, TEXT = np.zeros((40, 40, 3), np.uint8), np.zeros(8000), "a b c"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    MSMAMLProcessor(MSMAMLFeatureExtractor(), MSMAMLImageProcessor(), words_of_tiny_encoder()).save_pretrained(folder)
    MSMAMLConfig().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("load", "part", "name", "value"),
    [
        (MSMAMLImageProcessor, None, "size", 20),
        (MSMAMLImageProcessor, None, "size", None),
        (AutoImageProcessor, None, "size", 20),
        (MSMAMLFeatureExtractor, None, "duration", 2.0),
        (AutoFeatureExtractor, None, "sampling_rate", 8000),
        (MSMAMLProcessor, "image_processor", "size", 20),
        (AutoProcessor, "feature_extractor", "duration", 2.0),
        (MSMAMLProcessor, None, "text_padding", "longest"),
        (MSMAMLProcessor, "tokenizer", "model_max_length", 7),
    ],
)
def test_arguments_take_the_place_of_those_that_were_saved(load, part, name, value, saved, tmp_path):
    loaded = load.from_pretrained(saved, **{name: value})
    loaded.save_pretrained(tmp_path)
    for processor in (loaded, load.from_pretrained(tmp_path) if load not in _NEEDS_CONFIG else loaded):
        assert getattr(processor if part is None else getattr(processor, part), name) == value
    if (words := tmp_path / "tokenizer_config.json").is_file():
        assert not {"size", "duration"} & json.loads(words.read_text()).keys()


_NEEDS_CONFIG = (AutoImageProcessor, AutoFeatureExtractor, AutoProcessor)


def test_parts_are_those_of_transformers(saved):
    assert isinstance(MSMAMLImageProcessor(), BaseImageProcessor)
    assert type(AutoImageProcessor.from_pretrained(saved)) is MSMAMLImageProcessor
    assert type(AutoFeatureExtractor.from_pretrained(saved)) is MSMAMLFeatureExtractor


@pytest.mark.parametrize(
    ("load", "changes", "message"),
    [
        (MSMAMLImageProcessor, {"size": 0}, "size=0 must be positive"),
        (MSMAMLImageProcessor, {"size": {"height": 20, "width": 20}}, "one integer for height and width"),
        (MSMAMLFeatureExtractor, {"duration": -1.0}, "must be positive"),
        (MSMAMLProcessor, {"sampling_rate": "8k"}, "sampling_rate=8k"),
    ],
)
def test_arguments_are_checked_when_a_part_is_loaded(load, changes, message, saved):
    with pytest.raises(ValueError, match=message):
        load.from_pretrained(saved, **changes)


def test_a_call_may_change_arguments(saved):
    processor = MSMAMLProcessor.from_pretrained(saved)
    batch = processor(
        images=PICTURE,
        text=["a", TEXT],
        audio=SOUND,
        images_kwargs={"size": 16},
        text_kwargs={"padding": "longest", "max_length": 2},
        audio_kwargs={"duration": 0.25, "sampling_rate": 8000},
    )
    shapes = {name: values.shape for name, values in batch.items()}
    assert shapes == {"pixel_values": (1, 3, 16, 16), "input_ids": (2, 2), "input_values": (1, 4000)}
    assert processor.image_processor.preprocess(PICTURE, size=20)["pixel_values"].shape == (1, 3, 20, 20)
    after = processor(images=PICTURE, text=TEXT, audio=SOUND, sampling_rate=8000)
    assert {len(values[0]) for values in (after["input_ids"], after["input_values"])} == {9, 80_000}
    assert after["pixel_values"].shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"images": PICTURE, "images_kwargs": {"do_resize": False}},
            "MSMAMLImageProcessor got do_resize; .* takes size",
        ),
        ({"images": PICTURE, "images_kwargs": {"size": -1}}, "size=-1 must be positive"),
        ({"images": PICTURE, "text_kwargs": {"padding": "longest"}}, "text_kwargs=.* has no effect without text"),
        ({"text": TEXT, "text_kwargs": {"padding": False}}, "padding=False must be one of max_length, longest"),
        ({"text": TEXT, "text_kwargs": {"max_length": 0}}, "max_length=0 must be positive"),
        ({"text": TEXT, "text_kwargs": {"stride": 3}}, "text_kwargs got stride; a call takes max_length, padding"),
        ({"audio": SOUND, "audio_kwargs": {"padding": True, "sampling_rate": 8000}}, "got padding; .* takes duration"),
    ],
)
def test_arguments_of_a_call_are_checked(arguments, message, saved):
    with pytest.raises(ValueError, match=message):
        MSMAMLProcessor.from_pretrained(saved)(**arguments)
