"""
Time and memory of one meta-step (loss and outer gradient), ours against other ways to compute the same.

    python -m benchmarks.meta_step [--k_shot 5] [--write docs/benchmarks.md]

Every contender runs in a process of its own on the same network and the same episodes. First each must reproduce, in
float64, the outer gradient of the plain loop; then single steps of all contenders alternate, so that whatever else the
machine does meets them alike. Reported are medians over rounds; the median over rounds of each ratio to the plain loop,
with its quartiles; by how much the process grew at most during a step, median and quartiles of as many steps (on
the CPU: resident memory, with what was freed before given back to the system); the share of the machine's matrix
product peak, all threads; and how far the outer gradient in the setting's dtype is from the one in float64, relative to
its norm.

Evaluation is the same model on the same episodes in evaluation mode without gradients. Inference is adaptation and 15
predictions a class for a stream of tasks, in batches, one modality after the other.
"""

import argparse
import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from modeling_msmaml import MSMAMLConfig, MSMAMLModel

from .memory import peak_of_process
from .plain import LOSSES, PlainNetwork, Task, plain_evaluation, use_learn2learn_sources

N_QUERY = 15
RAW = {"audio": (80_000,), "text": (600,), "image": (3, 32, 32)}
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
# In float64; a wrong second-order term is off by 1e-3 and more.
GRADIENT_TOLERANCE = 1e-8
# Operations that have no formula of their own, but that of another.
IN_PLACE = {torch.ops.aten.baddbmm_: torch.ops.aten.baddbmm, torch.ops.aten.addmm_: torch.ops.aten.addmm}
# Tasks in a batch of requests.
INFERENCE = (1, 8, 32)
# Between these lines of a page, `--write` keeps one table a setting.
BEGIN, END = "<!-- tables of benchmarks.meta_step -->", "<!-- end of tables -->"


