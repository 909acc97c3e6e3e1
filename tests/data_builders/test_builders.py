"""Builders, archives, protocols and `load_few_shot`: on tiny archives made here, and on the real data."""

import csv
import errno
import io
import itertools
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders import EpisodeDataset, collate_episodes, load_few_shot
from data_builders.data_sets.brown import strip_tags
from data_builders.splits.protocols import read_protocols, select_rows
from data_builders.storage.text_rows import passages
from modeling_msmaml.inputs.labelled_inputs import SPLITS
from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLProcessor

DATA_SETS = ("esc50", "brown", "cifar100")
CATEGORIES = read_protocols("brown")["class_disjoint"]


# Tiny data sets in the official layouts: path -> content.


def esc50_files(suffix=".wav", listed_suffix=".wav", n_classes=50):
    """Two 44.1 kHz stereo clips of 0.1 s per class, from two recordings."""
    splits = read_protocols("esc50")["class_disjoint"].values()
    names = [name for split in splits for name in split["classes"]][:n_classes]
    table, files = io.StringIO(), {}
    writer = csv.writer(table)
    writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
    for (target, name), take in itertools.product(enumerate(names), "AB"):
        stem = f"1-{target}{take}-A-{target}"
        writer.writerow([stem + listed_suffix, 1, target, name, False, f"{target}{take}", take])
        content = io.BytesIO()
        noise = np.random.default_rng(target).uniform(-0.5, 0.5, (4410, 2))
        soundfile.write(content, noise, 44100, format={".wav": "WAV", ".ogg": "OGG"}[suffix])
        files[f"audio/{stem}{suffix}"] = content.getvalue()
    return {"meta/esc50.csv": table.getvalue().encode(), **files}


