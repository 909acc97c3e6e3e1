"""Data sets from outside the package, what a cache key knows of the code that makes rows, and the names of the face."""

import ast
import importlib
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_builders import (
    DataSetFacts,
    FewShotSplit,
    NoSuchSplit,
    load_few_shot,
    register_data_set,
    shared_vocabulary,
)
from data_builders import load as load_module
from data_builders.data_sets.banking77 import Banking77, Banking77Vocabulary
from data_builders.data_sets.brown import Brown, BrownVocabulary
from data_builders.data_sets.cifar100 import Cifar100
from data_builders.data_sets.cifar_fs import CifarFs
from data_builders.data_sets.clinc150 import Clinc150, Clinc150Vocabulary
from data_builders.data_sets.esc50 import Esc50
from data_builders.data_sets.fsdd import Fsdd
from data_builders.data_sets.omniglot import Omniglot
from data_builders.data_sets.own_rows import OwnRows, OwnVocabulary
from data_builders.data_sets.synthetic import Synthetic
from data_builders.storage.shared_vocabulary import SharedVocabulary
from modeling_msmaml.hub import model_card
from modeling_msmaml.model import modalities
from modeling_msmaml.model.modalities import ModalityEmbedding

from ..test_imports import in_new_process

REPOSITORY = Path(__file__).parents[2]
BUILDERS = (
    *(Esc50, Brown, BrownVocabulary, Cifar100, CifarFs, Synthetic, OwnRows, OwnVocabulary),
    *(Clinc150, Clinc150Vocabulary, Banking77, Banking77Vocabulary, Fsdd, Omniglot, SharedVocabulary),
)

# A person's own builder: the ways to import what makes rows that no builder of the package uses.
OWN_BUILDER = """
import datasets
import data_builders.storage.vocabulary as words
from data_builders import FewShotBuilder, row_features
from modeling_msmaml import MSMAMLFeatureExtractor

class Tones(FewShotBuilder):
    modality, row_shape = "audio", (8,)

    def _info(self):
        return datasets.DatasetInfo(features=row_features("audio", 8, ["low", "high"]))

    def _generate_examples(self):
        from modeling_msmaml.inputs.read_image import read_image
"""


def test_a_data_set_of_ones_own(monkeypatch):
    monkeypatch.setattr(load_module, "_DATA_SETS", dict(load_module._DATA_SETS))
    asked = []

    def load_notes(split, protocol, data_dir, cache_dir, octave=4):
        asked.append((split, protocol, data_dir, octave))
        return FewShotSplit.from_arrays(np.zeros((6, 8), np.int16), [0, 0, 1, 1, 2, 2], None, "audio", split)

    register_data_set("notes", load_notes, options=("octave",), option_in_name="octave")
    assert len(load_few_shot("notes:5", "test", data_dir="somewhere")) == 6
    assert asked == [("test", "class_disjoint", "somewhere", "5")]
    with pytest.raises(ValueError, match="option key does not exist for notes; its options: octave"):
        load_few_shot("notes", key="c")
    with pytest.raises(ValueError, match="sample_disjoint"):
        load_few_shot("notes", protocol="sample_disjoint")
    for name, options, message in (
        ("notes", {}, "taken"),
        ("esc50", {}, "taken"),
        ("a:b", {}, "colon"),
        ("more", {"option_in_name": "octave"}, "none of the options"),
        ("more", {"protocols": ("open",)}, "open"),
    ):
        with pytest.raises(ValueError, match=message):
            register_data_set(name, load_notes, **options)


