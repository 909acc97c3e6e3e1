"""The fields in which a visitor gives inputs: files and lines of text, a microphone, a camera, and the clipboard."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from modeling_msmaml.inputs.kinds import KINDS

from .page_limits import PageLimits


@dataclass(frozen=True)
class Field:
    """
    What takes the examples of a class, or the queries. What is recorded or pasted is added to its files.

    Attributes:
        files, lines: where all inputs end up; the box of lines is for texts only.
        boxes: what can be opened to record a sound, and to take or paste a picture, in this order.
        microphone, camera: what these hold.
        what: "Examples of class 1", or "Queries".
        limits: of the page.
    """

    files: gr.File
    lines: gr.Textbox
    boxes: tuple[gr.Accordion, gr.Accordion]
    microphone: gr.Audio
    camera: gr.Image
    what: str
    limits: PageLimits

    @classmethod
    def lay_out(cls, modality: str, what: str, name: str, limits: PageLimits) -> "Field":
        """
        Makes a field.

        Args:
            modality: of its inputs at first.
            what: what it takes, for its labels.
            name: what its elements are called in the page.
            limits: of the page.
        """
        files = gr.File(
            file_count="multiple",
            type="filepath",
            label=file_label(modality, what, limits),
            elem_id=f"{name}_files",
            height=120,
        )
        lines = gr.Textbox(
            lines=5,
            max_lines=5,
            label=f"{what}: texts, one per line",
            elem_id=f"{name}_lines",
            visible=modality == "text",
        )
        with gr.Accordion(
            "Record a sound", open=False, visible=modality == "audio", elem_id=f"{name}_sound_box"
        ) as sound:
            microphone = gr.Audio(
                sources=["microphone"],
                type="filepath",
                format="wav",
                label=f"{what}: microphone",
                elem_id=f"{name}_microphone",
                buttons=[],
                editable=False,
            )
        with gr.Accordion(
            "Take or paste a picture", open=False, visible=modality == "image", elem_id=f"{name}_picture_box"
        ) as picture:
            camera = gr.Image(
                sources=["webcam", "clipboard"],
                type="filepath",
                format="png",
                height=240,
                label=f"{what}: camera or clipboard",
                elem_id=f"{name}_camera",
                buttons=[],
                webcam_options=gr.WebcamOptions(mirror=False),
            )
        field = cls(files, lines, (sound, picture), microphone, camera, what, limits)
        for recorder in (microphone, camera):
            recorder.change(
                _added,
                [files, recorder],
                [files, recorder],
                api_visibility="private",
                show_progress="hidden",
                queue=False,  # see LIGHT of the page
                trigger_mode="once",
            )
        return field

    @property
    def filled(self) -> list[Any]:
        """The components that [`emptied`] and [`with_items`] update."""
        return [self.files, self.lines]

    def emptied(self, modality: str) -> list[dict]:
        """Returns updates of `filled`, and of `boxes`, for another modality."""
        return [
            gr.update(value=None, label=file_label(modality, self.what, self.limits)),
            gr.update(value="", visible=modality == "text"),
            gr.update(visible=modality == "audio"),
            gr.update(visible=modality == "image"),
        ]


def with_items(modality: str, items: list[str]) -> list[dict]:
    """Returns updates of the files and the lines of a field to these paths or texts."""
    if modality == "text":
        return [gr.update(value=None), gr.update(value="\n".join(items))]
    return [gr.update(value=items or None), gr.update(value="")]


def file_label(modality: str, what: str, limits: PageLimits) -> str:
    """Returns the label of the files of a field, which says which kinds, and how many, it takes."""
    suffixes = KINDS[modality].suffixes
    kinds = f"{', '.join(suffixes[:4])}{', …' if len(suffixes) > 4 else ''}"
    return f"{what}: up to {limits.max_examples} files of {limits.max_megabytes} MB ({kinds})"


def _added(files: list[str] | None, recorded: str | None) -> tuple:
    """What was recorded becomes the last of the files, and its recorder is ready for the next."""
    if recorded is None:
        return gr.skip(), gr.skip()
    return [*(files or ()), recorded], None
