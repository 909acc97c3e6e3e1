"""Which published checkpoints a repository or folder holds, and where: `train_dir/<run>/maml_gated_conv_1d_*.pt`."""

import json
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import torch
from huggingface_hub import HfApi, hf_hub_download, is_offline_mode, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor
from transformers.utils import cached_file

from .configuration_msmaml import MSMAMLConfig

CONFIG_NAME = "config.json"
OPTIONS_NAME = "train_config.json"
RUNS_FOLDER = "train_dir"
CHECKPOINT_NAME = re.compile(r"maml_gated_conv_1d_(\d+)\.pt")
# Three modalities, 5-way, 1-shot.
DEFAULT_RUN = re.compile(r".*_3m5w1s")
# The arguments of `from_pretrained` that say where files come from.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")

# Folder of a run, relative to the repository -> iteration -> file of the checkpoint, relative to the repository.
Runs = dict[str, dict[int, str]]


@dataclass(frozen=True)
class OriginalCheckpoint:
    """One published checkpoint, on this machine."""

    run: str
    iteration: int
    weights: Path
    options: Path


class Files(Protocol):
    """A place with files, whose names are relative and have forward slashes."""

    def names(self) -> list[str]: ...

    def fetch(self, name: str) -> Path: ...


@dataclass
class LocalFiles:
    """A folder on this machine."""

    folder: Path

    def names(self) -> list[str]:
        # No recursive search: the folder may be anything, as large as a home directory.
        runs = [self.folder, *self.folder.glob(f"{RUNS_FOLDER}/*/")]
        return [path.relative_to(self.folder).as_posix() for run in runs for path in run.iterdir() if path.is_file()]

    def fetch(self, name: str) -> Path:
        return self.folder / name


class HubFiles:
    """A model repository on the Hub, at the commit that `revision` names now."""

    def __init__(self, repo_id: str, revision: str | None = None, token: str | bool | None = None, **download):
        self.repo_id = repo_id
        self.download = {**download, "token": token}
        self.info = HfApi().model_info(repo_id, revision=revision, token=token)

    def names(self) -> list[str]:
        return [file.rfilename for file in self.info.siblings]

    def fetch(self, name: str) -> Path:
        return Path(hf_hub_download(self.repo_id, name, revision=self.info.sha, **self.download))


def find_original(
    path_or_repo: str | os.PathLike,
    run: str | None = None,
    iteration: int | None = None,
    subfolder: str = "",
    **hub,
) -> OriginalCheckpoint | None:
    """
    The published checkpoint that a folder or repository stands for, downloaded if need be, and nothing else with it.

    Args:
        path_or_repo: a folder with `train_dir/<run>/`, one such run's folder, or a repository on the Hub.
        run: name of a run's folder; by default the one whose name ends with `3m5w1s`.
        iteration: of the checkpoint; by default the last.
        subfolder: the run's folder as a path in the repository, in place of `run`.
        hub: the other `HUB_ARGUMENTS`.

    Returns:
        `None` if this is not the published layout, or if the repository has a `config.json` and neither `run` nor
        `iteration` is given.

    Raises:
        `ValueError`: no such run or iteration, or none asked for and more than one to choose from; the message lists
            them.
        `OSError`: there is no such repository, or the Hub cannot be reached.
    """
    asked = {"run": run, "iteration": iteration}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked and _has_config(path_or_repo, subfolder, hub):
        return None
    files = _open(path_or_repo, hub)
    runs = list_runs(files.names()) if files is not None else {}
    if not runs:
        if asked:
            name, value = next(iter(asked.items()))
            raise ValueError(
                f"{name}={value!r} was given, but {path_or_repo} holds no {RUNS_FOLDER}/<run>/"
                "maml_gated_conv_1d_<iteration>.pt: leave it out for a checkpoint of another layout"
            )
        return None
    folder = choose_run(runs, path_or_repo, run, subfolder)
    iterations = runs[folder]
    if iteration is None:
        iteration = max(iterations)
    elif iteration not in iterations:
        there_are = ", ".join(map(str, sorted(iterations)))
        raise ValueError(
            f"iteration={iteration!r} of {folder or path_or_repo} does not exist; there are {there_are} (integers)"
        )
    options = (PurePosixPath(folder) / OPTIONS_NAME).as_posix()
    if options not in files.names():
        raise FileNotFoundError(f"{path_or_repo} has no {options}, which holds the options of {iterations[iteration]}")
    return OriginalCheckpoint(
        run=PurePosixPath(folder).name or Path(path_or_repo).resolve().name,
        iteration=iteration,
        weights=files.fetch(iterations[iteration]),
        options=files.fetch(options),
    )


