"""Own folders and data sets of the Hub: layouts, splits, vocabularies, and what is said about bad input."""

import csv
import io
import itertools
import shutil
import warnings

import datasets
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_builders import EpisodeDataset, NoSuchSplit, load_few_shot
from data_builders.data_sets.own_data import divisions
from modeling_msmaml.inputs.labelled_inputs import SPLITS
from modeling_msmaml.inputs.processing_msmaml import MSMAMLProcessor

CLASSES = [f"class{c}" for c in range(10)]
SMALL = {
    "audio": {"sampling_rate": 8_000, "duration": 0.05},
    "image": {"image_size": 8},
    "text": {"passage_length": 12},
}
SUFFIXES = {"audio": (".wav", ".flac", ".ogg", ".mp3"), "image": (".png", ".JPG", ".bmp"), "text": (".txt",)}
PART = {"audio": ("feature_extractor", "audio"), "image": ("image_processor", "images"), "text": ("tokenizer", "text")}


def content(modality, number, suffix):
    """The bytes of a small file; every number gives another one."""
    rng, stream = np.random.default_rng(number), io.BytesIO()
    if modality == "text":
        return (" ".join(f"word{w}" for w in rng.integers(6, size=20)) + f"\nOnly{number} here.").encode()
    if modality == "audio":
        soundfile.write(stream, rng.uniform(-0.5, 0.5, (2205, 2)), 44_100, format=suffix[1:].upper())
    else:
        picture = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        picture.save(stream, {".png": "PNG", ".JPG": "JPEG", ".bmp": "BMP"}[suffix])
    return stream.getvalue()


def write_classes(root, modality, classes=CLASSES, files=4, first=0):
    """Some files per class, of every suffix, the second of each class in a folder further down."""
    suffixes = itertools.cycle(SUFFIXES[modality])
    for (c, name), number in itertools.product(enumerate(classes), range(files)):
        suffix = next(suffixes)
        folder = root / name / ("deep/down" if number == 1 else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}{suffix}").write_bytes(content(modality, first + c * files + number, suffix))


def write_metadata(root, rows):
    with (root / "metadata.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def load(root, split="train", modality=None, cache=None, **options):
    return load_few_shot("folder", split, data_dir=root, cache_dir=cache or root.parent / "cache", **options)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


@pytest.mark.parametrize("modality", list(SMALL))
def test_sub_folders_are_classes(modality, root):
    """Modality inferred, class-disjoint splits, and rows that are the processor's, bit for bit."""
    write_classes(root, modality)
    splits = {split: load(root, split, **SMALL[modality]) for split in SPLITS}
    assert [len(splits[split].class_names) for split in SPLITS] == [6, 2, 2]
    assert sorted(name for split in splits.values() for name in split.class_names) == CLASSES
    assert {(split.name, split.modality, split.warning) for split in splits.values()} == {("folder", modality, "")}
    part, argument = PART[modality]
    for split in splits.values():
        processor = MSMAMLProcessor(**{part: split.preprocessor})
        for row, source in list(enumerate(split.source_ids))[::3]:
            path = root / source
            assert path.parts[len(root.parts)] == split.class_names[split.labels[row]]
            first = int(np.flatnonzero(split.source_ids == source)[0])
            given = path.read_text() if modality == "text" else path
            (encoded,) = processor(**{argument: given}).values()
            assert np.array_equal(encoded, split.rows([first]))
    dataset = EpisodeDataset([splits["train"]], 5, 1, 2, 5)
    assert dataset[0]["support"].shape == (5, *splits["train"].row_shape)
    assert torch.equal(dataset[3]["query"], EpisodeDataset([load(root, **SMALL[modality])], 5, 1, 2, 5)[3]["query"])


def test_split_folders(root):
    for split, names in (("train", CLASSES[:5]), ("test", CLASSES[5:])):
        write_classes(root / split, "image", names, first=100 * (split == "test"))
    train, test = (load(root, split, image_size=8) for split in ("train", "test"))
    assert train.class_names == tuple(CLASSES[:5]) and test.class_names == tuple(CLASSES[5:])
    with pytest.raises(NoSuchSplit, match="split 'validation' of folder is empty"):
        load(root, "validation")
    with pytest.raises(ValueError, match="shares=.* has no effect"):
        load(root, "test", shares=(0, 0, 1))
    write_classes(root / "train", "image", CLASSES[8:], first=200)
    with pytest.raises(ValueError, match="classes class8, class9 .* in train and in test.*sample_disjoint"):
        load(root, "test")
    assert load(root, "test", protocol="sample_disjoint").class_names == tuple(CLASSES[5:])


def test_a_class_may_be_called_like_a_split(root):
    write_classes(root, "image", ["train", "dog", "cat"])
    assert load(root, shares=(1, 0, 0)).class_names == ("cat", "dog", "train")


def test_everything_may_be_the_test(root):
    write_classes(root, "image", CLASSES[:3])
    assert len(load(root, "test", shares=(0, 0, 1)).class_names) == 3
    write_classes(root.parent / "other" / "test", "image", CLASSES[:3])
    assert len(load(root.parent / "other", "test").class_names) == 3


def test_sample_disjoint(root):
    write_classes(root, "image", CLASSES[:3], files=20)
    splits = [load(root, split, protocol="sample_disjoint") for split in SPLITS]
    assert [len(split) for split in splits] == [42, 9, 9]
    assert [split.class_names for split in splits] == [tuple(CLASSES[:3])] * 3
    assert len(set().union(*(split.source_ids for split in splits))) == 60


def test_metadata(root):
    """It chooses files, names their classes and sources; without its label the sub-folder does."""
    write_classes(root, "audio", CLASSES[:4], files=4)
    (root / "loose.wav").write_bytes(content("audio", 99, ".wav"))
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    rows = [{"file_name": name, "label": "ab"[i % 2], "source": f"tape {i // 4}"} for i, name in enumerate(files)]
    write_metadata(root, rows)
    split = load(root, shares=(1, 0, 0), **SMALL["audio"])
    assert split.class_names == ("a", "b") and len(split) == 17
    assert sorted(set(split.source_ids)) == [f"tape {i}" for i in range(5)]
    write_metadata(root, [{"file_name": name} for name in files if "/" in name][:-1])
    split = load(root, shares=(1, 0, 0), **SMALL["audio"])
    assert split.class_names == tuple(CLASSES[:4]) and len(split) == len(set(split.source_ids)) == 15


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"file_name": "class0/9.png"}], FileNotFoundError, "files that do not exist: class0/9.png"),
        ([{"file_name": "../own/class0/0.png"}], ValueError, "outside its folder: ../own/class0/0.png"),
        ([{"file_name": "class0/0.png"}] * 2, ValueError, "twice: class0/0.png"),
        ([{"path": "class0/0.png"}], ValueError, "needs file_name"),
        ([{"file_name": "class0/0.png", "split": "test"}], ValueError, "may have label and source"),
        ([{"file_name": "loose.png", "label": ""}], ValueError, "loose.png .* has no label"),
    ],
)
def test_bad_metadata(rows, error, message, root):
    write_classes(root, "image", CLASSES[:2])
    shutil.copy(root / "class0" / "0.png", root / "loose.png")
    write_metadata(root, rows)
    with pytest.raises(error, match=message):
        load(root)


