"""Data sets that lie in class folders: the published lists, the layouts that are recognised, and errors that name."""

import io
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_builders import load_few_shot
from data_builders.data_sets import cifar_fs, clipart, cub200, emoji, miniimagenet, speech_commands, tieredimagenet
from data_builders.data_sets.listed_classes import load_listed
from data_builders.splits import protocols
from data_builders.splits.protocols import NoSuchSplit, read_protocols
from modeling_msmaml.hub.model_card import data_set_facts

from .test_builders import cifar100_files, write_folder

# name -> folder of the images in the layout in which people have the data
USUAL = {
    "miniimagenet": "mini-imagenet",
    "tieredimagenet": "tiered_imagenet",
    "cifar_fs": "cifar100/data",
    "cub200": "CUB_200_2011/images",
    "emoji": "emoji",
    "clipart": "clipart",
}
MODULES = {
    "miniimagenet": miniimagenet,
    "tieredimagenet": tieredimagenet,
    "cifar_fs": cifar_fs,
    "cub200": cub200,
    "emoji": emoji,
    "clipart": clipart,
    "speech_commands": speech_commands,
}
SPLIT_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
NAMES = ("a.png", "b.png")


def lists(name):
    """Split -> classes."""
    return {split: list(d["classes"]) for split, d in read_protocols(name)["class_disjoint"].items()}


def picture(shade, size=8):
    content = io.BytesIO()
    Image.new("RGB", (size, size), (shade, 0, 255 - shade)).save(content, "PNG")
    return content.getvalue()


def image_files(name, place, by_split=False):
    """Two images of each of the first two classes of every split."""
    files = {}
    for split, classes in short_lists(name).items():
        for label in classes:
            above = f"{place}/{SPLIT_FOLDERS[split]}" if by_split else place
            shade = sum(map(ord, label)) % 256
            files |= {f"{above}/{label}/{file}": picture(shade) for file in NAMES}
    return files


def short_lists(name):
    chosen = {split: classes[:2] for split, classes in lists(name).items()}
    if name == "cifar_fs":  # a class that is called like a split
        chosen["train"] = ["apple", "train"]
    return chosen


@pytest.fixture
def short(monkeypatch):
    """The lists of images shortened to two classes per split."""
    own = {name: {"class_disjoint": {s: {"classes": c} for s, c in short_lists(name).items()}} for name in USUAL}
    read = protocols.read_protocols
    monkeypatch.setattr(
        "data_builders.data_sets.listed_classes.read_protocols", lambda name: own.get(name) or read(name)
    )


def load(name, data_dir, split="test", **options):
    return load_few_shot(name, split, data_dir=data_dir, cache_dir=Path(data_dir).parent / "cache", **options)


# The lists


@pytest.mark.parametrize(
    ("name", "counts", "form"),
    [
        ("miniimagenet", (64, 16, 20), r"n\d{8}"),
        ("tieredimagenet", (351, 97, 160), r"n\d{8}"),
        ("cifar_fs", (64, 16, 20), r"[a-z_]+"),
        ("cub200", (100, 50, 50), r"\d{3}\.[A-Za-z_]+"),
        ("emoji", (43, 6, 5), r"[a-z-]+"),
        ("clipart", (67, 9, 8), r"[a-z_-]+"),
        ("speech_commands_metaaudio", (0, 0, 35), r"[a-z]+"),
        ("speech_commands_commands", (20, 0, 10), r"[a-z]+"),
        ("speech_commands_digits", (20, 0, 10), r"[a-z]+"),
    ],
)
def test_lists_have_the_published_sizes_and_are_disjoint(name, counts, form):
    own = lists(name)
    assert tuple(len(own.get(split, [])) for split in SPLIT_FOLDERS) == counts
    every = [label for classes in own.values() for label in classes]
    assert len(set(every)) == len(every)
    assert all(re.fullmatch(form, label) for label in every)
    assert "source" not in read_protocols(name)


