"""Two ways to measure the peak memory of a computation on the CPU."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


def peak_of_tensors(function: Callable[[], object]) -> int:
    """
    Bytes that tensors made during `function()` held at most at once, by the events of PyTorch's allocator: exact, but
    of this thread only. What was there before does not count.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    if not events:
        raise RuntimeError(f"the profiler of torch {torch.__version__} reports no allocations")
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def peak_of_process(function: Callable[[], object]) -> int:
    """
    Bytes by which the resident memory of this process grew at most during `function()`, in any thread, starting with
    what the C library had kept of freed memory given back. Linux only.
    """
    before = resident_memory()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    function()
    return _status("VmHWM") - before


def resident_memory() -> int:
    """Bytes of this process in memory, after what is freed has been given back. Linux only."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no field {field}")
