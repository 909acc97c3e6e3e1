"""
Time and memory of one meta-step (loss and outer gradient), ours against other ways to compute the same.

    python -m benchmarks.meta_step [--k_shot 5] [--write docs/benchmarks.md]

Every contender runs in a process of its own on the same network and the same episodes. First each must reproduce, in
float64, the outer gradient of the plain loop; then single steps of all contenders alternate, so that whatever else the
machine does meets them alike. Reported are medians over rounds, and the median over rounds of each ratio to the plain
loop with its quartiles.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from modeling_msmaml import MSMAMLConfig, MSMAMLModel

from .plain import LOSSES, PlainNetwork, Task, use_learn2learn_sources

N_QUERY = 15
RAW = {"audio": (80_000,), "text": (600,), "image": (3, 32, 32)}
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
# In float64; a wrong second-order term is off by 1e-3 and more.
GRADIENT_TOLERANCE = 1e-8


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

    def model(self, dtype: torch.dtype) -> MSMAMLModel:
        torch.manual_seed(0)
        config = MSMAMLConfig(
            modalities=self.modalities,
            n_way=self.n_way,
            num_inner_steps=self.num_inner_steps,
            inner_grad_clip=None,  # which the other libraries cannot do
        )
        return MSMAMLModel(config).to(self.device, dtype)

    def episodes(self) -> dict[str, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(0)
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
        losses = []
        for modality, batch in self.episodes.items():
            network = PlainNetwork(self.model, modality)
            for index in range(len(batch["support"])):
                losses.append(LOSSES[self.name](network, Task(self.model, modality, batch, index)))
        return torch.stack(losses).mean()

    def gradient(self) -> dict[str, Tensor]:
        self.step()
        return {name: p.grad.double().cpu() for name, p in self.model.named_parameters() if p.grad is not None}


def serve(name: str, setting: Setting, learn2learn: Path | None, connection) -> None:
    """A contender's process: answers `gradient` (float64), `step` (seconds) and `memory` (bytes) until told to stop."""
    if learn2learn is not None:
        use_learn2learn_sources(learn2learn)
    contender = None
    while (order := connection.recv()) != "stop":
        try:
            if order == "gradient":
                connection.send(Contender(name, setting, torch.float64).gradient())
            elif order == "memory":
                connection.send(peak_memory(setting.device))
            else:
                dtype = torch.float64 if order == "step64" else DTYPES[setting.dtype]
                contender = contender or Contender(name, setting, dtype)
                connection.send(timed(contender, setting.device))
        except ImportError as error:
            connection.send(error)


def timed(contender: Contender, device: str) -> float:
    start = time.perf_counter()
    contender.step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(device: str) -> int:
    """Peak of this process (CPU, with the libraries) or of its allocations (GPU), in bytes."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Process:
    """The other end of `serve`."""

    def __init__(self, name: str, setting: Setting, learn2learn: Path | None = None, step: str = "step"):
        self.name = name if step == "step" else f"{name}, float64"
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(name, setting, learn2learn, other), daemon=True)
        self.process.start()
        self.order = step
        self.seconds: list[float] = []

    def ask(self, order: str):
        self.connection.send(order)
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def step(self) -> None:
        self.seconds.append(self.ask(self.order))

    def stop(self) -> None:
        self.connection.send("stop")
        self.process.join()


def check_gradients(processes: list[Process]) -> list[Process]:
    """
    The contenders that can run; those whose library is absent are reported and left out.

    Raises:
        `RuntimeError`: an outer gradient differs from the plain loop's.
    """
    able, expected = [], processes[0].ask("gradient")
    scale = max(gradient.norm() for gradient in expected.values())
    for process in processes:
        try:
            gradient = process.ask("gradient")
        except ImportError as error:
            print(f"{process.name} is left out: {error}", file=sys.stderr)
            continue
        for name, value in expected.items():
            if (gradient[name] - value).norm() > GRADIENT_TOLERANCE * scale:
                raise RuntimeError(f"{process.name} computes another outer gradient of {name} than the plain loop")
        able.append(process)
    return able


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


def count_flops(setting: Setting) -> int:
    """Floating-point operations of the plain loop's matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    contender = Contender("plain", setting, DTYPES[setting.dtype])
    with FlopCounterMode(display=False) as counter:
        contender.step()
    return counter.get_total_flops()


def measure(setting: Setting, names: list[str], rounds: int, learn2learn: Path | None) -> str:
    """The table of one setting, as Markdown."""
    processes = check_gradients([Process(name, setting, learn2learn) for name in names])
    if setting.device == "cpu" and setting.dtype == "float32":
        processes.append(Process("plain", setting, step="step64"))
    for _ in range(rounds + 1):
        for process in processes:
            process.step()
    flops, peak = count_flops(setting), matmul_peak(setting)
    plain = processes[0].seconds[1:]
    lines = [
        f"{', '.join(setting.modalities)}; {setting.n_way}-way {setting.k_shot}-shot, {N_QUERY} queries a class, "
        f"{setting.meta_batch} tasks, {setting.num_inner_steps} inner steps, {setting.dtype} on {setting.device}, "
        f"{rounds} rounds; {flops / 1e9:.1f} Gflop a step, matrix product peak {peak / 1e9:.0f} Gflop/s",
        "",
        "| contender | seconds | speed of plain loop (quartiles) | peak memory, MiB | share of peak |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for process in processes:
        seconds = process.seconds[1:]
        low, middle, high = statistics.quantiles([a / b for a, b in zip(plain, seconds, strict=True)], n=4)
        lines.append(
            f"| {process.name} | {statistics.median(seconds):.3f} | {middle:.2f} ({low:.2f} to {high:.2f}) | "
            f"{process.ask('memory') / 2**20:.0f} | {flops / statistics.median(seconds) / peak:.2f} |"
        )
        process.stop()
    return "\n".join(lines)


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
    parser.add_argument("--write", type=Path, help="append the table to this file")
    options = vars(parser.parse_args(argv))
    rounds, names, learn2learn, write = (options.pop(name) for name in ("rounds", "contenders", "learn2learn", "write"))
    names = ["plain", *(name for name in names if name != "plain")]
    if learn2learn is not None and "learn2learn" not in names:
        names.append("learn2learn")
    table = measure(Setting(**options), names, rounds, learn2learn)
    print(table)
    if write is not None:
        with write.open("a") as file:
            file.write(f"\n{table}\n")


if __name__ == "__main__":
    main()