def cifar100_files():
    """Two train images and one test image a class."""
    names = sorted(name for split in read_protocols("cifar100")["class_disjoint"].values() for name in split["classes"])
    rng = np.random.default_rng(0)

    def records(n):
        labels = np.tile(np.arange(100, dtype=np.uint8), n)
        pixels = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        return np.column_stack([labels // 5, labels, pixels]).tobytes()

    return {
        "train.bin": records(2),
        "test.bin": records(1),
        "fine_label_names.txt": "\n".join(names).encode(),
        "coarse_label_names.txt": "\n".join(f"coarse_{c}" for c in range(20)).encode(),
    }


def brown_files(extra_test_word="", documents=4):
    """A few documents a category, each with a word of its category, a rare word and 60 others."""
    rng, lines, files = np.random.default_rng(0), [], {}
    for category in sorted({c for split in CATEGORIES.values() for c in split["classes"]}):
        for number in range(documents):
            name = f"{category[:3]}{number:02d}"
            words = [f"w{w}/nn" for w in rng.integers(20, size=60)] + [f"{category}/nn"] * 5 + [f"rare{name}/jj"]
            if category in CATEGORIES["test"]["classes"]:
                words += [f"{extra_test_word}/nn"] * 20 * bool(extra_test_word)
            lines.append(f"{name} {category}")
            files[name] = "\n\n\t".join(" ".join(words[i : i + 10]) for i in range(0, len(words), 10)).encode()
    return {"cats.txt": "\n".join(lines).encode(), **files}


TINY = {"esc50": esc50_files, "cifar100": cifar100_files, "brown": brown_files}
FOLDER = {"esc50": "ESC-50", "cifar100": "cifar-100-binary", "brown": "brown"}
ARCHIVE = {"esc50": "ESC-50-master.zip", "cifar100": "cifar-100-binary.tar.gz", "brown": "brown.zip"}


def write_folder(folder, files):
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_archive(path, files, root):
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"{root}/{name}", content)
        return
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{root}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def tiny_archive(name, data_dir, files=None):
    path = data_dir / ARCHIVE[name]
    write_archive(path, TINY[name]() if files is None else files, path.name.split(".")[0])
    return path


def load(name, data_dir, cache_dir, split="train", **options):
    return load_few_shot(name, split, data_dir=data_dir, cache_dir=cache_dir, **options)


def arrow_files(cache_dir):
    return sorted(Path(cache_dir).rglob("*.arrow"))


@pytest.fixture
def folders(tmp_path):
    """An empty data folder and an empty cache."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data", tmp_path / "cache"


# Layouts and damage


@pytest.mark.parametrize("name", DATA_SETS)
def test_archive_folder_and_its_inside_give_the_same(name, tmp_path):
    files, splits = TINY[name](), []
    for layout in ("archive", "folder", "inside"):
        data_dir = tmp_path / layout
        data_dir.mkdir()
        if layout == "archive":
            tiny_archive(name, data_dir, files)
        else:
            write_folder(data_dir / FOLDER[name] if layout == "folder" else data_dir, files)
        splits.append(load(name, data_dir, tmp_path / "cache", "test"))
    first = splits[0]
    for other in splits[1:]:
        assert other.class_names == first.class_names
        assert np.array_equal(other.labels, first.labels)
        assert np.array_equal(other.source_ids, first.source_ids)
        assert np.array_equal(other.rows(np.arange(len(other))), first.rows(np.arange(len(first))))


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_archive_then_a_good_one(name, share, folders):
    data_dir, cache_dir = folders
    archive = tiny_archive(name, data_dir)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{archive.name} (is damaged or incomplete|lacks).*[Ff]etch it again"):
        load(name, data_dir, cache_dir)
    assert not [path for path in arrow_files(cache_dir) if name in path.name], "a failed build left rows behind"
    archive.write_bytes(content)
    assert len(load(name, data_dir, cache_dir))


@pytest.mark.parametrize("name", DATA_SETS)
def test_flipped_bytes_are_noticed(name, folders):
    """The archives carry checksums of their content."""
    data_dir, cache_dir = folders
    archive = tiny_archive(name, data_dir)
    content = bytearray(archive.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(255 - byte for byte in content[middle : middle + 200])
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=archive.name):
        load(name, data_dir, cache_dir)


@pytest.mark.parametrize("name", DATA_SETS)
def test_an_html_page_instead_of_the_archive(name, folders):
    data_dir, cache_dir = folders
    (data_dir / ARCHIVE[name]).write_text("<html>not found</html>" * 100)
    with pytest.raises(ValueError, match=f"{ARCHIVE[name]} is damaged or incomplete"):
        load(name, data_dir, cache_dir)


@pytest.mark.parametrize("name", DATA_SETS)
def test_missing_data_say_which_file_goes_where(name, folders):
    data_dir, cache_dir = folders
    for place in (data_dir, data_dir / "nowhere"):
        with pytest.raises(FileNotFoundError) as error:
            load(name, place, cache_dir)
        for part in (str(place), ARCHIVE[name], FOLDER[name], "https://"):
            assert part in str(error.value)
    (data_dir / FOLDER[name]).mkdir()
    with pytest.raises(FileNotFoundError, match=f"{FOLDER[name]} is there but lacks"):
        load(name, data_dir, cache_dir)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("esc50", {"audio/1-0A-A-0.wav": None}, "1 of the 100 clips .* 1-0A-A-0.wav"),
        ("esc50", {"audio/1-3B-A-3.wav": b"RIFFnonsense"}, "cannot decode the sound in .*1-3B-A-3.wav"),
        ("esc50", {"audio/1-3B-A-3.wav": b""}, "cannot decode the sound in .*1-3B-A-3.wav"),
        ("esc50", {"meta/esc50.csv": b"filename,fold\nx.wav,1\n"}, "lacks the columns category, src_file"),
        ("esc50", {"meta/esc50.csv": b"filename,category,src_file\nx.wav,yodelling,1\n"}, "yodelling"),
        ("cifar100", {"test.bin": None}, "lacks test.bin"),
        ("cifar100", {"test.bin": b"x" * 3073}, "test.bin .* 3073 bytes, which is not a multiple of 3074"),
        ("cifar100", {"train.bin": b""}, "train.bin .* 0 bytes"),
        ("cifar100", {"train.bin": b"\xff" * 3074}, "train.bin .* labels beyond 20 coarse and 100 fine"),
        ("cifar100", {"fine_label_names.txt": b"apple\nbear\n"}, "fine_label_names.txt .* 2 names; 100"),
        ("brown", {"adv00": None}, "lacks adv00"),
        ("brown", {"adv00": b"plain text without tags"}, "adv00 has words without a tag"),
        ("brown", {"cats.txt": b"adv00 yodelling\n"}, "yodelling"),
    ],
)
def test_damaged_content_is_named(name, change, message, folders):
    data_dir, cache_dir = folders
    files = {file: content for file, content in {**TINY[name](), **change}.items() if content is not None}
    write_folder(data_dir / FOLDER[name], files)
    with pytest.raises(ValueError, match=message):
        load(name, data_dir, cache_dir)
    write_folder(data_dir / FOLDER[name], TINY[name]())
    assert len(load(name, data_dir, cache_dir))


def test_what_the_disk_says_keeps_its_number(folders, monkeypatch):
    from data_builders.data_sets.cifar100 import Cifar100

    def examples(builder):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    data_dir, cache_dir = folders
    write_folder(data_dir / "cifar-100-binary", cifar100_files())
    monkeypatch.setattr(Cifar100, "_generate_examples", examples)
    with pytest.raises(OSError, match="No space left on device") as error:
        load("cifar100", data_dir, cache_dir)
    assert error.value.errno == errno.ENOSPC


def test_cache_follows_data_and_options_and_is_used(folders):
    data_dir, cache_dir = folders
    write_folder(data_dir / "cifar-100-binary", cifar100_files())
    before = load("cifar100", data_dir, cache_dir)
    stored = {path: path.stat().st_mtime_ns for path in arrow_files(cache_dir)}
    load("cifar100", data_dir, cache_dir, "test")
    assert {path: path.stat().st_mtime_ns for path in arrow_files(cache_dir)} == stored
    changed = cifar100_files()
    changed["train.bin"] = changed["train.bin"][3074:]  # one image of apple, a training class, less
    write_folder(data_dir / "cifar-100-binary", changed)
    after = load("cifar100", data_dir, cache_dir)
    assert len(after) + 1 == len(before)
    assert len(arrow_files(cache_dir)) == 2


def test_cache_follows_code(folders, monkeypatch):
    from data_builders.storage import builder as base

    data_dir, cache_dir = folders
    write_folder(data_dir / "cifar-100-binary", cifar100_files())
    load("cifar100", data_dir, cache_dir)
    original = base.inspect.getsource
    monkeypatch.setattr(base.inspect, "getsource", lambda module: original(module) + "# changed")
    load("cifar100", data_dir, cache_dir)
    assert len(arrow_files(cache_dir)) == 2


def test_cache_follows_the_class_lists(folders, monkeypatch):
    """Another choice of training documents must not meet the vocabulary of the former one."""
    from data_builders.splits import protocols

    data_dir, cache_dir = folders
    tiny_archive("brown", data_dir)
    before = load("brown", data_dir, cache_dir).tokenizer.get_vocab()
    changed = read_protocols("brown")
    changed["class_disjoint"]["train"]["classes"] = ["news", "hobbies"]
    monkeypatch.setattr(protocols, "read_protocols", lambda name: changed)
    monkeypatch.setattr("data_builders.data_sets.brown.read_protocols", lambda name: changed)
    after = load("brown", data_dir, cache_dir).tokenizer.get_vocab()
    assert "hobbies" in after and "hobbies" not in before and "lore" not in after


def test_relative_data_dir_is_the_same_as_absolute(folders, monkeypatch):
    data_dir, cache_dir = folders
    write_folder(data_dir / "cifar-100-binary", cifar100_files())
    load("cifar100", data_dir, cache_dir)
    monkeypatch.chdir(data_dir.parent)
    load("cifar100", "data", cache_dir)
    assert len(arrow_files(cache_dir)) == 1


# ESC-50


@pytest.mark.parametrize(("suffix", "listed"), [(".ogg", ".wav"), (".wav", ".ogg"), (".ogg", ".ogg")])
def test_clips_are_matched_by_stem(suffix, listed, folders):
    data_dir, cache_dir = folders
    write_folder(data_dir / "ESC-50", esc50_files(suffix, listed))
    split = load("esc50", data_dir, cache_dir, "test")
    assert len(split) == 20
    path = data_dir / "ESC-50" / "audio" / f"1-40A-A-40{suffix}"
    row = split.rows([int(np.flatnonzero(split.source_ids == "40A")[0])])
    assert np.array_equal(row, MSMAMLFeatureExtractor()(path)["input_values"])
    assert row[:, :1500].any() and not row[:, 1700:].any(), "0.1 s of sound, then zeros"


def test_a_class_without_clips_is_not_forgotten(folders):
    data_dir, cache_dir = folders
    write_folder(data_dir / "ESC-50", esc50_files(n_classes=45))
    split = load("esc50", data_dir, cache_dir, "test")
    assert len(split.class_names) == 10
    with pytest.raises(ValueError, match="'airplane' has 0 samples"):
        EpisodeDataset([split], 5, 1, 1, 10)


# Brown


def test_strip_tags():
    tagged = "\n\n\tThe/at ``/`` 1/2/cd ''/'' ,/, said/vbd-hl\n\nHe'd/pps+md go/vb ./.\n"
    assert strip_tags(tagged) == ["The `` 1/2 '' , said", "He'd go ."]


@given(st.integers(0, 50), st.integers(1, 12))
def test_passages_cover_a_document_in_order(n_tokens, length):
    tokens = list(range(1, n_tokens + 1))
    rows = passages(tokens, length)
    flat = rows[rows > 0].tolist()
    assert rows.dtype == np.int32 and rows.shape[1] == length and len(rows) >= 1
    assert flat == tokens[: len(flat)], "in order, nothing twice"
    dropped = n_tokens - len(flat)
    assert 2 * dropped < length, "less than half a passage is dropped"
    assert all((row > 0).all() for row in rows[:-1])
    assert len(rows) == 1 or 2 * (rows[-1] > 0).sum() >= length


def test_vocabulary_comes_from_training_documents_only(tmp_path):
    """A word that is frequent in test documents changes neither the vocabulary nor a single word vector."""
    splits = []
    for name, extra in (("without", ""), ("with", "zeitgeist")):
        data_dir = tmp_path / name
        data_dir.mkdir()
        tiny_archive("brown", data_dir, brown_files(extra))
        splits.append(load("brown", data_dir, tmp_path / "cache", "test", passage_length=20))
    without, with_word = splits
    assert without.tokenizer.get_vocab() == with_word.tokenizer.get_vocab()
    assert np.array_equal(without.word_vectors, with_word.word_vectors)
    vocabulary = without.tokenizer.get_vocab()
    assert vocabulary["[PAD]"] == 0 and vocabulary["[UNK]"] == 1
    assert "w3" in vocabulary and "news" in vocabulary
    assert not {"zeitgeist", "hobbies", "rareadv00"} & set(vocabulary)
    assert (with_word.rows(np.arange(len(with_word))) == 1).sum() > (without.rows(np.arange(len(without))) == 1).sum()
    vectors = with_word.word_vectors
    assert vectors.shape == (len(vocabulary), 128) and vectors.dtype == np.float32
    assert not vectors[0].any() and all(vector.any() for vector in vectors[1:])


def test_min_count_and_units(folders):
    data_dir, cache_dir = folders
    tiny_archive("brown", data_dir)
    few = load("brown", data_dir, cache_dir, min_count=200)
    assert len(few.tokenizer) < len(load("brown", data_dir, cache_dir).tokenizer)
    documents = load("brown", data_dir, cache_dir, unit="document")
    assert documents.row_shape == (3000,) and len(documents) == len(set(documents.source_ids))
    assert load("brown", data_dir, cache_dir, passage_length=10_000).row_shape == (10_000,)
    with pytest.raises(ValueError, match="passage_length=600 has no meaning for unit='document'"):
        load("brown", data_dir, cache_dir, unit="document", passage_length=600)


# Protocols


@pytest.mark.parametrize("name", DATA_SETS)
def test_class_disjoint_files(name):
    splits = read_protocols(name)["class_disjoint"]
    train, validation, test = (set(splits[split]["classes"]) for split in SPLITS)
    assert not test & (train | validation)
    sizes = {"esc50": (35, 5, 10), "brown": (10, 10, 5), "cifar100": (60, 20, 20)}
    assert (len(train), len(validation), len(test)) == sizes[name]
    assert (train == validation) if name == "brown" else not train & validation


def test_fc100_is_split_by_coarse_label(data_dir):
    """Against the labels of the real archive, not against this project's list."""
    with tarfile.open(data_dir / "cifar-100-binary.tar.gz") as archive:
        content = archive.extractfile("cifar-100-binary/test.bin").read()
        names = archive.extractfile("cifar-100-binary/fine_label_names.txt").read().decode().split()
    records = np.frombuffer(content, np.uint8).reshape(-1, 3074)
    coarse = {"train": {1, 2, 3, 4, 5, 6, 9, 10, 15, 17, 18, 19}, "validation": {8, 11, 13, 16}, "test": {0, 7, 12, 14}}
    for split, labels in coarse.items():
        expected = {names[fine] for fine in records[np.isin(records[:, 0], list(labels)), 1]}
        assert set(read_protocols("cifar100")["class_disjoint"][split]["classes"]) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60),
    st.sampled_from([("brown", "class_disjoint"), ("brown", "sample_disjoint")]),
    st.randoms(),
)
def test_shares_divide_sources(rows, protocol, random):
    """Each row is in exactly one share; no source is in two, also when classes share it; row order is of no account."""
    labels = np.asarray([label for label, _ in rows])
    sources = np.asarray([str(source) for _, source in rows], dtype=object)
    names = list("abcd")
    splits = read_protocols(protocol[0])[protocol[1]]
    shared = [{**s, "classes": names} for s in splits.values() if "share" in s]
    chosen = [select_rows(description, labels, sources, names)[0] for description in shared]
    assert sorted(np.concatenate(chosen)) == list(range(len(rows)))
    for first, second in itertools.combinations(chosen, 2):
        assert not set(sources[first]) & set(sources[second])
    order = list(range(len(rows)))
    random.shuffle(order)
    for description, expected in zip(shared, chosen, strict=True):
        again, _ = select_rows(description, labels[order], sources[order], names)
        assert sorted(np.asarray(order)[again]) == expected.tolist()


