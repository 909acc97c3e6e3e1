"""
Where the time of a meta-step goes, by kind of operation, on one thread.

    python -m benchmarks.where_time_goes [--k_shot 5] [--evaluation] [--write docs/benchmarks.md]

One task of each modality, profiled several times; of each operation the least time counts, which on a busy machine is
nearest to what it takes alone. What remains of the profiled time is Python, autograd and the dispatch of operations,
the profiler's own share of it included. Then the step without the profiler (CPU time, the least), the floating-point
operations of the plain loop, and the time they would take at the measured rate of a large matrix product.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from .meta_step import Contender, Setting, count_flops, matmul_peak
from .pages import replace_between

BEGIN, END = "<!-- where time goes: begin -->", "<!-- where time goes: end -->"
# Operation -> kind; what is not listed is dispatch.
KINDS = {
    "matrix products": ("bmm", "baddbmm", "baddbmm_", "mm", "addmm", "addmm_"),
    "batch norm": ("native_batch_norm", "native_batch_norm_backward"),
    "copies (windows, layouts, dtypes)": ("copy_", "cat", "stack"),
    "element by element": (
        "add", "add_", "sub", "mul", "mul_", "div", "div_", "addcmul", "addcmul_", "relu_", "threshold_backward",
        "clamp", "abs", "gt", "masked_fill_", "fill_", "zero_", "neg", "square",
    ),
    "sums and means": ("sum", "mean"),
}  # fmt: skip
KIND_OF = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
REST = "Python, autograd, dispatch"


def milliseconds_of_kinds(step, repeats: int) -> dict[str, float]:
    """Least milliseconds of each operation over the repeats, summed by kind."""
    least: dict[str, float] = {}
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
        for event in profiler.key_averages():
            spent = event.self_cpu_time_total / 1e3
            least[event.key] = min(least.get(event.key, spent), spent)
    kinds: dict[str, float] = defaultdict(float)
    for name, spent in least.items():
        kinds[KIND_OF.get(name, REST)] += spent
    return kinds


def least_milliseconds(step, repeats: int) -> float:
    """CPU time without the profiler."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        step()
        found.append(time.process_time() - start)
    return 1e3 * min(found)


def measure(modalities: list[str], k_shot: int, evaluation: bool, repeats: int) -> str:
    """The table, as Markdown."""
    kinds = [*KINDS, REST]
    peak = matmul_peak(Setting(["image"], 5, 1, 1, 5, "cpu", "float32"))
    lines = [
        f"{'Evaluation' if evaluation else 'Training'}, 5-way {k_shot}-shot, one task, 5 inner steps, float32, "
        f"1 thread; milliseconds; matrix product peak {peak / 1e9:.0f} Gflop/s:",
        "",
        f"| modality | {' | '.join(kinds)} | step without profiler | Gflop of a training step | at the peak |",
        "| --- |" + " ---: |" * (len(kinds) + 3),
    ]
    for modality in modalities:
        setting = Setting([modality], 5, k_shot, 1, 5, "cpu", "float32")
        contender = Contender("ours", setting, torch.float32)
        step = contender.evaluate if evaluation else contender.step
        step()
        found = milliseconds_of_kinds(step, repeats)
        flops = count_flops(setting)
        cells = [f"{found[kind]:.1f}" for kind in kinds]
        cells += [f"{least_milliseconds(step, repeats):.1f}", f"{flops / 1e9:.2f}", f"{1e3 * flops / peak:.1f}"]
        lines.append(f"| {modality} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modalities", nargs="+", default=["audio", "text", "image"])
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--evaluation", action="store_true")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--write", type=Path, help="put the table into its place on this page")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    table = measure(arguments.modalities, arguments.k_shot, arguments.evaluation, arguments.repeats)
    print(table)
    if arguments.write is not None:
        replace_between(arguments.write, BEGIN, END, table)


if __name__ == "__main__":
    main()
