"""The published checkpoint layout (`maml_gated_conv_1d_<iteration>.pt`, `train_config.json`) -> [`MSMAMLModel`]."""

import json
import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from .configuration_msmaml import MSMAMLConfig
from .modeling_msmaml import MSMAMLModel

CHECKPOINT_NAME = re.compile(r"maml_gated_conv_1d_(\d+)\.pt")
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


def rename(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """A published checkpoint's two state dicts as one of [`MSMAMLModel`], without word vectors."""
    networks = (
        ("task_network", "model_state_dict", task_network_name),
        ("task_encoder", "embedding_model_state_dict", task_encoder_name),
    )
    renamed = {}
    for prefix, key, rename_one in networks:
        for name, tensor in (state.get(key) or {}).items():
            new_name = rename_one(name)
            if new_name is not None:
                renamed[f"{prefix}.{new_name}"] = tensor
    return renamed


def read_config(options: dict) -> MSMAMLConfig:
    """The configuration that a published run's `train_config.json` stands for."""
    plain = options.get("maml_model", False)
    conditioning = "none" if plain else CONDITION_TYPES[options["condition_type"]]
    return MSMAMLConfig(
        modalities=[DATASET_MODALITIES[name] for name in options["multimodal_few_shot"]],
        n_way=options["num_classes_per_batch"],
        num_channels=options["num_channels"],
        conditioning=conditioning,
        num_inner_steps=options["num_updates"],
        inner_lr=options["fast_lr"],
        inner_grad_clip=options["inner_loop_grad_clip"] or None,
        first_order=options["first_order"],
    )


def load_original(path: str | Path) -> MSMAMLModel:
    """
    Reads a published checkpoint.

    Its word vectors are not part of that layout: give the model those of the data, `model.set_input_embeddings(...)`.

    Args:
        path: a `maml_gated_conv_1d_<iteration>.pt`, or a run's folder, which stands for its last iteration.

    Raises:
        `FileNotFoundError`: there is no such checkpoint, or no `train_config.json` beside it.
        `ValueError`: the file is not such a checkpoint.
    """
    path = _last_checkpoint(Path(path))
    config_path = path.parent / "train_config.json"
    if not config_path.is_file():
        raise FileNotFoundError(f"{config_path} is missing: it holds the options that {path.name} was trained with")
    try:
        config = read_config(json.loads(config_path.read_text()))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{config_path} is not the train_config.json of an MS-MAML run: {error!r}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint of tensors: {error}") from error
    if not isinstance(state, dict) or "model_state_dict" not in state:
        raise ValueError(f"{path} is not a published MS-MAML checkpoint: it holds no 'model_state_dict'")
    model = MSMAMLModel(config)
    _load(model, rename(state), path)
    return model


def _last_checkpoint(path: Path) -> Path:
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}")
        return path
    iterations = {int(match[1]): file for file in path.iterdir() if (match := CHECKPOINT_NAME.fullmatch(file.name))}
    if not iterations:
        raise FileNotFoundError(f"{path} holds no maml_gated_conv_1d_<iteration>.pt")
    return iterations[max(iterations)]


def _load(model: MSMAMLModel, state: dict[str, Tensor], path: Path) -> None:
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("frontends.")}
    found = {name: tensor.shape for name, tensor in state.items()}
    if found != expected:
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(
            f"{path} does not fit its train_config.json: {len(different)} tensors differ, as {different[:3]}"
        )
    model.load_state_dict(state, strict=False)
