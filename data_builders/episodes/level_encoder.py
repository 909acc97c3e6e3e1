"""`RowEncoder`, what an encoder must offer so that its features can be stored, and frontends as such encoders.

A level is one output of a frozen encoder, for instance the mean over the tokens of one hidden state, or the mean over
the positions of one stage. An encoder that gives several levels computes all of them in one pass.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.model.level_frontend import LevelFrontend
from modeling_msmaml.model.pretrained_encoder import PretrainedFrontend


@runtime_checkable
class RowEncoder(Protocol):
    """A frozen encoder with one or more levels.

    The result for a row must not depend on the other rows of the batch, except for rounding: rows are put together by
    length, and a row is encoded once. Nothing else of the encoder is used, so that any object with these five will do.

    Attributes:
        modality: `"audio"`, `"text"` or `"image"`.
        batch_size: number of rows that `levels` is best given at once.
    """

    modality: str
    batch_size: int

    def levels(self, rows: Tensor) -> dict[str, Tensor]:
        """Computes all levels of some rows. It is called without gradients.

        Args:
            rows: (batch, *row_shape) raw rows on the CPU: int16 samples, int32 token ids or uint8 pixels. Texts are cut
                after the longest of the batch, and are 0 after their end.

        Returns:
            The floating-point features (batch, *shape) of each level, on any device. They are stored as float16.
        """
        ...

    def level_shapes(self, row_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each level of one row, in the order in which the levels are stored.

        Args:
            row_shape: shape of one raw row of the split. A shape may depend on it, but not on the length of a text.
        """
        ...

    def fingerprint(self) -> str:
        """Returns a string that changes with everything that decides the features: weights, options and code.

        `weights_fingerprint` covers weights and options.
        """
        ...


class OneLevel:
    """The frontend of a model with a pretrained encoder, as an encoder whose only level is named after its modality.

    Args:
        frontend: the frontend, whose features have the shape (num_features, positions).
        batch_size: number of rows that the frontend encodes at once; by default its own.
    """

    def __init__(self, frontend: PretrainedFrontend, batch_size: int | None = None):
        self.frontend, self.modality = frontend, frontend.modality
        self.batch_size = batch_size or frontend.batch_size

    def levels(self, rows: Tensor) -> dict[str, Tensor]:
        """Returns the features (batch, num_features, positions), float16."""
        return {self.modality: torch.cat(list(self.frontend.batches(rows, self.batch_size)))}

    def level_shapes(self, row_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Returns the shape of the features, which the frontend shows for a row of zeros that begins with a one."""
        row = torch.zeros((1, *row_shape), dtype=getattr(torch, KINDS[self.modality].dtype))
        # A text of zeros has no token, and an encoder without special tokens would have nothing to read.
        row.view(-1)[0] = 1
        return {self.modality: tuple(self.levels(row)[self.modality].shape[1:])}

    def fingerprint(self) -> str:
        """Returns a hash of architecture, preprocessing and weights."""
        described = {name: self.frontend.spec.get(name) for name in ("recorded", "pool", "layer")}
        return weights_fingerprint(self.frontend.encoder, described)


class FlatLevels:
    """The frontend of a model on levels, whose only level here is the flat vector of all its levels.

    Args:
        frontend: the frontend.
        batch_size: number of rows that are encoded at once; by default a number that suits all encoders.
    """

    def __init__(self, frontend: LevelFrontend, batch_size: int | None = None):
        self.frontend, self.modality = frontend, frontend.modality
        self.batch_size = batch_size or 128

    def levels(self, rows: Tensor) -> dict[str, Tensor]:
        """Returns the flat vectors (batch, total), float16."""
        return {self.modality: self.frontend(rows[None], torch.float32)[0].half()}

    def level_shapes(self, row_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Returns the shape of a flat vector."""
        return {self.modality: (self.frontend.total,)}

    def fingerprint(self) -> str:
        """Returns what the model has recorded of its encoder, among it the checksum of the weights."""
        return json.dumps(self.frontend.described, sort_keys=True)


def weights_fingerprint(module: torch.nn.Module, options: dict[str, Any]) -> str:
    """Returns a hash of the parameters and buffers of a module and of the options with which it is used."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
