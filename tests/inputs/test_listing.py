"""Folders and their tables are listed the same way for data sets and for the command."""

import os
from pathlib import Path

import pytest
from PIL import Image

from data_builders import load_few_shot
from modeling_msmaml.inputs.labelled_files import labelled_files, query_files, support_set

FILES = ("a/0.png", "a/1.png", "b/0.png")


def folder_of(root: Path, files=FILES, table: bytes | None = None, name: str = "metadata.csv") -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(root / file)
    if table is not None:
        (root / name).write_bytes(table)
    return root


def listed(root: Path) -> dict[str, str]:
    """File -> label, which is the same through both."""
    found, (files, labels) = labelled_files(root), support_set(root)
    assert dict(zip(found.names, found.labels, strict=True)) == dict(zip(map(str, files), labels, strict=True))
    return {os.path.relpath(name, root): label for name, label in zip(found.names, found.labels, strict=True)}


@pytest.mark.parametrize(
    "table",
    [
        b"file_name,label\r\na/0.png,x\r\nb/0.png,y\r\n",
        b"\xef\xbb\xbffile_name,label\na/0.png,x\nb/0.png,y\n",
        "file_name,label\na/0.png,x\nb/0.png,y\n".encode("utf-16"),
        b" File_Name , Label\n./a/0.png , x\n\nb//0.png,y \n",
        b"file_name,label\na\\0.png,x\nb\\0.png,y\n",
        b'"label","file_name"\n"x","a/0.png"\n"y","b/0.png"\n',
    ],
    ids=["CRLF", "byte order mark", "UTF-16", "blanks", "backslashes", "quotes"],
)
def test_tables_of_spreadsheets(table, tmp_path):
    assert listed(folder_of(tmp_path, table=table)) == {"a/0.png": "x", "b/0.png": "y"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file_name;label\na/0.png;x\n", "line 1: the columns are"),
        (b"file_name,label\na/0.png,\n", "line 2, has no label"),
        (b'file_name,label\na/0.png,"x\na/1.png,y\n', "line 3: .*close all quotes"),
        (b'file_name,label\na/0.png,"x\ny"\n', "line 3: a value spans several lines"),
        (b"file_name,label\na/0.png,x\0y\n", "line 2: .*damaged"),
        (b"file_name,label\n/etc/passwd,x\n", "line 2: a file outside its folder"),
        (b"", "lists no files"),
        ("file_name,label\na/0.png,x\n".encode("utf-16-le"), "is not UTF-8; it looks like UTF-16"),
        ("file_name,label\na/0.png,x\n".encode("utf-16-be"), "is not UTF-8; it looks like UTF-16"),
        ("file_name,label\na/0.png,x\n".encode("utf-32"), "is not UTF-8; it looks like UTF-16 or UTF-32"),
    ],
)
def test_tables_that_are_refused(table, message, tmp_path):
    folder_of(tmp_path, table=table)
    for door in (labelled_files, support_set):
        with pytest.raises(ValueError, match=rf"metadata.csv.*{message}|{message}"):
            door(tmp_path)