def list_originals(path_or_repo: str | os.PathLike, **hub) -> list[str]:
    """
    The names of the published runs in a folder or repository, sorted.

    Raises:
        `ValueError`: there is none.
        `OSError`: there is no such repository, or the Hub cannot be reached.
    """
    files = _open(path_or_repo, hub)
    runs = list_runs(files.names()) if files is not None else {}
    if not runs:
        raise ValueError(f"{path_or_repo} holds no {RUNS_FOLDER}/<run>/maml_gated_conv_1d_<iteration>.pt")
    return sorted(PurePosixPath(folder).name for folder in runs)


def list_runs(names: list[str]) -> Runs:
    """The runs among the files of a repository: its folders in `train_dir`, and the folder itself (`""`)."""
    runs: Runs = {}
    for name in names:
        path = PurePosixPath(name)
        folder = path.parent.as_posix()
        match = CHECKPOINT_NAME.fullmatch(path.name)
        if match and (folder == "." or re.fullmatch(rf"{RUNS_FOLDER}/[^/]+", folder)):
            runs.setdefault("" if folder == "." else folder, {})[int(match[1])] = name
    return runs


def choose_run(runs: Runs, source: str | os.PathLike, run: str | None = None, subfolder: str = "") -> str:
    """
    The folder of the run that is asked for, or of the default one.

    Args:
        runs: what there is to choose from.
        source: where they are, for errors.
        run, subfolder: as for `find_original`.

    Raises:
        `ValueError`: there is no such run, both arguments are given, or there is no single default.
    """
    there_are = f"{source} has the runs {', '.join(sorted(PurePosixPath(folder).name for folder in runs if folder))}"
    if run is not None and subfolder:
        raise ValueError(f"run={run!r} and subfolder={subfolder!r} both name a run: give one of them")
    if run is not None or subfolder:
        folder = f"{RUNS_FOLDER}/{run}" if run is not None else PurePosixPath(subfolder).as_posix()
        if folder not in runs:
            asked = f"run={run!r}" if run is not None else f"subfolder={subfolder!r}"
            raise ValueError(f"{asked} does not exist: {there_are}, in {RUNS_FOLDER}/")
        return folder
    defaults = [folder for folder in runs if DEFAULT_RUN.fullmatch(PurePosixPath(folder).name)]
    candidates = defaults or list(runs)
    if len(candidates) != 1:
        raise ValueError(f"{there_are}, and no single one ends with _3m5w1s, the default: choose one with run=")
    return candidates[0]


def _has_config(path_or_repo: str | os.PathLike, subfolder: str, hub: dict) -> bool:
    """Whether there is a `config.json`, so that transformers knows what to do. Errors are as from transformers."""
    return (
        cached_file(
            path_or_repo,
            CONFIG_NAME,
            subfolder=subfolder,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=not _is_offline(hub),
            **{**hub, "force_download": False},
        )
        is not None
    )


def _open(path_or_repo: str | os.PathLike, hub: dict) -> Files | None:
    """The files of a folder or repository; `None` if, offline, nothing of it is in the cache."""
    if os.path.isdir(path_or_repo):
        return LocalFiles(Path(path_or_repo))
    if not _is_offline(hub):
        return HubFiles(str(path_or_repo), **{name: value for name, value in hub.items() if name != "proxies"})
    try:
        where = {name: hub[name] for name in ("revision", "cache_dir") if name in hub}
        return LocalFiles(Path(snapshot_download(str(path_or_repo), local_files_only=True, **where)))
    except LocalEntryNotFoundError:
        return None


def _is_offline(hub: dict) -> bool:
    return bool(hub.get("local_files_only")) or is_offline_mode()


DATASET_MODALITIES = {"esc50": "audio", "brown": "text", "cifar": "image"}


CONDITION_TYPES = {"affine": "affine", "sigmoid_gate": "sigmoid", "sigmoid": "sigmoid", "softmax": "softmax"}


_EMBEDDINGS = {
    "embeddings.audio.weight": "embeddings.audio.proj.weight",
    "embeddings.text.weight": "embeddings.text.proj.weight",
    "embeddings.image.weight": "embeddings.image.patches.proj.weight",
}


