"""Learning curves of a run."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

# Okabe and Ito's colours, which remain distinct for colour-blind readers.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_AXES = (("accuracy", "query accuracy"), ("loss", "query cross-entropy, nats"))


def plot_learning_curves(log_history: list[dict[str, float]], folder: Path) -> list[Path]:
    """
    Draws accuracy and loss against meta-steps, training and validation, one file each.

    Args:
        log_history: `trainer.state.log_history`.
        folder: where `accuracy.png` and `loss.png` go; it is made.

    Returns:
        The files written: none if nothing was logged in training.
    """
    written = []
    for quantity, label in _AXES:
        curves = _curves(log_history, quantity)
        if not curves:
            continue
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        names = sorted({name.removeprefix("eval_") for name in curves})
        for name, (steps, values) in sorted(curves.items()):
            colour = COLOURS[names.index(name.removeprefix("eval_")) % len(COLOURS)]
            validation = name.startswith("eval_")
            style: dict[str, Any] = (
                {"linestyle": "--", "marker": "o", "markersize": 4} if validation else {"linewidth": 1}
            )
            kind = "validation" if validation else "training"
            modality = name.removeprefix("eval_").removesuffix(quantity).rstrip("_") or "all modalities"
            axes.plot(steps, values, color=colour, label=f"{modality}, {kind}", **style)
        axes.set(xlabel="meta-steps", ylabel=label)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", frameon=False, fontsize="small")
        folder.mkdir(parents=True, exist_ok=True)
        written.append(folder / f"{quantity}.png")
        figure.savefig(written[-1], dpi=120)
    return written


def _curves(log_history: list[dict[str, float]], quantity: str) -> dict[str, tuple[list[float], list[float]]]:
    """Name -> (steps, values) of each curve of a quantity that was logged during training."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    trained = any("loss" in entry for entry in log_history)
    for entry in log_history if trained else ():
        for name, value in entry.items():
            if (name == quantity or name.endswith(f"_{quantity}")) and not name.startswith(("train_", "test_")):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(value)
    return curves