LINE = b'{"file_name": "a/0.png", "label": "x"}\n'


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("METADATA.CSV", b"file_name,label\na/0.png,x\nb/0.png,1\n"),
        ("metadata.jsonl", LINE + b'\n{"label": 1, "File_Name": "b/0.png"}\n'),
        (
            "Metadata.JSONL",
            b"\xef\xbb\xbf" + LINE + b'{"label": " 1\\u200b ", "file_name": "b\\\\0.png", "source": null}',
        ),
    ],
)
def test_tables_of_other_names_and_kinds(name, table, tmp_path):
    assert listed(folder_of(tmp_path, table=table, name=name)) == {"a/0.png": "x", "b/0.png": "1"}


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("metadata.xlsx", b"PK", "metadata.xlsx is a table that is not read: save it as metadata.csv"),
        ("Metadata.TSV", b"", "Metadata.TSV is a table that is not read"),
        ("metadata.csv.txt", b"", "metadata.csv.txt is a table that is not read"),
        ("metadata.json", b"[]", "metadata.json is a table that is not read"),
        ("metadata.jsonl", b"", "metadata.jsonl lists no files"),
        ("metadata.jsonl", LINE + b"[1]\n", "jsonl, line 2: it is no JSON object, but a list"),
        ("metadata.jsonl", LINE + b'{"file_name": \n', "jsonl, line 2: it is no JSON object on one line"),
        ("metadata.jsonl", LINE + b"[" * 100_000, "jsonl, line 2: it is no JSON object on one line"),
        ("metadata.jsonl", LINE + b'{"file_name": "b/0.png"}', "b/0.png in .*jsonl, line 2, has no label"),
        ("metadata.jsonl", LINE + b'{"label": "y"}', "jsonl, line 2: a file outside its folder"),
        ("metadata.jsonl", LINE + LINE, "jsonl, line 2: listed twice: a/0.png"),
        ("metadata.jsonl", b'{"file_name": "a/0.png", "label": "x", "label": "y"}', "line 1: .*a key is there twice"),
        ("metadata.jsonl", b'{"file_name": "a/0.png", "label": ["x"]}', "line 1: label is a list: give a string"),
        ("metadata.jsonl", b'{"file_name": "a/0.png", "label": "x\\ud83d"}', "line 1: .* half of a surrogate pair"),
        ("metadata.jsonl", LINE + b'{"file_name": "b/0.png", "label": "caf\xe9"}', "line 2: it is not UTF-8"),
        ("metadata.jsonl", b'{"file_name": "a/0.png", "species": "x"}', "line 1: the columns are"),
    ],
)
def test_other_tables_that_are_refused(name, table, message, tmp_path):
    refused(folder_of(tmp_path, table=table, name=name), message)


def test_a_table_that_is_a_link_to_nothing_and_two_tables(tmp_path):
    root = folder_of(tmp_path)
    os.symlink("nowhere", root / "metadata.csv")
    for door in (labelled_files, support_set):
        with pytest.raises(FileNotFoundError, match="metadata.csv is a link to nothing"):
            door(root)
    folder_of(root, table=LINE, name="metadata.jsonl")
    refused(root, "has the tables metadata.csv, metadata.jsonl: keep one")


def test_each_split_may_have_a_table(tmp_path):
    files = ["train/0.png", "train/1.png", "test/0.png"]
    root = folder_of(tmp_path, files, b"file_name,label\n0.png,x\n1.png,y\n", "train/metadata.csv")
    with pytest.raises(ValueError, match="train.metadata.csv lists .* but there is none in test"):
        labelled_files(root)
    folder_of(root, files, b'{"file_name": "0.png", "label": "y"}', "test/metadata.jsonl")
    found = labelled_files(root)
    assert list(zip(found.splits or (), found.labels, strict=True)) == [("test", "y"), ("train", "x"), ("train", "y")]
    folder_of(root, files, b"file_name,label\ntrain/0.png,x\n")
    with pytest.raises(ValueError, match="both list files: keep one"):
        labelled_files(root)


def test_a_table_names_a_file_in_either_form_of_its_characters(tmp_path):
    root = folder_of(tmp_path, ["a/cafe\u0301.png"], "file_name\na/caf\u00e9.png\n".encode())
    assert listed(root) == {"a/cafe\u0301.png": "a"}


def refused(root: Path, message: str) -> None:
    for door in (labelled_files, support_set):
        with pytest.raises(ValueError, match=message):
            door(root)


# Links


def test_links_are_followed_and_what_systems_leave_is_ignored(tmp_path):
    root, elsewhere = folder_of(tmp_path / "root"), folder_of(tmp_path / "elsewhere", ["0.png"])
    os.symlink(elsewhere, root / "c")
    os.symlink(root, root / "a" / "loop")
    os.symlink("loop", root / "b" / "back")
    os.symlink("..", root / "b" / "loop")
    folder_of(root, ["__MACOSX/a/0.png", ".ipynb_checkpoints/x.png", "a/.hidden.png", "@eaDir/a/0.png"])
    assert listed(root) == {"a/0.png": "a", "a/1.png": "a", "b/0.png": "b", "c/0.png": "c"}