def test_lists_obey_the_rules_that_made_them():
    remainders = {split: {int(name[:3]) % 4 for name in classes} for split, classes in lists("cub200").items()}
    assert remainders == {"train": {1, 3}, "validation": {2}, "test": {0}}
    every = [name for classes in lists("cub200").values() for name in classes]
    assert sorted(int(name[:3]) for name in every) == list(range(1, 201))
    assert {c for own in lists("cifar_fs").values() for c in own} == {
        c for own in lists("cifar100").values() for c in own
    }
    tiered = read_protocols("tieredimagenet")["class_disjoint"]
    categories = {split: set(description["categories"]) for split, description in tiered.items()}
    assert [len(categories[split]) for split in SPLIT_FOLDERS] == [20, 6, 8]
    assert len(set.union(*categories.values())) == 34, "super-categories are disjoint"
    words = set(lists("speech_commands_metaaudio")["test"])
    assert all(set(c) <= words for task in ("commands", "digits") for c in lists(f"speech_commands_{task}").values())


@pytest.mark.parametrize("name", MODULES)
def test_the_card_knows_the_licence(name):
    facts = data_set_facts(name)
    assert facts.url and facts.licence != "unknown"
    assert facts.is_commercial_use_excluded == (name in ("miniimagenet", "tieredimagenet", "cub200"))


# Layouts


@pytest.mark.parametrize("name", USUAL)
@pytest.mark.parametrize(("by_split", "inside"), [(False, False), (True, False), (True, True)])
def test_every_layout_gives_the_same(name, by_split, inside, tmp_path, short):
    place = "data" if inside else f"data/{USUAL[name]}"
    write_folder(tmp_path, image_files(name, place, by_split))
    others = (f"{place}/n00000000/x.png", f"{place}/.hidden/y.png", f"{place}/README.txt")
    write_folder(tmp_path, dict.fromkeys(others, b"neither of a class nor a picture"))
    for split, classes in short_lists(name).items():
        loaded = load(name, tmp_path / "data", split, min_samples=1, image_size=16)
        assert (loaded.name, loaded.modality, loaded.row_shape) == (name, "image", (3, 16, 16))
        assert list(loaded.class_names) == sorted(classes)
        sources = [file.removesuffix(".png") if name == "emoji" else file for file in NAMES]
        assert sorted(loaded.source_ids) == sorted(f"{label}/{source}" for label in classes for source in sources)
        for row, label in zip(loaded.rows(np.arange(len(loaded))), loaded.labels, strict=True):
            shade = sum(map(ord, loaded.class_names[label])) % 256
            assert np.array_equal(row[:, 5, 5], [shade, 0, 255 - shade])


@pytest.mark.parametrize(("name", "size"), [(name, 32 if name == "cifar_fs" else 84) for name in USUAL])
def test_default_size(name, size, tmp_path, short):
    write_folder(tmp_path, image_files(name, "data"))
    loaded = load(name, tmp_path / "data", min_samples=2)
    assert loaded.row_shape == (3, size, size) and loaded.preprocessor.size == size
    assert loaded.rows([0]).dtype == np.uint8


@pytest.mark.parametrize("name", USUAL)
def test_the_lists_split_whatever_the_folders_are_called(name, tmp_path, short):
    """A published list has the last word: with a class of the test in the folder train, it still is in the test."""
    files = image_files(name, "data", by_split=True)
    write_folder(tmp_path, {re.sub("data/(test|val)/", "data/train/", file): files[file] for file in files})
    assert list(load(name, tmp_path / "data", min_samples=1).class_names) == sorted(short_lists(name)["test"])


# Errors


