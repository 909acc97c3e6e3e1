"""
How many operations a meta-step gives an accelerator, ours and the plain loop: what it waits for where it is faster than
they come.

    python -m benchmarks.launches [--meta_batch 6 32 128] [--write docs/benchmarks.md]

Counted on PyTorch's meta device, which needs no accelerator: the code of one runs on shapes alone there, all tasks of a
modality at once, and no value can be given to the host. Views and empty tensors launch nothing and do not
count; one operation can be several kernels.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .meta_step import Contender, Setting
from .pages import replace_between

BEGIN, END = "<!-- launches: begin -->", "<!-- launches: end -->"
WITHOUT_KERNEL = {
    torch.ops.aten.empty,
    torch.ops.aten.empty_like,
    torch.ops.aten.empty_strided,
    torch.ops.aten.new_empty,
    torch.ops.aten.new_empty_strided,
    torch.ops.aten._unsafe_view,
}


class _Launches(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aliases = [result.alias_info for result in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in aliases)
        self.number += not view and func._overloadpacket not in WITHOUT_KERNEL
        return func(*args, **(kwargs or {}))


def count_launches(function: Callable[[], object]) -> int:
    """Operations with a kernel that `function()` runs."""
    with _Launches() as launches:
        function()
    return launches.number


def measure(modalities: list[str], k_shot: int, meta_batches: list[int]) -> str:
    """The table, as Markdown."""
    lines = [
        f"{', '.join(modalities)}; 5-way {k_shot}-shot, 15 queries a class, 5 inner steps, second order:",
        "",
        "| tasks | plain | ours | plain : ours |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for tasks in meta_batches:
        setting = Setting(modalities, 5, k_shot, tasks, 5, "meta", "float32")
        plain, ours = (count_launches(Contender(name, setting, torch.float32).step) for name in ("plain", "ours"))
        lines.append(f"| {tasks} | {plain:,} | {ours:,} | {plain / ours:.1f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--modalities", nargs="+", default=["audio", "text", "image"])
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--meta_batch", nargs="+", type=int, default=[6, 32, 128])
    parser.add_argument("--write", type=Path, help="put the table into its place on this page")
    arguments = parser.parse_args(argv)
    table = measure(arguments.modalities, arguments.k_shot, arguments.meta_batch)
    print(table)
    if arguments.write is not None:
        replace_between(arguments.write, BEGIN, END, table)


if __name__ == "__main__":
    main()
