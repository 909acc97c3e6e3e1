"""The HTML of what the page shows: messages, examples, probabilities. Whatever a visitor wrote is escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape

import matplotlib
import numpy as np
import soundfile
from PIL import Image

SHOWN_CHARACTERS = 120
SHOWN_SECONDS = 10  # of a sound, that its player has
SHOWN_PIXELS = 192  # of the longer side of a picture
QUIET = -20  # dB; nothing below is drawn as loud, and silence is black


def message(text: str, error: bool = False, warning: bool = False) -> str:
    """Shows a sentence to the visitor, as an error, as a warning or as a notice."""
    kind, role = (" error", "alert") if error else (" warning" if warning else "", "status")
    return f'<div class="message{kind}" role="{role}">{escape(text)}</div>'


def summary(sentence: str, entries: Sequence[str]) -> str:
    """Shows a sentence with a list below it, such as what was left out and why; nothing where the list is empty."""
    if not entries:
        return ""
    listed = "".join(f"<li>{escape(entry)}</li>" for entry in entries)
    return f'<div class="message warning" role="status">{escape(sentence)}<ul>{listed}</ul></div>'


def in_a_row(examples: Sequence[str]) -> str:
    """Lays out several examples (see [`example`]) in a row."""
    return f'<div class="examples">{"".join(examples)}</div>'


def example(
    row: np.ndarray | str, modality: str, name: str | None = None, sampling_rate: int = 16_000, is_small: bool = False
) -> str:
    """
    Shows one input as the model takes it: a spectrogram with a player of its first seconds, a picture, or the beginning
    of a text.

    Args:
        row: the raw row of a sound, int16 (samples,), or of a picture, uint8 (3, height, width), or a text.
        modality: of the input.
        name: of the file, which is written below; by default none.
        sampling_rate: of a sound, Hz.
        is_small: whether it stands beside others: without a player, and half of a text.
    """
    if isinstance(row, str):
        most = SHOWN_CHARACTERS // 2 if is_small else SHOWN_CHARACTERS
        shown = row if len(row) <= most else row[:most] + " …"
        body = f"<blockquote>{escape(shown)}</blockquote>"
    elif modality == "audio":
        body = _sound(row, sampling_rate, has_player=not is_small, name=name)
    else:
        picture = Image.fromarray(np.ascontiguousarray(row.transpose(1, 2, 0)))
        picture.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
        body = _image_tag(picture, name or "Picture")
    return f'<div class="example {escape(modality)}">{body}{_named(name)}</div>'


def unreadable_example(name: str) -> str:
    """Shows, in place of an input that cannot be read, its name."""
    return f'<div class="example unreadable">{_named(name)}</div>'


def _named(name: str | None) -> str:
    return f'<div class="name" title="{escape(name)}">{escape(name)}</div>' if name else ""


def _sound(row: np.ndarray, sampling_rate: int, has_player: bool, name: str | None) -> str:
    heard = np.trim_zeros(row, "b")  # without what the row of a short sound ends in
    samples = heard if heard.size else row
    drawn = _image_tag(spectrogram(samples, sampling_rate), f"Spectrogram of {name}" if name else "Spectrogram")
    if not has_player:
        return drawn
    wave = io.BytesIO()
    soundfile.write(wave, samples[: SHOWN_SECONDS * sampling_rate], sampling_rate, format="WAV", subtype="PCM_16")
    label = f"Listen to {name}" if name else "Listen"
    source = _data("audio/wav", wave.getvalue())
    return f'{drawn}<audio controls aria-label="{escape(label)}" src="{source}"></audio>'


def spectrogram(samples: np.ndarray, sampling_rate: int, height: int = 64, width: int = 180) -> Image.Image:
    """
    Draws a spectrogram.

    Args:
        samples: (samples,) int16.
        sampling_rate: sampling rate of the samples, Hz.
        height, width: size of the picture, pixels.

    Returns:
        A picture of the level in dB, with 60 dB of range below the loudest, against time (to the right) and frequency
        (upwards, to half the sampling rate).
    """
    size = 256
    hop = max(1, (len(samples) - size) // (width - 1))
    starts = np.clip(np.arange(width) * hop, 0, max(0, len(samples) - size))
    padded = np.pad(samples.astype(np.float32) / 32767, (0, max(0, size - len(samples))))
    frames = padded[starts[:, None] + np.arange(size)] * np.hanning(size)
    decibels = 20 * np.log10(
        np.abs(np.fft.rfft(frames, axis=1))[:, : 2 * height].reshape(width, height, 2).mean(2) + 1e-4
    )
    loudest = max(decibels.max(), QUIET)
    level = np.clip((decibels.T[::-1] - loudest + 60) / 60, 0, 1)
    return Image.fromarray((matplotlib.colormaps["magma"](level)[..., :3] * 255).astype(np.uint8))


def _image_tag(image: Image.Image, description: str) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return f'<img alt="{escape(description)}" src="{_data("image/png", file.getvalue())}">'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def probabilities(
    shown: Sequence[str],
    classes: Sequence[str],
    adapted: np.ndarray,
    before: np.ndarray,
    guesses: Sequence[str],
    nearest: Sequence[str] | None = None,
) -> str:
    """
    Draws a table with one row per query.

    Args:
        shown: the HTML of each query.
        classes: the names of the classes.
        adapted: (queries, classes) probabilities of the adapted model; NaN for a query that cannot be read.
        before: (queries, classes) probabilities of the model before adaptation.
        guesses: the predicted class of each query.
        nearest: the HTML of the examples that are nearest to each query, see [`neighbours`]; by default there is no
            such column.
    """
    columns = ("query", "prediction", "adapted model", "before adaptation", "nearest examples")
    columns, rows = columns[: 4 if nearest is None else 5], []
    for number, (query, guess) in enumerate(zip(shown, guesses, strict=True)):
        bars = (_bars(classes, adapted[number]), _bars(classes, before[number]))
        cells = (query, f"<b>{escape(str(guess))}</b>", *bars, *([] if nearest is None else [nearest[number]]))
        kinds = ("", ' class="guess"', "", "", "")
        rows.append(
            "".join(
                f'<td{kind} data-column="{column}">{cell}</td>'
                for column, kind, cell in zip(columns, kinds, cells, strict=False)
            )
        )
    header = "".join(f'<th scope="col">{column}</th>' for column in columns)
    queries = "".join(f'<tr class="query">{row}</tr>' for row in rows)
    table = f'<table class="probabilities"><tr class="columns">{header}</tr>{queries}</table>'
    return f'<div class="scrolls" tabindex="0" role="region" aria-label="Predictions">{table}</div>'


def neighbours(entries: Sequence[tuple[str, str, float]], modality: str) -> str:
    """
    Shows the examples that are nearest to a query.

    Args:
        entries: of each, the nearest first: its HTML (see [`example`]), its class, and its similarity in [-1, 1].
        modality: of all of them.
    """
    if not entries:
        return "–"
    shown = "".join(
        f'<div class="neighbour {escape(modality)}">{drawn}'
        f'<div class="name">{escape(label)}, {similarity:.2f}</div></div>'
        for drawn, label, similarity in entries
    )
    return f'<div class="neighbours">{shown}</div>'


def _bars(classes: Sequence[str], values: np.ndarray) -> str:
    if np.isnan(values).any():
        return "–"
    best = values.max() if np.ptp(values) > 1e-3 else None
    return "".join(
        f'<div class="bar{" best" if value == best else ""}"><span class="label">{escape(str(name))}</span>'
        f'<span class="track"><div class="fill" style="width:{100 * value:.1f}%"></div></span>'
        f"<span>{100 * value:.0f} %</span></div>"
        for name, value in zip(classes, values, strict=True)
    )
