"""The base classes of all builders: they define the key of the cache and the stored columns, and pass errors on."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import datasets
import numpy as np
from datasets import config as settings
from datasets.exceptions import DatasetGenerationError

from modeling_msmaml.inputs.fingerprints import files_fingerprint, text_hash
from modeling_msmaml.inputs.kinds import KINDS

from ..splits import protocols
from . import sealed
from .archives import Official, Store, find_store
from .downloads import fetch

# The packages whose code makes rows. The cache key of a builder covers every module of them that the builder uses.
ROW_CODE = ("data_builders.data_sets.", "data_builders.splits.", "data_builders.storage.", "modeling_msmaml.inputs.")
# Packages that hand names on from the modules in which they are defined.
_FACES = ("data_builders", "modeling_msmaml", "msmaml")


def row_code(*modules: ModuleType) -> list[ModuleType]:
    """Returns the modules and all modules of `ROW_CODE` that they import, directly or indirectly, sorted by name."""
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
    """Features whose rows are NumPy arrays that already have the stored type.

    `datasets` would convert every array into a Python list of scalars before writing it, which takes 3 ms for 16,000
    scalars, as long as it takes to make a row. The writer accepts arrays as they are.
    """

    def encode_example(self, example: dict) -> dict:
        """Encodes everything except arrays, which `FewShotBuilder.flat` has already checked."""
        rest = {name: value for name, value in example.items() if not isinstance(value, np.ndarray)}
        encoded = {name: datasets.features.features.encode_nested_example(self[name], rest[name]) for name in rest}
        return {**example, **encoded}


def row_features(modality: str, row_size: int, class_names: Iterable[str]) -> datasets.Features:
    """Returns the columns of every builder: the flattened row (named after its modality), `label` and `source_id`.

    Lists of a fixed size are contiguous in Arrow, so that `ArrowRows` can compute where in the file a row starts.

    Args:
        modality: `"audio"`, `"text"` or `"image"`.
        row_size: number of integers in a row.
        class_names: names of all classes of the data set.
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

    Protocols select rows afterwards (see `splits/protocols.py`), so that one cache serves all protocols. The path of
    the cache contains a hash of the code that makes the rows (`code_modules`), of the input files
    (`input_fingerprint`) and of the configuration. So a stale cache is never used after an archive, an option or a line
    of code has changed.

    Args:
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.
        data_dir: folder with the input files, if the builder reads any.
        **config: fields of the configuration.

    Attributes:
        modality: `"audio"`, `"text"` or `"image"`, which is also the name of the column that holds the rows.
        row_shape: shape of one row as `FewShotSplit.rows` returns it.
    """

    VERSION = datasets.Version("1.0.0")
    DEFAULT_WRITER_BATCH_SIZE = 200
    STORED_SPLIT = "stored"

    modality: str
    row_shape: tuple[int, ...]

    def __init__(
        self, cache_dir: str | os.PathLike | None = None, data_dir: str | os.PathLike | None = None, **config: Any
    ):
        cache_dir = None if cache_dir is None else str(Path(cache_dir).expanduser().absolute())
        data_dir = None if data_dir is None else str(Path(data_dir).expanduser().absolute())
        code = [inspect.getsource(module) for module in self.code_modules()]
        content_hash = text_hash(*code, self.input_fingerprint(data_dir))
        # `datasets` writes a lock file into the root of its cache here, which fails if the cache is read-only. Nothing
        # here needs that lock, since only `build`, which has one of its own, looks into the cache.
        with tempfile.TemporaryDirectory() as elsewhere:
            super().__init__(cache_dir=elsewhere, data_dir=data_dir, hash=content_hash, **config)
        self._cache_dir_root = cache_dir or str(Path(settings.HF_DATASETS_CACHE).expanduser())
        downloads = Path(cache_dir, "downloads") if cache_dir else settings.DOWNLOADED_DATASETS_PATH
        self._cache_downloaded_dir = str(Path(downloads).expanduser())
        self._cache_dir = self._output_dir = self._build_cache_dir()

    @classmethod
    def code_modules(cls) -> list[ModuleType]:
        """Returns the modules whose source decides what the rows are: those of this builder and of its base classes."""
        builders = [base for base in cls.__mro__ if issubclass(base, FewShotBuilder)]
        return row_code(*(sys.modules[builder.__module__] for builder in builders))

    @classmethod
    def protocols(cls) -> dict[str, dict[str, dict]]:
        """Maps each protocol to its splits and each split to its description, as in `splits/protocols.py`.

        They are in the file of `splits` that has the name of the builder's module. A builder outside this package
        overrides the method, for instance with `read_protocols` of a file of its own.
        """
        return protocols.read_protocols(cls.__module__.rpartition(".")[2])

    @classmethod
    def input_fingerprint(cls, data_dir: str | None) -> str:
        """Returns a string that identifies the input files; the base class has no input files."""
        return ""

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=self.STORED_SPLIT)]

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Builds the data set as `datasets` does, but raises an error about the data itself, not a generic one."""
        try:
            super().download_and_prepare(*args, **kwargs)
        except DatasetGenerationError as error:
            cause = error.__cause__
            if not isinstance(cause, (ValueError, OSError)):
                raise
            place = self.where()
            # What the disk or a server says is no fault of what is read, and keeps its number.
            if isinstance(cause, OSError) or place is None or str(place) in str(cause):
                raise cause from None
            raise ValueError(f"{place}: {cause}") from cause

    def where(self) -> Path | None:
        """Returns what is read, a file or folder, for messages; None if it is not read from files."""
        return None

    def _save_info(self) -> None:
        """Seals the files, as the last step before `datasets` gives their folder its name."""
        super()._save_info()
        sealed.seal(Path(self._output_dir))

    def build(self) -> datasets.Dataset:
        """Opens the data set as a memory map, after building it if its cache does not exist yet or is damaged.

        Raises:
            sealed.CacheError: the cache is missing or damaged and cannot be built here.

        Warns:
            UserWarning: the cache is damaged and is built again.
        """
        sealed.make_whole(Path(self._cache_dir), self.dataset_name, self._build_anew)
        self.info = self._load_info()
        # `as_dataset` returns a `Dataset`, and not a dictionary, for one split.
        return cast(datasets.Dataset, self.as_dataset(split=self.STORED_SPLIT))

    def _build_anew(self) -> None:
        # What a killed process has left is removed, since `datasets` would keep files in it that it does not overwrite.
        shutil.rmtree(f"{self._cache_dir}.incomplete", ignore_errors=True)
        self.download_and_prepare(download_mode=datasets.DownloadMode.REUSE_CACHE_IF_EXISTS)

    def flat(self, row: np.ndarray) -> np.ndarray:
        """Returns the row as it is stored, after checking its shape and dtype."""
        if row.shape != self.row_shape or row.dtype != KINDS[self.modality].dtype:
            raise ValueError(
                f"a row of {self.name} has shape {row.shape} and dtype {row.dtype}; "
                f"{self.row_shape} and {KINDS[self.modality].dtype} are expected"
            )
        return row.reshape(-1)


