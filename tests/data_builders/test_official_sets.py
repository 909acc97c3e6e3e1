"""Data sets of plain files, of several archives, and in parts: layouts, damage, downloads, and the real data."""

import hashlib
import io
import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data_builders import NoSuchSplit, load_few_shot, read_protocols
from data_builders.storage.downloads import MIRROR_VARIABLE, ResumableHTTP, archive_url, checked_archive
from modeling_msmaml.inputs.labelled_inputs import SPLITS
from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor

from .test_builders import arrow_files
from .test_downloads import Handler, Server, downloaded
from .tiny_sets import BUILDERS, OPTIONS, PLAIN, TINY, classes, drawing, fsdd, write_set


def load(key, data_dir, cache_dir, split="test", **options):
    return load_few_shot(key.split()[0], split, data_dir=data_dir, cache_dir=cache_dir, **{**OPTIONS[key], **options})


def assert_same(split, other):
    assert split.class_names == other.class_names and np.array_equal(split.labels, other.labels)
    assert np.array_equal(split.source_ids, other.source_ids)
    assert np.array_equal(split.rows(np.arange(len(split))), other.rows(np.arange(len(other))))


# Layouts


@pytest.mark.parametrize("key", TINY)
def test_every_layout_gives_the_same_rows(key, tmp_path):
    layouts = ["root", "folder", *([] if key in PLAIN else ["extracted"])]
    layouts += ["inside"] if key in ("fsdd", "omniglot small1") else []
    splits = [load(key, write_set(key, tmp_path / layout, layout=layout), tmp_path / "cache") for layout in layouts]
    assert len(splits[0])
    for other in splits[1:]:
        assert_same(splits[0], other)


def test_one_archive_and_one_extracted_folder(tmp_path):
    whole, mixed = write_set("omniglot", tmp_path / "whole"), tmp_path / "mixed"
    background, evaluation = ({name: files} for name, files in TINY["omniglot"]().items())
    write_set("omniglot", mixed, background, "extracted")
    write_set("omniglot", mixed, evaluation, "root")
    for split in SPLITS:
        assert_same(*(load("omniglot", folder, tmp_path / "cache", split) for folder in (whole, mixed)))


def test_files_beside_a_data_set_do_not_change_its_cache(tmp_path):
    """Plain files lie in a folder with other data."""
    write_set("banking77", tmp_path / "data")
    load("banking77", tmp_path / "data", tmp_path / "cache")
    before = arrow_files(tmp_path / "cache")
    (tmp_path / "data" / "other.txt").write_text("other")
    load("banking77", tmp_path / "data", tmp_path / "cache")
    assert arrow_files(tmp_path / "cache") == before


# Missing and damaged data


@pytest.mark.parametrize("key", TINY)
def test_missing_data_say_which_files_go_where(key, tmp_path):
    expected = [*TINY[key](), "https://", str(tmp_path)] if key != "omniglot small1" else ["images_background.zip"]
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError) as error:
            load(key, place, tmp_path / "cache")
        for part in expected:
            assert part in str(error.value)


@pytest.mark.parametrize(
    ("key", "lacking"), [("banking77", "test.csv"), ("omniglot", "images_evaluation.zip")], ids=["files", "archives"]
)
@pytest.mark.parametrize("layout", ["root", "folder"])
def test_a_missing_piece_is_named(key, lacking, layout, tmp_path):
    pieces = {name: files for name, files in TINY[key]().items() if name != lacking}
    write_set(key, tmp_path / "data", pieces, layout)
    message = rf"\({lacking} is missing\)" if layout == "root" else rf"is there but lacks {lacking}\)"
    with pytest.raises(FileNotFoundError, match=message):
        load(key, tmp_path / "data", tmp_path / "cache")