def assert_sample_disjoint(name, data_dir, cache_dir):
    splits = [load(name, data_dir, cache_dir, split, protocol="sample_disjoint") for split in SPLITS]
    assert len({split.class_names for split in splits}) == 1
    for first, second in itertools.combinations(splits, 2):
        assert not set(first.source_ids) & set(second.source_ids)
    assert 0.6 < len(splits[0]) / sum(len(split) for split in splits) < 0.8


def test_sample_disjoint_text(folders):
    """Also that the vocabulary is that of the protocol's own training documents."""
    data_dir, cache_dir = folders
    tiny_archive("brown", data_dir, brown_files(documents=10))
    assert_sample_disjoint("brown", data_dir, cache_dir)
    split = load("brown", data_dir, cache_dir, protocol="sample_disjoint")
    assert "hobbies" in split.tokenizer.get_vocab(), "a test category of class_disjoint is trained on here"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60))
def test_original_divides_rows(rows):
    """Each row is in exactly one split, sources and classes are of no account, and the fractions are of all rows."""
    labels = np.asarray([label for label, _ in rows])
    sources = np.asarray([str(source) for _, source in rows], dtype=object)
    splits = read_protocols("brown")["original"]
    chosen = [select_rows({**splits[s], "classes": list("abcd")}, labels, sources, list("abcd"))[0] for s in SPLITS]
    assert sorted(np.concatenate(chosen)) == list(range(len(rows)))
    assert len(chosen[0]) == round(0.7 * len(rows)) and len(chosen[2]) == len(rows) - round(0.85 * len(rows))


