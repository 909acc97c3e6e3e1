"""From files, arrays, strings and images to raw integers; saving and loading the processor."""

import io

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_builders.storage.vocabulary import split_words, word_level_tokenizer
from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor
from modeling_msmaml.inputs.read_audio import encode_waveform
from modeling_msmaml.inputs.read_image import read_image

WORDS = ["[PAD]", "[UNK]", "the", "cat", '"', "'", ".", ",", "don", "t"]


@pytest.fixture
def parts():
    return {
        "feature_extractor": MSMAMLFeatureExtractor(sampling_rate=8_000, duration=0.5),
        "image_processor": MSMAMLImageProcessor(size=16),
        "tokenizer": word_level_tokenizer(WORDS, max_length=6),
    }


def tone(rate, seconds=1.0, frequency=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


# Saving and loading


def parameters(processor):
    """All that decides what a call returns; not where the class is to be found."""
    return {name: value for name, value in processor.to_dict().items() if name != "auto_map"}


@pytest.mark.parametrize(
    "names",
    [
        ("feature_extractor",),
        ("image_processor",),
        ("tokenizer",),
        ("feature_extractor", "image_processor", "tokenizer"),
    ],
)
def test_round_trip(parts, names, tmp_path):
    """Every parameter survives; a part that is absent stays absent."""
    processor = MSMAMLProcessor(**{name: parts[name] for name in names})
    processor.save_pretrained(tmp_path)
    loaded = MSMAMLProcessor.from_pretrained(tmp_path)
    assert parameters(loaded) == parameters(processor)
    assert [name for name in parts if getattr(loaded, name) is not None] == list(names)
    inputs = {
        "feature_extractor": {"audio": [tone(44_100)], "sampling_rate": 44_100},
        "image_processor": {"images": np.arange(3 * 20 * 20, dtype=np.uint8).reshape(20, 20, 3)},
        "tokenizer": {"text": ["The cat, dog", "don't"]},
    }
    for name in names:
        first, second = processor(**inputs[name]), loaded(**inputs[name])
        assert first.keys() == second.keys() and list(first) == [
            {"feature_extractor": "input_values", "image_processor": "pixel_values", "tokenizer": "input_ids"}[name]
        ]
        for key in first:
            assert np.array_equal(first[key], second[key])
    assert "MSMAMLProcessor" in repr(loaded)


def test_all_modalities_at_once(parts):
    encoded = MSMAMLProcessor(**parts)(
        images=Image.new("L", (5, 7)), text="the cat", audio=tone(8_000), sampling_rate=8_000, return_tensors="pt"
    )
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in encoded.items()}
    assert shapes == {
        "pixel_values": ((1, 3, 16, 16), torch.uint8),
        "input_ids": ((1, 6), torch.int32),
        "input_values": ((1, 4_000), torch.int16),
    }


def test_what_a_processor_refuses(parts):
    with pytest.raises(ValueError, match="at least one of"):
        MSMAMLProcessor()
    with pytest.raises(TypeError, match="tokenizer is a MSMAMLImageProcessor"):
        MSMAMLProcessor(tokenizer=parts["image_processor"])
    parts["tokenizer"].model_max_length = int(1e30)
    with pytest.raises(ValueError, match="model_max_length"):
        MSMAMLProcessor(tokenizer=parts["tokenizer"])
    audio_only = MSMAMLProcessor(feature_extractor=parts["feature_extractor"])
    with pytest.raises(ValueError, match="text was given, but this processor has only feature_extractor"):
        audio_only(text="the cat")
    with pytest.raises(ValueError, match="nothing to process"):
        audio_only()


# Audio


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_sound_files(suffix, tmp_path):
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, np.stack([tone(44_100), tone(44_100)], axis=1), 44_100)
    extractor = MSMAMLFeatureExtractor()
    row = extractor(path)["input_values"]
    assert row.shape == (1, 80_000) and row.dtype == np.int16
    assert np.array_equal(row, extractor([str(path)])["input_values"])
    assert np.array_equal(row, extractor(path.read_bytes())["input_values"])
    spectrum = np.abs(np.fft.rfft(row[0, 4_000:12_000].astype(float)))
    assert np.argmax(spectrum) * 2 == 440, "the pitch is kept"
    assert abs(np.abs(row[0, 4_000:12_000]).max() / 32767 - 0.5) < 0.03, "the level is kept"


