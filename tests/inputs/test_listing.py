"""Folders and their tables are listed the same way for data sets and for the command."""

import os
from pathlib import Path

import pytest
from PIL import Image

from modeling_msmaml.inputs.labelled_files import labelled_files, support_set

FILES = ("a/0.png", "a/1.png", "b/0.png")


def folder_of(root: Path, files=FILES, table: bytes | None = None) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(root / name)
    if table is not None:
        (root / "metadata.csv").write_bytes(table)
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
    ],
)
def test_tables_that_are_refused(table, message, tmp_path):
    folder_of(tmp_path, table=table)
    for door in (labelled_files, support_set):
        with pytest.raises(ValueError, match=rf"metadata.csv.*{message}|{message}"):
            door(tmp_path)


def test_links_are_followed_once_and_what_systems_leave_is_ignored(tmp_path):
    root, elsewhere = folder_of(tmp_path / "root"), folder_of(tmp_path / "elsewhere", ["0.png"])
    os.symlink(elsewhere, root / "c")
    os.symlink(root, root / "a" / "loop")
    folder_of(root, ["__MACOSX/a/0.png", ".ipynb_checkpoints/x.png", "a/.hidden.png"])
    assert listed(root) == {"a/0.png": "a", "a/1.png": "a", "b/0.png": "b", "c/0.png": "c"}


def test_empty_class_folders_are_refused(tmp_path):
    (folder_of(tmp_path) / "empty").mkdir()
    for door in (labelled_files, support_set):
        with pytest.raises(ValueError, match="empty.* no files|no files.*empty"):
            door(tmp_path)


def test_splits_and_what_looks_like_them(tmp_path):
    root = folder_of(tmp_path / "splits", ["TRAIN/a/0.png", "Val/a/0.png", "evaluation/b/0.png"])
    assert labelled_files(root).splits == ["train", "validation", "test"]
    with pytest.raises(ValueError, match="has the splits test, train, validation: name the folder of one"):
        support_set(root)
    assert listed(root / "TRAIN") == {"a/0.png": "a"}
    root = folder_of(tmp_path / "others", ["train_1/a/0.png", "train_2/a/0.png", "test set/b/0.png"])
    with pytest.raises(ValueError, match="test set, train_1, train_2 look like splits"):
        labelled_files(root)
    assert labelled_files(folder_of(tmp_path / "vehicles", ["train/0.png", "bus/0.png"])).class_names == [
        "bus",
        "train",
    ]
