"""The charts of what the model has learned: the loss curve, the weights of levels, and held-out examples."""

from collections.abc import Mapping, Sequence
from html import escape

from modeling_msmaml.inference.cross_validation import CrossValidation


def charts(drawn: Sequence[str]) -> str:
    """Lays out charts beside each other, as far as there is room; those that are empty are passed over."""
    shown = "".join(f'<div class="chart">{chart}</div>' for chart in drawn if chart)
    return f'<div class="charts">{shown}</div>' if shown else ""


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
    given = ",".join(f"{value:.4f}" for value in values)
    said = f"Loss of your examples: {values[0]:.3g} at first, {values[-1]:.3g} after {len(values) - 1} inner steps"
    return (
        f'<svg class="losses" role="img" aria-label="{said}" viewBox="0 0 {width} {height + 16}" '
        f'style="max-width:520px;width:100%" font-size="11" fill="currentColor" data-losses="{given}">'
        f'<line x1="{left}" y1="4" x2="{left}" y2="{height - bottom + 4}" stroke="currentColor" opacity=".4"/>'
        f'<line x1="{left}" y1="{height - bottom + 4}" x2="{width - 10}" y2="{height - bottom + 4}" '
        f'stroke="currentColor" opacity=".4"/>'
        f'<text x="{left - 6}" y="{y[0]:.1f}" text-anchor="end">{values[0]:.2g}</text>'
        f'<text x="{left - 6}" y="{height - bottom + 4}" text-anchor="end">0</text>{ticks}'
        f'<text x="{width / 2}" y="{height + 14}" text-anchor="middle">'
        "loss of your examples after each inner step</text>"
        f'<polyline points="{points}" fill="none" stroke="#2563eb" stroke-width="2"/>{dots}</svg>'
    )


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


def confusion(found: CrossValidation) -> str:
    """Draws, as a table, the examples by their class and by the class that was predicted while they were held out."""
    right, (low, high) = int(found.confusion.trace()), found.interval
    header = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in found.classes)
    rows = []
    for number, name in enumerate(found.classes):
        cells = []
        for column, count in enumerate(found.confusion[number].tolist()):
            share = count / max(1, int(found.confusion[number].sum()))
            colour = "37, 99, 235" if column == number else "220, 38, 38"
            cells.append(f'<td style="background: rgba({colour}, {0.35 * share:.2f})">{count}</td>')
        rows.append(f'<tr><th scope="row">{escape(str(name))}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scrolls" tabindex="0" role="region" aria-label="Examples that were held out">'
        f'<table class="confusion"><caption>Examples that were held out: {right} of {found.count} right '
        f"({100 * low:.0f} to {100 * high:.0f} % with 95 % confidence). Each was classified once, in {found.folds} "
        "rounds, by a model that had learned from the others. Rows: your class; columns: the prediction.</caption>"
        f"<tr><td></td>{header}</tr>{''.join(rows)}</table></div>"
    )
