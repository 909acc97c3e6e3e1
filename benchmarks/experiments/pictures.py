"""Pictures of the experiments, from their JSONs alone; the same JSONs give the same files."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modeling_msmaml.hub.learning_curves import COLOURS

from ..data import MODALITIES

# Okabe and Ito's colours, which remain distinct for colour-blind readers, and a marker each.
COLOUR_OF = dict(zip(MODALITIES, COLOURS, strict=False))
MARKER_OF = dict(zip(MODALITIES, ("o", "s", "^"), strict=True))
SET_COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#000000", "#56B4E9", "#D55E00")
# Part of a learning curve -> label and style.
CURVES = (("train", "training episodes", {"linewidth": 1, "linestyle": "--"}),)
CURVES += (("validation", "validation", {"marker": "o", "markersize": 4}),)
PLAIN = {"frameon": False, "fontsize": "small"}  # legends
SETTINGS = {"axes.grid": True, "grid.alpha": 0.3, "font.size": 9, "svg.hashsalt": "ms-maml", "svg.fonttype": "path"}


def save(figure: Figure, path: Path) -> None:
    """As SVG, without the date and with names of its parts that do not change."""
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def draw(make, *data) -> Figure:
    """`make(*data)` in the style of these pictures."""
    with matplotlib.rc_context(SETTINGS):
        return make(*data)


def modality_sets(
    found: dict[int, dict[str, dict[str, tuple[float, float]]]], published: dict[int, dict[str, float]]
) -> Figure:
    """
    Left a radar chart of the mean accuracy over the modalities of each set, with one axis per set; right the accuracy
    of each modality by what it was trained with.

    Args:
        found: shots -> set ("audio, text") -> modality -> (accuracy, half-width of its interval), in %.
        published: shots -> set -> accuracy in %.
    """
    names = list(dict.fromkeys(name for by_set in found.values() for name in by_set))
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    radar = figure.add_subplot(1, 2, 1, projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    for number, (shots, by_set) in enumerate(found.items()):
        means = [np.mean([value for value, _ in by_set[name].values()]) if name in by_set else np.nan for name in names]
        colour, marker = COLOURS[number], "os"[number % 2]
        label = f"5-way {shots}-shot, default architecture, class_disjoint"
        radar.plot([*angles, angles[0]], [*means, means[0]], color=colour, marker=marker, markersize=4, label=label)
        there = [(angle, published[shots][name]) for angle, name in zip(angles, names, strict=True)
                 if name in published.get(shots, {})]  # fmt: skip
        label = f"5-way {shots}-shot, published, about: support and query overlap"
        radar.scatter(*zip(*there, strict=True), facecolors="none", edgecolors=colour, marker=marker, s=45, label=label)
    radar.plot(np.linspace(0, 2 * np.pi, 200), np.full(200, 20.0), color="grey", linestyle=":", label="chance")
    radar.set_theta_offset(np.pi / 2)
    radar.set_xticks(angles, [name.replace(", ", "\n") for name in names])
    radar.tick_params(axis="x", pad=12)
    radar.set(ylim=(0, 100), rlabel_position=26)
    radar.set_yticks([20, 40, 60, 80, 100], [f"{tick} %" for tick in (20, 40, 60, 80, 100)])
    radar.set_title("Mean accuracy over the modalities of a set, %")
    dots = figure.add_subplot(1, 2, 2)
    for number, (shots, by_set) in enumerate(found.items()):
        for shift, modality in zip((-0.15, 0.0, 0.15), MODALITIES, strict=True):
            there = [(place, by_set[name][modality]) for place, name in enumerate(names)
                     if modality in by_set.get(name, {})]  # fmt: skip
            if not there:
                continue
            places, values = zip(*there, strict=True)
            centres, widths = zip(*values, strict=True)
            style = {"fmt": MARKER_OF[modality], "color": COLOUR_OF[modality], "capsize": 2, "markersize": 5}
            style |= {"markerfacecolor": "none" if number else COLOUR_OF[modality]}
            label = f"{modality}, {shots}-shot"
            dots.errorbar(np.add(places, shift), centres, widths, **style, label=label)
    dots.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names])
    dots.axhline(20, color="grey", linestyle=":", label="chance")
    dots.set(xlabel="trained with", ylabel="test accuracy, %, with 95 % interval")
    dots.set_title("Accuracy of each modality")
    for axes, side in ((radar, "left"), (dots, "right")):
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc=f"outside lower {side}", ncols=1 if axes is radar else 2, **PLAIN)
    return figure


def learning_curves(rows: list[tuple[str, list[tuple[str, dict]]]]) -> Figure:
    """
    One row of panels per architecture, one panel per modality.

    Args:
        rows: (title, [(name of a run, its `learning_curve`), ...]).
    """
    figure = Figure(figsize=(11, 3.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(MODALITIES), squeeze=False, sharex=True, sharey=True)
    for line, (title, runs) in zip(panels, rows, strict=True):
        handles = {}
        for axes, modality in zip(line, MODALITIES, strict=True):
            for colour, (name, curve) in zip(COLOURS, runs, strict=False):
                for part, label, style in CURVES:
                    points = np.asarray(curve[part].get(modality, [])).reshape(-1, 2)
                    (handles[f"{name}, {label}"],) = axes.plot(points[:, 0], 100 * points[:, 1], color=colour, **style)
            axes.set_title(f"{title}: {modality}")
            axes.tick_params(labelbottom=True, labelleft=True)
            axes.set(xlabel="meta-steps", ylim=(0, 100))
        line[0].set_ylabel("query accuracy, %")
        line[-1].legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1, 1), **PLAIN)
    return figure


def inner_steps(measured: list[dict]) -> Figure:
    """Accuracy on validation classes against the number of inner steps, with one panel per model."""
    figure = Figure(figsize=(4.6 * len(measured) + 1, 3.8), layout="constrained")
    panels = figure.subplots(1, len(measured), squeeze=False, sharey=True)[0]
    for axes, found in zip(panels, measured, strict=True):
        steps = [point["steps"] for point in found["curve"]]
        for modality in MODALITIES:
            key = f"{modality}_accuracy"
            if key in found["curve"][0]:
                centres, widths = (100 * np.asarray([p[name] for p in found["curve"]]) for name in (key, f"{key}_ci95"))
                style = {"color": COLOUR_OF[modality], "marker": MARKER_OF[modality], "markersize": 5, "capsize": 2}
                axes.errorbar(steps, centres, widths, label=modality, **style)
        axes.axvline(found["trained_steps"], color="black", linestyle="--", linewidth=1, label="steps in training")
        axes.axhline(100 / found["n_way"], color="grey", linestyle=":", label="chance")
        axes.set(xlabel="steps of the inner loop", title=found["name"], ylim=(0, 100))
        axes.tick_params(labelleft=True)
    panels[0].set_ylabel("validation accuracy, %, with 95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def task_codes(found: dict) -> Figure:
    """The task encoder's output in two dimensions: PCA above, t-SNE below; by modality left, by class set right."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    shares = [f"{100 * share:.0f} % of the variance" for share in found["explained_variance"]]
    labels = {
        "pca": [f"principal component {number}, {share}" for number, share in enumerate(shares, 1)],
        "tsne": ["t-SNE dimension 1, no unit", "t-SNE dimension 2, no unit"],
    }
    for line, plane in zip(panels, ("pca", "tsne"), strict=True):
        for axes, by_set in zip(line, (False, True), strict=True):
            for group in found["groups"]:
                _scatter(axes, group, plane, by_set)
            axes.set(xlabel=labels[plane][0], ylabel=labels[plane][1])
            axes.set_title(f"{'PCA' if plane == 'pca' else 't-SNE'}, by {'class set' if by_set else 'modality'}")
    for axes in panels[0]:
        handles, names = axes.get_legend_handles_labels()
        unique = dict(zip(names, handles, strict=True))
        side = "left" if axes is panels[0, 0] else "right"
        figure.legend(unique.values(), unique.keys(), loc=f"outside lower {side}", ncols=3, **PLAIN)
    return figure


def _scatter(axes: Axes, group: dict, plane: str, by_set: bool) -> None:
    modality, number = group["modality"], group["set"]
    colour = SET_COLOURS[number % len(SET_COLOURS)] if by_set else COLOUR_OF[modality]
    label = f"{modality}, class set {number + 1}" if by_set else modality
    points = np.asarray(group[plane])
    axes.scatter(*points.T, s=22, alpha=0.75, color=colour, marker=MARKER_OF[modality], linewidths=0, label=label)