@dataclass
class Setting:
    """What is run: shapes of the meta-batch, steps, device and dtype."""

    modalities: list[str]
    n_way: int
    k_shot: int
    meta_batch: int
    num_inner_steps: int
    device: str
    dtype: str

    def title(self) -> str:
        return (
            f"{', '.join(self.modalities)}; {self.n_way}-way {self.k_shot}-shot, {N_QUERY} queries a class, "
            f"{self.meta_batch} tasks, {self.num_inner_steps} inner steps, {self.dtype} on {self.device}"
        )

    def model(self, dtype: torch.dtype) -> MSMAMLModel:
        torch.manual_seed(0)
        config = MSMAMLConfig(
            modalities=self.modalities,
            n_way=self.n_way,
            num_inner_steps=self.num_inner_steps,
            inner_grad_clip=None,  # which the other libraries cannot do
        )
        return MSMAMLModel(config).to(self.device, dtype)

    def episodes(self, seed: int = 0) -> dict[str, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        return {name: self._tasks(name, number, generator) for name, number in self._tasks_of_each().items()}

    def _tasks_of_each(self) -> dict[str, int]:
        share, rest = divmod(self.meta_batch, len(self.modalities))
        numbers = {name: share + (index < rest) for index, name in enumerate(self.modalities)}
        return {name: number for name, number in numbers.items() if number}

    def _tasks(self, modality: str, tasks: int, generator: torch.Generator) -> dict[str, Tensor]:
        batch = {}
        for part, shots in (("support", self.k_shot), ("query", N_QUERY)):
            batch[part] = raw_inputs(modality, (tasks, self.n_way * shots, *RAW[modality]), generator)
            batch[f"{part}_labels"] = torch.arange(self.n_way).repeat_interleave(shots).repeat(tasks, 1)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


def raw_inputs(modality: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Raw integers of a modality, uniform."""
    low, high, dtype = {
        "audio": (-32767, 32768, torch.int16),
        "text": (1, 400, torch.int32),
        "image": (0, 256, torch.uint8),
    }[modality]
    return torch.randint(low, high, shape, generator=generator).to(dtype)


class Contender:
    """One way to compute the outer gradient."""

    def __init__(self, name: str, setting: Setting, dtype: torch.dtype):
        self.name = name
        self.model = setting.model(dtype)
        self.episodes = setting.episodes()

    def step(self) -> None:
        """Leaves the outer gradient in the model's parameters."""
        self.model.zero_grad()
        self.loss().backward()

    def loss(self) -> Tensor:
        if self.name == "ours":
            return self.model(self.episodes).loss
        return torch.stack(self._losses(LOSSES[self.name])).mean()

    def _losses(self, loss: Callable[[PlainNetwork, Task], Tensor]) -> list[Tensor]:
        losses = []
        for modality, batch in self.episodes.items():
            network = PlainNetwork(self.model, modality)
            for index in range(len(batch["support"])):
                losses.append(loss(network, Task(self.model, modality, batch, index)))
        return losses

    @torch.no_grad()
    def evaluate(self) -> None:
        """One evaluation of the same episodes, ours or the plain loop's."""
        if self.name != "ours":
            self._losses(plain_evaluation)
            return
        self.model.eval()
        self.model(self.episodes)
        self.model.train()

    def infer(self, modality: str, tasks: int) -> None:
        """Adapts to `tasks` support sets and predicts their queries, ours only."""
        batch = {name: tensor.repeat(tasks, *[1] * (tensor.dim() - 1)) for name, tensor in self._one(modality).items()}
        del batch["query_labels"]
        self.model.eval()
        with torch.inference_mode():
            self.model({modality: batch}).logits[modality].argmax(dim=-1)
        self.model.train()

    def _one(self, modality: str) -> dict[str, Tensor]:
        return {name: tensor[:1] for name, tensor in self.episodes[modality].items()}

    def gradient(self) -> dict[str, Tensor]:
        self.step()
        return {name: p.grad.double().cpu() for name, p in self.model.named_parameters() if p.grad is not None}


def serve(name: str, setting: Setting, learn2learn: Path | None, dtype: torch.dtype, connection) -> None:
    """
    A contender's process: answers `gradient` (in float64), `rounded` (the same in `dtype`), `step`, `evaluate` and
    `("infer", modality, tasks)` (seconds) and `memory` (bytes) until told to stop.
    """
    if learn2learn is not None:
        use_learn2learn_sources(learn2learn)
    contender = None
    while (order := connection.recv()) != "stop":
        try:
            if order == "gradient":
                connection.send(Contender(name, setting, torch.float64).gradient())
                continue
            contender = contender or Contender(name, setting, dtype)
            if order == "rounded":
                connection.send(contender.gradient())
            elif order == "memory":
                connection.send(peak_memory(contender.step, setting.device))
            elif order == "step":
                connection.send(timed(contender.step, setting.device))
            elif order == "evaluate":
                connection.send(timed(contender.evaluate, setting.device))
            else:
                connection.send(timed(partial(contender.infer, *order[1:]), setting.device))
        except ImportError as error:
            connection.send(error)


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
    """The other end of `serve`."""

    def __init__(self, name: str, setting: Setting, learn2learn: Path | None = None, dtype: str | None = None):
        self.name = name if dtype is None else f"{name}, {dtype}"
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(
            target=serve, args=(name, setting, learn2learn, DTYPES[dtype or setting.dtype], other), daemon=True
        )
        self.process.start()
        self.seconds: list[float] = []

    def ask(self, order: str | tuple[str, str, int]):
        self.connection.send(order)
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def step(self) -> None:
        self.seconds.append(self.ask("step"))

    def stop(self) -> None:
        self.connection.send("stop")
        self.process.join()


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
            process.stop()
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
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        matrix @ matrix
        if setting.device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


class _FlopCounter(TorchDispatchMode):
    """`torch.utils.flop_counter`'s formulas; its own counter cannot follow `torch.autograd.grad` of leaves."""

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
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


def measure(setting: Setting, names: list[str], rounds: int, learn2learn: Path | None) -> str:
    """The table of one setting, as Markdown."""
    processes = [Process(name, setting, learn2learn) for name in names]
    expected = processes[0].ask("gradient")
    processes, left_out = check_gradients(processes, expected)
    if setting.device == "cpu" and setting.dtype == "float32":
        processes.append(Process("plain", setting, dtype="float64"))
    for _ in range(rounds + 1):
        for process in processes:
            process.step()
    flops = count_flops(Contender("plain", setting, DTYPES[setting.dtype]).step)
    peak = matmul_peak(setting)
    plain = processes[0].seconds[1:]
    lines = [
        f"### {setting.title()}",
        "",
        f"{rounds} rounds, {torch.get_num_threads()} threads; {flops / 1e9:.1f} Gflop a step in matrix products and "
        f"convolutions; matrix product peak {peak / 1e9:.0f} Gflop/s.",
        "",
        "| contender | seconds | speed of plain loop (quartiles) | memory, MiB (quartiles) | share of peak | "
        "gradient error |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for process in processes:
        seconds = process.seconds[1:]
        low, middle, high = statistics.quantiles([a / b for a, b in zip(plain, seconds, strict=True)], n=4)
        memory = statistics.quantiles([process.ask("memory") / 2**20 for _ in range(rounds)], n=4)
        lines.append(
            f"| {process.name} | {statistics.median(seconds):.3f} | {middle:.2f} ({low:.2f} to {high:.2f}) | "
            f"{memory[1]:.0f} ({memory[0]:.0f} to {memory[2]:.0f}) | {flops / statistics.median(seconds) / peak:.2f} | "
            f"{difference(process.ask('rounded'), expected):.0e} |"
        )
    lines += ["", *left_out, *alone(setting, next(process for process in processes if process.name == "ours"), rounds)]
    for process in processes:
        process.stop()
    return "\n".join(lines)


def alone(setting: Setting, ours: Process, rounds: int) -> list[str]:
    """Our evaluation, beside training steps in alternation, and inference."""
    pairs = [(ours.ask("step"), ours.ask("evaluate")) for _ in range(rounds + 1)][1:]
    low, middle, high = statistics.quantiles([step / evaluation for step, evaluation in pairs], n=4)
    seconds = statistics.median(evaluation for _, evaluation in pairs)
    lines = [
        f"Evaluation of the same episodes: {seconds:.3f} s, {middle:.2f} ({low:.2f} to {high:.2f}) times cheaper than "
        "their training step.",
        "",
        f"| adapt and predict, tasks a second | {' | '.join(f'batches of {tasks}' for tasks in INFERENCE)} |",
        f"| --- |{' ---: |' * len(INFERENCE)}",
    ]
    for modality in setting.modalities:
        rates = []
        for tasks in INFERENCE:
            ours.ask(("infer", modality, tasks))
            rates.append(tasks / statistics.median(ours.ask(("infer", modality, tasks)) for _ in range(3)))
        lines.append(f"| {modality} | {' | '.join(f'{rate:.0f}' for rate in rates)} |")
    return lines


def write(table: str, page: Path) -> None:
    """Puts a table into its place on a page: where the one of the same setting is, else behind the last."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no place for tables: it needs the lines {BEGIN} and {END}")
    head, rest = text.split(BEGIN)
    tables, tail = rest.split(END)
    parts = [part.strip() for part in re.split(r"^(?=### )", tables, flags=re.MULTILINE) if part.strip()]
    title = table.splitlines()[0]
    titles = [part.splitlines()[0] for part in parts]
    if title in titles:
        parts[titles.index(title)] = table
    else:
        parts.append(table)
    page.write_text("\n\n".join([head + BEGIN, *parts, END + tail]))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modalities", nargs="+", default=["audio", "text", "image"], choices=list(RAW))
    parser.add_argument("--n_way", type=int, default=5)
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--meta_batch", type=int, default=6, help="tasks in a step, over all modalities")
    parser.add_argument("--num_inner_steps", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--contenders", nargs="+", default=["ours", "higher", "torchopt"], choices=["ours", *LOSSES])
    parser.add_argument("--learn2learn", type=Path, help="folder learn2learn/ of an unpacked source distribution")
    parser.add_argument("--write", type=Path, help="replace the table of the same setting on this page, or add it")
    options = vars(parser.parse_args(argv))
    rounds, names, learn2learn, page = (options.pop(name) for name in ("rounds", "contenders", "learn2learn", "write"))
    names = ["plain", *(name for name in names if name != "plain")]
    if learn2learn is not None and "learn2learn" not in names:
        names.append("learn2learn")
    table = measure(Setting(**options), names, rounds, learn2learn)
    print(table)
    if page is not None:
        write(table, page)


if __name__ == "__main__":
    main()
