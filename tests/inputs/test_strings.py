"""Strings, texts and odd inputs come in by every door with the same row, the same warning or the same error."""

import io
import time
from collections import UserDict, UserString
from decimal import Decimal

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from PIL import Image

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inputs.infer_modality import infer_modality
from modeling_msmaml.inputs.path_strings import named_place
from modeling_msmaml.inputs.read_text import read_text
from modeling_msmaml.inputs.reading import as_list, read
from msmaml.commands import classify

from ..own_data import SAMPLING_RATE, save_tiny_model, tiny_processor, write_file

KNOWN = ["audio", "text", "image"]
TEXTS, LABELS = ["word1 word2", "word3 word4"], ["a", "b"]
# Strings that name something, though none of it can be read by that name -> what the error says. The working directory
# has what `places` makes.
NAMES = {
    "recordings/old": "is a folder",
    "nowhere.wav": "no such file",
    "nowhere.txt": "no such file",
    "recordings/take1": "no such file",
    "./take1": "no such file",
    "C:\\My Music\\take one.wav": "no such file",
    "\\\\server\\my music\\a.mp3": "no such file",
    "../my music/a.mp3": "no such file",
    "recordings/take.au": "no such file",
    "take_1.au": "no such file",
    "song#1.wav": "no such file",
    "\\\\server\\share\\take1": "no such file",
    "my recordings/two words.wav": "no such file",
    "dead": "link to a file that does not exist",
    "README": "",
    "notes.txt": "",
    "crow.wav\n": "white space around it: strip it",
    " nowhere.wav": "white space around it: strip it",
    "\u202aC:\\x\\a.wav": "invisible characters around it: remove them",
    '"C:\\x\\a.wav"': "in quotation marks: remove them",
    "'crow.wav'": "in quotation marks: remove them",
    "« 'README' »": "in quotation marks: remove them",
    '"C:\\My Music\\a.wav"': "in quotation marks: remove them",
    "file:///home/me/my song.wav": "give the path, '/home/me/my song.wav'",
    "https://example.org/a.wav?download=1": r"an address \(URL\), which is not fetched: download",
    "s3://bucket/key": r"an address \(URL\)",
    "file:///home/me/a%20b.wav": "give the path, '/home/me/a b.wav'",
    "data:image/png;base64,iVBORw0KGgo" + "A" * 10_000: "a data URI.*base64.b64decode",
    **{
        f"file{suffix}": "no such file"
        for suffix in (".m4a", ".tga", ".3gp", ".mp2", ".mpga", ".ico", ".jp2", ".jxl", ".pdf", ".doc", ".docx")
        + (".odt", ".rtf", ".zip", ".wav.gz", ".csv", ".md", ".npy", ".HEIC")
    },
}
STAY_TEXTS = (
    "the word",
    "see crow.wav and nowhere.wav, then decide",
    "https://example.org says so",
    "and/or",
    "24/7",
    "/r/funny",
    "node.js",
    "U.S.A.",
    "C: the third letter",
    "data: the numbers",
    '"quoted words"',
    "...",
    ".",
    "crow.wav\nwren.wav",
    "x" * 5_000 + ".wav",
    "D:/ I am so sad about this",
    "D:/",
    "C:\\ drive is full, what can I do?",
    "c:/windows is where the system lives, see a.wav",
    "C:\\a.wav, then b.wav",
    "\\\\server\\share is offline today...",
    "file:/// links do not open in my browser",
    "file:///home/me is where I keep notes.txt",
    "/tmp/ is full again, please see notes.txt",
    "/usr/bin/python3 /home/me/config.json",
    "recordings/issues are listed in report.pdf",
    "recordings/old and recordings/new differ in length",
    "./configure && make",
    "我打开了文件，请看a.wav",
    "abc.net.au",
    "www.gov.md",
    "me@home.pt",
    "Dr.Au",
    "St.Ra",
    "End.Pages",
    "I opened the file notes.txt",
    "I bought it at amazon.com.au",
    "please read README.md",
    "select * from a.csv",
    "see https://example.com/a.png",
    "please read report.wav",
    "“« <'word1 word2'> »”",
)
# Strings that are taken as texts with a note.
NOTED = {
    "folder": "a word that is also the name of a folder is taken as a text",
    "crow.au": "a word that ends like the name of a file is taken as a text",
    "vol.ps": "a word that ends like the name of a file is taken as a text",
}
# Name -> what is no text, and what the error says.
NO_TEXTS = {
    "empty": ("", "is empty"),
    "blank": (" \n\t", "is empty but for invisible characters"),
    "zero width": ("\u200b\ufeff\u2060", "is empty but for invisible characters"),
    "control": ("\x01\x02", "is empty but for invisible characters"),
    "fillers": ("\u3164\u2800\ufe0f", "is empty but for invisible characters"),
    "half a character": ("word1 \ud83d", "position 6"),
    "UTF-16": ("word1 word2".encode("utf-16-le").decode(), "NUL character at position 1.*UTF-16"),
    "UTF-32": ("word1".encode("utf-32-be").decode(), "NUL character at position 0"),
    "Cyrillic UTF-16": ("слово".encode("utf-16-le").decode(), "control characters"),
    "PDF": ("%PDF-1.4 word1", "is a PDF document"),
    "missing": (None, "is missing"),
    "NaN": (float("nan"), "is missing"),
    "NA": (pandas.NA, "is missing"),
    "bytes": (b"word1", "not a bytes"),
    "words": (["word1", "word2"], "not a list"),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "recordings/old", "my recordings"):
        (tmp_path / folder).mkdir(parents=True)
    write_file("audio", tmp_path, 0, 0).rename(tmp_path / "crow.wav")
    for name in ("README", "notes.txt"):
        (tmp_path / name).write_text("word1 word2")
    (tmp_path / "dead").symlink_to("nothing")
    return tmp_path


