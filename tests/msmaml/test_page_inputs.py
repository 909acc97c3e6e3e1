"""What the web page does with its inputs: limits, names, and what cannot be read. Without a browser."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from modeling_msmaml import FewShotClassifier
from msmaml.web import page_html, page_inputs
from msmaml.web.page_answers import Demo
from msmaml.web.page_inputs import read_inputs
from msmaml.web.page_limits import PageError, inputs_of_field

from ..level_models import save_level_model
from ..own_data import SAMPLING_RATE, save_tiny_model, tiny_processor, write_file

SUFFIXES = {"audio": ".wav", "text": ".txt", "image": ".png"}
BROKEN = {"audio": b"RIFF, but no sound", "text": b"\xff\xfe\x00", "image": b"no picture"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return Demo(str(save_tiny_model(folder / "model")), folder)


@pytest.fixture
def given(tmp_path):
    """Of a modality: two examples of each of two classes, and a broken file, as the page gets them."""

    def make(modality: str) -> tuple[list[str], list[str], str]:
        own = [[str(write_file(modality, tmp_path / "uploads", kind, i)) for i in range(2)] for kind in range(2)]
        broken = tmp_path / "uploads" / "zz" / f"my broken{SUFFIXES[modality]}"
        broken.parent.mkdir()
        broken.write_bytes(BROKEN[modality])
        return own[0], own[1], str(broken)

    return make


def adapted(demo, modality: str, skip: bool, *classes: list[str], lines: str = "", names=("crow", "wren")):
    """(last message, classifiers) for two classes."""
    fields = [value for name, files in zip(names, classes, strict=True) for value in (name, files, lines)]
    *_, (message, _, fitted) = demo.adapt(modality, 2, skip, tuple(fields))
    return message, fitted


def entries(message: str) -> list[str]:
    return re.findall("<li>(.*?)</li>", message)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("msmaml.web.page_answers.SECONDS_PER_STEP", 0)


# What cannot be read


@pytest.mark.parametrize("modality", SUFFIXES)
def test_without_the_box_the_first_that_cannot_be_read_is_an_error(demo, given, tmp_path, modality):
    crow, wren, broken = given(modality)
    message, fitted = adapted(demo, modality, False, [*crow, broken], wren)
    assert fitted is None and 'role="alert"' in message
    assert re.search(r"crow: .*my broken\.", message) and "tick “Leave out" in message
    assert str(tmp_path) not in message, "where the server keeps it is nobody's business"
    _, fitted = adapted(demo, modality, False, crow, wren)
    message, table = demo.classify(fitted, modality, False, [crow[0], broken], None)
    assert re.search(r'role="alert">Queries: .*my broken\.', message) and "<table" not in message
    assert table is None


@pytest.mark.parametrize("modality", SUFFIXES)
def test_with_the_box_it_is_left_out_and_named(demo, given, tmp_path, modality):
    """The page and the classifier mean the same by it."""
    crow, wren, broken = given(modality)
    message, fitted = adapted(demo, modality, True, [crow[0], broken, crow[1]], wren)
    assert "Adapted to 4 examples" in message and "1 of 5 examples cannot be read and were left out" in message
    assert len(entries(message)) == 1 and re.match(r"crow: .*my broken\.", entries(message)[0])
    shown = demo.classify(fitted, modality, True, [wren[0], broken, crow[0]], None).html
    assert "1 of 3 queries cannot be read and were not classified" in shown and str(tmp_path) not in message + shown

    classifier = FewShotClassifier(demo.base.model, modality=modality, skip_unreadable=True)
    with pytest.warns(UserWarning, match="1 of 5 inputs cannot be read"):
        classifier.fit([Path(path) for path in (*crow, broken, *wren)], ["crow"] * 3 + ["wren"] * 2)
    with pytest.warns(UserWarning, match="1 of 3 inputs cannot be read"):
        expected = classifier.predict([Path(path) for path in (wren[0], broken, crow[0])])
    assert re.findall('class="guess".*?<b>(.*?)</b>', shown) == expected.tolist()
    np.testing.assert_allclose(fitted.adapted.support_losses_, classifier.support_losses_, atol=1e-6)


def test_a_class_or_queries_of_which_nothing_can_be_read_are_an_error(demo, given):
    crow, wren, broken = given("image")
    message, fitted = adapted(demo, "image", True, crow, [broken])
    assert fitted is None and "Class wren has no example that can be read" in message and "my broken.png" in message
    _, fitted = adapted(demo, "image", True, crow, wren)
    shown = demo.classify(fitted, "image", True, [broken], None).html
    assert 'role="alert">Queries: none of 1 can be read' in shown and "my broken.png" in shown


def test_a_preview_shows_what_can_be_read_beside_what_cannot(demo, given):
    crow, _, broken = given("audio")
    shown = demo.preview("audio", [*crow, broken], None, "crow")
    assert shown.count("<audio") == 2 and re.search(r'role="alert">crow: .*my broken\.wav', shown)


# Names of classes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (" nan ", "Class 2 is called nan, as missing values are written: rename it"),
        ("\u200b", "Class 2 has no name"),
        ("\u200bcrow", "Two classes are called crow"),
        ("cr\u200bow", "the labels .* look the same"),
        ("unreadable", "Class 2 is called unreadable, as what cannot be read is: rename it"),
    ],
)
def test_names_that_cannot_be_those_of_a_class(demo, given, name, message):
    crow, wren, broken = given("image")
    said, fitted = adapted(demo, "image", True, crow, wren, names=("crow", name))
    assert fitted is None and re.search(message, said)
    if name == "unreadable":
        _, fitted = adapted(demo, "image", False, crow, wren, names=("crow", name))
        assert "<table" in demo.classify(fitted, "image", True, wren, None).html
        assert "a class is called" in demo.classify(fitted, "image", True, [*wren, broken], None).html


@pytest.fixture(scope="module")
def levels_demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    return Demo(str(save_level_model(folder)), folder)


@pytest.mark.parametrize("modality", SUFFIXES)
def test_files_are_decoded_once_a_step(levels_demo, given, monkeypatch, modality):
    read, row, given_to = [], page_inputs._read_row, []
    monkeypatch.setattr(page_inputs, "_read_row", lambda item, *others: read.append(item) or row(item, *others))
    for name in ("fit", "predict_proba"):
        own = getattr(FewShotClassifier, name)
        recorded = lambda self, items, *others, own=own: given_to.extend(items) or own(self, items, *others)  # noqa: E731
        monkeypatch.setattr(FewShotClassifier, name, recorded)
    crow, wren, _ = given(modality)
    _, fitted = adapted(levels_demo, modality, False, crow, wren)
    levels_demo.classify(fitted, modality, False, crow, None)
    assert read == [Path(path) for path in (*crow, *wren, *crow)]
    assert len(given_to) == 2 * len(read) and not any(isinstance(item, Path) for item in given_to)


def test_what_is_shown_of_long_inputs_is_small():
    sound = np.random.default_rng(0).integers(-9999, 9999, 16_000 * 100).astype(np.int16)
    assert len(page_html.example(sound, "audio")) < 600_000
    picture = np.random.default_rng(0).integers(0, 256, (3, 512, 900), dtype=np.uint8)
    assert len(page_html.example(picture, "image")) < 120_000


# Limits


def tone(path: Path, seconds: float, rate: int) -> Path:
    soundfile.write(path, np.sin(np.arange(int(seconds * rate)) / 2) / 2, rate)
    return path


def big_picture(path: Path, side: int) -> Path:
    Image.new("1", (side, side)).save(path)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def unknown_length(path: Path) -> Path:
    """An AU file whose header says that its length is not known, as that of a stream."""
    header = b".snd" + b"".join(number.to_bytes(4, "big") for number in (24, 2**32 - 1, 3, SAMPLING_RATE, 1))
    return written(path, header + np.arange(-3_000, 3_000, 10, dtype=">i2").tobytes())


BEYOND = {
    "long sound": ("audio", lambda f: tone(f / "a.wav", 121, 1_000), "own: a.wav lasts 121 s, at most 120"),
    "heavy file": ("image", lambda f: written(f / "a.png", b" " * 10_400_000), "own: a.png has 10.4 MB, at most 10"),
    "big picture": ("image", lambda f: big_picture(f / "a.png", 5_100), "own: a.png has more than 25 megapixels"),
    "huge picture": ("image", lambda f: big_picture(f / "a.png", 14_000), "own: a.png has more than 25 megapixels"),
    "long text": ("text", lambda f: written(f / "a.txt", b"a " * 10_001), "own: a.txt has 20,002 characters"),
    "no file": ("audio", lambda f: f / "a.wav", "own: a.wav is not kept here any more: upload it again"),
    "other kind": ("audio", lambda f: written(f / "a.pdf", b"%PDF"), "a.pdf.*files of these kinds are read: .wav"),
    "blank text": ("text", lambda f: written(f / "a.txt", b" \n"), "own: the text in a.txt is empty"),
}


@pytest.mark.parametrize("case", BEYOND)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_beyond_a_limit_cannot_be_read(tmp_path, case):
    modality, make, message = BEYOND[case]
    inputs = inputs_of_field(modality, [str(make(tmp_path))], None, "own")
    with pytest.raises(PageError, match=message):
        read_inputs(inputs, modality, tiny_processor(), skip_unreadable=False)
    read = read_inputs(inputs, modality, tiny_processor(), skip_unreadable=True)
    assert re.search(message, read.unreadable[0]) and read.rows == [] and str(tmp_path) not in read.unreadable[0]


def test_too_many_inputs_are_an_error_with_the_box_too(demo, given):
    crow, wren, _ = given("text")
    message, fitted = adapted(demo, "text", True, crow, wren, lines="a text\n" * 19)
    assert fitted is None and "crow: 21 inputs are too many, at most 20 are taken" in message


def test_content_decides_and_a_header_that_does_not_know_its_length_is_no_limit(tmp_path):
    files = [unknown_length(tmp_path / "stream.au"), tone(tmp_path / "a.wav", 0.1, 9_000).rename(tmp_path / "a.m4a")]
    inputs = inputs_of_field("audio", [str(file) for file in files], None, "own")
    read = read_inputs(inputs, "audio", tiny_processor(), skip_unreadable=False)
    assert len(read.rows) == 2 and all("<audio" in shown for shown in read.shown)


# Names and notes


def test_texts_come_from_files_and_from_the_lines_of_the_box(tmp_path):
    path = written(tmp_path / "a.txt", b"word1 word2")
    inputs = inputs_of_field("text", [str(path)], " word1 \r\n\n word2\u2028word3 \ud83d", "own")
    assert [(given.item, given.name) for given in inputs] == [
        (path, "a.txt"),
        ("word1", "line 1"),
        ("word2\u2028word3 \ud83d", "line 3"),
    ]
    read = read_inputs(inputs, "text", tiny_processor(), skip_unreadable=True)
    assert (
        read.rows == ["word1 word2", "word1"]
        and "own: the text in line 3 has half of a character" in read.unreadable[2]
    )


def test_files_of_one_name_are_told_apart(tmp_path):
    files = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        files.append(str(written(tmp_path / folder / "1.png", b"")))
    names = [given.name for given in inputs_of_field("image", [*files, str(tmp_path / "2.png")], None, "own")]
    assert names == ["1.png (file 1)", "1.png (file 2)", "2.png"]


@pytest.mark.filterwarnings("ignore")
def test_what_is_noticed_of_inputs_is_on_the_page_with_all_their_names(demo, given, tmp_path):
    crow, wren, _ = given("audio")
    silent = []
    for number in range(7):
        soundfile.write(tmp_path / f"silent {number}.wav", np.zeros(20), SAMPLING_RATE)
        silent.append(str(tmp_path / f"silent {number}.wav"))
    long = str(tone(tmp_path / "late.wav", 0.5, SAMPLING_RATE))
    message, fitted = adapted(demo, "audio", False, [*crow, long], wren)
    assert "of a sound; the rest does not count" in message and entries(message) == ["crow: late.wav (0.5 s)"]
    assert entries(demo.classify(fitted, "audio", False, silent, None).html) == [
        f"Queries: silent {number}.wav" for number in range(7)
    ]
    assert "nothing but silence" in demo.preview("audio", silent[:1], None, "crow")
    crow, wren, _ = (["word1 word2"], ["word3"], None)
    _, fitted = adapted(demo, "text", False, *[[str(written(tmp_path / f"{i}.txt", b"word1"))] for i in range(2)])
    shown = demo.classify(fitted, "text", False, None, "word1\nquite other terms").html
    assert "vocabulary lacks more than half" in shown and entries(shown) == ["Queries: line 2"]


def test_pictures_are_shown_as_the_model_sees_them(tmp_path):
    upright = np.zeros((6, 6, 3), np.uint8)
    upright[:2] = (80, 160, 255)
    turned, exif = Image.fromarray(np.rot90(upright)), Image.Exif()
    exif[274] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    inputs = inputs_of_field("image", [str(tmp_path / name) for name in ("turned.png", "upright.png")], None, "own")
    shown = read_inputs(inputs, "image", tiny_processor(), skip_unreadable=False).shown
    assert shown[0].replace("turned", "upright") == shown[1]


def test_what_is_written_is_escaped():
    harm = "<script>alert(1)</script>"
    for shown in (
        page_html.example(harm, "text"),
        page_html.example("a", "text", harm),
        page_html.unreadable_example(harm),
        page_html.message(harm),
        page_html.summary(harm, [harm]),
        page_html.probabilities([""], [harm, "b"], np.eye(2)[:1], np.eye(2)[:1], [harm]),
    ):
        assert "<script" not in shown and "&lt;script" in shown
