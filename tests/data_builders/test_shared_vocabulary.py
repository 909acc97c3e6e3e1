"""One vocabulary for several text data sets, and tokenizers that are given as objects."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from data_builders import load_few_shot, shared_vocabulary, training_texts
from data_builders.splits.protocols import read_protocols
from data_builders.storage.shared_vocabulary import SharedVocabulary
from data_builders.storage.vocabulary import word_level_tokenizer

from .test_builders import arrow_files, brown_files, tiny_archive
from .tiny_sets import TINY, write_set

SETS = ("brown", "clinc150", "banking77")


@pytest.fixture
def text_dir(tmp_path):
    """A folder with three tiny text data sets."""
    (tmp_path / "data").mkdir()
    tiny_archive("brown", tmp_path / "data")
    for name in SETS[1:]:
        write_set(name, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


def vocabulary_of(text_dir, cache_dir, sets=SETS, **options):
    return shared_vocabulary(sets, data_dir=text_dir, cache_dir=cache_dir, **options)


@pytest.mark.parametrize("name", SETS[1:])
@pytest.mark.parametrize("protocol", ["class_disjoint", "sample_disjoint"])
def test_training_texts_are_those_of_the_training_rows(name, protocol, text_dir, cache_dir):
    lines = list(training_texts(name, protocol, text_dir, cache_dir))
    split = load_few_shot(name, "train", protocol, text_dir, cache_dir)
    assert len([line for line in lines if line]) == len(split)
    told = {line.split()[0] for line in lines if line}
    assert told == {class_name.strip("?") for class_name in split.class_names}


def test_training_texts_of_brown_and_of_own_files(text_dir, cache_dir, tmp_path):
    lines = "\n".join(training_texts("brown", "class_disjoint", text_dir, cache_dir))
    tests = read_protocols("brown")["class_disjoint"]["test"]["classes"]
    assert "news" in lines and not any(category in lines for category in tests)
    for bird in ("bittern", "crane", "wren", "crow", "rook"):
        for number in range(4):
            path = tmp_path / "own" / bird / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{bird} one\ntwo three\n")
    (tmp_path / "own" / "wren" / "9.txt").write_bytes(b"\xff\xfe\xfa")  # which cannot be read
    split = load_few_shot("folder", "train", data_dir=tmp_path / "own", cache_dir=cache_dir, skip_unreadable=True)
    lines = list(training_texts("folder", data_dir=tmp_path / "own", skip_unreadable=True, passage_length=3))
    assert {line.split()[0] for line in lines} == {*split.class_names, "two"} and len(lines) == 2 * len(split)
    others = training_texts("folder", data_dir=tmp_path / "own", shares=(1, 0, 0))
    assert len(list(others)) == 40


def test_all_splits_share_one_tokenizer(text_dir, cache_dir):
    """The words are those of all training texts and of no test text; the vectors have their order."""
    shared = vocabulary_of(text_dir, cache_dir)
    tokenizer, vectors = shared.tokenizer(60), shared.word_vectors()
    words = tokenizer.get_vocab()
    assert vectors.shape == (len(words), 128) and not vectors[0].any()
    assert {"news", "calendar", "swallowed"} <= set(words), "words of training classes, one of each data set"
    assert not {"mystery", "recipe", "fiat"} & set(words), "words of test classes"
    for name in SETS:
        split = load_few_shot(name, "train", data_dir=text_dir, cache_dir=cache_dir, tokenizer=tokenizer)
        assert split.tokenizer.get_vocab() == words and split.word_vectors is None
        assert split.row_shape == {"brown": (600,)}.get(name, (60,))
        rows = split.rows(np.arange(len(split)))
        own = load_few_shot(name, "train", data_dir=text_dir, cache_dir=cache_dir)
        ids = {own_id: words[word] for word, own_id in own.tokenizer.get_vocab().items() if word in words}
        mapped = np.vectorize(lambda own_id, ids=ids: ids.get(own_id, 1))(own.rows(np.arange(len(own))))
        known = mapped != 1
        assert known.any() and np.array_equal(rows[known], mapped[known]), "the same words at the same places"


def test_cache_follows_the_texts(text_dir, cache_dir):
    """A vocabulary is built once, and again when a data set, its files or the protocol change."""

    def built():
        return len([path for path in arrow_files(cache_dir) if "shared_vocabulary" in path.name])

    vocabulary_of(text_dir, cache_dir).tokenizer(60)
    vocabulary_of(text_dir, cache_dir).tokenizer(30)
    vocabulary_of(text_dir, cache_dir, {name: {} for name in SETS}).word_vectors()
    assert built() == 1
    vocabulary_of(text_dir, cache_dir, SETS[:2]).tokenizer(60)
    vocabulary_of(text_dir, cache_dir, protocol="sample_disjoint").tokenizer(60)
    vocabulary_of(text_dir, cache_dir, min_count=7).tokenizer(60)
    assert built() == 4
    tiny_archive("brown", text_dir, brown_files(documents=5))
    vocabulary_of(text_dir, cache_dir).tokenizer(60)
    assert built() == 5
    vocabulary_of(None, cache_dir, {name: {"data_dir": text_dir} for name in SETS}).tokenizer(60)
    assert built() == 5, "a folder of each data set's own"


def test_lines_of_any_kind_are_known_by_their_content(tmp_path):
    first, second = (SharedVocabulary([iter(["a b", "a"]), ["b b"]], tmp_path, min_count=1) for _ in range(2))
    assert first._cache_dir == second._cache_dir
    assert set(first.tokenizer(9).get_vocab()) == {"[PAD]", "[UNK]", "a", "b"}
    assert SharedVocabulary([["a b"], ["b"]], tmp_path, 1)._cache_dir != first._cache_dir


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ((), {}, "at least one data set"),
        (("brown", "cifar100"), {}, "cifar100 offers no training texts"),
        (("synthetic:text",), {}, "synthetic:text offers no training texts"),
        (("nothing",), {}, "name='nothing' is no data set"),
        ({"clinc150": {"unit": "passage"}}, {}, "option unit does not exist for clinc150"),
        (("brown",), {"min_count": 0}, "min_count=0"),
        (("brown",), {"protocol": "random"}, "protocol='random'"),
        (("clinc150",), {"protocol": "original"}, "protocol='original' is not available"),
    ],
)
def test_what_cannot_be_shared_is_named(sets, options, message, text_dir, cache_dir):
    with pytest.raises(ValueError, match=message):
        vocabulary_of(text_dir, cache_dir, sets, **options)


def test_a_folder_of_sounds_has_no_words(tmp_path):
    (tmp_path / "wren").mkdir()
    (tmp_path / "wren" / "1.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="has audio, not texts"):
        training_texts("folder", data_dir=tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_given_tokenizers(name, text_dir, cache_dir, tmp_path):
    """An object, which is not changed, gives the rows of the folder in which it is saved."""
    tokenizer = word_level_tokenizer(["[PAD]", "[UNK]", "w1", "w2"], 50)
    tokenizer.save_pretrained(tmp_path / "saved")
    length = {"passage_length" if name == "brown" else "text_length": 20}
    from_object, from_folder = (
        load_few_shot(name, "test", data_dir=text_dir, cache_dir=cache_dir, tokenizer=given, **length)
        for given in (tokenizer, tmp_path / "saved")
    )
    rows = from_object.rows(np.arange(len(from_object)))
    assert set(np.unique(rows)) | {0} == {0, 1, 2, 3} and from_object.row_shape == (20,)
    assert np.array_equal(rows, from_folder.rows(np.arange(len(from_folder))))
    assert tokenizer.model_max_length == 50 and from_object.tokenizer.model_max_length == 20
    other = word_level_tokenizer(["[PAD]", "[UNK]", "w2", "w1"], 50)
    swapped = load_few_shot(name, "test", data_dir=text_dir, cache_dir=cache_dir, tokenizer=other, **length)
    assert np.array_equal(swapped.rows(np.arange(len(rows))) == 2, rows == 3)
    backend = Tokenizer(WordLevel({"w1": 0, "[UNK]": 1, "w2": 2, "[PAD]": 3}, unk_token="[UNK]"))
    backend.normalizer = tokenizer.backend_tokenizer.normalizer
    backend.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    last = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", model_max_length=50)
    padded_with_3 = load_few_shot(name, "test", data_dir=text_dir, cache_dir=cache_dir, tokenizer=last, **length)
    exchanged = {0: 0, 1: 1, 2: 3, 3: 2}  # w1 has the id of [PAD] in rows
    assert np.array_equal(padded_with_3.rows(np.arange(len(rows))), np.vectorize(exchanged.get)(rows))
    unpadded = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="[UNK]")
    for given, options, message in (
        (tokenizer, {"min_count": 5}, "min_count=5 has no effect beside tokenizer="),
        (unpadded, {}, "has no token that pads"),
        (7, {}, "tokenizer is a int"),
    ):
        with pytest.raises(ValueError, match=message):
            load_few_shot(name, data_dir=text_dir, cache_dir=cache_dir, tokenizer=given, **options)


def test_a_text_that_is_there_twice_is_one_source(text_dir, cache_dir):
    pieces = TINY["clinc150"]()
    parts = json.loads(pieces["data_full.json"]["data_full.json"])
    text, intent = parts["train"][0]
    parts["test"].append([f" {text.upper()} ", intent])
    pieces["data_full.json"]["data_full.json"] = json.dumps(parts).encode()
    write_set("clinc150", text_dir, pieces)
    sources = [
        source
        for split in ("train", "validation", "test")
        for source in load_few_shot("clinc150", split, "class_disjoint", text_dir, cache_dir).source_ids
    ]
    assert sources.count("train/0") == 2 and len(sources) == len(set(sources)) + 1 == 901


@pytest.mark.parametrize("options", [{"text_length": 0}, {"text_length": 2.5}, {"min_count": 0}])
def test_options_of_short_texts(options, text_dir, cache_dir):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}={options[name]}"):
        load_few_shot("clinc150", data_dir=text_dir, cache_dir=cache_dir, **options)
    assert load_few_shot("clinc150", data_dir=text_dir, cache_dir=cache_dir, text_length=7).row_shape == (7,)