@pytest.mark.filterwarnings("ignore:split 'test' of brown:UserWarning")
def test_original_text_is_as_published(folders):
    """Whole documents, word vectors of all texts, and a warning that goes with the split."""
    data_dir, cache_dir = folders
    tiny_archive("brown", data_dir, brown_files(extra_test_word="zeitgeist", documents=10))
    with pytest.warns(UserWarning, match="brown: protocol 'original' repeats the published set-up"):
        split = load("brown", data_dir, cache_dir, "test", protocol="original")
    assert "support and query overlap" in split.warning and split.row_shape == (3000,)
    assert not load("brown", data_dir, cache_dir, "test").warning
    assert "zeitgeist" in split.tokenizer.get_vocab(), "a word of test documents"
    dataset = EpisodeDataset([split], 10, 5, 15, 3)
    counts = np.bincount(split.labels, minlength=15)
    for episode in dataset:
        ids = torch.cat([episode["support_ids"], episode["query_ids"]]).numpy()
        assert np.array_equal(
            split.labels[episode["query_ids"]], episode["class_ids"].numpy()[episode["query_labels"].numpy()]
        )
        assert len(set(ids)) < len(ids) and counts[episode["class_ids"]].max() < 20, "rows repeat"


def test_original_images_have_disjoint_classes():
    splits = read_protocols("cifar100")
    assert splits["original"] == splits["class_disjoint"]


