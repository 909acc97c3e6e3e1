"""The same file gives the same row, or the same error, whichever way it comes in."""

import io
import warnings
from decimal import Decimal

import datasets
import numpy as np
import pyarrow
import pytest
import soundfile
import torch
from PIL import Image

from data_builders import load_few_shot
from modeling_msmaml import FewShotClassifier, MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor
from modeling_msmaml.inference.class_labels import labels_of
from modeling_msmaml.inputs.reading import read
from msmaml.commands import classify
from msmaml.web.page_limits import PageError, in_words

from ..own_data import MAKERS, SAMPLING_RATE, save_tiny_model, tiny_processor, write_file

RATE, SECONDS = SAMPLING_RATE, tiny_processor().feature_extractor.duration
SIDE = tiny_processor().image_processor.size


def wav(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", **options) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, **options)
    return stream.getvalue()


def picture(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def rotated(pixels: np.ndarray) -> bytes:
    image, stream = Image.fromarray(pixels), io.BytesIO()
    exif = image.getexif()
    exif[274] = 3
    image.save(stream, "PNG", exif=exif)
    return stream.getvalue()


WAVE = 0.5 * np.sin(np.arange(round(SECONDS * RATE)) / 3)
GREY = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
SEE_THROUGH = np.dstack([*[GREY // 2] * 3, np.zeros_like(GREY)])
# Name -> modality, suffix, content, and the content that gives the same row.
SAME_ROW = {
    "stereo": ("audio", ".wav", wav(np.stack([WAVE, WAVE], axis=1)), wav(WAVE)),
    "aiff": ("audio", ".aiff", wav(WAVE, kind="AIFF"), wav(WAVE)),
    "sounds are 8 bits": (
        "audio",
        ".wav",
        wav(np.round(WAVE * 127) / 128, subtype="PCM_U8"),
        wav(np.round(WAVE * 127) / 128),
    ),
    "exif": ("image", ".png", rotated(GREY), picture(GREY[::-1, ::-1])),
    "16 bits": ("image", ".png", picture(GREY.astype(np.uint16) * 257), picture(GREY)),
    "transparent": ("image", ".png", picture(SEE_THROUGH), picture(np.full_like(GREY, 255))),
    "byte order mark": ("text", ".txt", "\ufeffthe cat".encode(), b"the cat"),
}
# Name -> modality, suffix, content, and what the error says besides the name of the file.
REFUSED = {
    "no sound": ("audio", ".wav", b"RIFF but no sound", "cannot decode the sound"),
    "absurd rate": ("audio", ".wav", wav(WAVE, rate=3), "sampling_rate=3 is not possible"),
    "no samples": ("audio", ".wav", wav(WAVE[:0]), "has no samples"),
    "cut picture": (
        "image",
        ".png",
        picture(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))[:-999],
        "cannot decode the image",
    ),
    "no picture": ("image", ".jpg", b"no picture at all", "cannot decode the image"),
    "empty text": ("text", ".txt", b" \n", "is empty"),
    "another encoding": ("text", ".txt", "Grüße".encode("utf-16"), "is not UTF-8"),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def write(tmp_path):
    """Writes a file, and the two examples of each class beside it that a classifier is fitted to."""

    def write_content(modality: str, suffix: str, content: bytes):
        for kind in range(2):
            for number in range(2):
                write_file(modality, tmp_path / "support" / "ab"[kind], kind, number)
        path = tmp_path / "own" / "a" / f"strange{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write_content


def by_classifier(path, modality, model_dir):
    support = path.parents[2] / "support"
    files = sorted(support.rglob("*.*"))
    fitted = FewShotClassifier.from_pretrained(model_dir, modality=modality).fit(files, [f.parent.name for f in files])
    return fitted.encode([path])[0].numpy()


def own_options(modality: str) -> dict:
    options = {
        "audio": {"sampling_rate": RATE, "duration": SECONDS},
        "image": {"image_size": SIDE},
        "text": {"unit": "passage"},
    }
    return {"shares": (0, 0, 1), **options[modality]}


def by_folder(path, modality, model_dir):
    more = {"tokenizer": model_dir} if modality == "text" else {}
    options = {"cache_dir": path.parents[2] / "cache", **own_options(modality), **more}
    return load_few_shot("folder", "test", data_dir=path.parents[1], modality=modality, **options).rows([0])[0]


def by_hub(path, modality, model_dir):
    more = {"tokenizer": model_dir} if modality == "text" else {}
    if modality == "text":
        column, feature = path.read_bytes().decode("utf-8-sig"), datasets.Value("string")
    else:
        column = {"bytes": path.read_bytes(), "path": path.name}
        feature = {"audio": datasets.Audio, "image": datasets.Image}[modality](decode=False)
    features = datasets.Features({"input": feature, "label": datasets.Value("string")})
    table = datasets.Dataset(pyarrow.table({"input": [column], "label": ["a"]}).cast(features.arrow_schema))
    (path.parents[2] / "hub").mkdir(exist_ok=True)
    table.to_parquet(path.parents[2] / "hub" / "test.parquet")
    options = {"repo": str(path.parents[2] / "hub"), "input_column": "input", **own_options(modality), **more}
    return load_few_shot("hub", "test", cache_dir=path.parents[2] / "cache", **options).rows([0])[0]


@pytest.mark.parametrize("name", SAME_ROW)
@pytest.mark.filterwarnings("ignore")
def test_every_door_gives_the_same_row(name, write, model_dir, tmp_path):
    modality, suffix, content, plain = SAME_ROW[name]
    same = write(modality, {"audio": ".wav", "image": ".png", "text": ".txt"}[modality], plain)
    expected = by_classifier(same, modality, model_dir)
    same.unlink()
    path = write(modality, suffix, content)
    for door in (by_classifier, by_folder, by_hub):
        row = door(path, modality, model_dir)
        assert np.abs(row.astype(int) - expected.astype(int)).max() <= 1, door.__name__


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_every_door_refuses_it_by_name(name, write, model_dir, tmp_path):
    modality, suffix, content, message = REFUSED[name]
    path = write(modality, suffix, content)
    named = rf"(?s)strange.*{message}|{message}.*strange"
    for door in (by_classifier, by_folder):
        with pytest.raises(ValueError, match=named):
            door(path, modality, model_dir)
    if modality != "text":  # a column of strings has no files, whose encoding or names could be wrong
        with pytest.raises(ValueError, match=rf"test/0.*{message}"):
            by_hub(path, modality, model_dir)
    words = ["--model", model_dir, "--support", tmp_path / "support", "--query", path, "--modality", modality]
    with pytest.raises(SystemExit, match=named):
        classify.main([str(word) for word in words])
    with pytest.raises(PageError, match=named):
        in_words(lambda file: by_classifier(file, modality, model_dir), path, what="Queries")


@pytest.mark.parametrize("modality", ["audio", "image", "text"])
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_read_may_be_skipped(modality, write, model_dir, tmp_path, capsys):
    name = next(name for name, case in REFUSED.items() if case[0] == modality)
    broken = write(modality, REFUSED[name][1], REFUSED[name][2])
    files = sorted((tmp_path / "support").rglob("*.*"))
    labels = [file.parent.name for file in files]
    classifier = FewShotClassifier.from_pretrained(model_dir, modality=modality, skip_unreadable=True)
    with pytest.warns(UserWarning, match=r"1 of 5 inputs cannot be read: inputs\[4\].*"):
        classifier.fit([*files, broken], [*labels, "a"])
    with pytest.warns(UserWarning, match=r"1 of 3 inputs cannot be read: inputs\[1\]"):
        predicted = classifier.predict([files[0], broken, files[3]])
    assert predicted[1] == "unreadable" and set(predicted[[0, 2]]) <= {"a", "b"}
    assert np.isnan(classifier.predict_proba([files[0], broken])[1]).all()
    words = ["--model", model_dir, "--support", tmp_path / "support", "--query", broken, files[0], "--skip-errors"]
    classify.main([*map(str, words), "--modality", modality, "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert '"class": "unreadable", "probabilities": null' in lines[0] and len(lines) == 2
    with pytest.raises(ValueError, match="none of 1 inputs can be read"):
        classifier.predict([broken])


# Waveforms and arrays


def test_waveforms_of_either_order_and_any_scale():
    extractor = MSMAMLFeatureExtractor(RATE, SECONDS)
    expected = extractor.row(WAVE, RATE)
    for given in (np.stack([WAVE, WAVE]), np.stack([WAVE, WAVE], axis=1), torch.from_numpy(WAVE), list(WAVE)):
        assert np.abs(extractor.row(given, RATE).astype(int) - expected).max() <= 1
    with pytest.warns(UserWarning, match=r"divided by 32768: a waveform"):
        scaled = extractor([WAVE * 32768], sampling_rate=RATE)["input_values"][0]
    assert np.abs(scaled.astype(int) - expected).max() <= 1
    for shape in ((100, 100), (1_000, 900)):
        with pytest.raises(ValueError, match="may be .channels, samples. or .samples, channels."):
            extractor.row(np.zeros(shape), RATE)
    assert np.abs(extractor.row(torch.from_numpy(WAVE).bfloat16(), RATE).astype(int) - expected).max() < 200
    for rate in (0, 10, 10**7, float("nan"), "16000"):
        with pytest.raises(ValueError, match="is not possible"):
            extractor.row(WAVE, rate)


def test_arrays_of_pictures():
    processor = MSMAMLImageProcessor(SIDE)
    expected = processor.row(GREY)
    forms = (GREY.astype(np.uint16) * 257, GREY / 255, np.stack([GREY] * 3), GREY[..., None], GREY[None].repeat(4, 0))
    for pixels in forms[:4]:
        assert np.abs(processor.row(pixels).astype(int) - expected).max() <= 1
    assert (processor.row(GREY > 127) == np.where(GREY > 127, 255, 0)).all()
    with pytest.raises(ValueError, match="divide them by"):
        processor.row(GREY.astype(np.float32))


# Strings


def test_strings_that_are_paths_and_those_that_are_texts(tmp_path, monkeypatch):
    from modeling_msmaml.inputs.infer_modality import infer_modality

    monkeypatch.chdir(tmp_path)
    write_file("audio", tmp_path / "my sounds", 0, 0).rename(tmp_path / "my sounds" / "crow.aiff")
    known = ["audio", "text", "image"]
    assert infer_modality(["my sounds/crow.aiff"], known) == "audio"
    for text in ("the word", "version 1.5", "a.b.c", "see www.example.org", "U.S.A."):
        assert infer_modality([text], known) == "text"
    assert infer_modality(["please read report.wav"], known) == "text"
    with pytest.raises(ValueError, match="white space around it: strip it"):
        infer_modality(["my sounds/crow.aiff\n"], known)
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match="film.mp4.*neither a sound nor a picture"):
        infer_modality(["film.mp4"], known)


# Labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (torch.tensor([0, 1, 0]), [0, 1, 0]),
        ([torch.tensor(2), torch.tensor(2)], [2, 2]),
        ([np.array("a"), np.array("b")], ["a", "b"]),
        (np.array([1, 2], np.uint8), [1, 2]),
    ],
)
def test_labels_are_python_values(labels, expected):
    found = labels_of(labels)
    assert found == expected and not any(isinstance(label, (torch.Tensor, np.ndarray, np.generic)) for label in found)


def test_labels_that_are_missing_or_no_values_are_refused():
    import pandas

    for missing in (None, float("nan"), np.float32("nan"), Decimal("nan"), pandas.NA, pandas.NaT, ""):
        with pytest.raises(ValueError, match=r"labels\[1\] is missing"):
            labels_of(["a", missing])
    with pytest.raises(ValueError, match=r"labels\[0\] is an array of shape \(2,\)"):
        labels_of(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"labels\[1\] is a object, which is equal to nothing but itself"):
        labels_of(["a", object()])
    with pytest.raises(ValueError, match="is a table with the columns x, y: give one column"):
        labels_of(pandas.DataFrame({"x": [1], "y": [2]}))
    assert labels_of(pandas.DataFrame({"x": ["a", "b"]})) == ["a", "b"]
    assert labels_of(pyarrow.array(["a", "b"])) == ["a", "b"]
    with pytest.raises(ValueError, match="is a set, which has no order"):
        labels_of({"a", "b"})


def test_a_compiled_model_is_a_model(model_dir):
    from modeling_msmaml import MSMAMLModel

    compiled = torch.compile(MSMAMLModel.from_pretrained(model_dir))
    made = [MAKERS["image"](kind, number) for kind in range(2) for number in range(2)]
    FewShotClassifier(compiled, tiny_processor()).fit(made, [0, 0, 1, 1]).predict(made)


def test_special_tokens_in_a_text_are_ordinary_text():
    processor = tiny_processor()
    rows = processor(text=["[PAD] word1", "word1"])["input_ids"]
    assert rows[0][0] != 0 and rows[0].tolist().count(0) < rows[1].tolist().count(0)


def test_unknown_words_are_warned_of_in_predictions_too(model_dir):
    fitted = FewShotClassifier.from_pretrained(model_dir).fit(["word1 word2", "word3 word4"], ["a", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(["word1"])
    with pytest.warns(UserWarning, match=r"vocabulary lacks more than half.*: inputs\[1\]$"):
        fitted.predict(["word1", "quite other terms"])


def test_a_processor_says_what_it_cuts():
    processor = MSMAMLProcessor(MSMAMLFeatureExtractor(16_000, 0.5))
    with pytest.warns(UserWarning, match=r"the first 0.5 s of a sound; the rest does not count: a waveform \(1.0 s\)"):
        processor(audio=np.ones(16_000) / 2, sampling_rate=16_000)
    with pytest.warns(UserWarning, match=r"nothing but silence: inputs\[1\]: a waveform"):
        read([np.ones(8_000) / 2, np.zeros(8_000)], "audio", processor, sampling_rate=16_000)
