"""A local folder gives the same classes or the same error through `hub:` as through `folder`, and so do its tables."""

import json
import os
import warnings
from collections.abc import Mapping

import pandas
import pytest
from PIL import Image

from data_builders import NoSuchSplit, load_few_shot


@pytest.fixture
def load(tmp_path):
    """Loads the folder "own", through either door."""

    def load_own(door: str = "hub", **options):
        repo = tmp_path / "own"
        given = {"repo": str(repo)} if door == "hub" else {"data_dir": repo}
        return load_few_shot(door, "train", cache_dir=tmp_path / "cache", **{"shares": (1, 0, 0), **given, **options})

    (tmp_path / "own").mkdir()
    return load_own


def write(folder, files: Mapping[str, bytes | str | None]) -> None:
    """Pictures where there is no content."""
    for number, (name, content) in enumerate(files.items()):
        path = folder / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", (9, 9), (100 + number, 0, 0)).save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


PICTURES = {"a/0.png": None, "a/1.png": None, "b/0.png": None}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"metadata.csv": "file_name,label\na/0.png,x,y\n"}, "metadata.csv, line 2: there are 3 values"),
        ({"metadata.csv": "label,file_name\nx,a/0.png\ny\n"}, "metadata.csv, line 3: there are 1 values"),
        ({"metadata.csv": "file_name,label\na/0.png,x\n./a/0.png,y\n"}, "metadata.csv, line 3: listed twice"),
        ({"metadata.csv": "file_name,label,label\na/0.png,x,y\n"}, "metadata.csv, line 1: the columns are"),
        ({"metadata.csv": b"file_name,label\na/0.png,caf\xe9\n"}, "metadata.csv, line 2: it is not UTF-8"),
        ({"metadata.csv": "file_name,label\na/0.png,NA\n"}, "metadata.csv, line 2, has no label; NA stands"),
        ({"metadata.xlsx": b"PK"}, "metadata.xlsx is a table that is not read"),
        ({"metadata.jsonl": '{"file_name": "a/0.png", "label": "\\ud83d"}'}, "metadata.jsonl, line 1: .* half of"),
        ({"c/x.heic": b"of a phone"}, "c: no files of these kinds"),
    ],
)
def test_folders_of_pictures_are_refused_alike(files, message, load, tmp_path):
    write(tmp_path, PICTURES | files)
    for door in ("folder", "hub"):
        with pytest.raises(ValueError, match=message):
            load(door)


def test_links_to_nothing_and_files_of_other_kinds_are_said(load, tmp_path):
    write(tmp_path, PICTURES | {"a/x.heic": b"of a phone"})
    with pytest.warns(UserWarning, match="1 files are of another kind.*: a/x.heic"):
        assert len(load()) == 3
    os.symlink("nowhere.png", tmp_path / "own" / "a" / "2.png")
    with pytest.raises(ValueError, match="1 of 4 inputs of hub:.* cannot be read: .*a/2.png"):
        load()


@pytest.mark.filterwarnings("error::UserWarning")
def test_columns_of_a_folder(load, tmp_path):
    table = "file_name,Species,tape,colour\na/0.png,x,1,red\na/1.png,y,1,red\nb/0.png,y,,red\n"
    write(tmp_path, PICTURES | {"metadata.csv": table})
    split = load(label_column="Species", source_column="tape", input_column="image")
    assert split.class_names == ("x", "y") and split.source_ids.tolist() == ["1", "1", "b/0.png"]
    assert load().class_names == ("a", "b") and len(set(load().source_ids)) == 3
    for options, message in (
        ({"label_column": "genus"}, "metadata.csv, line 1: label_column='genus' is no column"),
        ({"source_column": "city"}, "metadata.csv, line 1: source_column='city' is no column"),
        ({"input_column": "picture"}, "input_column='picture' is no column of hub:.* called image"),
    ):
        with pytest.raises(ValueError, match=message):
            load(**options)
    (tmp_path / "own" / "metadata.csv").unlink()
    with pytest.raises(ValueError, match="label_column='Species': .* has no metadata.csv"):
        load(label_column="Species")


def test_splits_of_a_folder_are_pooled_or_kept(load, tmp_path):
    write(tmp_path, {"train/a/0.png": None, "val/b/0.png": None, "test/c/0.png": None})
    assert load().class_names == ("a", "b", "c")
    assert load(keep_splits=True, shares=None).class_names == ("a",)


def test_a_folder_that_says_how_it_is_read_is_read_so(load, tmp_path):
    card = "---\nconfigs:\n- config_name: default\n  data_files: some/*.png\n---\n"
    write(tmp_path, {"README.md": card, "some/0.png": None, "other/0.png": None})
    with pytest.raises(ValueError, match="label_column='label' is no column of hub:.*its columns: image"):
        load()