@pytest.mark.parametrize("modality", list(SMALL))
def test_unreadable_files(modality, root):
    """All are named; they are skipped only when asked, and then named in a warning."""
    write_classes(root, modality, files=5)
    bad = {"audio": b"RIFFnonsense", "image": b"\x89PNG nonsense", "text": b"\xff\xfe\xfa"}[modality]
    names = [root / name / f"bad{SUFFIXES[modality][0]}" for name in CLASSES[:3]]
    for path in names:
        path.write_bytes(bad)
    options = {"shares": (1, 0, 0), **SMALL[modality]}
    with pytest.raises(ValueError, match="3 of 53 inputs of folder cannot be read.*skip_unreadable=True") as error:
        load(root, **options)
    assert all(str(path) in str(error.value) for path in names)
    with pytest.warns(UserWarning, match="3 of 53 inputs") as caught:
        split = load(root, skip_unreadable=True, **options)
    (message,) = (str(own.message) for own in caught if "inputs of folder" in str(own.message))
    assert all(str(path) in message for path in names)
    assert len(set(split.source_ids)) == 50
    assert len(load(root.parent / "own", skip_unreadable=True, **options)) == len(split)


def test_a_changed_file_is_built_anew(root):
    write_classes(root, "image")
    before = load(root, shares=(1, 0, 0), image_size=8)
    name = before.source_ids[0]
    (root / name).write_bytes(content("image", 77, "." + name.rsplit(".")[-1]))
    after = load(root, shares=(1, 0, 0), image_size=8)
    assert not np.array_equal(before.rows([0]), after.rows([0])) and np.array_equal(before.rows([1]), after.rows([1]))