@pytest.mark.parametrize(
    ("files", "links", "message"),
    [
        (FILES, {"kitten": "a"}, "a, kitten are the same folder in two classes, a and kitten"),
        (FILES, {"A": "a", "b/x": "../a"}, "the same folder in two classes"),
        (["raw/cat/0.png", "raw/1.png"], {"cat": "raw/cat"}, "cat, raw/cat are the same folder in two classes"),
        (["train/a/0.png", "test/b/0.png"], {"train/c": "a"}, "train/a, train/c are the same folder in two classes"),
        (FILES, {"c": "nowhere"}, "c: links to nothing"),
        (FILES, {"c": "c"}, "c: links to nothing"),
        (FILES, {"all": "."}, "all: no files of these kinds"),
    ],
)
def test_links_that_move_classes_are_refused(files, links, message, tmp_path):
    root = folder_of(tmp_path, files)
    for name, target in links.items():
        os.symlink(target, root / name)
    refused(root, message)


def test_a_file_counts_once_in_a_class_and_is_one_source(tmp_path):
    root = folder_of(tmp_path, ["train/a/x/0.png", "train/b/1.png"])
    os.symlink("x", root / "train" / "a" / "y")
    (root / "test").mkdir()
    os.symlink("../train/b", root / "test" / "b")
    found = labelled_files(root)
    assert list(zip(found.labels, found.sources, strict=True)) == [
        ("b", "test/b/1.png"),
        ("a", "train/a/x/0.png"),
        ("b", "test/b/1.png"),
    ]
    os.symlink("../b/1.png", root / "train" / "a" / "1.png")
    with pytest.warns(UserWarning, match="1 files are in several classes by links: test/b/1.png"):
        labelled_files(root)


def test_folders_that_all_link_to_each_other_are_walked_in_time(tmp_path):
    names = [f"c{number}" for number in range(9)]
    root = folder_of(tmp_path, [f"{name}/0.png" for name in names])
    for name in names:
        for other in names:
            os.symlink(f"../{other}", root / name / f"to_{other}")
    refused(root, "the same folder in two classes")


# What is no file or no class


@pytest.mark.parametrize("content", [None, ".DS_Store", "Thumbs.db", "deep/.DS_Store", "notes.docx"])
@pytest.mark.parametrize("is_link", [False, True])
def test_class_folders_without_files_are_refused(content, is_link, tmp_path):
    root = folder_of(tmp_path / "root")
    empty = tmp_path / "elsewhere" if is_link else root / "empty"
    (empty / (content or "x")).parent.mkdir(parents=True)
    if content:
        (empty / content).write_bytes(b"")
    if is_link:
        os.symlink(empty, root / "empty")
    refused(root, "empty.*: no files of these kinds: .wav")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_pipes_are_no_files(tmp_path):
    root = folder_of(tmp_path)
    os.mkfifo(root / "a" / "f.png")
    with pytest.warns(UserWarning, match="1 files are .*no regular files: a/f.png"):
        assert len(labelled_files(root).names) == 3
    with pytest.warns(UserWarning, match="1 files are .*no regular files.*: f.png"):
        assert query_files([str(root / "a")], "image") == [root / "a" / "0.png", root / "a" / "1.png"]
    with pytest.raises(FileNotFoundError, match="f.png"):
        query_files([str(root / "a" / "f.png")], "image")
    (root / "c").mkdir()
    os.mkfifo(root / "c" / "f.png")
    refused(root, "c: no files of these kinds")


def test_names_that_are_not_utf_8_are_shown_and_hashed(tmp_path):
    root = folder_of(tmp_path, ["a/0.png"])
    folder = os.fsdecode(b"caf\xe9")
    try:
        os.mkdir(root / folder)
    except OSError:
        pytest.skip("a file system of UTF-8 names")
    Image.new("RGB", (9, 9)).save(root / folder / os.fsdecode(b"\xff.png"))
    found, (files, labels) = labelled_files(root), support_set(root)
    assert found.class_names == sorted(labels) == ["a", "caf\\xe9"]
    assert found.sources[1] == "caf\\xe9/\\xff.png" and found.names[1].endswith(found.sources[1])
    assert files[1].is_file() and found.read(1) == files[1]
    options = {"data_dir": root, "cache_dir": tmp_path / ".cache", "shares": (1, 0, 0)}
    assert load_few_shot("folder", "train", **options).class_names == ("a", "caf\\xe9")


