"""Data sets from outside the package, what a cache key knows of the code that makes rows, and the names of the face."""

import ast
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_builders import FewShotSplit, load_few_shot, register_data_set
from data_builders import load as load_module
from data_builders.data_sets.brown import Brown, BrownVocabulary
from data_builders.data_sets.cifar100 import Cifar100
from data_builders.data_sets.cifar_fs import CifarFs
from data_builders.data_sets.esc50 import Esc50
from data_builders.data_sets.own_rows import OwnRows, OwnVocabulary
from data_builders.data_sets.synthetic import Synthetic

from ..test_imports import in_new_process

REPOSITORY = Path(__file__).parents[2]
BUILDERS = (Esc50, Brown, BrownVocabulary, Cifar100, CifarFs, Synthetic, OwnRows, OwnVocabulary)

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
