"""The limits of the page, each an option of `msmaml web`, and the messages about inputs that are beyond them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

import soundfile
from PIL import Image

from modeling_msmaml.inputs.label_values import clean
from modeling_msmaml.inputs.notes import UnreadableInput

MAX_CLASSES = 6
_LONGEST_CLAIM = 2**40  # frames; a header that says more does not know, as that of a stream
_LITTLE_EXPANDED = 16e6  # bytes; what is smaller when it is decoded may be any number of times as large as its file
# The largest of each limit, so that none can be given that the machine could not hold anyway.
LARGEST = 1_000_000

Result = TypeVar("Result")


class PageError(ValueError):
    """An error whose message is shown to the visitor."""


def _limit(default: int, explanation: str) -> int:
    return field(default=default, metadata={"help": explanation})


def _processors() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    return min(4, len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1)


@dataclass(frozen=True)
class PageLimits:
    """
    What the page accepts, and how much of the machine it takes. Each field is an option, which its metadata explain.

    Raises:
        ValueError: a limit is no integer from 1 to 1,000,000 (`proxies`: from 0).
    """

    max_examples: int = _limit(20, "files or texts per class, and as many queries")
    max_megabytes: int = _limit(10, "MB of a file")
    max_upload_megabytes: int = _limit(100, "MB that are uploaded at once, all files together")
    max_paste_megabytes: int = _limit(4, "MB of all names and texts of the page together")
    max_stored_megabytes: int = _limit(2_000, "MB on disk of the files of all visitors")
    max_seconds: int = _limit(120, "seconds of a sound")
    max_megapixels: int = _limit(25, "megapixels of a picture")
    max_characters: int = _limit(20_000, "characters of a text")
    max_expansion: int = _limit(
        1_000, "times that a picture or sound may be larger when it is decoded than its file, beyond 16 MB"
    )
    max_requests: int = _limit(600, "requests of a visitor per minute; every letter that is typed makes some")
    max_model_requests: int = _limit(30, "of these, how many the model is needed for: Adapt, Classify, Download")
    max_waiting: int = _limit(32, "requests for the model that wait; who comes then is told when to try again")
    workers: int = field(
        default_factory=_processors,
        metadata={"help": "processes that answer requests, each one at a time", "default": "processors, at most 4"},
    )
    max_work_seconds: int = _limit(60, "seconds that the work for a request may take")
    max_work_megabytes: int = _limit(2_000, "MB that the work for a request may take beyond the model (Linux only)")
    keep_minutes: int = _limit(60, "minutes that files of visitors are kept")
    proxies: int = _limit(
        0, "proxies before the page, each of which appends to X-Forwarded-For, by which visitors are told apart"
    )

    def __post_init__(self):
        for limit in fields(self):
            value, least = getattr(self, limit.name), least_of(limit.name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
                raise ValueError(f"{limit.name}={value!r} must be an integer from {least} to {LARGEST:,}")

    def in_words(self) -> str:
        """Returns the sentences on the page that state the limits."""
        return (
            f"At most {self.max_examples} examples per class and {self.max_megabytes} MB per file; sounds of up to "
            f"{self.max_seconds} s, pictures of up to {self.max_megapixels} megapixels, texts of up to "
            f"{self.max_characters:,} characters. At most {self.max_waiting} requests wait for the model, and "
            f"{self.max_model_requests} a minute are answered per visitor."
        )


def least_of(name: str) -> int:
    """Returns the least value of a limit."""
    return 0 if name == "proxies" else 1


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


def inputs_of_field(
    modality: str, files: Sequence[str] | None, lines: str | None, field: str, limits: PageLimits | None = None
) -> list[PageInput]:
    """
    Returns the inputs of a field: its uploaded files, and for texts also the lines of its box.

    Args:
        modality: the modality of the inputs.
        files: the paths of the uploaded files.
        lines: the content of the box, one text per line; blank lines are passed over.
        field: the name of the field, which errors begin with.
        limits: of the page; by default the usual ones.

    Raises:
        PageError: there are more inputs than a field may have.
    """
    most = (limits or PageLimits()).max_examples
    paths = [Path(file) for file in files or ()]
    names = [path.name for path in paths]
    inputs = [
        PageInput(path, name if names.count(name) == 1 else f"{name} (file {number})", field)
        for number, (path, name) in enumerate(zip(paths, names, strict=True), start=1)
    ]
    if modality == "text":
        numbered = enumerate((lines or "").split("\n"), start=1)
        inputs += [PageInput(line.strip(), f"line {number}", field) for number, line in numbered if line.strip()]
    if len(inputs) > most:
        raise PageError(f"{field}: {len(inputs)} inputs are too many, at most {most} are taken: remove some.")
    return inputs


def given_to_adapt(modality: str, count: int, fields: tuple) -> tuple:
    """Returns what a classifier depends on, so that two are the same if it is equal: names, files and lines."""
    own = [fields[start::3][: int(count)] for start in range(3)]
    names, files = [clean(name or "") for name in own[0]], [tuple(given or ()) for given in own[1]]
    lines = [(given or "").strip() if modality == "text" else "" for given in own[2]]
    return modality, *zip(names, files, lines, strict=True)


def check_limits(given: PageInput, modality: str, limits: PageLimits) -> None:
    """
    Checks one input before it is decoded; whatever cannot be told then is left to those who read it.

    Raises:
        UnreadableInput: it is too large or too long; the message names it.
        OSError: the file is not there.
    """
    if isinstance(given.item, str):
        check_length(given.item, given.name, limits)
        return
    name, size = given.name, given.item.stat().st_size
    if size > limits.max_megabytes * 1e6:
        remedy = {"audio": "cut it, or save it as FLAC or OGG", "image": "scale it down, or save it as JPEG"}
        raise UnreadableInput(
            f"{name} has {size / 1e6:.1f} MB, at most {limits.max_megabytes} are taken: "
            f"{remedy.get(modality, 'give a part of it')}"
        )
    expanded = 0
    if modality == "audio":
        seconds, expanded = _stated_of_sound(given.item)
        if seconds > limits.max_seconds:
            raise UnreadableInput(
                f"{name} lasts {seconds:.0f} s, at most {limits.max_seconds} are taken: cut out the part that counts"
            )
    elif modality == "image":
        pixels, expanded = _stated_of_picture(given.item)
        if pixels > limits.max_megapixels * 1e6:
            raise UnreadableInput(f"{name} has more than {limits.max_megapixels} megapixels: scale it down")
    if expanded > max(_LITTLE_EXPANDED, size * limits.max_expansion):
        raise UnreadableInput(
            f"{name} has {size / 1e3:.0f} kB and would become {expanded / size:,.0f} times as large when it is "
            f"decoded, at most {limits.max_expansion:,} times is taken: "
            f"{'scale it down' if modality == 'image' else 'save it as mono WAV'}"
        )


def check_length(text: str, name: str, limits: PageLimits) -> None:
    """
    Checks the length of a text.

    Raises:
        UnreadableInput: it has too many characters.
    """
    if len(text) > limits.max_characters:
        raise UnreadableInput(
            f"{name} has {len(text):,} characters, at most {limits.max_characters:,} are taken: give a part of it"
        )


def _stated_of_sound(path: Path) -> tuple[float, int]:
    """Seconds, and bytes of all samples as they are decoded, as the header states them; 0 where it says nothing."""
    try:
        info = soundfile.info(path)
    except Exception:  # who reads the file says what is wrong with it
        return 0.0, 0
    if info.frames >= _LONGEST_CLAIM:
        return 0.0, 0
    return info.frames / info.samplerate, info.frames * info.channels * 4


def _stated_of_picture(path: Path) -> tuple[float, int]:
    """Pixels, and bytes of them as they are decoded, as the header states them; 0 where it says nothing."""
    try:
        with Image.open(path) as image:
            pixels = image.width * image.height
            return pixels, pixels * len(image.getbands())
    except Image.DecompressionBombError:
        return float("inf"), 0
    except Exception:  # who reads the file says what is wrong with it
        return 0, 0


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