@pytest.mark.parametrize(
    ("key", "piece", "path", "content", "message"),
    [
        ("clinc150", "data_full.json", None, b'{"train": [["text", "int', "data_full.json is no JSON file .*cut off"),
        ("clinc150", "data_full.json", None, b'{"train": [], "val": []}', "lacks the lists test"),
        ("clinc150", "data_full.json", None, b"[]", "lacks the lists train, val, test"),
        ("clinc150", "data_full.json", None, b'{"train": [["a"]], "val": [], "test": []}', "entry 0 of 'train' .* not"),
        ("clinc150", "data_full.json", None, b'{"train": [["a", "yodel"]], "val": [], "test": []}', "'yodel' .train/0"),
        ("clinc150", "data_full.json", None, b'{"train": [[" ", "yes"]], "val": [], "test": []}', "words: train/0"),
        ("clinc150", "data_full.json", None, b'{"train": [], "val": [], "test": []}', "has no texts"),
        ("banking77", "categories.json", None, b'["age_limit"', "categories.json .* is no JSON file"),
        ("banking77", "categories.json", None, b'["age_limit"]', "does not list the 77 categories: .* 71 more differ"),
        ("banking77", "categories.json", None, b"3", "does not list the 77 categories"),
        ("banking77", "test.csv", None, b"text;category\r\n", "test.csv .* has the columns"),
        ("banking77", "test.csv", None, b"", "test.csv .* has the columns None"),
        ("banking77", "test.csv", None, b"text,category\r\nhow?\r\n", "test.csv .* line 2 without exactly two columns"),
        ("banking77", "test.csv", None, b"text,category\r\na,age_limit,b\r\n", "line 2 without exactly two columns"),
        ("banking77", "train.csv", None, b'text,category\r\n"how', "train.csv .* is no CSV file after line 1"),
        ("banking77", "train.csv", None, b"text,category\r\nhow?,age_lim", "'age_lim' .train/0"),
        ("banking77", "train.csv", None, b"text,category\r\n\xff,age_limit", "train.csv .* is not UTF-8 .byte 15"),
        ("fsdd", None, "recordings/0_ada_0.wav", b"RIFFnonsense", "cannot decode the sound in .*0_ada_0.wav"),
        ("fsdd", None, "recordings/zero_ada_0.wav", b"RIFF", "1 are not named .*: recordings/zero_ada_0.wav"),
        ("omniglot", None, "Greek/character01/0001_01.png", b"\x89PNG", "cannot decode the image in .*0001_01.png"),
        ("omniglot", None, "Klingon/character01/0001_01.png", drawing(0), "1 are of no character of .*Klingon"),
        ("omniglot", None, "Greek/character25/0001_01.png", drawing(0), "1 are of no character .*Greek/character25"),
        ("omniglot", None, "Greek/character01/first.png", drawing(0), "1 are of no character of .*first.png"),
    ],
)
def test_damaged_content_is_named(key, piece, path, content, message, tmp_path):
    """And a failed build leaves no rows behind."""
    pieces = TINY[key]()
    piece = piece or next(iter(pieces))
    write_set(key, tmp_path / "data", {**pieces, piece: {**pieces[piece], path or piece: content}})
    with pytest.raises(ValueError, match=message):
        load(key, tmp_path / "data", tmp_path / "cache")
    assert not arrow_files(tmp_path / "cache")


@pytest.mark.parametrize("key", ["fsdd", "omniglot"])
def test_nothing_of_the_kind_in_the_folder(key, tmp_path):
    files = dict.fromkeys(("Angelic/a.txt", "Alphabet_of_the_Magi/a.txt", "recordings/a.txt"), b"")
    pieces = dict.fromkeys(TINY[key](), files)
    write_set(key, tmp_path / "data", pieces)
    with pytest.raises(ValueError, match="has 0 (recordings|drawings)"):
        load(key, tmp_path / "data", tmp_path / "cache")


@pytest.mark.parametrize("key", ["fsdd", "omniglot", "omniglot small1"])
def test_truncated_archives(key, tmp_path):
    write_set(key, tmp_path / "data")
    archive = tmp_path / "data" / list(TINY[key]())[-1]
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(ValueError, match=f"{archive.name} is damaged or incomplete.*Delete it"):
        load(key, tmp_path / "data", tmp_path / "cache")


# Downloads