def test_several_modalities(root):
    write_classes(root, "image", CLASSES[:5])
    write_classes(root, "text", CLASSES[5:])
    with pytest.raises(ValueError, match=r"several modalities \(20 image, 20 text\).*modality="):
        load(root)
    with pytest.warns(UserWarning, match="20 files are of another kind"):
        split = load_few_shot(
            "folder:image", data_dir=root, cache_dir=root.parent / "cache", shares=(1, 0, 0), image_size=8
        )
    assert split.modality == "image" and len(split) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "video"}, "modality='video' does not exist"),
        ({"modality": "audio"}, "no files of these kinds: .wav"),
        ({"passage_length": 5}, "option passage_length has no effect on image; its options: image_size"),
        ({"shares": (0.5, 0.6, 0.2)}, "shares="),
        ({"shares": (1, 0)}, "shares="),
        ({"seed": -1}, "seed=-1"),
        ({"split": "test", "shares": (1, 0, 0)}, "split 'test' of folder is empty.*10 classes"),
        ({"image_size": 0}, "size=0"),
        ({"colour": True}, "option colour does not exist for folder"),
        ({"data_dir": None}, "data_dir=None: it is needed"),
        ({"data_dir": ""}, "data_dir='': it is needed"),
    ],
)
def test_bad_options(options, message, root):
    write_classes(root, "image", files=1)
    with pytest.raises(ValueError, match=message):
        load_few_shot("folder", **{"data_dir": root, "cache_dir": root.parent / "cache", **options})


def test_no_folder_and_nothing_in_it(root):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(root / "nowhere")
    with pytest.raises(ValueError, match="no files of these kinds"):
        load(root)
    (root / "loose.txt").write_text("no class")
    with pytest.raises(ValueError, match="no text files in sub-folders"):
        load(root)


# Text


def test_vocabulary_is_of_training_texts_only(root):
    for protocol in ("class_disjoint", "sample_disjoint"):
        write_classes(root, "text", files=6)
        splits = {split: load(root, split, protocol=protocol, min_count=1, **SMALL["text"]) for split in SPLITS}
        numbers = {
            split: {number for number in range(60) if any(_holds(root, s, number) for s in data.source_ids)}
            for split, data in splits.items()
        }
        vocabulary = splits["test"].tokenizer.get_vocab()
        assert vocabulary == splits["train"].tokenizer.get_vocab()
        assert {f"only{number}" for number in numbers["train"]} <= set(vocabulary)
        assert not {f"only{number}" for number in numbers["test"] | numbers["validation"]} & set(vocabulary)
        assert splits["test"].word_vectors.shape == (len(vocabulary), 128)
        assert not splits["test"].word_vectors[0].any()


def _holds(root, source, number):
    return f"Only{number} " in (root / source).read_text()


def test_units_of_text(root):
    write_classes(root, "text", CLASSES[:2], files=3)
    (root / "class0" / "long.txt").write_text("word " * 100)
    options = {"shares": (1, 0, 0), "min_count": 1}
    passages = load(root, passage_length=10, **options)
    documents = load(root, unit="document", **options)
    assert (passages.source_ids == "class0/long.txt").sum() == 10
    assert len(documents) == len(set(documents.source_ids)) == 7 and documents.row_shape == (3000,)
    with pytest.raises(ValueError, match="unit='sentence'"):
        load(root, unit="sentence", **options)


def test_vocabulary_of_a_checkpoint(root, tmp_path):
    """Own texts are evaluated in the words of the model; there is nothing to train on."""
    write_classes(root / "train", "text", CLASSES[:5])
    train = load(root, **SMALL["text"])
    MSMAMLProcessor(tokenizer=train.tokenizer).save_pretrained(tmp_path / "checkpoint")
    write_classes(tmp_path / "mine" / "test", "text", CLASSES[5:], first=50)
    with pytest.raises(ValueError, match="no training texts.*tokenizer="):
        load(tmp_path / "mine", "test")
    split = load(tmp_path / "mine", "test", tokenizer=tmp_path / "checkpoint")
    assert split.tokenizer.get_vocab() == train.tokenizer.get_vocab() and split.word_vectors is None
    assert split.row_shape == (12,)
    text = (tmp_path / "mine" / "test" / "class5" / "0.txt").read_text()
    row = int(np.flatnonzero(split.source_ids == "test/class5/0.txt")[0])
    loaded = MSMAMLProcessor.from_pretrained(tmp_path / "checkpoint")
    assert np.array_equal(loaded(text=text)["input_ids"], split.rows([row]))
    with pytest.raises(ValueError, match="min_count=3 has no effect"):
        load(tmp_path / "mine", "test", tokenizer=tmp_path / "checkpoint", min_count=3)


# The Hub


def hub_features(modality):
    file = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    return datasets.Features(
        {
            "input": datasets.Value("string") if modality == "text" else file,
            "label": datasets.ClassLabel(names=CLASSES),
            "speaker": datasets.Value("int64"),
        }
    )