def text_classifier(model_dir, **arguments) -> FewShotClassifier:
    return FewShotClassifier.from_pretrained(model_dir, **arguments).fit(TEXTS, LABELS)


@pytest.mark.parametrize("string", NAMES, ids=lambda string: repr(string[:25]))
@pytest.mark.filterwarnings("ignore:the model's vocabulary")
def test_a_string_that_names_something_is_no_text(string, places, model_dir):
    fitted = text_classifier(model_dir)
    for refused in (
        lambda: infer_modality([*TEXTS, string], KNOWN),
        lambda: FewShotClassifier.from_pretrained(model_dir).fit([*TEXTS, string], [*LABELS, "a"]),
        lambda: fitted.predict([*TEXTS, string]),
    ):
        with pytest.raises(
            (ValueError, FileNotFoundError), match=rf"(?s)inputs\[2\].*{NAMES[string]}.*modality='text'"
        ):
            refused()
    note = r"itself taken as the text; pathlib.Path reads the file: {}: "
    named = FewShotClassifier.from_pretrained(model_dir, modality="text")
    with pytest.warns(UserWarning, match=note.format(r"inputs\[2\]")):
        named.fit([*TEXTS, string], [*LABELS, "a"])
    with pytest.warns(UserWarning, match=note.format(r"inputs\[0\]")):
        assert named.predict([string]).shape == (1,)
    with pytest.warns(UserWarning, match=note.format(r"text\[1\]")):
        tiny_processor()(text=["word1", string])


@pytest.mark.filterwarnings("error", "ignore:the model's vocabulary", "ignore:the model reads")
@pytest.mark.parametrize("string", STAY_TEXTS, ids=lambda string: repr(string[:25]))
def test_a_sentence_that_mentions_a_file_is_a_text(string, places):
    assert infer_modality([string], KNOWN) == "text"
    row = read([string], "text", tiny_processor())
    assert torch.equal(row, torch.from_numpy(tiny_processor()(text=string)["input_ids"]))


@pytest.mark.parametrize("string", NOTED)
@pytest.mark.filterwarnings("ignore:the model's vocabulary")
def test_a_word_that_may_name_something_is_noted(string, places):
    assert infer_modality([string], KNOWN) == "text"
    with pytest.warns(UserWarning, match=rf"{NOTED[string]}.*: inputs\[1\]: '{string}'"):
        read(["word1", string], "text", tiny_processor())


@pytest.mark.filterwarnings("ignore:the model's vocabulary")
def test_texts_that_are_all_like_names_of_files_are_noted(places):
    with pytest.warns(UserWarning, match="each ends like the name of a file; no files have these names: inputs"):
        read(["one crow.wav", "two crows.wav"], "text", tiny_processor())


