"""
How far the outer gradient in float32 is from the one in float64, relative to its norm, ours and the plain loop's.

    python -m benchmarks.gradient_error [--k_shot 5] [--write docs/benchmarks.md]

One task of each modality, several draws of its samples, one thread.
"""

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from .meta_step import RAW, Contender, Setting, difference
from .pages import replace_between

BEGIN, END = "<!-- gradient error: begin -->", "<!-- gradient error: end -->"
NAMES = {"ours": "ours", "plain": "plain loop"}


def gradient(name: str, setting: Setting, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    contender = Contender(name, setting, dtype)
    contender.episodes = setting.episodes(seed)
    return contender.gradient()


def errors(setting: Setting, seeds: int) -> dict[str, list[float]]:
    """Of each draw, by name."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for seed in range(seeds):
        exact = gradient("ours", setting, seed, torch.float64)
        for name, values in found.items():
            values.append(difference(gradient(name, setting, seed, torch.float32), exact))
    return found


def table(modalities: list[str], k_shot: int, num_inner_steps: int, seeds: int) -> str:
    lines = [
        f"5-way {k_shot}-shot, {num_inner_steps} inner steps, {seeds} draws of the samples: least, median and greatest "
        "relative error.",
        "",
        f"| modality | {' | '.join(NAMES.values())} |",
        f"| --- |{' --- |' * len(NAMES)}",
    ]
    for modality in modalities:
        setting = Setting([modality], 5, k_shot, 1, num_inner_steps, "cpu", "float32")
        cells = [
            ", ".join(f"{value:.1e}" for value in (min(found), statistics.median(found), max(found)))
            for found in errors(setting, seeds).values()
        ]
        lines.append(f"| {modality} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modalities", nargs="+", default=list(RAW), choices=list(RAW))
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--num_inner_steps", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--write", type=Path, help="replace the table on this page")
    options = vars(parser.parse_args(argv))
    page = options.pop("write")
    torch.set_num_threads(1)
    found = table(**options)
    print(found)
    if page is not None:
        replace_between(page, BEGIN, END, found)


if __name__ == "__main__":
    main()
