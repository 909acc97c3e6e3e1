"""The frontends of `task_network="levels"`: level encoders that are read from their folders when they are needed."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .level_encoder import CONFIG_FILE, LevelEncoder, build_level_encoder, read_level_encoder
from .level_network import Levels
from .level_pretrained import find_level_encoder

_TEMPLATES = {"audio": "T"}  # the level that compares shapes, where the encoder has it


def record_level_encoders(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """
    The level encoders of a config with all that a saved model needs to know of them.

    Args:
        given: modality -> the folder of its encoder, see `find_level_encoder`, or what this function returned.

    Returns:
        modality -> `{"folder", "encoder", "level_sizes", "last_level"}`, where `"encoder"` is the description of the
        encoder, with the checksum of its weights.

    Raises:
        `FileNotFoundError`: a folder without an encoder.
        `ValueError`: an encoder of another modality.
    """
    recorded = {}
    for modality, spec in given.items():
        spec = find_level_encoder(modality, spec)
        if isinstance(spec, dict):
            recorded[modality] = spec
            continue
        path = Path(spec) / CONFIG_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"level_encoders[{modality!r}]={str(spec)!r} holds no level encoder: no {CONFIG_FILE}"
            )
        description = json.loads(path.read_text())
        encoder = build_level_encoder(description)
        if encoder.modality != modality:
            raise ValueError(f"level_encoders[{modality!r}]={str(spec)!r} is an encoder of {encoder.modality}")
        recorded[modality] = {
            "folder": str(Path(spec).absolute()),
            "encoder": encoder.config,
            "level_sizes": encoder.level_sizes,
            "last_level": encoder.last_level,
        }
    return recorded


def levels_of(modality: str, recorded: dict[str, Any]) -> Levels:
    """The levels of a recorded encoder."""
    sizes, template = recorded["level_sizes"], _TEMPLATES.get(modality)
    return Levels(sizes, recorded["last_level"], template if template in sizes else None)


class LevelFrontend(nn.Module):
    """
    Maps raw inputs (.., *sample) to flat vectors of levels (.., total). Inputs of type float16 and that size are taken
    for levels that were computed before.

    The encoder has no part in the state of the model: it is read from its folder by whoever first needs it, once for
    all models and copies of them, and never for modalities that nobody asks for.

    Args:
        modality: of the encoder.
        recorded: see `record_level_encoders`.
    """

    def __init__(self, modality: str, recorded: dict[str, Any]):
        super().__init__()
        self.modality, self.recorded = modality, recorded
        self.total = sum(recorded["level_sizes"].values())

    def encoder(self, device: torch.device) -> LevelEncoder:
        """
        The encoder on a device.

        Raises:
            `FileNotFoundError`, `ValueError`: its folder lacks a file, or holds another encoder than the model's.
        """
        encoder = _read(self.recorded["folder"], str(device))
        if encoder.config != self.recorded["encoder"]:
            raise ValueError(
                f"the encoder in {self.recorded['folder']} is {encoder.config}, but this model was made for "
                f"{self.recorded['encoder']}"
            )
        return encoder

    def forward(self, inputs: Shaped[Tensor, "*sample"], dtype: torch.dtype) -> Float[Tensor, "... total"]:
        if inputs.dtype == torch.float16 and inputs.shape[-1] == self.total:
            return inputs.to(dtype)
        encoder = self.encoder(inputs.device)
        leading = inputs.shape[: inputs.dim() - encoder.sample_dims]
        return encoder.levels(inputs.flatten(0, len(leading) - 1)).unflatten(0, leading).to(dtype)


def _read(folder: str, device: str) -> LevelEncoder:
    """The encoder in a folder, which is read again only if its description has changed, and with it the checksum."""
    return _read_described(folder, (Path(folder) / CONFIG_FILE).read_text(), device)


@lru_cache(maxsize=8)
def _read_described(folder: str, description: str, device: str) -> LevelEncoder:
    return read_level_encoder(folder).to(device)
