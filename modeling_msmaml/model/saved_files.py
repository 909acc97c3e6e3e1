"""Files that others wrote: whatever goes wrong when they are read is an error that is documented and names them."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

# Parameters that a file may lack; they are made at random, which is right for a new part of a model and takes memory.
MOST_MISSING = 1 << 27


@contextlib.contextmanager
def read_from(place: str | os.PathLike) -> Iterator[None]:
    """
    Whatever fails in its block says where what is read comes from. Libraries raise what they come upon in a file that
    they did not write: `SafetensorError`, `Exception` (tokenizers), `TypeError`, `KeyError`, `RecursionError` and more.

    Args:
        place: the file, folder or repository.

    Raises:
        `OSError`: it cannot be read, or a file is missing.
        `ValueError`: any other error but `ImportError`, whose message says what to install, and memory of a GPU that
            does not suffice.
    """
    try:
        yield
    except (ImportError, FileNotFoundError, torch.OutOfMemoryError):
        raise
    except (OSError, ValueError) as error:
        if os.fspath(place) in str(error):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{os.fspath(place)}: {_shortly(error)}") from error
    except Exception as error:
        raise ValueError(
            f"{os.fspath(place)} cannot be read: it is damaged, or was made for other versions "
            f"({type(error).__name__}: {_shortly(error)})"
        ) from error


def _shortly(error: Exception) -> str:
    """The message; what was found in a file, which may be of any length, is cut off."""
    text = str(error)
    return text if len(text) <= 1_000 else f"{text[:1_000]}..."


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """
    Reads an object from a JSON file.

    Raises:
        `FileNotFoundError`: there is no such file.
        `ValueError`: it holds something else, or more levels of nesting than Python reads.
    """
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is not valid JSON: {_shortly(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{os.fspath(path)} must hold an object, not a {type(found).__name__}")
    return found


def refuse_other_sizes(expected: Mapping[str, Tensor], path: str | os.PathLike, described_in: str) -> None:
    """
    Compares what a description says with what a file of weights has, before memory is taken for either.

    Args:
        expected: the state dict of the model that is described, which may be on the device "meta".
        path: of the file, in safetensors.
        described_in: name of the file with the description.

    Raises:
        `ValueError`: the file cannot be read, tensors have other sizes, or it lacks more than `MOST_MISSING` values.
    """
    with read_from(path), safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118, no mapping
    other = [name for name, tensor in expected.items() if found.get(name, tensor.shape) != tuple(tensor.shape)]
    if other:
        raise ValueError(
            f"{os.fspath(path)} does not fit {described_in} beside it: {len(other)} tensors have other sizes, such as "
            f"{other[0]} with {found[other[0]]} instead of {tuple(expected[other[0]].shape)}"
        )
    missing = sum(tensor.numel() for name, tensor in expected.items() if name not in found)
    if missing > MOST_MISSING:
        raise ValueError(f"{os.fspath(path)} lacks {missing:,} of the values that {described_in} beside it describes")