@pytest.mark.parametrize("name", MODULES)
def test_without_the_data_the_error_says_where_to_get_them(name, tmp_path):
    layout = MODULES[name].LAYOUT
    (tmp_path / "data").mkdir()
    places = [tmp_path / "data", tmp_path / "nowhere", *([None] if name != "cifar_fs" else [])]
    for place in places:
        with pytest.raises(FileNotFoundError) as error:
            load_few_shot(name, "test", data_dir=place, cache_dir=tmp_path / "cache")
        for part in (layout.title, layout.example, layout.roots[0], "http", *([str(place)] if place else [])):
            assert part in str(error.value)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"{test}/a.png": None, "{test}/b.png": None, "{test}": None}, {}, "1 of the 6 classes .*: {test}"),
        ({"{test}/a.png": None, "{test}/b.png": None}, {}, r"1 classes .* too few samples \({test}: 0\)"),
        ({"{test}/b.png": None}, {"min_samples": 2}, r"\({test}: 1\).*needs 2 image files .*pass min_samples=1"),
        ({}, {"min_samples": None}, r"6 classes of miniImageNet .*needs 600 .*min_samples=2"),
        ({}, {"min_samples": 0}, "min_samples=0 must be an integer of at least 1"),
        ({"{test}/a.png": b"nonsense"}, {}, "1 of 12 inputs of miniImageNet cannot be read: .*{test}/a.png"),
        ({"train/{test}/a.png": b"", "val/{test}/a.png": b""}, {}, "{test} of miniImageNet is there twice"),
    ],
)
def test_errors_name_the_class(change, options, message, tmp_path, short):
    test = short_lists("miniimagenet")["test"][0]
    write_folder(tmp_path / "data", image_files("miniimagenet", "."))
    for file, content in change.items():
        path = tmp_path / "data" / file.format(test=test)
        if content is None:
            path.rmdir() if path.is_dir() else path.unlink()
        else:
            write_folder(path.parent, {path.name: content})
    with pytest.raises(ValueError, match=message.replace("{test}", test)):
        load("miniimagenet", tmp_path / "data", **{"min_samples": 1, **options})


def test_links(tmp_path, short):
    """Folders may be links, a file counts once, and no two classes are one folder."""
    first, second = short_lists("cub200")["test"]
    write_folder(tmp_path, image_files("cub200", "elsewhere"))
    (tmp_path / "data").mkdir()
    for folder in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "data" / folder.name).symlink_to(folder)
    (tmp_path / "elsewhere" / first / "c.png").symlink_to("b.png")
    linked = load("cub200", tmp_path / "data", min_samples=1)
    assert sorted(linked.source_ids) == [f"{label}/{file}" for label in (first, second) for file in NAMES]
    (tmp_path / "data" / second).unlink()
    (tmp_path / "data" / second).symlink_to(tmp_path / "data" / first)
    with pytest.raises(ValueError, match=f"classes {first} and {second} .* the same folder"):
        load("cub200", tmp_path / "data", min_samples=1)


def test_unreadable_files_can_be_skipped(tmp_path, short):
    first, second = short_lists("cub200")["test"]
    write_folder(tmp_path, image_files("cub200", "data") | {f"data/{first}/a.png": b"nonsense"})
    with pytest.warns(UserWarning, match=f"{first}/a.png"):
        loaded = load("cub200", tmp_path / "data", min_samples=1, skip_unreadable=True)
    assert sorted(loaded.source_ids) == [f"{first}/b.png", f"{second}/a.png", f"{second}/b.png"]


def test_more_images_than_published_are_noticed(tmp_path, short, monkeypatch):
    """Folders of the whole ImageNet are no miniImageNet."""
    layout = replace(miniimagenet.LAYOUT, counts=(1, 1))
    monkeypatch.setattr(miniimagenet, "load", partial(load_listed, "miniimagenet", layout, image_size=84))
    write_folder(tmp_path, image_files("miniimagenet", "data"))
    with pytest.warns(UserWarning, match="more than 1 samples .*another selection"):
        load("miniimagenet", tmp_path / "data")


# CIFAR-FS on the official archive


def test_cifar_fs_reads_the_archive_of_cifar100(tmp_path):
    write_folder(tmp_path / "data" / "cifar-100-binary", cifar100_files())
    loaded = load("cifar_fs", tmp_path / "data", min_samples=3)
    assert sorted(loaded.class_names) == sorted(lists("cifar_fs")["test"]) and len(loaded) == 60
    name = "baby"  # a test class of CIFAR-100's own lists, too
    own = load("cifar100", tmp_path / "data")
    rows = [split.rows(np.flatnonzero(split.labels == split.class_names.index(name))) for split in (loaded, own)]
    assert np.array_equal(*rows) and rows[0].shape == (3, 3, 32, 32)
    for data_set in ("cifar_fs", "cifar100"):
        options = {"min_samples": 1} if data_set == "cifar_fs" else {}
        scaled = load(data_set, tmp_path / "data", image_size=8, **options)
        assert scaled.row_shape == (3, 8, 8) and scaled.rows([0]).shape == (1, 3, 8, 8)
        assert scaled.preprocessor.size == 8
    with pytest.raises(ValueError, match="20 classes of CIFAR-FS .*needs 600 .*min_samples=3"):
        load("cifar_fs", tmp_path / "data")
    with pytest.raises(ValueError, match="skip_unreadable=True has no effect"):
        load("cifar_fs", tmp_path / "data", min_samples=1, skip_unreadable=True)
    with pytest.raises(ValueError, match="image_size=0 must be an integer of at least 1"):
        load("cifar100", tmp_path / "data", image_size=0)


