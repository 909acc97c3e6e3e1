"""What the builders of this package share: the cache key, the stored columns, and errors that reach the caller."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

from modeling_msmaml.inputs.fingerprints import files_fingerprint, text_hash
from modeling_msmaml.inputs.kinds import KINDS

from ..splits import protocols
from .archives import Official, Store, find_store
from .downloads import fetch

# The code that makes rows lives in these flat folders; the cache key of a builder holds all that it uses of them.
ROW_CODE = ("data_builders.data_sets.", "data_builders.splits.", "data_builders.storage.", "modeling_msmaml.inputs.")
# Packages that hand names on from the modules in which they are defined.
_FACES = ("data_builders", "modeling_msmaml", "msmaml")


def row_code(*modules: ModuleType) -> list[ModuleType]:
    """The modules and every module of `ROW_CODE` that they import, directly or through others, sorted by name."""
    found, waiting = {module.__name__: module for module in modules}, list(modules)
    while waiting:
        for name in _imported(waiting.pop()):
            if name not in found:
                found[name] = importlib.import_module(name)
                waiting.append(found[name])
    return [found[name] for name in sorted(found)]


def _imported(module: ModuleType) -> Iterator[str]:
    """Names of the modules of `ROW_CODE` that a module imports, inside its functions too, in whatever form."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
            if origin in _FACES:
                face = importlib.import_module(origin)
                names += [getattr(getattr(face, alias.name, None), "__module__", "") for alias in node.names]
        for name in names:
            # A name with more dots is that of a function, class or constant.
            if name.startswith(ROW_CODE) and name.count(".") == 2 and importlib.util.find_spec(name) is not None:
                yield name


class _ArrayFeatures(datasets.Features):
    """Features whose rows are NumPy arrays already of the stored type.

    `datasets` would turn every array into a Python list of scalars before writing it (3 ms for 16,000 of them, as long
    as making a row takes); the writer takes arrays as they are.
    """

    def encode_example(self, example: dict) -> dict:
        """Encodes everything but arrays, which `FewShotBuilder.flat` has checked."""
        rest = {name: value for name, value in example.items() if not isinstance(value, np.ndarray)}
        encoded = {name: datasets.features.features.encode_nested_example(self[name], rest[name]) for name in rest}
        return {**example, **encoded}


def row_features(modality: str, row_size: int, class_names: Iterable[str]) -> datasets.Features:
    """Columns of every builder: the flattened integer row (named after its modality), `label` and `source_id`.

    A fixed-size list of integers is contiguous in Arrow, so rows can be read back as views of the memory map.
    """
    return _ArrayFeatures(
        {
            modality: datasets.List(datasets.Value(KINDS[modality].dtype), length=row_size),
            "label": datasets.ClassLabel(names=list(class_names)),
            "source_id": datasets.Value("string"),
        }
    )


class FewShotBuilder(datasets.GeneratorBasedBuilder):
    """A builder that stores all rows of a data set once, in one `datasets` split named `stored`.

    Protocols select rows afterwards (see `protocols.py`), so one cache serves them all. The cache path contains a
    hash of the code that makes the rows (`code_modules`), of the input files (`input_fingerprint`) and of the
    configuration: a changed archive, option or line of code never meets a stale cache.

    Attributes:
        modality: `"audio"`, `"text"` or `"image"`; also the name of the column with the rows.
        row_shape: shape of one row as `FewShotSplit.rows` returns it.
    """

    VERSION = datasets.Version("1.0.0")
    DEFAULT_WRITER_BATCH_SIZE = 200
    STORED_SPLIT = "stored"

    modality: str
    row_shape: tuple[int, ...]

    def __init__(self, cache_dir: str | os.PathLike | None = None, data_dir: str | os.PathLike | None = None, **config):
        cache_dir = None if cache_dir is None else str(Path(cache_dir).expanduser().absolute())
        data_dir = None if data_dir is None else str(Path(data_dir).expanduser().absolute())
        code = [inspect.getsource(module) for module in self.code_modules()]
        content_hash = text_hash(*code, self.input_fingerprint(data_dir))
        super().__init__(cache_dir=cache_dir, data_dir=data_dir, hash=content_hash, **config)

    @classmethod
    def code_modules(cls) -> list[ModuleType]:
        """Modules whose source decides what the rows are: those of the builder and of the builders it derives from."""
        builders = [base for base in cls.__mro__ if issubclass(base, FewShotBuilder)]
        return row_code(*(sys.modules[builder.__module__] for builder in builders))

    def protocols(self) -> dict[str, dict[str, dict]]:
        """Protocol -> split -> its description, see `protocols.py`."""
        return protocols.read_protocols(self.name)

    @classmethod
    def input_fingerprint(cls, data_dir: str | None) -> str:
        """Identifies the input files; the base class has none."""
        return ""

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=self.STORED_SPLIT)]

    def download_and_prepare(self, *args, **kwargs) -> None:
        """As in `datasets`, but an error about the data is raised itself, not hidden behind a generic one."""
        try:
            super().download_and_prepare(*args, **kwargs)
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, (ValueError, OSError)):
                raise error.__cause__ from None
            raise

    def build(self) -> datasets.Dataset:
        """Builds the data set if its cache does not exist yet and opens it, memory-mapped."""
        self.download_and_prepare()
        return self.as_dataset(split=self.STORED_SPLIT)

    def flat(self, row: np.ndarray) -> np.ndarray:
        """The row as it is stored, after a check of its shape and dtype."""
        if row.shape != self.row_shape or row.dtype != KINDS[self.modality].dtype:
            raise ValueError(
                f"a row of {self.name} has shape {row.shape} and dtype {row.dtype}; "
                f"{self.row_shape} and {KINDS[self.modality].dtype} are expected"
            )
        return row.reshape(-1)


class ArchiveBuilder(FewShotBuilder):
    """A builder that reads an official archive, or its extracted folder, in `data_dir`; without one it is fetched.

    Attributes:
        OFFICIAL: what to look for, or to fetch.
        store: the files to read; while the data set is built.
    """

    OFFICIAL: Official
    store: Store

    @classmethod
    def input_fingerprint(cls, data_dir: str | None) -> str:
        """Of the data and of the class lists: a vocabulary, for one, depends on which documents are for training.

        Raises ValueError or FileNotFoundError when the data are not in the folder, see `find_store`.
        """
        splits = json.dumps(protocols.read_protocols(cls.__module__.rpartition(".")[2]))
        if data_dir is None:
            return text_hash(cls.OFFICIAL.source, cls.OFFICIAL.md5, splits)
        return text_hash(files_fingerprint(find_store(cls.OFFICIAL, data_dir).files()), splits)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        is_local = self.config.data_dir is not None
        self.store = find_store(self.OFFICIAL, self.config.data_dir) if is_local else fetch(self.OFFICIAL, dl_manager)
        return super()._split_generators(dl_manager)
