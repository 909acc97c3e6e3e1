"""
Peak memory and time of a meta-step with `inner_loop_checkpointing` and without, for few and for many inner steps.

    python -m benchmarks.speed.checkpointing [--k_shot 5] [--write docs/benchmarks.md]

One task of each modality, one after the other, of the reference architecture. Memory is what tensors hold at most at
once (`benchmarks/speed/memory.py`), on one thread, so that it does not depend on what else runs.
"""

import torch

from ..pages import command_line, publish, table
from .contenders import RAW, Contender, Setting
from .memory import peak_of_tensors
from .meta_step import timed

PART = "checkpointing"
STEPS = (5, 50)


def peak_and_seconds(setting: Setting, checkpointing: bool) -> tuple[int, float]:
    """Bytes of tensors at most, and seconds of a step."""
    contender = Contender("ours", setting, torch.float32)
    contender.model.config.inner_loop_checkpointing = checkpointing
    contender.step()
    seconds = timed(contender.step, setting.device)
    return peak_of_tensors(contender.step), seconds


def measure(modalities: list[str], k_shot: int) -> str:
    """The table, as Markdown."""
    few, many = STEPS
    rows = []
    for modality in modalities:
        found = [
            peak_and_seconds(Setting([modality], 5, k_shot, 1, steps, "cpu", "float32"), checkpointing)
            for checkpointing in (False, True)
            for steps in STEPS
        ]
        cells = [f"{peak / 2**20:.0f} ({seconds:.2f})" for peak, seconds in found]
        rows.append([modality, *cells, f"{found[3][0] / found[2][0]:.3f}"])
    head = ["modality", f"{few} steps", f"{many} steps", f"{few} steps, checkpointing", f"{many} steps, checkpointing"]
    return (
        f"5-way {k_shot}-shot, 15 queries per class, one task, second order, float32, 1 thread; MiB (seconds):\n\n"
        + table([*head, f"peak of {many} : {few} with checkpointing"], rows)
    )


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, k_shot=5)
    parser.add_argument("--modalities", nargs="+", default=list(RAW), choices=list(RAW))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # the allocator's events are those of one thread
    publish(PART, measure(arguments.modalities, arguments.k_shot), arguments.write)


if __name__ == "__main__":
    main()