TEXTS = '{"text": "the sun", "label": "a"}\n{"text": "a word", "label": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", b"text,label\nthe sun,a\ncaf\xe9,b\n", "train.csv, line 3: it is not UTF-8"),
        ("train.csv", "text,label\nthe sun,a\n".encode("utf-16"), "train.csv is not UTF-8"),
        ("train.csv", "text,label\nthe sun, warm,a\n", "train.csv, line 2: there are 3 values for the 2 columns"),
        ("train.csv", "label,text\na,the sun\nb\n", "train.csv, line 3: there are 1 values for the 2 columns"),
        ("train.csv", 'text,label\n"the sun,a\na word,b\n', "train.csv, line 3: .* close all quotes"),
        ("train.csv", 'text,label\n"the sun,a\n"a word",b\n', "train.csv, line 3: .* close all quotes"),
        ("train.csv", "text,label,label\nthe sun,a,b\n", "train.csv, line 1: the columns are .* once"),
        ("train.csv", "text,label\nthe sun,a\na word,NA\n", r"no label in column 'label' \(.*train.csv, line 3\)"),
        ("train.csv", 'text,label\n"the\nsun",a\n"  ",b\n', "1 of 2 inputs .*train.csv, line 4 .the text is empty"),
        ("train.tsv", "text\tlabel\nthe sun\ta\tb\n", "train.tsv, line 2: .* with a tab"),
        ("train.jsonl", TEXTS + '{"text": "he \\ud83d", "label": "b"}', "train.jsonl, line 3: .* half of a surrogate"),
        ("train.jsonl", TEXTS + '{"text": ["he", "\\ud83d"]}', "train.jsonl, line 3: .* half of a surrogate"),
        ("train.jsonl", TEXTS + '{"text": "the sun"', "train.jsonl, line 3: it is no JSON object on one line"),
        ("train.jsonl", TEXTS.replace("sun", "sun\xe9").encode("latin-1"), "train.jsonl, line 1: it is not UTF-8"),
        ("train.jsonl", TEXTS + '{"text": "x", "label": null}', r"no label .*\(.*train.jsonl, line 3\)"),
        ("train.csv", "file,label\nbirds/a.wav,a\nbirds/b.wav,b\n", "'file' of .* nothing but names of files"),
        ("train.jsonl", TEXTS.replace("the sun", "a.png").replace("a word", "b.png"), "line 1: 'a.png'"),
        ("train.parquet", b"PAR1 and no more", "train.parquet cannot be read"),
    ],
)
def test_tables_that_are_refused_by_name(name, content, message, load, tmp_path):
    write(tmp_path, {name: content})
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load()


def test_a_damaged_file_is_named_among_others(load, tmp_path):
    frame = pandas.DataFrame({"text": ["the sun", "a word"], "label": ["a", "b"]})
    frame.to_parquet(tmp_path / "own" / "train.parquet")
    whole = (tmp_path / "own" / "train.parquet").read_bytes()
    write(tmp_path, {"test.parquet": whole[:-200] + bytes(200)})
    with pytest.raises(ValueError, match="hub:.*: [^ ]*test.parquet cannot be read"):
        load()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", 'text,label\r\n"the ""sun"",\nor so",a\r\n\r\nsee notes.txt,b\r\n'),
        ("train.csv", "\ufefftext,label\nthe sun,a\nbirds/a.wav,b\n"),
        ("train.csv", f"text,label\n{'word ' * 40_000},a\nthe sun,b\n"),
        ("train.tsv", "text\tlabel\nthe sun, or so\ta\na word\tb\n"),
        ("train.jsonl", TEXTS + "\n"),
        ("train.json", json.dumps([json.loads(line) for line in TEXTS.splitlines()])),
    ],
)
def test_tables_that_are_read(name, content, load, tmp_path):
    write(tmp_path, {name: content})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        split = load(unit="document", min_count=1)
    assert split.class_names == ("a", "b") and len(split) == 2


@pytest.mark.parametrize(
    ("name", "within", "splits", "options"),
    [
        ("folder", "own", True, {}),
        ("folder", "own", False, {"shares": (1, 0, 0)}),
        ("folder:own", ".", True, {}),
        ("folder:own/train", ".", True, {"shares": (1, 0, 0)}),
        ("folder:image", "own", False, {"shares": (1, 0, 0)}),
        ("hub:{root}/own", "own", True, {"keep_splits": True}),
        ("hub:{root}/own", "own", False, {"shares": (1, 0, 0)}),
    ],
)
def test_an_empty_split_is_none_of_the_data_set_that_the_person_names(name, within, splits, options, tmp_path):
    write(tmp_path, {f"train/{path}" if splits else path: None for path in PICTURES})
    name = name.format(root=tmp_path)
    options = {"data_dir": tmp_path / within, "cache_dir": tmp_path / "cache", **options}
    assert load_few_shot(name, "train", **options).name == name
    for split in ("validation", "test"):
        with pytest.raises(NoSuchSplit, match=f"split '{split}' of {name} is empty: it has 2 classes"):
            load_few_shot(name, split, **options)


def test_a_split_without_readable_inputs_is_none_of_the_data_set_that_the_person_names(tmp_path):
    write(tmp_path, {**PICTURES, "b/0.png": "no picture"})
    options = {"shares": (0.5, 0, 0.5), "seed": 1, "skip_unreadable": True}  # the class b is for the test
    with (
        pytest.warns(UserWarning, match="1 of 3 inputs of folder:own"),
        pytest.raises(NoSuchSplit, match="the test split of folder:own has no rows"),
    ):
        load_few_shot("folder:own", "test", data_dir=tmp_path, cache_dir=tmp_path / "cache", **options)