# Speech Commands


def speech_files(n_speakers=4):
    """A recording of 0.1 s of every word by every speaker, and noise that is no word."""
    files = {}
    for number, word in enumerate(lists("speech_commands_metaaudio")["test"]):
        content = io.BytesIO()
        soundfile.write(content, np.random.default_rng(number).uniform(-0.5, 0.5, 1600), 16_000, format="WAV")
        files |= {f"{word}/{speaker:08x}_nohash_0.wav": content.getvalue() for speaker in range(n_speakers)}
    return {**files, "_background_noise_/pink_noise.wav": content.getvalue(), "testing_list.txt": b"bed/x.wav"}


@pytest.mark.parametrize("place", ["", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"])
def test_speech_commands_leaves_noise_out_and_knows_speakers(place, tmp_path):
    write_folder(tmp_path / "data" / place, speech_files(1))
    split = load("speech_commands", tmp_path / "data", min_samples=1, duration=0.2)
    assert (split.name, len(split), len(split.class_names)) == ("speech_commands", 35, 35)
    assert set(split.source_ids) == {"00000000"} and split.row_shape == (3200,)
    row = split.rows([0])[0]
    assert row.dtype == np.int16 and row[:1500].any() and not row[1700:].any(), "0.1 s of sound, then zeros"


def test_speech_commands_tasks_and_protocols(tmp_path):
    write_folder(tmp_path / "data", speech_files(12))
    common = {"min_samples": 1, "duration": 0.1}
    for task, word in (("digits", "seven"), ("commands", "stop")):
        splits = {s: load(f"speech_commands:{task}", tmp_path / "data", s, **common) for s in ("train", "test")}
        assert word in splits["test"].class_names and word not in splits["train"].class_names
        assert [len(splits[s].class_names) for s in splits] == [20, 10]
        with pytest.raises(NoSuchSplit, match=f"split='validation' .*speech_commands_{task}.*: train, test"):
            load("speech_commands", tmp_path / "data", "validation", task=task, **common)
        with pytest.raises(ValueError, match="sample_disjoint' is not available"):
            load("speech_commands", tmp_path / "data", task=task, protocol="sample_disjoint", **common)
    with pytest.raises(NoSuchSplit, match="split='train' .*: test"):
        load("speech_commands", tmp_path / "data", "train", **common)
    by_speaker = [
        set(load("speech_commands", tmp_path / "data", s, protocol="sample_disjoint", **common).source_ids)
        for s in SPLIT_FOLDERS
    ]
    assert sum(map(len, by_speaker)) == len(set.union(*by_speaker)) == 12 and all(by_speaker)
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 1, "all tasks share one cache"


@pytest.mark.parametrize(
    ("extra", "options", "message"),
    [
        ({"bed/noise.wav": b""}, {}, r"bed/noise.wav .*<speaker>_nohash_<number>.wav"),
        ({"bed/_nohash_0.wav": b""}, {}, "bed/_nohash_0.wav"),
        ({}, {"task": "letters"}, "task='letters' does not exist; the tasks are metaaudio, commands, digits"),
        ({}, {"min_samples": None}, "35 classes of Speech Commands v2 .*needs 1557 audio files"),
    ],
)
def test_speech_commands_errors(extra, options, message, tmp_path):
    write_folder(tmp_path / "data", speech_files(1) | extra)
    with pytest.raises(ValueError, match=message):
        load("speech_commands", tmp_path / "data", **{"min_samples": 1, "duration": 0.1, **options})
