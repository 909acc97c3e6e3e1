"""
What a fitted classifier keeps, on disk: [`AdaptedTasks`], as tensors in safetensors and how they hang together in its
metadata; or, where the model reads levels, its examples, from which it adapts again in no time.
"""

import dataclasses
import json
import os
from typing import Any

import torch
from jaxtyping import Float16, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..model.adaptation import AdaptedTasks
from ..model.saved_files import read_from

_KEY = "adapted_tasks"


def save_tasks(tasks: AdaptedTasks, path: str | os.PathLike) -> None:
    """Writes every field, whatever fields there are: tensors, numbers, strings, and lists, tuples and dicts of them."""
    tensors: dict[str, Tensor] = {}
    layout = {
        field.name: _described(getattr(tasks, field.name), field.name, tensors) for field in dataclasses.fields(tasks)
    }
    save_file(tensors, path, metadata={_KEY: json.dumps(layout)})


def load_tasks(path: str | os.PathLike, device: str | torch.device = "cpu") -> AdaptedTasks:
    """
    What [`save_tasks`] wrote, to the last bit and in the same order in memory.

    Raises:
        `FileNotFoundError`: no such file.
        `ValueError`: it is damaged, no such file at all, or of a version with other fields.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no adapted classifier at {path}")
    with read_from(path), safe_open(path, framework="pt") as file:
        layout = json.loads((file.metadata() or {})[_KEY])
        return AdaptedTasks(**{name: _restored(entry, file, device) for name, entry in layout.items()})


def save_examples(
    levels: Float16[Tensor, "examples total"],
    labels: Int[Tensor, " examples"],
    positions: Int[Tensor, " examples"],
    path: str | os.PathLike,
) -> None:
    """Writes the levels of examples, the numbers of their classes, and their positions among what was given."""
    save_file({"levels": levels.contiguous(), "labels": labels, "positions": positions}, path)


def load_examples(
    path: str | os.PathLike,
) -> tuple[Float16[Tensor, "examples total"], Int[Tensor, " examples"], Int[Tensor, " examples"]]:
    """
    What [`save_examples`] wrote.

    Raises:
        `FileNotFoundError`: no such file.
        `ValueError`: it is damaged, or no such file at all.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no adapted classifier at {path}")
    with read_from(path):
        found = load_file(path)
        levels, labels, positions = found["levels"], found["labels"], found["positions"]
    kinds = (levels.dtype, levels.dim(), labels.dtype, positions.dtype)
    fits = labels.shape == positions.shape == levels.shape[:1]
    if kinds != (torch.float16, 2, torch.int64, torch.int64) or not fits:
        raise ValueError(f"{path} holds no examples that this version can read: fit again")
    return levels, labels, positions


def _described(value: Any, name: str, tensors: dict[str, Tensor]) -> dict:
    """JSON of a value; its tensors go to `tensors`, laid out contiguously."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        order = sorted(range(value.dim()), key=lambda i: -value.stride(i))
        tensors[name] = value.permute(order).clone(memory_format=torch.contiguous_format)
        return {"tensor": name, "order": order}
    if isinstance(value, dict):
        return {"dict": {key: _described(item, f"{name}.{key}", tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        items = [_described(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if value is None or isinstance(value, (str, int, float, bool)):
        return {"value": value}
    raise TypeError(f"AdaptedTasks.{name} is a {type(value).__name__}, which cannot be saved")


def _restored(entry: dict, file: Any, device: str | torch.device) -> Any:
    (kind, content), *_ = entry.items()
    if kind == "tensor":
        # Copied, since a product may round differently at another alignment.
        stored = file.get_tensor(content).clone()
        order = entry["order"]
        return stored.permute([order.index(i) for i in range(len(order))]).to(device)
    if kind == "dict":
        return {key: _restored(item, file, device) for key, item in content.items()}
    if kind in ("list", "tuple"):
        items = [_restored(item, file, device) for item in content]
        return items if kind == "list" else tuple(items)
    return content