@pytest.mark.parametrize(
    "string",
    [
        '" ' * 1_000 + "a word" + ' "' * 1_000,
        '"' * 2_000 + "a" + '"' * 2_000,
        "« " * 900 + "merci" + " »" * 900,
        " \ufeff" * 200_000 + "a word" + "\ufeff " * 200_000,
        *(
            "a.wav " * 680,
            "a" * 4_000 + " b.wav",
            "?" * 4_000 + "a b",
            "@." * 2_000 + ".au",
            "C:/" + "a " * 2_000 + "x.wav",
        ),
    ],
    ids=lambda string: repr(string[:10]),
)
def test_any_string_is_told_apart_at_once(string):
    start = time.process_time()
    named_place(string)
    assert time.process_time() - start < 0.2


def test_content_decides_where_there_is_no_suffix(places, model_dir):
    (places / "crow.wav").rename(places / "recordings" / "crow")
    Image.new("RGB", (6, 6)).save(places / "red", "PNG")
    assert infer_modality(["recordings/crow"], KNOWN) == "audio"
    assert infer_modality(["red"], KNOWN) == "image"


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_a_path_that_is_written_wrongly_says_so_for_sounds_and_pictures_too(modality, places):
    for string, message in (
        ("folder", "is a folder"),
        ("crow.wav\n", "strip it"),
        ('"crow.wav"', "quotation marks"),
        ("https://example.org/a.png", "URL"),
    ):
        with pytest.raises(ValueError, match=rf"inputs\[0\]: .*{message}"):
            read([string], modality, tiny_processor())
    with pytest.raises(FileNotFoundError, match=r"inputs\[0\]: no .* at nowhere"):
        read(["nowhere"], modality, tiny_processor())


@pytest.mark.parametrize("name", NO_TEXTS)
def test_what_is_no_text_is_refused_by_every_door(name, tmp_path, model_dir):
    text, message = NO_TEXTS[name]
    named = FewShotClassifier.from_pretrained(model_dir, modality="text")
    with pytest.raises(ValueError, match=rf"text\[1\]: .*{message}"):
        tiny_processor()(text=["word1", text])
    with pytest.raises(ValueError, match=rf"inputs\[2\]: .*{message}"):
        named.fit([*TEXTS, text], [*LABELS, "a"])
    with pytest.raises(ValueError, match=rf"inputs\[1\]: .*{message}"):
        text_classifier(model_dir).predict(["word1", text])
    if isinstance(text, str) and name != "half a character":
        for kind, own in zip("ab", TEXTS, strict=True):
            (tmp_path / "support" / kind).mkdir(parents=True)
            (tmp_path / "support" / kind / "0.txt").write_text(own)
        (tmp_path / "strange.txt").write_bytes(text.encode())
        words = ["--model", model_dir, "--support", tmp_path / "support", "--query", tmp_path / "strange.txt"]
        with pytest.raises(SystemExit, match=rf"strange.txt.*{message}"):
            classify.main([str(word) for word in words])


