"""The limits of what the page accepts, and the messages about inputs that it does not accept."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import soundfile
from PIL import Image

from modeling_msmaml.inputs.notes import UnreadableInput

MAX_CLASSES = 6
MAX_EXAMPLES = 20  # per class, and at most as many queries
MAX_MEGABYTES = 10  # per file
MAX_SECONDS = 120  # per sound
MAX_MEGAPIXELS = 25  # per picture
MAX_CHARACTERS = 20_000  # per text
MAX_WAITING = 32  # visitors' requests in the queue; who comes then is told to try again
_LONGEST_CLAIM = 2**40  # frames; a header that says more does not know, as that of a stream

Result = TypeVar("Result")


class PageError(ValueError):
    """An error whose message is shown to the visitor."""


@dataclass(frozen=True)
class PageInput:
    """
    One thing that a visitor gave.

    Attributes:
        item: the path of an uploaded file, or a text.
        name: the name of the file as it was uploaded, or the line of the text in its box.
        field: the name of the class that it is an example of, or that of the field of the queries.
    """

    item: Path | str
    name: str
    field: str


def limits_in_words() -> str:
    """Returns the sentence on the page that states these limits."""
    return (
        f"At most {MAX_EXAMPLES} examples per class and {MAX_MEGABYTES} MB per file; sounds of up to {MAX_SECONDS} s, "
        f"pictures of up to {MAX_MEGAPIXELS} megapixels, texts of up to {MAX_CHARACTERS:,} characters. "
        f"Visitors are served one after the other, and at most {MAX_WAITING} wait."
    )


def inputs_of_field(modality: str, files: Sequence[str] | None, lines: str | None, field: str) -> list[PageInput]:
    """
    Returns the inputs of a field: its uploaded files, and for texts also the lines of its box.

    Args:
        modality: the modality of the inputs.
        files: the paths of the uploaded files.
        lines: the content of the box, one text per line; blank lines are passed over.
        field: the name of the field, which errors begin with.

    Raises:
        PageError: there are more inputs than a field may have.
    """
    paths = [Path(file) for file in files or ()]
    names = [path.name for path in paths]
    inputs = [
        PageInput(path, name if names.count(name) == 1 else f"{name} (file {number})", field)
        for number, (path, name) in enumerate(zip(paths, names, strict=True), start=1)
    ]
    if modality == "text":
        numbered = enumerate((lines or "").split("\n"), start=1)
        inputs += [PageInput(line.strip(), f"line {number}", field) for number, line in numbered if line.strip()]
    if len(inputs) > MAX_EXAMPLES:
        raise PageError(f"{field}: {len(inputs)} inputs are too many, at most {MAX_EXAMPLES} are taken.")
    return inputs


def check_limits(given: PageInput, modality: str) -> None:
    """
    Checks one input before it is decoded; whatever cannot be told then is left to those who read it.

    Raises:
        UnreadableInput: it is too large or too long; the message names it.
        OSError: the file is not there.
    """
    if isinstance(given.item, str):
        check_length(given.item, given.name)
        return
    size = given.item.stat().st_size
    if size > MAX_MEGABYTES * 1e6:
        raise UnreadableInput(f"{given.name} has {size / 1e6:.1f} MB, at most {MAX_MEGABYTES} are taken")
    if modality == "audio" and (seconds := _seconds(given.item)) > MAX_SECONDS:
        raise UnreadableInput(f"{given.name} lasts {seconds:.0f} s, at most {MAX_SECONDS} are taken")
    if modality == "image" and _has_too_many_pixels(given.item):
        raise UnreadableInput(f"{given.name} has more than {MAX_MEGAPIXELS} megapixels: scale it down")


def check_length(text: str, name: str) -> None:
    """
    Checks the length of a text.

    Raises:
        UnreadableInput: it has too many characters.
    """
    if len(text) > MAX_CHARACTERS:
        raise UnreadableInput(f"{name} has {len(text):,} characters, at most {MAX_CHARACTERS:,} are taken")


def _seconds(path: Path) -> float:
    """What the header says; 0 where it says nothing."""
    try:
        info = soundfile.info(path)
    except Exception:  # who reads the file says what is wrong with it
        return 0.0
    return info.frames / info.samplerate if info.frames < _LONGEST_CLAIM else 0.0


def _has_too_many_pixels(path: Path) -> bool:
    """What the header says; false where it says nothing."""
    try:
        with Image.open(path) as image:
            return image.width * image.height > MAX_MEGAPIXELS * 1e6
    except Image.DecompressionBombError:
        return True
    except Exception:  # who reads the file says what is wrong with it
        return False


def in_words(function: Callable[..., Result], path: Path | str, *arguments, what: str) -> Result:
    """Returns `function(path, ...)`; errors begin with `what`, and do not say in which folder the server keeps it."""
    try:
        return function(path, *arguments)
    except PageError:
        raise
    except (ValueError, OSError) as error:
        raise PageError(f"{what}: {without_folder(str(error), path)}") from error


def without_folder(message: str, path: Path | str) -> str:
    """Returns a message in which a file has its name only."""
    return message.replace(f"{path.parent}{os.sep}", "") if isinstance(path, Path) else message
