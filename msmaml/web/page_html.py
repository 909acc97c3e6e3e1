"""The HTML of what the page shows: examples, the loss curve, probabilities. Whatever a visitor wrote is escaped."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib
import numpy as np
import soundfile
from PIL import Image

SHOWN_CHARACTERS = 120
SHOWN_SECONDS = 10  # of a sound, that its player has
SHOWN_PIXELS = 192  # of the longer side of a picture
QUIET = -20  # dB; nothing below is drawn as loud, and silence is black
CSS = """
.examples { display: flex; flex-wrap: wrap; gap: 8px; }
.example { width: 118px; font-size: 12px; overflow: hidden; }
.example.image { width: 96px; }
.example.text { width: 196px; }
.example audio { width: 118px; height: 28px; }
.example img { width: 100%; border-radius: 4px; image-rendering: pixelated; }
.example blockquote { margin: 0 !important; padding: 4px 8px; border-left: 3px solid #8883; overflow-wrap: anywhere; }
.example .name { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; opacity: .7; }
.message { padding: 8px 12px; border-radius: 6px; background: #3b82f620; border-left: 4px solid #3b82f6; }
.message { overflow-wrap: anywhere; }
.message + .message { margin-top: 8px; }
.message ul { margin: 4px 0 0; padding-left: 18px; list-style: disc; }
.message.error { background: #dc262620; border-color: #dc2626; }
.message.warning { background: #d9770620; border-color: #d97706; }
.probabilities { border-collapse: collapse; width: 100%; border: 0 !important; }
.probabilities td, .probabilities th { padding: 6px 12px 6px 6px; border: 0 !important; }
.probabilities td, .probabilities th { vertical-align: top; text-align: left; }
.probabilities tr { border: 0 !important; border-bottom: 1px solid #8883 !important; }
.bar { display: flex; align-items: center; gap: 6px; font-size: 13px; margin: 2px 0; }
.bar .label { width: 90px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar > :last-child { white-space: nowrap; min-width: 38px; text-align: right; }
.bar .track { flex: 1; min-width: 40px; background: #8882; border-radius: 3px; height: 14px; }
.bar .fill { height: 14px; border-radius: 3px; background: #94a3b8; }
.bar.best .fill { background: #2563eb; }
.bar.best { font-weight: 600; }
.neighbours { display: flex; flex-wrap: wrap; gap: 8px; }
.neighbour { width: 72px; font-size: 12px; }
.neighbour.text { width: 100%; min-width: 160px; }
.neighbour .example { width: 100% !important; }
.neighbour .name { overflow-wrap: anywhere; opacity: .8; }
.levels { max-width: 520px; margin-top: 12px; }
.levels summary { font-size: 13px; margin-bottom: 4px; }
@media (max-width: 720px) {
  .probabilities, .probabilities tbody, .probabilities tr, .probabilities td { display: block; width: 100%; }
  .probabilities tr.columns { display: none; }
  .probabilities tr.query { padding: 8px 0; }
  .probabilities td { padding: 4px 0; }
  .probabilities td::before { content: attr(data-column); display: block; font-size: 12px; opacity: .7; }
}
"""


def message(text: str, error: bool = False) -> str:
    """Shows a sentence to the visitor, as an error or as a notice."""
    kind, role = (" error", "alert") if error else ("", "status")
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
        body = _sound(row, sampling_rate, has_player=not is_small)
    else:
        picture = Image.fromarray(np.ascontiguousarray(row.transpose(1, 2, 0)))
        picture.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
        body = _image_tag(picture, "example")
    return f'<div class="example {escape(modality)}">{body}{_named(name)}</div>'


def unreadable_example(name: str) -> str:
    """Shows, in place of an input that cannot be read, its name."""
    return f'<div class="example unreadable">{_named(name)}</div>'


def _named(name: str | None) -> str:
    return f'<div class="name" title="{escape(name)}">{escape(name)}</div>' if name else ""


def _sound(row: np.ndarray, sampling_rate: int, has_player: bool) -> str:
    heard = np.trim_zeros(row, "b")  # without what the row of a short sound ends in
    samples = heard if heard.size else row
    drawn = _image_tag(spectrogram(samples, sampling_rate), "spectrogram")
    if not has_player:
        return drawn
    wave = io.BytesIO()
    soundfile.write(wave, samples[: SHOWN_SECONDS * sampling_rate], sampling_rate, format="WAV", subtype="PCM_16")
    player = f'<audio controls src="{_data("audio/wav", wave.getvalue())}"></audio>'
    return drawn + player


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
    return f'<img alt="{description}" src="{_data("image/png", file.getvalue())}">'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def losses(values: Sequence[float], steps: int) -> str:
    """
    Draws, as a curve, the loss of the examples before the first inner step and after each step so far.

    Args:
        values: losses in nats; there may be fewer than `steps` + 1.
        steps: the number of steps of the whole inner loop.
    """
    width, height, left, bottom = 420, 170, 44, 24
    top = max(values) * 1.1 or 1.0
    x = [left + (width - left - 10) * i / max(1, steps) for i in range(steps + 1)]
    y = [(height - bottom) * (1 - value / top) + 4 for value in values]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=False))
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="#2563eb"/>' for a, b in zip(x, y, strict=False))
    ticks = "".join(
        f'<text x="{x[i]:.1f}" y="{height}" text-anchor="middle">{i}</text>'
        for i in range(0, steps + 1, max(1, steps // 10))
    )
    return (
        f'<svg class="losses" role="img" viewBox="0 0 {width} {height + 16}" style="max-width:520px;width:100%" '
        f'font-size="11" fill="currentColor" data-losses="{",".join(f"{value:.4f}" for value in values)}">'
        f'<line x1="{left}" y1="4" x2="{left}" y2="{height - bottom + 4}" stroke="currentColor" opacity=".4"/>'
        f'<line x1="{left}" y1="{height - bottom + 4}" x2="{width - 10}" y2="{height - bottom + 4}" '
        f'stroke="currentColor" opacity=".4"/>'
        f'<text x="{left - 6}" y="{y[0]:.1f}" text-anchor="end">{values[0]:.2f}</text>'
        f'<text x="{left - 6}" y="{height - bottom + 4}" text-anchor="end">0</text>{ticks}'
        f'<text x="{width / 2}" y="{height + 14}" text-anchor="middle">'
        "loss of your examples after each inner step</text>"
        f'<polyline points="{points}" fill="none" stroke="#2563eb" stroke-width="2"/>{dots}</svg>'
    )


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
    header = "".join(f"<th>{column}</th>" for column in columns)
    queries = "".join(f'<tr class="query">{row}</tr>' for row in rows)
    return f'<table class="probabilities"><tr class="columns">{header}</tr>{queries}</table>'


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


def level_weights(weights: Mapping[str, float]) -> str:
    """Draws, as bars, how much each level of the encoder counts in a task; together they are 1."""
    largest = max(weights.values())
    bars = "".join(
        f'<div class="bar"><span class="label">{escape(name)}</span>'
        f'<span class="track"><div class="fill" style="width:{100 * weight / largest:.1f}%"></div></span>'
        f'<span class="value">{100 * weight:.0f} %</span></div>'
        for name, weight in weights.items()
    )
    return (
        '<details class="levels" open><summary>Which levels of the encoder tell your classes apart: a higher number '
        f"is deeper in the network</summary>{bars}</details>"
    )


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