def test_audio_is_mixed_clipped_padded_and_cut():
    left, right = np.full(10, 0.5), np.full(10, -0.25)
    mixed = encode_waveform(np.stack([left, right]), 16_000, 16_000, 12)
    assert mixed.tolist() == [round(0.125 * 32767)] * 10 + [0, 0]
    assert encode_waveform(np.asarray([2.0, -2.0, 0.0]), 16_000, 16_000, 3).tolist() == [32767, -32767, 0]
    samples = np.arange(-32767, 32768, 7).astype(np.int16)
    assert np.array_equal(encode_waveform(samples, 16_000, 16_000, len(samples)), samples), "int16 passes unchanged"
    assert np.array_equal(encode_waveform(samples, 16_000, 16_000, 5), samples[:5])


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros(0), "shape"),
        (np.asarray([np.nan, 0.0]), "not finite"),
        (np.zeros(4, np.int64), "int64"),
    ],
)
def test_waveforms_that_are_refused(waveform, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLFeatureExtractor()(waveform, sampling_rate=16_000)


def test_audio_errors_name_what_is_missing(tmp_path):
    extractor = MSMAMLFeatureExtractor()
    with pytest.raises(ValueError, match="sampling_rate is needed"):
        extractor(tone(16_000))
    with pytest.raises(ValueError, match="sampling_rate=0"):
        extractor(tone(16_000), sampling_rate=0)
    with pytest.raises(FileNotFoundError, match="nothing.wav"):
        extractor(tmp_path / "nothing.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match="text.wav"):
        extractor(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="duration=0"):
        MSMAMLFeatureExtractor(duration=0)


# Images


def test_image_forms_are_the_same_picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    expected = pixels.transpose(2, 0, 1)
    forms = (
        pixels,
        expected,
        pixels / 255,
        Image.fromarray(pixels),
        tmp_path / "picture.png",
        (tmp_path / "picture.png").read_bytes(),
        str(tmp_path / "picture.png"),
    )
    for form in forms:
        assert np.array_equal(read_image(form, 32), expected)
    batch = MSMAMLImageProcessor()(np.stack([expected, expected]))["pixel_values"]
    assert np.array_equal(batch, np.stack([expected, expected]))


def test_images_are_resized_and_made_rgb():
    grey = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    row = read_image(grey, 32)
    assert row.shape == (3, 32, 32) and row.dtype == np.uint8
    assert np.array_equal(row[0], row[2]) and (np.diff(row[0, 0].astype(int)) > 0).all()
    transparent = Image.new("RGBA", (4, 4), (10, 20, 30, 255))
    assert read_image(transparent, 4)[:, 0, 0].tolist() == [10, 20, 30]


def test_image_errors(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(_png()[:-200])
    for name in ("text.png", "cut.png"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name, 32)
    with pytest.raises(ValueError, match="cannot decode the image in 10 bytes"):
        read_image(b"no picture", 32)
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        read_image(tmp_path / "nothing.png", 32)
    for array, message in (
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.full((5, 5, 3), 2.0), r"in \[0, 1\]"),
        (np.zeros((5, 5, 3), np.int64), "int64"),
    ):
        with pytest.raises(ValueError, match=message):
            read_image(array, 4)


def _png():
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


# Text


def test_own_text_goes_the_way_of_the_corpus(parts):
    """Typographic quotes, the corpus's quotes and plain ones are one token; capitals do not matter."""
    processor = MSMAMLProcessor(tokenizer=parts["tokenizer"])
    forms = ["The “cat”.", 'the "cat" .', "THE ``cat''."]
    rows = processor(text=forms)["input_ids"]
    assert rows.dtype == np.int32 and rows.tolist() == [[2, 4, 3, 4, 6, 0]] * 3
    assert split_words("Don’t, stop.") == ["don", "'", "t", ",", "stop", "."]
    assert processor(text="a dog the " + "cat " * 9)["input_ids"].tolist() == [[1, 1, 2, 3, 3, 3]]


def test_a_vocabulary_starts_with_padding():
    with pytest.raises(ValueError, match="start with"):
        word_level_tokenizer(["the", "cat"], 5)
    with pytest.raises(ValueError, match="twice"):
        word_level_tokenizer(["[PAD]", "[UNK]", "cat", "cat"], 5)
