"""Small inputs that other tools read wrongly (shared/cases/make_inputs.py), each with what is right for it."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from data_builders import load_few_shot
from modeling_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor
from modeling_msmaml.inputs.infer_modality import infer_modality
from modeling_msmaml.inputs.labelled_files import labelled_files
from modeling_msmaml.inputs.read_text import read_text
from modeling_msmaml.inputs.reading import read

PROCESSOR = MSMAMLProcessor(MSMAMLFeatureExtractor(), MSMAMLImageProcessor(32))


@pytest.fixture(scope="module")
def cases(shared_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, shared_dir / "cases" / "make_inputs.py", folder], check=True, capture_output=True)
    return folder


def pictures(folder, *names) -> list[np.ndarray]:
    return list(read([folder / name for name in names], "image", PROCESSOR).numpy().astype(int))


def sound(path) -> np.ndarray:
    return read([path], "audio", PROCESSOR)[0].numpy()


def test_exif_orientation_is_applied(cases):
    upright, *turned = pictures(cases / "exif_orientation", "upright.jpg", "3.jpg", "6.jpg", "8.jpg")
    for row, quarters in zip(turned, (2, 3, 1), strict=True):
        assert np.abs(row - np.rot90(upright, quarters, axes=(1, 2))).max() <= 2


def test_pictures_of_more_than_8_bits_are_scaled(cases):
    expected, *rows = pictures(cases / "bit_depth", "8bit.png", "16bit.png", "16bit.tif", "int32.tif", "float.tif")
    assert expected.min() < 8 and expected.max() > 247
    for row in rows:
        assert np.abs(row - expected).max() <= 1


def test_transparency_is_laid_on_white(cases):
    disc, hidden, bar = pictures(cases / "transparency", "disc.png", "hidden_colours.png", "bar.png")
    assert np.array_equal(disc, hidden)
    assert (disc[:, 0, 0] == 255).all() and not disc[:, 16, 16].any() and (bar[:, 0, 0] == 255).all()


def test_unreadable_pictures_are_named_or_skipped(cases, tmp_path):
    own = {"data_dir": cases / "unreadable_pictures", "cache_dir": tmp_path, "shares": (0, 0, 1)}
    with pytest.raises(ValueError, match=r"2 of 8 inputs.*dead\.png.*scan\.png"):
        load_few_shot("folder", "test", **own)
    with pytest.warns(UserWarning, match=r"2 of 8 inputs.*left out: .*dead\.png.*scan\.png"):
        assert len(load_few_shot("folder", "test", skip_unreadable=True, **own)) == 6


@pytest.mark.parametrize("rate", [22_255, 22_254, 11_127, 96_001])
def test_sounds_of_odd_rates_are_read_at_once(cases, rate):
    start = time.perf_counter()
    row = sound(cases / "odd_rates" / f"{rate}.wav")
    assert time.perf_counter() - start < 1
    assert abs(np.flatnonzero(row)[-1] / 16_000 - 0.05) < 0.001, "50 ms"


def test_headers_that_lie_are_read_or_refused_by_name(cases):
    assert sound(cases / "lying_headers" / "streamed.flac").any()
    with pytest.raises(ValueError, match=r"inputs\[0\]: cannot decode the sound in .*damaged\.flac"):
        sound(cases / "lying_headers" / "damaged.flac")


def test_content_decides_where_a_suffix_says_nothing(cases):
    sounds = [str(cases / "other_suffixes" / f"{bird}.aiff") for bird in ("crow", "wren")]
    assert infer_modality(sounds, ["audio", "text"]) == "audio"
    assert all(sound(path).any() for path in sounds)
    with pytest.raises(FileNotFoundError, match=r"memo\.m4a"):
        infer_modality(["memo.m4a"], ["audio", "text"])


def test_a_late_sound_is_warned_of(cases):
    with pytest.warns(UserWarning, match=r"the first 5 s of a sound.*late\.wav \(12\.0 s\)"):
        sound(cases / "late_sound" / "late.wav")


def test_splits_by_other_names(cases):
    found = labelled_files(cases / "splits_by_other_names")
    assert found.class_names == ["cat", "dog"] and set(found.splits or ()) == {"train", "validation"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("comma", "metadata.csv, line 2: there are 3 values for the 2 columns"),
        ("same_file", "metadata.csv, line 3: listed twice: a/0.png, first in line 2"),
        ("repeated_column", "metadata.csv, line 1: the columns are .*each once"),
        ("short_line", "metadata.csv, line 3"),
        ("latin_1", "metadata.csv, line 2: it is not UTF-8"),
    ],
)
def test_tables_that_are_refused_with_their_line(cases, name, message):
    with pytest.raises(ValueError, match=message):
        labelled_files(cases / f"table_{name}")


def test_blanks_around_labels_are_stripped(cases):
    assert labelled_files(cases / "table_blanks").class_names == ["x", "y"]


def test_empty_texts_are_unreadable(cases, tmp_path):
    with pytest.raises(ValueError, match=r"6 of 21 inputs.*blank\.txt.*empty\.txt"):
        load_few_shot("folder", "train", data_dir=cases / "empty_texts", cache_dir=tmp_path, shares=(1, 0, 0))


def test_unsigned_labels_are_classes(cases, tmp_path):
    own = {"repo": str(cases / "unsigned_labels"), "cache_dir": tmp_path, "shares": (0.5, 0, 0.5)}
    names = [load_few_shot("hub", split, **own).class_names for split in ("train", "test")]
    assert sorted(names) == [("0",), ("1",)]


def test_half_a_character_is_refused_with_its_place(cases):
    _, text = json.loads((cases / "half_surrogate" / "texts.json").read_text())
    with pytest.raises(ValueError, match="position 9"):
        read_text(text)