class ArchiveBuilder(FewShotBuilder):
    """A builder that reads an official data set from `data_dir`: its archives, their extracted folders, or its files.

    Without `data_dir` it downloads them.

    Attributes:
        OFFICIAL: description of what to look for or to download.
        store: the files to read; it exists only while they are read.
    """

    OFFICIAL: Official
    store: Store

    @classmethod
    def input_fingerprint(cls, data_dir: str | None) -> str:
        """Returns a hash of the data and of the class lists.

        The class lists matter because a vocabulary, for instance, depends on which documents are used for training.

        Raises:
            FileNotFoundError: the data are not in the folder (see `find_store`).
        """
        splits = json.dumps(cls.protocols())
        if data_dir is None:
            return text_hash(*(part for piece in cls.OFFICIAL.pieces for part in (piece.source, piece.md5)), splits)
        return text_hash(files_fingerprint(find_store(cls.OFFICIAL, data_dir).files()), splits)

    def where(self) -> Path | None:
        return self.store.path if hasattr(self, "store") else None

    def class_names(self) -> list[str]:
        """Returns the names of all classes of the data set, sorted."""
        splits = self.protocols()["class_disjoint"].values()
        return sorted({name for split in splits for name in split["classes"]})

    def open_store(self, downloads: datasets.DownloadManager | None = None) -> Store:
        """Returns the files to read, from `data_dir` or else from the download cache, after fetching what is not there.

        Args:
            downloads: download manager; by default one with the cache of this builder.

        Raises:
            FileNotFoundError, ConnectionError, ValueError: see `find_store` and `fetch`.
        """
        if self.config.data_dir is not None:
            return find_store(self.OFFICIAL, self.config.data_dir)
        if downloads is None:
            config = datasets.DownloadConfig(cache_dir=self._cache_downloaded_dir, use_etag=False)
            downloads = datasets.DownloadManager(dataset_name=self.dataset_name, download_config=config)
        return fetch(self.OFFICIAL, downloads)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        self.store = self.open_store(dl_manager)
        return super()._split_generators(dl_manager)