# A person's own text data set, which does all that those of the package do, in one file.
OWN_TEXTS = """
import json
from pathlib import Path
import datasets
import numpy as np
from data_builders import (
    ArchiveBuilder, DataSetFacts, Official, read_protocols, register_data_set, row_features, split_of_builder
)

class Riddles(ArchiveBuilder):
    OFFICIAL = Official(
        "Riddles", ("riddles",), ("riddles.txt",), "riddles.txt", "https://example.org/riddles.txt", md5="0" * 32
    )
    modality, row_shape = "text", (3,)

    @classmethod
    def protocols(cls):
        return read_protocols(Path(__file__).with_name("riddles.json"))

    def lines(self):
        return [line.split("=") for line in self.open_store().read_one("riddles.txt").decode().splitlines()]

    def _info(self):
        return datasets.DatasetInfo(features=row_features("text", 3, self.class_names()))

    def _generate_examples(self):
        for number, (label, text) in enumerate(self.lines()):
            row = np.zeros(3, np.int32)
            ids = self.tokenizer(text)["input_ids"][:3]
            row[: len(ids)] = ids
            yield number, {"text": self.flat(row), "label": label, "source_id": str(number)}

def load(split, protocol, data_dir, cache_dir, tokenizer=None):
    builder = Riddles(cache_dir=cache_dir, data_dir=data_dir)
    builder.tokenizer = tokenizer
    return split_of_builder(builder, split, protocol, tokenizer=tokenizer)

def training_texts(protocol, data_dir, cache_dir, tokenizer=None):
    names = Riddles.protocols()[protocol]["train"]["classes"]
    return [text for label, text in Riddles(cache_dir=cache_dir, data_dir=data_dir).lines() if label in names]

register_data_set(
    "riddles", load, ("tokenizer",), training_texts=training_texts,
    facts=DataSetFacts("riddles", "Riddles", "https://example.org", "CC BY-NC 4.0", True),
)
"""


def test_a_text_data_set_of_ones_own_does_all_that_those_of_the_package_do(tmp_path, monkeypatch):
    monkeypatch.setattr(load_module, "_DATA_SETS", dict(load_module._DATA_SETS))
    monkeypatch.setattr(model_card, "_KNOWN", dict(model_card._KNOWN))
    (tmp_path / "riddles_of_ones_own.py").write_text(OWN_TEXTS)
    splits = {"train": {"classes": ["sea", "moon"]}, "test": {"groups": ["land"]}}
    lists = {"source": "mine", "groups": {"land": ["hill"]}, "class_disjoint": splits}
    (tmp_path / "riddles.json").write_text(json.dumps(lists))
    (tmp_path / "riddles.txt").write_text("sea=wet and wide\nmoon=cold and wide\nhill=high and dry\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "riddles_of_ones_own", raising=False)
    importlib.import_module("riddles_of_ones_own")
    places = {"data_dir": tmp_path, "cache_dir": tmp_path / "cache"}
    words = shared_vocabulary(["riddles"], min_count=1, **places).tokenizer(3)
    assert set(words.get_vocab()) == {"[PAD]", "[UNK]", "wet", "and", "wide", "cold"}
    test = load_few_shot("riddles", "test", tokenizer=words, **places)
    assert test.class_names == ("hill",) and test.rows([0]).tolist() == [[1, words.get_vocab()["and"], 1]]
    with pytest.raises(NoSuchSplit, match="no validation split under .*only train and test"):
        load_few_shot("riddles", "validation", tokenizer=words, **places)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="Riddles is not in .*put riddles.txt .from https://example.org"):
        load_few_shot("riddles", data_dir=tmp_path / "nothing", cache_dir=tmp_path / "cache")
    assert model_card.model_license([model_card.data_set_facts("riddles")]) == model_card.NON_COMMERCIAL


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("image", {}, "name='image' is the name of a modality.*'my_image'"),
        ("motion", {}, "name='motion' is the name of a modality"),
        ("more", {"training_texts": list}, "training_texts of more has no use without an option tokenizer"),
        ("more", {"facts": DataSetFacts("other", "Other", None, "MIT")}, "facts.name='other' .* 'more'"),
    ],
)
def test_what_cannot_be_registered(name, options, message, monkeypatch):
    monkeypatch.setitem(modalities._REGISTRY, ("motion", "raw"), ModalityEmbedding)
    with pytest.raises(ValueError, match=message):
        register_data_set(name, list, **options)
    assert name not in load_module._DATA_SETS


