"""What a visitor gives, read as everything else is: what to show of it, what is noticed, and what cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from modeling_msmaml import MSMAMLProcessor
from modeling_msmaml.inputs.kinds import listed_suffixes, modality_of_file
from modeling_msmaml.inputs.notes import Notes, UnreadableInput
from modeling_msmaml.inputs.read_text import encode_texts, read_text

from . import page_html as html
from .page_limits import PageError, PageInput, PageLimits, check_length, check_limits, in_words

SKIP_LABEL = "Leave out what cannot be read"
SKIP_HELP = (
    "Passes over examples and queries that cannot be read, and names them with the reason; queries are then "
    "“unreadable”. Otherwise the first of them is an error."
)


class PageNotes(Notes):
    """What is noticed about inputs, for a page, which has room for all names and shows no warnings of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, list[str]] = {}

    def add(self, what: str, name: str) -> None:
        self.names.setdefault(what, []).append(f"{self.prefix}{name}")

    def html(self) -> str:
        """Returns a notice per kind."""
        return "".join(html.summary(f"Note: {what}:", names) for what, names in self.names.items())


@dataclass
class ReadInputs:
    """
    Inputs of a page after they were read.

    Attributes:
        inputs: all of them.
        shown: the HTML of each, in the same order.
        shown_small: the HTML of each without a player, to be shown beside others.
        rows: of each that can be read, what a classifier takes in place of the file, so that it is decoded once: an
            int16 waveform of `sampling_rate`, a picture, or a text.
        sampling_rate: of all waveforms, Hz.
        unreadable: for each that cannot be read, its number and why, by its name.
        notes: what is noticed about the others.
    """

    inputs: Sequence[PageInput]
    sampling_rate: int | None = None
    shown: list[str] = field(default_factory=list)
    shown_small: list[str] = field(default_factory=list)
    rows: list[np.ndarray | Image.Image | str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    notes: PageNotes = field(default_factory=PageNotes)

    @property
    def readable(self) -> list[int]:
        """The numbers of those that can be read."""
        return [number for number in range(len(self.inputs)) if number not in self.unreadable]

    def summary(self, what: str, outcome: str) -> str:
        """Returns the HTML of what cannot be read and why, such as "2 of 9 examples ... left out", and of the notes."""
        counted = f"{len(self.unreadable)} of {len(self.inputs)} {what} cannot be read and were {outcome}:"
        return html.summary(counted, list(self.unreadable.values())) + self.notes.html()


def read_inputs(
    inputs: Sequence[PageInput],
    modality: str,
    processor: MSMAMLProcessor,
    skip_unreadable: bool,
    limits: PageLimits | None = None,
) -> ReadInputs:
    """
    Reads what a visitor gave.

    Args:
        inputs: examples of any classes, or queries.
        modality: of all of them.
        processor: of the model.
        skip_unreadable: whether what cannot be read, or is beyond the limits of the page, is passed over.
        limits: of the page; by default the usual ones.

    Raises:
        PageError: an input cannot be read, and `skip_unreadable` is false; the message begins with its field and names
            it.
    """
    read = ReadInputs(inputs, processor.feature_extractor.sampling_rate if processor.feature_extractor else None)
    limits, texts, names = limits or PageLimits(), [], []
    for number, given in enumerate(inputs):
        read.notes.prefix = f"{given.field}: "
        try:
            row = in_words(_read_row, given.item, given, modality, processor, read.notes, limits, what=given.field)
        except PageError as error:
            if not skip_unreadable:
                raise
            read.unreadable[number] = str(error)
            read.shown.append(html.unreadable_example(given.name))
            read.shown_small.append("")
            continue
        name = given.name if isinstance(given.item, Path) else None
        read.shown.append(html.example(row, modality, name, read.sampling_rate or 0))
        read.shown_small.append(html.example(row, modality, None, read.sampling_rate or 0, is_small=True))
        if isinstance(row, str):
            read.rows.append(row)
            texts.append(row)
            names.append(f"{given.field}: {given.name}")
        else:  # a picture, since an array of pixels may be taken for something else
            picture = Image.fromarray(np.ascontiguousarray(row.transpose(1, 2, 0))) if modality == "image" else row
            read.rows.append(picture)
    read.notes.prefix = ""
    if texts and processor.tokenizer is not None:  # for the notes
        encode_texts(processor.tokenizer, texts, processor.tokenizer.model_max_length, names, read.notes)
    return read


def _read_row(
    item: Path | str, given: PageInput, modality: str, processor: MSMAMLProcessor, notes: Notes, limits: PageLimits
) -> np.ndarray | str:
    """The raw row of a sound or a picture, or a text; errors name the input as the visitor knows it."""
    try:
        check_limits(given, modality, limits)
        if modality == "audio" and processor.feature_extractor is not None:
            return processor.feature_extractor.row(item, name=given.name, notes=notes)
        if modality == "image" and processor.image_processor is not None:
            return processor.image_processor.row(item, given.name, notes)
        text = read_text(item, given.name)
        check_length(text, given.name, limits)
        return text
    except FileNotFoundError as error:
        raise UnreadableInput(f"{given.name} is not kept here any more: upload it again") from error
    except (ValueError, OSError) as error:
        message = str(error) if given.name in str(error) else f"{given.name}: {error}"
        if isinstance(item, Path) and modality_of_file(item) != modality:
            message = f"{message.rstrip('.')}; files of these kinds are read: {listed_suffixes(modality)}"
        raise UnreadableInput(message) from error