def test_unknown_class_in_a_split():
    with pytest.raises(ValueError, match="yodelling"):
        select_rows({"classes": ["yodelling"]}, np.zeros(1, int), np.asarray(["x"]), ["dog"])


# load_few_shot


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "esc11"}, "name='esc11'.*esc50, brown, cifar100, .*synthetic, .*hub"),
        ({"name": "synthetic", "split": "dev"}, "split='dev'.*train, validation, test"),
        ({"name": "synthetic", "protocol": "random"}, "protocol='random'.*class_disjoint, sample_disjoint, original"),
        ({"name": "synthetic", "protocol": "original"}, "protocol='original' is not available.*class_disjoint"),
        ({"name": "folder", "protocol": "original"}, "protocol='original' is not available.*sample_disjoint"),
        ({"name": "brown:text"}, "option modality does not exist for brown"),
        ({"name": "cifar100", "unit": "passage"}, "option unit does not exist for cifar100; its options: image_size"),
        ({"name": "esc50", "unit": "passage"}, "option unit does not exist for esc50; its options: none"),
        ({"name": "brown", "length": 3}, "option length .* unit, passage_length, min_count"),
        ({"name": "brown", "unit": "sentence"}, "unit='sentence'.*passage, document"),
        ({"name": "brown", "passage_length": 0}, "passage_length=0"),
        ({"name": "brown", "min_count": "5"}, "min_count='5'"),
        ({"name": "synthetic:video"}, "modality='video'.*audio, text, image"),
        ({"name": "synthetic:text", "modality": "audio"}, "modality 'text', the option for 'audio'"),
        ({"name": "synthetic", "seed": -1}, "seed=-1"),
    ],
)
def test_load_few_shot_names_what_is_wrong(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_few_shot(**arguments, data_dir=tmp_path, cache_dir=tmp_path)


# The real data


@pytest.fixture(scope="module", params=DATA_SETS)
def real(request, data_dir, cache_dir):
    return {split: load(request.param, data_dir, cache_dir, split) for split in SPLITS}


def test_real_rows(real):
    expected = {
        "esc50": ("audio", (80000,), np.int16, 507, 74, 150),
        "brown": ("text", (600,), np.int32, None, None, None),
        "cifar100": ("image", (3, 32, 32), np.uint8, 12000, 4000, 4000),
    }[real["train"].name]
    for split, size in zip(SPLITS, expected[3:], strict=True):
        data = real[split]
        rows = data.rows(np.asarray([len(data) - 1, 0, 0]))
        assert (data.modality, data.row_shape, rows.dtype) == expected[:3]
        assert rows.shape == (3, *data.row_shape) and np.array_equal(rows[1], rows[2])
        assert size is None or len(data) == size
        assert data.labels.dtype == np.int64 and len(data.labels) == len(data.source_ids) == len(data)
        assert set(data.labels) == set(range(len(data.class_names)))
        copy = pickle.loads(pickle.dumps(data))
        assert np.array_equal(copy.rows(np.arange(3)), data.rows(np.arange(3)))
    with pytest.raises(IndexError):
        real["test"].rows([len(real["test"])])


def test_real_splits_share_no_row_and_no_test_class(real):
    train, validation, test = (real[split] for split in SPLITS)
    for first, second in ((train, test), (validation, test)):
        assert not set(first.class_names) & set(second.class_names)
    if train.name != "esc50":  # two recordings of ESC-50 have clips in a train and in a validation class
        assert not set(train.source_ids) & set(validation.source_ids)
    assert not set(test.source_ids) & (set(train.source_ids) | set(validation.source_ids))


def test_real_episodes_in_workers(real):
    n_query = {"audio": 3, "text": 15, "image": 15}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dataset = EpisodeDataset([real["train"]], 5, 1, n_query, 6, seed=1)
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=collate_episodes)
    for number, batch in enumerate(loader):
        (modality,) = batch["episodes"]
        expected = torch.stack([dataset[2 * number]["query"], dataset[2 * number + 1]["query"]])
        assert torch.equal(batch["episodes"][modality]["query"], expected)