@pytest.mark.parametrize("name", ["clinc150", "banking77", "fsdd", "omniglot", "esc50", "brown", "cifar100"])
def test_cards_know_the_data_sets(name):
    facts = model_card.data_set_facts(name)
    assert facts.licence != "unknown" and facts.url.startswith("https://")


# The cache key


def origin(value: object) -> str:
    """The module that a value is, or in which it or its class is defined."""
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_the_cache_key_holds_all_own_code_that_a_builder_has_imported(builder):
    """What stands in the modules once they are imported, whatever the statements look like that put it there."""
    modules = builder.code_modules()
    used = {origin(value) for module in modules for value in vars(module).values()}
    own = {name for name in used if name.startswith(("data_builders.", "modeling_msmaml."))}
    own -= {"modeling_msmaml.model.options"}  # checks of arguments, which make no rows
    assert own and own <= {module.__name__ for module in modules}


def test_the_cache_key_holds_code_behind_late_imports_and_constants():
    names = {module.__name__.rpartition(".")[2] for module in OwnRows.code_modules()}
    assert names >= {
        "own_rows",
        "builder",
        "text_rows",
        "vocabulary",
        "protocols",
        "kinds",
        "read_audio",
        "read_image",
        "read_text",
    }
    assert "model_card" not in names and "modeling_msmaml" not in names


def test_the_cache_key_of_a_builder_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_tones.py").write_text(OWN_BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_tones", raising=False)
    tones = importlib.import_module("own_tones").Tones
    names = {module.__name__.rpartition(".")[2] for module in tones.code_modules()}
    assert names >= {"own_tones", "builder", "protocols", "vocabulary", "processing_msmaml", "read_audio", "read_image"}

    def key() -> str:
        return tones(cache_dir=tmp_path)._cache_dir

    before, getsource = key(), inspect.getsource
    assert key() == before
    change = "# changed"
    monkeypatch.setattr(
        inspect, "getsource", lambda module: getsource(module) + change * module.__name__.endswith(".vocabulary")
    )
    assert key() != before


def test_the_cache_key_of_a_builder_that_derives_from_another(tmp_path, monkeypatch):
    """The code of a base counts, although it lies outside the package and is not imported by its own name."""
    (tmp_path / "own_tones.py").write_text(OWN_BUILDER)
    (tmp_path / "own_chords.py").write_text("import own_tones\n\nclass Chords(own_tones.Tones):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_tones", "own_chords"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    chords = importlib.import_module("own_chords").Chords
    names = {module.__name__.rpartition(".")[2] for module in chords.code_modules()}
    assert names >= {"own_chords", "own_tones", "builder", "vocabulary"}


# The face


def test_what_is_outside_imports_names_of_the_face():
    """And what one data set has of its own; the rooms are for this package and its tests."""
    programs = [*REPOSITORY.glob("*.py")]
    for folder in ("msmaml", "modeling_msmaml", "benchmarks", "scripts", "demo", "examples"):
        programs += (REPOSITORY / folder).rglob("*.py")
    places = set()
    for path in programs:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                places.add((node.module, path.relative_to(REPOSITORY).as_posix()))
            elif isinstance(node, ast.Import):
                places |= {(alias.name, path.relative_to(REPOSITORY).as_posix()) for alias in node.names}
    ours = {place for place in places if place[0].split(".")[0] == "data_builders"}
    assert ours and not {p for p in ours if p[0] != "data_builders" and not p[0].startswith("data_builders.data_sets.")}


def test_import_loads_nothing_before_it_is_used():
    late = ("torch", "transformers", "datasets", "gensim", "pandas", "modeling_msmaml")
    code = f"import json, sys\nimport data_builders\nprint(json.dumps([n for n in {late!r} if n in sys.modules]))"
    assert in_new_process(code) == []


def test_names_of_splits_and_episodes_load_no_trainer_and_no_word_vectors():
    code = """
import json, sys
from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
print(json.dumps([name for name in ("transformers.trainer", "gensim", "timm", "matplotlib") if name in sys.modules]))
"""
    assert in_new_process(code) == []
