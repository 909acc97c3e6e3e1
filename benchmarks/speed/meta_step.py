"""
Time and memory of one meta-step (loss and outer gradient), ours against other ways to compute the same.

    python -m benchmarks.speed.meta_step [--k_shot 5] [--write docs/benchmarks.md]

Every contender runs in a process of its own on the same network and the same episodes. First each must reproduce, in
float64, the outer gradient of the plain loop; then single steps of all contenders alternate, so that whatever else the
machine does meets them alike. Reported are medians over rounds; the median over rounds of each ratio to the plain loop,
with its quartiles; by how much the process grew at most during a step, median and quartiles of as many steps (on
the CPU: resident memory, with what was freed before given back to the system); the share of the machine's matrix
product peak, all threads; and how far the outer gradient in the setting's dtype is from the one in float64, relative to
its norm.

Evaluation is the same model on the same episodes in evaluation mode without gradients. Inference is adaptation and 15
predictions per class for a stream of tasks, in batches, one modality after the other.
"""

import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..pages import command_line, parts_of, table
from .contenders import DTYPES, RAW, Contender, Setting
from .memory import peak_of_process
from .plain import LOSSES, use_learn2learn_sources
from .published import use_published_code

# In float64; a wrong second-order term is off by 1e-3 and more.
GRADIENT_TOLERANCE = 1e-8
# Operations that have no formula of their own, but that of another.
IN_PLACE = {torch.ops.aten.baddbmm_: torch.ops.aten.baddbmm, torch.ops.aten.addmm_: torch.ops.aten.addmm}
# Tasks in a batch of requests.
INFERENCE = (1, 8, 32)
PART = "meta step"  # of a page, where `--write` keeps one table for each setting
_own: dict = {}  # a contender's process keeps what it was started with, and the contender


@dataclass
class Sources:
    """Folders of code that is not installed: see the options of these names."""

    learn2learn: Path | None = None
    published: Path | None = None


def start(name: str, setting: Setting, dtype: str, sources: Sources) -> None:
    """What a contender's process does first."""
    if name == "learn2learn" and sources.learn2learn is not None:
        use_learn2learn_sources(sources.learn2learn)
    if name == "published" and sources.published is not None:
        use_published_code(sources.published)
    _own.update(name=name, setting=setting, dtype=DTYPES[dtype])


def answer(order: str, *arguments):
    """
    What a contender's process is asked for: `gradient` (in float64), `rounded` (the same in its dtype), the seconds of
    a `step`, of `evaluate` and of `infer` (modality, tasks), and the `memory` of a step in bytes.
    """
    name, setting, device = _own["name"], _own["setting"], _own["setting"].device
    if order == "gradient":
        return Contender(name, setting, torch.float64).gradient()
    contender = _own["contender"] = _own.get("contender") or Contender(name, setting, _own["dtype"])
    if order == "rounded":
        return contender.gradient()
    if order == "memory":
        return peak_memory(contender.step, device)
    return timed(partial(getattr(contender, order), *arguments), device)


def timed(function: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(function: Callable[[], object], device: str) -> int:
    """Growth of this process (CPU) or of its allocations (GPU) during `function()`, at most, in bytes."""
    if device == "cpu":
        return peak_of_process(function)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


class Process:
    """A contender in a process of its own."""

    def __init__(self, name: str, setting: Setting, sources: Sources | None = None, dtype: str | None = None):
        self.name = name if dtype is None else f"{name}, {dtype}"
        arguments = (name, setting, dtype or setting.dtype, sources or Sources())
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start, arguments)
        self.seconds: list[float] = []

    def ask(self, order: str, *arguments):
        return self.pool.submit(answer, order, *arguments).result()


def check_gradients(processes: list[Process], expected: dict[str, Tensor]) -> tuple[list[Process], list[str]]:
    """
    The contenders that can run, and why the others, whose library is absent, are left out.

    Raises:
        `RuntimeError`: an outer gradient differs from the plain loop's.
    """
    able, left_out = [], []
    scale = max(gradient.norm() for gradient in expected.values())
    for process in processes:
        try:
            gradient = process.ask("gradient")
        except ImportError as error:
            left_out.append(f"{process.name} is left out: {error}.")
            process.pool.shutdown()
            continue
        for name, value in expected.items():
            if (gradient[name] - value).norm() > GRADIENT_TOLERANCE * scale:
                raise RuntimeError(f"{process.name} computes another outer gradient of {name} than the plain loop")
        able.append(process)
    return able, left_out