class PathHandler(Handler):
    """Serves `contents`, by path."""

    def do_GET(self):
        self.server.content = self.server.contents.get(self.path, b"")
        super().do_GET()


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        server.RequestHandlerClass, server.contents = PathHandler, {}
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv(MIRROR_VARIABLE, server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(ResumableHTTP, "retry_delay", 0.001)
        yield server
        server.shutdown()


def serve(key, server, monkeypatch, made):
    """Puts a tiny data set on the server; the official checksums or counts are those of the tiny one."""
    write_set(key, made)
    official = BUILDERS[key][0].OFFICIAL
    pieces = []
    for piece in official.pieces:
        content = (made / piece.archives[0]).read_bytes()
        server.contents["/" + archive_url(piece).removeprefix(server.url.removesuffix("mirror/"))] = content
        changed = {"md5": hashlib.md5(content).hexdigest()} if piece.md5 else {"counts": (("recordings/*.wav", 80),)}
        pieces.append(replace(piece, **changed))
    for builder in BUILDERS[key]:
        own = replace(official, parts=tuple(pieces)) if official.parts else pieces[0]
        monkeypatch.setattr(builder, "OFFICIAL", own)


PARTED = {"omniglot small1": {"part": "small1"}}


@pytest.mark.parametrize("key", TINY)
def test_all_pieces_are_fetched_once(key, server, monkeypatch, tmp_path):
    """For all splits and for the vocabulary; the rows are those of a folder with the same files."""
    serve(key, server, monkeypatch, tmp_path / "made")
    fetched = load(key, None, tmp_path / "cache", **PARTED.get(key, {}))
    load(key, None, tmp_path / "cache", "train", protocol="sample_disjoint", **PARTED.get(key, {}))
    assert sorted(path for path, _ in server.requests) == sorted(server.contents)
    assert_same(fetched, load(key, tmp_path / "made", tmp_path / "cache"))
    if key in PLAIN:
        assert all(path.startswith(f"/mirror/{key}/") for path in server.contents), "names such as train.csv are common"


@pytest.mark.parametrize("key", TINY)
@pytest.mark.parametrize("damage", ["truncated", "html"])
def test_a_damaged_piece_is_refused_and_fetched_anew(key, damage, server, monkeypatch, tmp_path):
    serve(key, server, monkeypatch, tmp_path / "made")
    path, content = list(server.contents.items())[-1]
    server.contents[path] = content[:-99] if damage == "truncated" else b"<html>Moved</html>"
    with pytest.raises(ValueError, match="md5|damaged" if damage == "truncated" else "HTML page"):
        load(key, None, tmp_path / "cache", **PARTED.get(key, {}))
    assert len(downloaded(tmp_path / "cache")) == len(server.contents) - 1 and not arrow_files(tmp_path / "cache")
    server.contents[path] = content
    assert len(load(key, None, tmp_path / "cache", **PARTED.get(key, {})))
    assert len(server.requests) == len(server.contents) + 1, "only what was damaged is fetched again"


@pytest.mark.parametrize("key", BUILDERS)
def test_official_sources(key, monkeypatch):
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    for piece in BUILDERS[key][0].OFFICIAL.pieces:
        assert archive_url(piece) == piece.source and piece.source.startswith("https://")
        assert bool(piece.md5) != bool(piece.counts)


@pytest.mark.parametrize("key", ["clinc150", "banking77", "omniglot small1"])
def test_real_files_have_the_official_checksums(key, data_dir):
    for piece in BUILDERS[key][0].OFFICIAL.pieces:
        assert checked_archive(piece, data_dir / key.split()[0] / piece.archives[0], "url").names()


# What is special to a data set


@pytest.mark.parametrize(
    ("lists", "sizes"),
    [
        ("clinc150", (75, 30, 45)),
        ("banking77", (25, 25, 27)),
        ("fsdd", (0, 0, 10)),
        ("omniglot", (883, 81, 659)),
        ("omniglot_small1", (74, 22, 40)),
        ("omniglot_small2", (92, 17, 47)),
    ],
)
def test_class_lists(lists, sizes):
    protocols = read_protocols(lists)
    members = [protocols["class_disjoint"].get(split, {"classes": []})["classes"] for split in SPLITS]
    assert tuple(map(len, members)) == sizes
    assert not any(set(first) & set(second) for first, second in itertools.combinations(members, 2))
    assert all(sorted(split["classes"]) == classes(lists) for split in protocols["sample_disjoint"].values())
    if lists.startswith("omniglot"):
        alphabets = [{name.split("/")[0] for name in names} for names in members]
        assert not any(first & second for first, second in itertools.combinations(alphabets, 2))


@pytest.mark.parametrize("speakers", [2, 3, 4, 5, 6])
def test_speakers_are_divided(speakers, tmp_path):
    names = [f"speaker{number}" for number in range(speakers)]
    write_set("fsdd", tmp_path, fsdd(names))
    found, lacking = {}, []
    for split in SPLITS:
        try:
            loaded = load("fsdd", tmp_path, tmp_path / "cache", split, protocol="sample_disjoint")
            assert len(loaded.class_names) == 10 and len(loaded) == 20 * len(set(loaded.source_ids))
            found[split] = sorted(set(loaded.source_ids))
        except NoSuchSplit as error:
            assert f"{split} split of fsdd has no rows" in str(error) and f"from {speakers} sources" in str(error)
            lacking.append(split)
    assert sorted(itertools.chain(*found.values())) == names
    assert bool(lacking) == (speakers < 4), "three speakers are too few for three splits"
    if not lacking:
        assert [len(found[split]) for split in SPLITS[1:]] == [1, 1]


def test_digits_are_for_the_test_only(tmp_path):
    write_set("fsdd", tmp_path)
    for split in ("train", "validation"):
        with pytest.raises(NoSuchSplit, match=f"fsdd has no {split} split .*only test; sample_disjoint has it"):
            load("fsdd", tmp_path, tmp_path / "cache", split)
    assert len(load("fsdd", tmp_path, tmp_path / "cache")) == 80


def test_parts_of_omniglot(tmp_path):
    """The first part that is there is the default; options are checked."""
    for part in ("small2", "small1"):
        write_set("omniglot small1", tmp_path, {f"images_background_{part}.zip": _first_drawings(f"omniglot_{part}")})
        split = load_few_shot("omniglot", "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")
        assert set(split.class_names) <= set(classes(f"omniglot_{part}"))
    with pytest.raises(FileNotFoundError, match="images_background.zip"):
        load("omniglot", tmp_path, tmp_path / "cache")
    write_set("omniglot", tmp_path)
    whole = load_few_shot("omniglot", "test", data_dir=tmp_path, cache_dir=tmp_path / "cache", image_size=28)
    assert len(whole.class_names) == 659 and whole.row_shape == (3, 28, 28)
    assert load("omniglot small1", tmp_path, tmp_path / "cache", part="small2", split="train").source_ids[0] == (
        "Greek/character01/0001_07"
    )
    for options, message in (
        ({"part": "small3"}, "part='small3'.*full, small1, small2"),
        ({"image_size": 0}, "size=0"),
    ):
        with pytest.raises(ValueError, match=message):
            load_few_shot("omniglot", data_dir=tmp_path, cache_dir=tmp_path / "cache", **options)


def _first_drawings(lists):
    return {f"{name}/0001_07.png": drawing(7) for name in classes(lists) if name.endswith("character01")}


def test_rows_are_black_on_white_and_area_averaged(tmp_path):
    square = np.ones((105, 105), bool)
    square[:52] = False  # the upper half is black
    content = io.BytesIO()
    Image.fromarray(square).save(content, format="PNG")
    files = {"Balinese/character01/0001_01.png": content.getvalue()}
    write_set("omniglot small1", tmp_path, {"images_background_small1.zip": files})
    row = load("omniglot small1", tmp_path, tmp_path / "cache", "train").rows([0])[0]
    assert row.dtype == np.uint8 and (row[:, :15] == 0).all() and (row[:, 17:] == 255).all()
    assert 0 < row[0, 15:17].mean() < 255 and (row[0] == row[2]).all()


# The real data


@pytest.fixture(scope="module", params=["clinc150", "banking77", "fsdd", "omniglot"])
def real(request, data_dir, cache_dir):
    protocol = "sample_disjoint" if request.param == "fsdd" else "class_disjoint"
    return {split: load_few_shot(request.param, split, protocol, data_dir, cache_dir) for split in SPLITS}


def test_real_rows(real):
    shape, dtype, *sizes = {
        "clinc150": ((60,), np.int32, 11250, 4500, 6750),
        "banking77": ((60,), np.int32, 4336, 4085, 4662),
        "fsdd": ((80000,), np.int16, 1000, 500, 500),
        "omniglot": ((3, 32, 32), np.uint8, 1480, 440, 800),
    }[real["train"].name]
    for split, size in zip(real.values(), sizes, strict=True):
        rows = split.rows(np.asarray([0, len(split) - 1]))
        assert split.row_shape == shape and rows.dtype == dtype and len(split) == size
        assert set(split.labels) == set(range(len(split.class_names)))
    for first, second in itertools.combinations(real.values(), 2):
        assert not set(first.source_ids) & set(second.source_ids)


def test_real_inputs_through_the_processor_equal_their_rows(data_dir, cache_dir):
    for digit, speaker, number in ((0, "jackson", 0), (9, "theo", 49)):
        split = load_few_shot("fsdd", "test", data_dir=data_dir, cache_dir=cache_dir)
        path = data_dir / "fsdd" / "recordings" / f"{digit}_{speaker}_{number}.wav"
        is_this = (split.labels == digit) & (split.source_ids == speaker)
        rows = split.rows(np.flatnonzero(is_this))
        assert (rows == MSMAMLFeatureExtractor()(path)["input_values"]).all(axis=1).sum() == 1
    split = load_few_shot("banking77", "test", data_dir=data_dir, cache_dir=cache_dir)
    row = int(np.flatnonzero(split.source_ids == "train/0")[0])
    encoded = MSMAMLProcessor(tokenizer=split.preprocessor)(text="I am still waiting on my card?")["input_ids"]
    assert np.array_equal(encoded, split.rows([row]))
    split = load_few_shot("omniglot", "test", data_dir=data_dir, cache_dir=cache_dir)
    assert isinstance(split.preprocessor, MSMAMLImageProcessor) and split.source_ids[0] == "Korean/character01/0643_01"


@pytest.mark.parametrize("name", ["clinc150", "banking77"])
def test_real_texts_are_whole_in_their_rows(name, data_dir, cache_dir):
    """At least 99 % of them, with the word-level tokenizer of their own vocabulary."""
    longer = load_few_shot(name, "test", data_dir=data_dir, cache_dir=cache_dir, text_length=61)
    cut = (longer.rows(np.arange(len(longer)))[:, 60] != 0).mean()
    assert cut < 0.01 and (cut > 0) == (name == "banking77")
