"""
The checkpoints that the authors of MS-MAML published: how they are found in a folder or in a repository on the Hub
(`train_dir/<run>/maml_gated_conv_1d_<iteration>.pt`), and how they are read as a config and weights of this model.
"""

import json
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

import torch
from huggingface_hub import HfApi, is_offline_mode, snapshot_download
from huggingface_hub.errors import (
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import Tensor

from .configuration_msmaml import MSMAMLConfig
from .hub_files import REMEDY, NotFetched, hub_file, limit_silence

CONFIG_NAME = "config.json"
OPTIONS_NAME = "train_config.json"
RUNS_FOLDER = "train_dir"
CHECKPOINT_NAME = re.compile(r"maml_gated_conv_1d_(\d+)\.pt")
# The default run is the one with three modalities, 5 classes and 1 shot.
DEFAULT_RUN = re.compile(r".*_3m5w1s")
# The arguments of `from_pretrained` that determine where files come from.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")

# The name of each checkpoint's file, by the folder of its run and by its iteration. File and folder are relative to the
# repository.
Runs = dict[str, dict[int, str]]


@dataclass(frozen=True)
class OriginalCheckpoint:
    """
    One published checkpoint as files on this machine.

    Args:
        run: name of the run.
        iteration: training iteration of the checkpoint.
        weights: the `.pt` file.
        options: the `train_config.json` of the run.
    """

    run: str
    iteration: int
    weights: Path
    options: Path


class Files(Protocol):
    """A place with files, whose names are relative to it and have forward slashes."""

    def names(self) -> list[str]:
        """Returns the names of the files."""
        ...

    def fetch(self, name: str) -> Path:
        """Returns the path of a file on this machine, downloaded if necessary."""
        ...


@dataclass
class LocalFiles:
    """A folder on this machine."""

    folder: Path

    def names(self) -> list[str]:
        # The search is not recursive, since the folder may be as large as a home directory.
        runs = [self.folder, *self.folder.glob(f"{RUNS_FOLDER}/*/")]
        return [path.relative_to(self.folder).as_posix() for run in runs for path in run.iterdir() if path.is_file()]

    def fetch(self, name: str) -> Path:
        return self.folder / name


class HubFiles:
    """A model repository on the Hub, at the commit to which `revision` refers at construction."""

    def __init__(self, repo_id: str, revision: str | None = None, token: str | bool | None = None, **download: Any):
        self.repo_id = repo_id
        self.download = {**download, "token": token}
        limit_silence()
        try:
            self.info = HfApi().model_info(repo_id, revision=revision, token=token)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except HTTPError as error:
            raise NotFetched(
                f"{repo_id} cannot be asked for its files: {str(error) or repr(error)}. {REMEDY}"
            ) from error

    def names(self) -> list[str]:
        return [file.rfilename for file in self.info.siblings or []]

    def fetch(self, name: str) -> Path:
        found = hub_file(self.repo_id, name, revision=self.info.sha, **self.download)
        if found is None:
            raise FileNotFoundError(f"{self.repo_id} has no {name} any more")
        return found


def find_original(
    path_or_repo: str | os.PathLike,
    run: str | None = None,
    iteration: int | None = None,
    subfolder: str = "",
    **hub: Any,
) -> OriginalCheckpoint | None:
    """
    Finds the published checkpoint in a folder or repository. Of a repository it downloads only the files of this
    checkpoint.

    Args:
        path_or_repo: a folder with `train_dir/<run>/`, the folder of a run, or the name of a repository on the Hub.
        run: name of the folder of a run; by default the one whose name ends with `_3m5w1s`.
        iteration: iteration of the checkpoint; by default the last.
        subfolder: path of the run's folder in the repository, instead of `run`.
        hub: the other `HUB_ARGUMENTS`.

    Returns:
        The checkpoint. `None` if the files do not have the published layout, or if there is a `config.json` and neither
        `run` nor `iteration` is given.

    Raises:
        `ValueError`: there is no such run or iteration, or `run` is not given and there are several; the message lists
            them.
        `OSError`: there is no such repository, or the Hub cannot be reached.
    """
    asked = {"run": run, "iteration": iteration}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked and _has_config(path_or_repo, subfolder, hub):
        return None
    files = _open(path_or_repo, hub)
    runs = list_runs(files.names()) if files is not None else {}
    if files is None or not runs:
        if asked:
            name, value = next(iter(asked.items()))
            raise ValueError(
                f"{name}={value!r} was given, but {path_or_repo} holds no {RUNS_FOLDER}/<run>/"
                f"maml_gated_conv_1d_<iteration>.pt: omit {name} for a checkpoint of another layout"
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
        raise FileNotFoundError(
            f"{path_or_repo} has no {options}, which should hold the options of {iterations[iteration]}"
        )
    return OriginalCheckpoint(
        run=PurePosixPath(folder).name or Path(path_or_repo).resolve().name,
        iteration=iteration,
        weights=files.fetch(iterations[iteration]),
        options=files.fetch(options),
    )


def list_originals(path_or_repo: str | os.PathLike, **hub: Any) -> list[str]:
    """
    Returns the names of the published runs in a folder or repository, sorted; arguments as for `find_original`.

    Raises:
        `ValueError`: there are no published runs.
        `OSError`: there is no such repository, or the Hub cannot be reached.
    """
    files = _open(path_or_repo, hub)
    runs = list_runs(files.names()) if files is not None else {}
    if not runs:
        raise ValueError(f"{path_or_repo} holds no {RUNS_FOLDER}/<run>/maml_gated_conv_1d_<iteration>.pt")
    return sorted(PurePosixPath(folder).name for folder in runs)


def list_runs(names: list[str]) -> Runs:
    """
    Finds the runs among the files of a repository. A run is a folder in `train_dir`, or the repository itself, whose
    folder is `""`.
    """
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
    Returns the folder of the requested run, or of the default one.

    Args:
        runs: the runs to choose from.
        source: folder or repository of the runs, for error messages.
        run: see `find_original`.
        subfolder: see `find_original`.

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
    """
    Returns whether there is a `config.json`, in which case transformers can load the model. Raises as `hub_file`.
    """
    return hub_file(path_or_repo, CONFIG_NAME, subfolder, **{**hub, "force_download": False}) is not None


def _open(path_or_repo: str | os.PathLike, hub: dict) -> Files | None:
    """Returns the files of a folder or repository; `None` if the Hub is offline and the cache has none of them."""
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


# What the options and parameters of a run are called here.
DATASET_MODALITIES = {"esc50": "audio", "brown": "text", "cifar": "image"}
CONDITION_TYPES: dict[str, Literal["affine", "sigmoid", "softmax"]] = {
    "affine": "affine",
    "sigmoid_gate": "sigmoid",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
}
_EMBEDDINGS = {
    "embeddings.audio.weight": "embeddings.audio.proj.weight",
    "embeddings.text.weight": "embeddings.text.proj.weight",
    "embeddings.image.weight": "embeddings.image.patches.proj.weight",
}
# The published code stores biases of the embeddings, which it does not apply, and running statistics, which it does not
# use.
_UNUSED = re.compile(r"embeddings\.\w+\.bias|.*\.(running_mean|running_var|num_batches_tracked)")


def task_network_name(name: str) -> str | None:
    """Returns the name in [`TaskNetwork`] of a parameter in `model_state_dict`; `None` for one that is not used."""
    if _UNUSED.fullmatch(name):
        return None
    if match := re.fullmatch(r"features\.layer(\d+)_conv\.(weight|bias)", name):
        return f"convolutions.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"classifier\.fully_connected\.(weight|bias)", name):
        return f"classifier.{match[1]}"
    return _EMBEDDINGS.get(name, name)


def task_encoder_name(name: str) -> str | None:
    """
    Returns the name in [`TaskEncoder`] of a parameter in `embedding_model_state_dict`; `None` for one that is not used.
    """
    if _UNUSED.fullmatch(name):
        return None
    if match := re.fullmatch(r"conv\.(conv|bn)(\d+)\.(weight|bias)", name):
        return f"{'convolutions' if match[1] == 'conv' else 'norms'}.{int(match[2]) - 1}.{match[3]}"
    if match := re.fullmatch(r"linear\.(weight|bias)", name):
        return f"projection.{match[1]}"
    if match := re.fullmatch(r"_embeddings\.(\d+)\.(weight|bias)", name):
        return f"modulations.{match[1]}.{match[2]}"
    return _EMBEDDINGS.get(name, name)


def read_options(path: Path) -> dict[str, Any]:
    """
    Reads the options of a run from its `train_config.json`.

    Raises:
        `FileNotFoundError`: there is no such file.
        `ValueError`: the file is not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it should hold the options of the checkpoints beside it")
    try:
        options = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not the train_config.json of an MS-MAML run: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} is not the train_config.json of an MS-MAML run: it holds no JSON object")
    return options


def read_config(path: Path) -> MSMAMLConfig:
    """
    Reads a run's `train_config.json` as the configuration of a model.

    Raises:
        `FileNotFoundError`: there is no such file.
        `ValueError`: the file does not hold the options of a run, or has values that have no counterpart here.
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
    Reads the two state dicts of a published checkpoint as one state dict of [`MSMAMLModel`]. It lacks the word vectors,
    which the published format does not hold. Only tensors and plain containers are unpickled (`weights_only=True`).

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
                raise ValueError(f"{path} is not a published MS-MAML checkpoint: {key}[{name!r}] is not a tensor")
            if (new_name := rename(name)) is not None:
                weights[f"{prefix}.{new_name}"] = tensor
    return weights


def check_fit(weights: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """
    Checks that a checkpoint has the parameters that its configuration requires.

    Args:
        weights: the weights that were read.
        expected: the state dict of a model with the configuration of the run; its frontends are not compared.
        path: file of the weights, for error messages.

    Raises:
        `ValueError`: names or shapes of parameters differ.
    """
    found = {name: tensor.shape for name, tensor in weights.items()}
    wanted = {name: tensor.shape for name, tensor in expected.items() if not name.startswith("frontends.")}
    if found != wanted:
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ValueError(
            f"{path} does not fit its train_config.json: {len(different)} tensors differ, such as {different[:3]}"
        )
