"""Draws docs/data_flow.svg, the diagram in the README.

python -m scripts.draw_data_flow
"""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

MODALITIES = (("audio", "#0072B2"), ("text", "#E69F00"), ("image", "#009E73"))
GREY = "#555555"


def box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    colour: str = GREY,
    filled: bool = False,
) -> None:
    """Draws a rounded box with centred text; `x` and `y` are its lower left corner, in the units of the axes."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            edgecolor=colour,
            facecolor=colour + "22" if filled else "white",
            linewidth=1.6,
        )
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9.5)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = GREY,
    **style: Any,
) -> None:
    """Draws an arrow from `start` to `end`; `style` goes to `arrowprops` of Matplotlib's `Axes.annotate`."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, **style})


def draw() -> Figure:
    """Draws the whole diagram."""
    figure = Figure(figsize=(10.4, 4.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 13), ylim=(0, 5.75))
    axes.axis("off")
    sources = ("ESC-50\nclips", "Brown\npassages", "CIFAR-100\nimages")
    for row, ((modality, colour), source) in enumerate(zip(MODALITIES, sources, strict=True)):
        y = 3.7 - 1.3 * row
        box(axes, 0.2, y, 1.5, 0.9, source, colour, filled=True)
        arrow(axes, (1.75, y + 0.45), (2.35, y + 0.45), colour)
        box(axes, 2.4, y, 1.8, 0.9, f"{modality} episodes\nsupport | query", colour)
        arrow(axes, (4.25, y + 0.45), (4.85, y + 0.45), colour)
        box(axes, 4.9, y, 1.7, 0.9, f"{modality}\nembedding", colour, filled=True)
        arrow(axes, (6.65, y + 0.45), (7.7, 2.85), colour)
    box(axes, 7.75, 3.8, 2.2, 0.95, "task encoder\nreads the support set", "#CC79A7", filled=True)
    box(axes, 7.75, 1.75, 2.2, 1.35, "task network\n4 x (conv, norm,\nmodulation, ReLU)", "#CC79A7", filled=True)
    arrow(axes, (7.2, 3.6), (7.7, 4.2))
    arrow(axes, (8.85, 3.75), (8.85, 3.18), "#CC79A7")
    axes.text(8.95, 3.45, "modulation", fontsize=8.5, color="#CC79A7", va="center")
    arrow(axes, (10.0, 2.45), (10.75, 2.45))
    box(axes, 10.8, 2.0, 2.0, 0.9, "query\npredictions")
    arrow(axes, (9.6, 1.7), (8.1, 1.7), "#D55E00", connectionstyle="arc3,rad=-0.55")
    axes.text(
        8.85, 0.72, "inner loop: a few gradient\nsteps on the support loss", ha="center", fontsize=8.5, color="#D55E00"
    )
    arrow(axes, (11.8, 1.95), (5.75, 0.45), "#D55E00", connectionstyle="arc3,rad=-0.28")
    axes.text(11.9, 0.55, "outer loop: query loss\ntrains all of it", ha="center", fontsize=8.5, color="#D55E00")
    axes.text(0.2, 5.25, "archive, built once,\nmemory-mapped", fontsize=8.5, color=GREY)
    axes.text(2.4, 5.25, "n-way k-shot tasks,\na function of seed and index", fontsize=8.5, color=GREY)
    axes.text(4.9, 4.85, "a sequence of\nC features", fontsize=8.5, color=GREY)
    return figure


if __name__ == "__main__":
    matplotlib.rcParams.update({"svg.hashsalt": "ms-maml", "svg.fonttype": "path"})
    figure = draw()
    path = Path(__file__).resolve().parents[1] / "docs" / "data_flow.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