def test_text_files_and_their_errors_have_names(places):
    processor = tiny_processor()
    assert np.array_equal(processor(text=places / "notes.txt")["input_ids"], processor(text=TEXTS[0])["input_ids"])
    assert np.array_equal(processor(text=[places / "README"])["input_ids"], processor(text=TEXTS[0])["input_ids"])
    for path, message in (
        (places / "folder", r"text\[0\]: .*folder is a folder"),
        (places / "crow.wav", r"text\[0\]: .*crow.wav is named like a file of audio"),
        (places / "own.pdf", r"text\[0\]: no text file at .*own.pdf"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            processor(text=[path])
    (places / "own.pdf").write_text("word1")
    with pytest.raises(ValueError, match="own.pdf is named like a file of another kind"):
        read_text(places / "own.pdf")
    (places / "notes.txt").write_text("word1 " * 30)
    with pytest.warns(UserWarning, match=r"inputs\[0\]: .*notes.txt \(30 tokens\)"):
        read([places / "notes.txt"], "text", processor)
    with pytest.raises(ValueError, match="text is empty: give at least one"):
        processor(text=[])
    with pytest.raises(ValueError, match="text is a set, which has no order"):
        processor(text=set(TEXTS))
    with pytest.raises(ValueError, match="text: a text is a string.*not a int"):
        processor(text=5)


# Other types


def test_types_that_stand_for_another_are_that(tmp_path):
    content = write_file("image", tmp_path, 0, 0).read_bytes()
    for form in (content, bytearray(content), memoryview(content), io.BytesIO(content), UserDict(bytes=content)):
        assert infer_modality([form], KNOWN) == "image"
        assert torch.equal(read([form], "image", tiny_processor()), read([content], "image", tiny_processor()))
    assert infer_modality([UserString("word1")], KNOWN) == "text"
    table = pyarrow.table({"own": TEXTS})
    for column in (table, table.to_batches()[0], pandas.DataFrame({"own": TEXTS}), table["own"]):
        assert as_list(column) == TEXTS
        assert tiny_processor()(text=column)["input_ids"].shape == (2, 18)
    two = pyarrow.table({"own": TEXTS, "label": LABELS})
    for frame in (two, two.to_batches()[0]):
        with pytest.raises(ValueError, match="inputs is a table with the columns own, label: give one column"):
            as_list(frame)
    for single in (bytearray(content), io.BytesIO(content), UserString("word1"), UserDict(bytes=content)):
        with pytest.raises(ValueError, match="give a list, also of a single input"):
            as_list(single)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, "is missing"),
        (pandas.NA, "is missing"),
        (b"hello", "5 bytes are neither a sound nor a picture"),
        (["a", "b"], "a list of strings: give each"),
        ([[1.0], [1.0, 2.0]], "a list whose parts have several lengths"),
        (np.array(["a", "b"]), "of strings"),
        ([None, {}], "of objects"),
        ({"path": float("nan")}, "a dict needs"),
        ({"path": 5}, "'path' of a dict is a path, not a int"),
        ({"bytes": "text"}, "'bytes' of a dict is a bytes, not a str"),
        (Decimal("sNaN"), "of type Decimal"),
        (..., "of type ellipsis"),
    ],
    ids=repr,
)
def test_an_input_of_no_modality_is_named_or_skipped(item, message, model_dir, tmp_path):
    with pytest.raises(ValueError, match=rf"inputs\[1\]: .*{message}"):
        infer_modality(["word1", item], KNOWN)
    skipping = FewShotClassifier.from_pretrained(model_dir, skip_unreadable=True)
    with pytest.warns(UserWarning, match=rf"1 of 3 inputs cannot be read: inputs\[0\]: .*{message}"):
        skipping.fit([item, *TEXTS], ["c", *LABELS])
    assert skipping.modality_ == "text" and skipping.classes_.tolist() == LABELS
    with pytest.raises(ValueError, match=rf"none of 2 inputs can be read: inputs\[0\]: .*{message}"):
        skipping.fit([item, item], LABELS)


def test_a_missing_file_is_skipped_beside_others(model_dir, tmp_path):
    files = [str(write_file("audio", tmp_path, kind, 0)) for kind in range(2)]
    skipping = FewShotClassifier.from_pretrained(model_dir, skip_unreadable=True)
    with pytest.warns(UserWarning, match=r"2 of 4 inputs cannot be read: inputs\[0\]: it is missing.*; inputs\[2\]: "):
        skipping.fit([None, files[0], str(tmp_path / "nowhere.heic"), files[1]], ["a", "a", "b", "b"])
    assert skipping.modality_ == "audio"


@pytest.mark.parametrize(
    "item",
    [
        torch.ones(36).to_sparse(),
        torch.ones(36, device="meta"),
        torch.ones(36, dtype=torch.complex64).conj(),
        [Decimal("sNaN")] * 36,
        [[1.0], [1.0, 2.0]],
        {"path": float("nan")},
        {"array": None, "bytes": None},
    ],
    ids=["sparse", "meta", "conjugated", "decimals", "ragged", "nan path", "empty dict"],
)
@pytest.mark.parametrize("modality", KNOWN)
def test_whatever_an_input_raises_is_unreadable_by_name(item, modality):
    unreadable = {}
    with pytest.raises(ValueError, match=r"inputs\[0\]: "):
        read([item], modality, tiny_processor(), SAMPLING_RATE)
    with pytest.raises(ValueError, match="none of 1 inputs"):
        read([item], modality, tiny_processor(), SAMPLING_RATE, unreadable=unreadable)
    assert list(unreadable) == [0]


def test_rows_of_a_registered_modality_are_finite_numbers():
    assert read([np.ones(3), [1, 2, 3]], "smell", None).shape == (2, 3)
    for item, message in (("word", "no array of numbers"), (np.array([np.inf, 1, 2]), "not finite")):
        with pytest.raises(ValueError, match=rf"inputs\[1\]: .*{message}"):
            read([np.ones(3), item], "smell", None)