@pytest.mark.parametrize("k_shot", [1, 5])
def test_real_settings(real, k_shot):
    """What the README promises on the data at hand, and which classes are left out."""
    left_out = {
        ("esc50", "train", 1): {"washing_machine"},
        ("esc50", "train", 5): {"washing_machine", "fireworks", "brushing_teeth"},
        ("brown", "train", 1): {"science_fiction"},
        ("brown", "train", 5): {"science_fiction"},
        ("brown", "validation", 1): {"science_fiction", "humor", "religion", "reviews"},
        ("brown", "validation", 5): {"science_fiction", "humor", "religion", "reviews"},
    }
    n_query = {"audio": 3, "text": 15, "image": 15}
    for split, data in real.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = EpisodeDataset([data], 5, k_shot, n_query, 20, seed=0)
        names = left_out.get((data.name, split, k_shot), set())
        assert len(caught) == bool(names) and all(f"class '{name}'" in str(caught[0].message) for name in names)
        for episode in dataset:
            support, query = episode["support_ids"], episode["query_ids"]
            assert not set(data.source_ids[support]) & set(data.source_ids[query])
            assert not names & {data.class_names[c] for c in episode["class_ids"]}


def test_real_brown_has_no_ten_way_test(data_dir, cache_dir):
    split = load("brown", data_dir, cache_dir, "test")
    with pytest.raises(ValueError, match="n_way=10 .* only 5 test categories exist"):
        EpisodeDataset([split], 10, 1, 15, 10)