# The published code stores biases of the embeddings without applying them, and running statistics without using them.
_UNUSED = re.compile(r"embeddings\.\w+\.bias|.*\.(running_mean|running_var|num_batches_tracked)")


def task_network_name(name: str) -> str | None:
    """The name in [`TaskNetwork`] of a parameter in `model_state_dict`; `None` for one that is stored but unused."""
    if _UNUSED.fullmatch(name):
        return None
    if match := re.fullmatch(r"features\.layer(\d+)_conv\.(weight|bias)", name):
        return f"convolutions.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"classifier\.fully_connected\.(weight|bias)", name):
        return f"classifier.{match[1]}"
    return _EMBEDDINGS.get(name, name)


def task_encoder_name(name: str) -> str | None:
    """The name in [`TaskEncoder`] of a parameter in `embedding_model_state_dict`; `None` for an unused one."""
    if _UNUSED.fullmatch(name):
        return None
    if match := re.fullmatch(r"conv\.(conv|bn)(\d+)\.(weight|bias)", name):
        return f"{'convolutions' if match[1] == 'conv' else 'norms'}.{int(match[2]) - 1}.{match[3]}"
    if match := re.fullmatch(r"linear\.(weight|bias)", name):
        return f"projection.{match[1]}"
    if match := re.fullmatch(r"_embeddings\.(\d+)\.(weight|bias)", name):
        return f"modulations.{match[1]}.{match[2]}"
    return _EMBEDDINGS.get(name, name)


def read_options(path: Path) -> dict:
    """
    The options in a run's `train_config.json`.

    Raises:
        `FileNotFoundError`: there is no such file.
        `ValueError`: it is no JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it holds the options that the checkpoints beside it are of")
    try:
        options = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not the train_config.json of an MS-MAML run: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} is not the train_config.json of an MS-MAML run: it holds no JSON object")
    return options


def read_config(path: Path) -> MSMAMLConfig:
    """
    The configuration that a run's `train_config.json` stands for.

    Raises:
        `FileNotFoundError`: there is no such file.
        `ValueError`: it does not hold the options of a run, or values that have no counterpart here.
    """
    options = read_options(path)
    try:
        plain = options.get("maml_model", False)
        return MSMAMLConfig(
            modalities=[DATASET_MODALITIES[name] for name in options["multimodal_few_shot"]],
            n_way=options["num_classes_per_batch"],
            num_channels=options["num_channels"],
            conditioning="none" if plain else CONDITION_TYPES[options["condition_type"]],
            num_inner_steps=options["num_updates"],
            inner_lr=options["fast_lr"],
            inner_grad_clip=options["inner_loop_grad_clip"] or None,
            first_order=options["first_order"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the train_config.json of an MS-MAML run: {error!r}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """
    A published checkpoint's two state dicts as one of [`MSMAMLModel`], without the word vectors, which that format
    does not hold. Only tensors and plain containers are unpickled (`weights_only=True`).

    Raises:
        `ValueError`: the file is not such a checkpoint.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint of tensors: {error}") from error
    if not isinstance(stored, dict) or not isinstance(stored.get("model_state_dict"), dict):
        raise ValueError(f"{path} is not a published MS-MAML checkpoint: it holds no 'model_state_dict'")
    networks = (
        ("task_network", "model_state_dict", task_network_name),
        ("task_encoder", "embedding_model_state_dict", task_encoder_name),
    )
    weights = {}
    for prefix, key, rename in networks:
        for name, tensor in (stored.get(key) or {}).items():
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{path} is not a published MS-MAML checkpoint: {key}[{name!r}] is no tensor")
            if (new_name := rename(name)) is not None:
                weights[f"{prefix}.{new_name}"] = tensor
    return weights


def check_fit(weights: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """
    Args:
        weights: as read from `path`.
        expected: the state dict of a model of the run's configuration; its frontends are not compared.

    Raises:
        `ValueError`: names or shapes differ.
    """
    found = {name: tensor.shape for name, tensor in weights.items()}
    wanted = {name: tensor.shape for name, tensor in expected.items() if not name.startswith("frontends.")}
    if found != wanted:
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ValueError(
            f"{path} does not fit its train_config.json: {len(different)} tensors differ, as {different[:3]}"
        )