# Splits


def test_splits(tmp_path):
    root = folder_of(tmp_path / "splits", ["TRAIN/a/0.png", "Val/a/0.png", "evaluation/b/0.png"])
    assert labelled_files(root).splits == ["train", "validation", "test"]
    with pytest.raises(ValueError, match="has the splits test, train, validation: name the folder of one"):
        support_set(root)
    assert listed(root / "TRAIN") == {"a/0.png": "a"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train_1/a/0.png", "train_2/a/0.png", "test set/b/0.png"], "test set, train_1, train_2 look like splits"),
        (["trainset/a/0.png", "testset/a/0.png"], "testset, trainset look like splits"),
        (["train_2/0.png", "test set/0.png"], "test set, train_2 look like splits"),
        (["train/a/0.png", "more/b/0.png"], "more, train, of which train look like splits"),
        (["train/0.png", "test/0.png", "extra/0.png"], "of which test, train look like splits"),
        (["training/a/0.png", "testing/a/0.png", "extra/b/0.png"], "of which testing, training look like splits"),
        (["training set/0.png", "testing set/0.png", "extra/0.png"], "testing set, training set look like splits"),
        (["train/0.png", "test/0.png"], "no image files in sub-folders of its splits"),
        (["fold1/0.png", "fold2/0.png"], "fold1, fold2 look like splits"),
        (["x/fold1/0.png", "x/fold2/0.png"], "sub-folder x, whose sub-folders fold1, fold2 look like splits"),
        (["birds_train/a/0.png", "birds_test/a/0.png"], "birds_test, birds_train look like splits"),
        (["train2017/0.png", "val2017/0.png"], "train2017, val2017 look like splits"),
        (["x/train/a/0.png", "x/test/a/0.png"], "sub-folder x, whose sub-folders test, train look like splits"),
        (["x/train/a/0.png", "x/train/b/0.png"], "sub-folder x, whose sub-folders train look like splits"),
        (["x/a/0.png", "x/b/0.png"], "has one sub-folder, x, with the sub-folders a, b"),
    ],
)
def test_what_looks_like_splits_is_refused(files, message, tmp_path):
    refused(folder_of(tmp_path, files), message)


@pytest.mark.parametrize(
    "files",
    [
        ["train/0.png", "bus/0.png"],
        ["train/0.png", "train horn/0.png", "train_wheels/0.png"],
        ["train/images/0.png", "bus/images/0.png"],
        ["software development/0.png", "software testing/0.png"],
        ["design/0.png", "development/0.png", "testing/0.png"],
        ["design/0.png", "training/0.png", "evaluation/0.png"],
        ["speaker 1/chapter 1/0.png", "speaker 1/chapter 2/0.png", "speaker 2/chapter 3/0.png"],
        ["test tube/0.png", "pipette/0.png"],
        ["part 1/0.png", "part 2/0.png"],
    ],
)
def test_classes_are_no_splits(files, tmp_path):
    assert set(listed(folder_of(tmp_path, files)).values()) == {name.split("/")[0] for name in files}


def test_a_table_with_files_outside_its_splits(tmp_path):
    table = b"file_name,label\ntrain/a/0.png,x\nb/0.png,y\ntest/0.png,x\n"
    root = folder_of(tmp_path, ["train/a/0.png", "b/0.png", "test/0.png", "0.png"], table)
    refused(root, "b/0.png lie in no split, but other files lie in test, train")
    (root / "metadata.csv").write_bytes(b"file_name,label\ntrain/a/0.png,x\n0.png,y\n")
    refused(root, "0.png lie in no split, but other files lie in train")
    (root / "metadata.csv").write_bytes(b"file_name,label\ntrain/a/0.png,x\nb/0.png,y\n")
    assert listed(root) == {"train/a/0.png": "x", "b/0.png": "y"}