def difference(gradient: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of two outer gradients, relative to the second."""
    squares = [((gradient[name] - value).square().sum(), value.square().sum()) for name, value in expected.items()]
    return math.sqrt(sum(square for square, _ in squares) / sum(square for _, square in squares))


def matmul_peak(setting: Setting, size: int = 2048, repeats: int = 5) -> float:
    """Best measured rate of a square matrix product in the setting's dtype, in flop/s."""
    matrix = torch.randn(size, size, device=setting.device, dtype=DTYPES[setting.dtype])
    best = min(timed(lambda: matrix @ matrix, setting.device) for _ in range(repeats + 1))
    return 2 * size**3 / best


class _FlopCounter(TorchDispatchMode):
    """`torch.utils.flop_counter`'s formulas; its own counter cannot follow `torch.autograd.grad` of leaves."""

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if str(func) == "mkldnn._linear_pointwise.default":  # it has no formula of its own
            self.flops += 2 * args[0].numel() * len(args[1])
        formula = flop_registry.get(IN_PLACE.get(func._overloadpacket, func._overloadpacket))
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_flops(function: Callable[[], object]) -> int:
    """
    Floating-point operations of the matrix products and convolutions that `function()` runs in this thread, counted as
    they are called: two for each product of two numbers.
    """
    with _FlopCounter() as counter:
        function()
    return counter.flops


def measure(setting: Setting, names: list[str], rounds: int, sources: Sources) -> str:
    """The table of one setting, as Markdown."""
    processes = [Process(name, setting, sources) for name in names]
    expected = processes[0].ask("gradient")
    processes, left_out = check_gradients(processes, expected)
    if setting.device == "cpu" and setting.dtype == "float32":
        processes.append(Process("plain", setting, dtype="float64"))
    for _ in range(rounds + 1):
        for process in processes:
            process.seconds.append(process.ask("step"))
    flops = count_flops(Contender("plain", setting, DTYPES[setting.dtype]).step)
    peak = matmul_peak(setting)
    plain, rows = processes[0].seconds[1:], []
    for process in processes:
        seconds = process.seconds[1:]
        middle = statistics.median(seconds)
        speeds = statistics.quantiles([a / b for a, b in zip(plain, seconds, strict=True)], n=4)
        memory = statistics.quantiles([process.ask("memory") / 2**20 for _ in range(rounds)], n=4)
        error = difference(process.ask("rounded"), expected)
        rows.append([process.name, f"{middle:.3f}", _quartiles(speeds, ".2f"), _quartiles(memory, ".0f")])
        rows[-1] += [f"{flops / middle / peak:.2f}", f"{error:.0e}"]
    head = ["contender", "seconds", "speed of plain loop (quartiles)", "memory, MiB (quartiles)", "share of peak"]
    parts = [
        f"### {setting.title()}",
        f"{rounds} rounds, {torch.get_num_threads()} threads; {flops / 1e9:.1f} Gflop a step in matrix products and "
        f"convolutions; matrix product peak {peak / 1e9:.0f} Gflop/s.",
        table([*head, "gradient error"], rows),
        *left_out,
        *alone(setting, next(process for process in processes if process.name == "ours"), rounds),
    ]
    for process in processes:
        process.pool.shutdown()
    return "\n\n".join(parts)


def _quartiles(found: list[float], form: str) -> str:
    low, middle, high = (f"{value:{form}}" for value in found)
    return f"{middle} ({low} to {high})"


def alone(setting: Setting, ours: Process, rounds: int) -> tuple[str, str]:
    """Our evaluation, beside training steps in alternation, and inference."""
    pairs = [(ours.ask("step"), ours.ask("evaluate")) for _ in range(rounds + 1)][1:]
    ratios = _quartiles(statistics.quantiles([step / evaluation for step, evaluation in pairs], n=4), ".2f")
    seconds = statistics.median(evaluation for _, evaluation in pairs)
    rows = []
    for modality in setting.modalities:
        rows.append([modality])
        for tasks in INFERENCE:
            ours.ask("infer", modality, tasks)
            spent = statistics.median(ours.ask("infer", modality, tasks) for _ in range(3))
            rows[-1].append(f"{tasks / spent:.0f}")
    return (
        f"Evaluation of the same episodes: {seconds:.3f} s, {ratios} times cheaper than their training step.",
        table(["adapt and predict, tasks per second", *(f"batches of {tasks}" for tasks in INFERENCE)], rows),
    )


def write(found: str, page: Path) -> None:
    """Puts a table into its place on a page: where the one of the same setting is, else behind the last."""
    before, content, after = parts_of(page, PART)
    parts = [part.strip() for part in re.split(r"^(?=### )", content, flags=re.MULTILINE) if part.strip()]
    by_title = {part.splitlines()[0]: part for part in [*parts, found]}
    page.write_text("\n\n".join([before, *by_title.values(), after]))


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, n_way=5, k_shot=1, num_inner_steps=5, device="cpu", rounds=9)
    parser.add_argument("--modalities", nargs="+", default=list(RAW), choices=list(RAW))
    parser.add_argument("--meta_batch", type=int, default=6, help="tasks in a step, over all modalities")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--contenders", nargs="+", default=["ours", "higher", "torchopt"], choices=["ours", *LOSSES])
    parser.add_argument("--learn2learn", type=Path, help="folder learn2learn/ of an unpacked source distribution")
    parser.add_argument("--published", type=Path, help="checkout of the repository that was published with MS-MAML")
    options = vars(parser.parse_args(argv))
    rounds, names, page = (options.pop(name) for name in ("rounds", "contenders", "write"))
    sources = Sources(options.pop("learn2learn"), options.pop("published"))
    names = ["plain", *(name for name in names if name != "plain")]
    names += [name for name, folder in vars(sources).items() if folder is not None and name not in names]
    if sources.published is not None:
        use_published_code(sources.published)  # refuses a wrong folder before anything is measured
    found = measure(Setting(**options), names, rounds, sources)
    print(found)
    if page is not None:
        write(found, page)


if __name__ == "__main__":
    main()
