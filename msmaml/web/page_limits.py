"""The limits of what the page accepts, and the messages about inputs that it does not accept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import soundfile
from PIL import Image, UnidentifiedImageError

from modeling_msmaml.inputs.kinds import listed_suffixes, modality_of_file

MAX_CLASSES = 6
MAX_EXAMPLES = 20  # per class, and at most as many queries
MAX_MEGABYTES = 10  # per file
MAX_SECONDS = 120  # per sound
MAX_MEGAPIXELS = 25  # per picture
MAX_CHARACTERS = 20_000  # per text

Result = TypeVar("Result")


class PageError(ValueError):
    """An error whose message is shown to the visitor."""


def limits_in_words() -> str:
    """Returns the sentence on the page that states these limits."""
    return (
        f"At most {MAX_EXAMPLES} examples per class and {MAX_MEGABYTES} MB per file; sounds of up to {MAX_SECONDS} s, "
        f"pictures of up to {MAX_MEGAPIXELS} megapixels, texts of up to {MAX_CHARACTERS:,} characters."
    )


def checked_inputs(modality: str, files: Sequence[str] | None, lines: str | None, what: str) -> list[Path | str]:
    """
    Returns the inputs of a field: its uploaded files, and for texts also the lines of its box.

    Args:
        modality: the modality of the inputs.
        files: the paths of the uploaded files.
        lines: the content of the box, one text per line.
        what: the name of the field, which errors begin with.

    Raises:
        PageError: there are too many inputs, or one of them is too large, too long, or of another kind.
    """
    inputs: list[Path | str] = [Path(file) for file in files or ()]
    if modality == "text":
        inputs += [line.strip() for line in (lines or "").splitlines() if line.strip()]
    if len(inputs) > MAX_EXAMPLES:
        raise PageError(f"{what}: {len(inputs)} are too many, at most {MAX_EXAMPLES} are taken.")
    for item in inputs:
        if isinstance(item, Path):
            in_words(_check_file, item, modality, what=what)
        elif len(item) > MAX_CHARACTERS:
            raise PageError(f"{what}: a text of {len(item):,} characters is too long, at most {MAX_CHARACTERS:,}.")
    return inputs


def in_words(function: Callable[..., Result], path: Path | str, *arguments, what: str) -> Result:
    """Returns `function(path, ...)`; errors name the file, but not the folder in which the server keeps it."""
    try:
        return function(path, *arguments)
    except PageError:
        raise
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise PageError(f"{what}: {_without_folder(str(error), path)}") from error


def _without_folder(message: str, path: Path | str) -> str:
    return message.replace(str(path), path.name) if isinstance(path, Path) else message


def _check_file(path: Path, modality: str) -> None:
    megabytes = path.stat().st_size / 1e6
    if megabytes > MAX_MEGABYTES:
        raise ValueError(f"{path} has {megabytes:.0f} MB, at most {MAX_MEGABYTES} are taken")
    if modality_of_file(path) != modality:
        raise ValueError(f"{path} is no file of these kinds: {listed_suffixes(modality)}")
    if modality == "audio":
        try:
            seconds = soundfile.info(path).duration
        except soundfile.SoundFileError as error:
            raise ValueError(f"{path} cannot be read as a sound") from error
        if seconds > MAX_SECONDS:
            raise ValueError(f"{path} lasts {seconds:.0f} s, at most {MAX_SECONDS} are taken")
    elif modality == "image":
        try:
            with Image.open(path) as image:
                megapixels = image.width * image.height / 1e6
        except UnidentifiedImageError as error:
            raise ValueError(f"{path} cannot be read as a picture") from error
        if megapixels > MAX_MEGAPIXELS:
            raise ValueError(f"{path} has {megapixels:.0f} megapixels, at most {MAX_MEGAPIXELS} are taken")
    elif path.stat().st_size > 4 * MAX_CHARACTERS:
        raise ValueError(f"{path} is too long, at most {MAX_CHARACTERS:,} characters are taken")
