"""The published checkpoint format (`maml_gated_conv_1d_<iteration>.pt`, `train_config.json`) -> config and weights."""

import json
import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from .configuration_msmaml import MSMAMLConfig

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