def write_parquet(folder, modality, splits=("train", "test"), rows=30, labels=None):
    """A data set as the Hub has it: `data/<split>-00000-of-00001.parquet`, with three rows a speaker."""
    suffix = SUFFIXES[modality][0]
    (folder / "data").mkdir(parents=True)
    for start, split in enumerate(splits):
        numbers = range(start * rows, (start + 1) * rows)
        contents = [content(modality, number, suffix) for number in numbers]
        columns = {
            "input": [c.decode() if modality == "text" else {"bytes": c, "path": None} for c in contents],
            "label": [number % 10 for number in numbers] if labels is None else labels[split],
            "speaker": [number // 3 for number in numbers],
        }
        data = datasets.Dataset.from_dict(columns, features=hub_features(modality))
        if modality != "text":
            data = data.cast_column("input", datasets.Audio() if modality == "audio" else datasets.Image())
        data.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return f"hub:{folder}"


@pytest.mark.parametrize("modality", list(SMALL))
def test_hub(modality, tmp_path):
    """All rows of all splits, divided by class; rows are the processor's, also those of audio, without torchcodec."""
    name = write_parquet(tmp_path / "repo", modality)
    options = {"cache_dir": tmp_path / "cache", "source_column": "speaker", **SMALL[modality]}
    splits = [load_few_shot(name, split, **options) for split in SPLITS]
    assert sorted(c for split in splits for c in split.class_names) == CLASSES
    assert [len(split.class_names) for split in splits] == [6, 2, 2] and splits[0].name == name
    test = splits[2]
    assert len(set(test.source_ids)) > 1 and set(test.source_ids) <= set(map(str, range(20)))
    processor = MSMAMLProcessor(**{PART[modality][0]: test.preprocessor})
    first = next(number for number in range(60) if CLASSES[number % 10] in test.class_names)
    raw = content(modality, first, SUFFIXES[modality][0])
    (encoded,) = processor(**{PART[modality][1]: raw.decode() if modality == "text" else raw}).values()
    assert np.array_equal(encoded, test.rows([0]))


def test_hub_splits_and_other_labels(tmp_path):
    labels = {"train": [n % 5 for n in range(30)], "test": [5 + n % 5 for n in range(30)]}
    name = write_parquet(tmp_path / "repo", "image", labels=labels)
    options = {"cache_dir": tmp_path / "cache", "image_size": 8}
    test = load_few_shot(name, "test", keep_splits=True, **options)
    assert test.class_names == tuple(CLASSES[5:]) and len(test) == 30
    by_speaker = load_few_shot(name, "test", label_column="speaker", input_column="input", shares=(0, 0, 1), **options)
    assert sorted(by_speaker.class_names, key=int) == [str(speaker) for speaker in range(20)]
    mixed = write_parquet(tmp_path / "mixed", "image")
    with pytest.raises(ValueError, match="in train and in test"):
        load_few_shot(mixed, "test", keep_splits=True, **options)
    three = write_parquet(tmp_path / "three", "image", splits=("train", "extra"))
    with pytest.raises(ValueError, match="keep_splits=True.*extra"):
        load_few_shot(three, "test", keep_splits=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "class"}, "label_column='class' is no column.*input, label, speaker"),
        ({"source_column": "tape"}, "source_column='tape' is no column"),
        ({"input_column": "speaker"}, "input_column='speaker' is no audio, image or string column"),
        ({"label_column": "input", "input_column": "label"}, "input_column='label'"),
        ({"sampling_rate": 8_000}, "option sampling_rate has no effect on image"),
        ({"repo": "other"}, "name asks for repo"),
        ({"columns": 3}, "option columns does not exist for hub"),
    ],
)
def test_hub_errors(options, message, tmp_path):
    name = write_parquet(tmp_path / "repo", "image")
    with pytest.raises(ValueError, match=message):
        load_few_shot(name, cache_dir=tmp_path / "cache", **options)


def test_hub_rows_that_are_no_use(tmp_path):
    name = write_parquet(tmp_path / "repo", "text", labels={"train": [-1] * 3 + [1] * 27, "test": [2] * 30})
    with pytest.raises(ValueError, match="3 rows of .* have no label in column 'label'"):
        load_few_shot(name, cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="'hub:<repo>'"):
        load_few_shot("hub", cache_dir=tmp_path)


# Any classes


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=30, unique=True),
    st.sampled_from([None, (0.5, 0.25, 0.25), (0, 0, 1), (1, 0, 0)]),
    st.integers(0, 5),
)
def test_divisions_are_disjoint_and_complete(names, shares, seed):
    found = divisions(names, "class_disjoint", shares, seed)
    assert sorted(name for split in found.values() for name in split["classes"]) == sorted(names)
    assert found == divisions(names[::-1], "class_disjoint", shares, seed), "the order of the names is of no account"
    sizes = [len(found[split]["classes"]) for split in SPLITS]
    for size, share in zip(sizes, shares or (0.6, 0.2, 0.2), strict=True):
        assert abs(size - share * len(names)) <= 1


def test_no_warning_without_a_reason(root):
    write_classes(root, "image")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load(root, image_size=8)