@pytest.mark.parametrize("name", ["esc50", "cifar100"])
def test_real_sample_disjoint(name, data_dir, cache_dir):
    assert_sample_disjoint(name, data_dir, cache_dir)


def test_real_clip_through_the_processor_equals_its_row(data_dir, cache_dir):
    split = load("esc50", data_dir, cache_dir, "test")
    with open(data_dir / "ESC-50" / "meta" / "esc50.csv", newline="") as table:
        clips = [clip for clip in csv.DictReader(table) if clip["category"] in split.class_names]
    chosen = [0, 70, 149]
    paths = [data_dir / "ESC-50" / "audio" / clips[row]["filename"] for row in chosen]
    processor = MSMAMLProcessor(feature_extractor=split.preprocessor)
    assert np.array_equal(processor(audio=paths)["input_values"], split.rows(chosen))


def test_real_text_through_the_processor_equals_its_first_passage(data_dir, cache_dir):
    split = load("brown", data_dir, cache_dir, "test")
    with zipfile.ZipFile(data_dir / "brown.zip") as archive:
        text = "\n".join(strip_tags(archive.read("brown/cb01").decode()))
    row = int(np.flatnonzero(split.source_ids == "cb01")[0])
    processor = MSMAMLProcessor(tokenizer=split.preprocessor)
    assert np.array_equal(processor(text=text)["input_ids"], split.rows([row]))
    assert (split.rows([row]) == split.tokenizer.unk_token_id).mean() < 0.25


def test_real_images_are_those_of_the_archive(data_dir, cache_dir):
    split = load("cifar100", data_dir, cache_dir, "test")
    with tarfile.open(data_dir / "cifar-100-binary.tar.gz") as archive:
        content = archive.extractfile("cifar-100-binary/test.bin").read()
        names = archive.extractfile("cifar-100-binary/fine_label_names.txt").read().decode().split()
    for row in np.flatnonzero([source.startswith("test/") for source in split.source_ids])[[0, 100, -1]]:
        number = int(split.source_ids[row].split("/")[1])
        record = np.frombuffer(content[number * 3074 : (number + 1) * 3074], np.uint8)
        assert names[record[1]] == split.class_names[split.labels[row]]
        assert np.array_equal(split.rows([row])[0].reshape(-1), record[2:])
