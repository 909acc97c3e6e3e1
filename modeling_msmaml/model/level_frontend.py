"""The frontends of `task_network="levels"`: level encoders that are read from their folders when they are needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .level_encoder import CONFIG_FILE, LevelEncoder, build_level_encoder, read_level_encoder
from .level_network import Levels
from .level_pretrained import find_level_encoder
from .level_sources import ENCODERS, EncoderSource, below, copy_encoder, read_description, source_of

_TEMPLATES = {"audio": "T"}  # the level that compares shapes, where the encoder has it


def record_level_encoders(given: dict[str, Any] | str, modalities: Sequence[str]) -> dict[str, dict[str, Any]]:
    """
    The level encoders of a config with all that a saved model needs to know of them.

    Args:
        given: modality -> its encoder: a folder or repository, of the encoder or of a saved model that has it, or of a
            pretrained model, see `find_level_encoder`; or what this function returned, or a saved config has. A folder
            or repository for all modalities is that of a saved model, or a folder with a folder for each modality.
        modalities: those whose encoders are wanted. Others in a saved config are left out.

    Returns:
        modality -> `{"folder", "encoder", "level_sizes", "last_level", "source"}`, where `"folder"` is the one in a
        saved model, `"encoder"` the description of the encoder, with the checksum of its weights, `"level_sizes"` a
        list of names and sizes, since JSON's objects are saved in alphabetical order, and `"source"` where the encoder
        is now, which is not saved.

    Raises:
        `FileNotFoundError`: there is no encoder in such a folder or repository.
        `ValueError`: an encoder of another modality, or none for one of the modalities, or for one that is not wanted.
    """
    if not isinstance(given, dict):
        is_folder_of_folders = Path(given).is_dir() and not Path(given, CONFIG_FILE).is_file()
        given = {name: os.path.join(given, name) if is_folder_of_folders else given for name in modalities}
    extra = [name for name, spec in given.items() if name not in modalities and not isinstance(spec, dict)]
    if extra or set(modalities) - given.keys():
        raise ValueError(
            f"level_encoders is for {sorted(given)}, but modalities={list(modalities)}: one for each, or one saved "
            "model for all"
        )
    return {name: _recorded(name, given[name]) for name in modalities}


def _recorded(modality: str, spec: Any) -> dict[str, Any]:
    where = f"level_encoders[{modality!r}]"
    spec = find_level_encoder(modality, spec)
    if isinstance(spec, dict):
        if missing := [name for name in ("folder", "encoder", "level_sizes", "last_level") if name not in spec]:
            raise ValueError(f"{where}={spec} lacks {', '.join(missing)}: give a folder or a repository in its place")
        return spec
    try:
        source = source_of(spec)
        description = read_description(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}={str(spec)!r}: {error}") from error
    if "encoder" not in description:  # a saved model
        entry = (description.get("level_encoders") or {}).get(modality)
        if entry is None:
            raise ValueError(f"{where}={str(spec)!r} holds no level encoder, and is no model with one of {modality}")
        return {**entry, "source": below(source, entry["folder"])._asdict()}
    encoder = build_level_encoder(description)
    if encoder.modality != modality:
        raise ValueError(f"{where}={str(spec)!r} is an encoder of {encoder.modality}")
    return {
        "folder": f"{ENCODERS}/{modality}",
        "encoder": encoder.config,
        "level_sizes": [[name, size] for name, size in encoder.level_sizes.items()],
        "last_level": encoder.last_level,
        "source": source._asdict(),
    }


def levels_of(modality: str, recorded: dict[str, Any]) -> Levels:
    """The levels of a recorded encoder."""
    sizes, template = dict(recorded["level_sizes"]), _TEMPLATES.get(modality)
    return Levels(sizes, recorded["last_level"], template if template in sizes else None)


class LevelFrontend(nn.Module):
    """
    Maps raw inputs (.., *sample) to flat vectors of levels (.., total). Inputs of type float16 and that size are taken
    for levels that were computed before.

    The encoder has no part in the state of the model: it is read from its files by whoever first needs it, once for all
    models and copies of them, and never for modalities that nobody asks for. If they are on the Hub, they are fetched
    then.

    Args:
        modality: of the encoder.
        recorded: see `record_level_encoders`.
    """

    def __init__(self, modality: str, recorded: dict[str, Any]):
        super().__init__()
        self.modality, self.recorded = modality, recorded
        self.total = sum(dict(recorded["level_sizes"]).values())
        self.access: dict[str, Any] = {}

    @property
    def described(self) -> dict[str, Any]:
        """What decides the levels, wherever the encoder is."""
        return {name: value for name, value in self.recorded.items() if name not in ("folder", "source")}

    @property
    def source(self) -> EncoderSource:
        """
        Where the encoder is.

        Raises:
            `FileNotFoundError`: the model was built from the config of a saved model alone.
        """
        if "source" not in self.recorded:
            raise FileNotFoundError(
                f"the encoder of {self.modality} is in {self.recorded['folder']} of a saved model, and this model was "
                "built from its config alone: load it with from_pretrained, or give level_encoders the saved model"
            )
        return EncoderSource(**self.recorded["source"])

    def found_in(self, model: EncoderSource, access: dict[str, Any]) -> None:
        """
        Tells where the saved model is with which the encoder lies, unless it is known where the encoder is.

        Args:
            model: the source of the model.
            access: arguments with which files of a repository are fetched.
        """
        if "source" not in self.recorded:
            self.recorded["source"] = below(model, self.recorded["folder"])._asdict()
            self.access = access

    def save(self, folder: Path) -> None:
        """
        Puts the encoder's files into the folder of a saved model.

        Raises:
            As `encoder`.
        """
        below(EncoderSource(str(folder)), self.recorded["folder"])
        copy_encoder(self.source, self.recorded["encoder"], folder / self.recorded["folder"], self.access)

    def encoder(self, device: torch.device) -> LevelEncoder:
        """
        The encoder on a device.

        Raises:
            `FileNotFoundError`, `ValueError`: its folder lacks a file, or holds another encoder than the model's.
        """
        encoder = _read(str(self.source.folder(self.access)), str(device))
        if encoder.config != self.recorded["encoder"]:
            raise ValueError(
                f"the encoder in {self.source} is {encoder.config}, but this model was made for "
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
