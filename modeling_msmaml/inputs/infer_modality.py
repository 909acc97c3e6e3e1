"""Infers the modality of inputs that are handed in one by one."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from .kinds import as_array, is_missing, listed_suffixes, modality_of_file, plain, stored_file
from .notes import UnreadableInput, listing, named
from .path_strings import named_place, shown
from .read_audio import is_sound
from .read_image import is_picture
from .read_text import IS_TEXT


def infer_modality(
    items: Sequence[Any],
    modalities: Sequence[str],
    sampling_rate: int | None = None,
    name: str = "inputs",
    unreadable: dict[int, str] | None = None,
) -> str:
    """
    The modality of some inputs, by their types, the names of files and, where these say nothing, their content.

    A string is the path of a sound or a picture if it names one that exists, and a text if it is not written like a
    path or an address. A text file is given as `pathlib.Path`. Arrays of one dimension are sounds, of three pictures,
    of two sounds if there is a sampling rate.

    Args:
        modalities: those of the model.
        sampling_rate: of the arrays, Hz.
        name: of the argument, for errors.
        unreadable: where given, inputs whose modality cannot be told are passed over, and it is told the number of
            each and why.

    Raises:
        `UnreadableInput`: the modality of an input cannot be told, or a string names what is no sound or picture.
        `FileNotFoundError`: a string that is written like a path names no file.
        `ValueError`: the inputs are of several modalities, or of one that the model lacks, or none can be told.
    """
    found, untold = {}, {}
    for number, item in enumerate(items):
        own = f"{name}[{number}]"
        try:
            found.setdefault(named(own, _modality_of, item, sampling_rate), own)
        except (UnreadableInput, FileNotFoundError) as error:
            if unreadable is None:
                raise
            untold[number] = str(error)
    if not found:
        raise ValueError(f"none of {len(items)} {name} can be read: {listing(list(untold.values()), 1)}")
    if len(found) > 1:
        described = " and ".join(f"{modality} ({own})" for modality, own in found.items())
        raise ValueError(f"{name} are of several modalities: {described}; a classifier takes one, see modality=")
    modality = next(iter(found))
    if modality not in modalities:
        raise ValueError(f"{name} look like {modality}, but this model has {', '.join(modalities)}")
    if unreadable is not None:
        unreadable.update(untold)
    return modality


def _modality_of(item: Any, sampling_rate: int | None) -> str:
    item = plain(item)
    if isinstance(item, dict):
        if not is_missing(item.get("array")):
            return "audio"
        if isinstance(path := item.get("path"), (str, os.PathLike)) and (modality := modality_of_file(path)):
            return modality
        stored = stored_file(item)
        return _modality_of_bytes(stored) if isinstance(stored, bytes) else _modality_of_path(stored)
    if isinstance(item, bytes):
        return _modality_of_bytes(item)
    if isinstance(item, str):
        return _modality_of_string(item)
    if isinstance(item, os.PathLike):
        return _modality_of_path(item)
    if isinstance(item, Image.Image):
        return "image"
    if hasattr(item, "get_all_samples"):  # a decoded sound of `datasets`
        return "audio"
    if isinstance(item, (np.ndarray, Tensor, list, tuple)):
        return _modality_of_array(item, sampling_rate)
    if is_missing(item):
        raise UnreadableInput(f"it is missing ({item!r})")
    raise UnreadableInput(
        f"it is of type {type(item).__name__}: give paths, strings, PIL images, arrays, or the dicts of `datasets`"
    )


def _modality_of_array(item: Any, sampling_rate: int | None) -> str:
    array = item if isinstance(item, Tensor) else as_array(item)
    if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":
        kind = "strings" if array.dtype.kind in "US" else "objects"
        raise UnreadableInput(f"it is a {type(item).__name__} of {kind}: give each of them as an input of its own")
    if array.ndim in (1, 3):
        return "audio" if array.ndim == 1 else "image"
    if array.ndim == 2 and sampling_rate is not None:
        return "audio"
    raise UnreadableInput(f"it is an array of {array.ndim} dimensions: name its modality=")


def _modality_of_string(string: str) -> str:
    if (place := named_place(string)) is None:
        return "text"
    if place.why:
        error = FileNotFoundError if place.is_missing else UnreadableInput
        raise error(f"{shown(string)} {place.why}; {IS_TEXT}")
    if modality_of_file(string) == "text":
        raise UnreadableInput(
            f"{shown(string)} is the name of a text file: give pathlib.Path({string!r}) to read it, or modality='text' "
            "to take the string itself as the text"
        )
    return _modality_of_path(string)


def _modality_of_path(path: str | os.PathLike) -> str:
    """What the name of a file says or, where it says nothing, what the content of the file is."""
    if (modality := modality_of_file(path)) is not None:
        return modality
    if os.path.isdir(path):
        raise UnreadableInput(f"{path} is a folder: give the files in it")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    if is_sound(path):
        return "audio"
    if is_picture(path):
        return "image"
    raise UnreadableInput(
        f"{path} is neither a sound nor a picture that can be decoded here; convert it to one of these kinds: "
        f"{listed_suffixes()}, or, if it holds a text, give it as a pathlib.Path with modality='text'"
    )


def _modality_of_bytes(content: bytes) -> str:
    if is_picture(content):
        return "image"
    if is_sound(content):
        return "audio"
    raise UnreadableInput(
        f"its {len(content)} bytes are neither a sound nor a picture that can be decoded here; decode a text to a str"
    )
