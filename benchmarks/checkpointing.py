"""
Peak memory and time of a meta-step with `inner_loop_checkpointing` and without, for few and for many inner steps.

    python -m benchmarks.checkpointing [--k_shot 5] [--write docs/benchmarks.md]

One task of each modality, one after the other, of the reference architecture. Memory is what tensors hold at most at
once (`benchmarks/memory.py`), on one thread, so that it does not depend on what else runs.
"""

import argparse
import time
from pathlib import Path

import torch

from .memory import peak_of_tensors
from .meta_step import Contender, Setting
from .pages import replace_between

BEGIN, END = "<!-- checkpointing: begin -->", "<!-- checkpointing: end -->"
STEPS = (5, 50)


def peak_and_seconds(setting: Setting, checkpointing: bool) -> tuple[int, float]:
    """Bytes of tensors at most, and seconds of a step."""
    contender = Contender("ours", setting, torch.float32)
    contender.model.config.inner_loop_checkpointing = checkpointing
    contender.step()
    start = time.perf_counter()
    contender.step()
    seconds = time.perf_counter() - start
    return peak_of_tensors(contender.step), seconds


def measure(modalities: list[str], k_shot: int) -> str:
    """The table, as Markdown."""
    few, many = STEPS
    lines = [
        f"5-way {k_shot}-shot, 15 queries a class, one task, second order, float32, 1 thread; MiB (seconds):",
        "",
        f"| modality | {few} steps | {many} steps | {few} steps, checkpointing | {many} steps, checkpointing "
        f"| peak of {many} : {few} with checkpointing |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for modality in modalities:
        found = [
            peak_and_seconds(Setting([modality], 5, k_shot, 1, steps, "cpu", "float32"), checkpointing)
            for checkpointing in (False, True)
            for steps in STEPS
        ]
        cells = " | ".join(f"{peak / 2**20:.0f} ({seconds:.2f})" for peak, seconds in found)
        lines.append(f"| {modality} | {cells} | {found[3][0] / found[2][0]:.3f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modalities", nargs="+", default=["audio", "text", "image"])
    parser.add_argument("--k_shot", type=int, default=5)
    parser.add_argument("--write", type=Path, help="put the table into its place on this page")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # the allocator's events are those of one thread
    table = measure(arguments.modalities, arguments.k_shot)
    print(table)
    if arguments.write is not None:
        replace_between(arguments.write, BEGIN, END, table)


if __name__ == "__main__":
    main()
