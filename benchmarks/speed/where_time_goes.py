"""
Where the time of a meta-step goes, and the least that it could take, on one thread.

    python -m benchmarks.speed.where_time_goes [--k_shot 5] [--write docs/benchmarks.md]

One task of each modality: training (loss and outer gradient) and evaluation of the same episode.

By kind of operation: profiled several times; of each operation the least time counts, which on a busy machine is
nearest to what it takes alone. What remains of the profiled time is Python, autograd and the dispatch of operations,
the profiler's own share of it included. Steps without the profiler are the least CPU time, ours and the plain loop's
in alternation.

The limit: the floating-point operations of all matrix products and convolutions, counted as they are called, at the
measured rate of a large matrix product; and the bytes of passes that no arrangement avoids (`bytes_of_passes`), at the
measured rate of copying an array that lies in the processor's cache. Both one after the other are the bound: Python,
the dispatch of operations, windows, layouts, and that narrow products run below that rate, come on top.
"""

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from modeling_msmaml import MSMAMLConfig

from ..pages import command_line, publish, table
from .contenders import RAW, Contender, Setting
from .meta_step import count_flops, matmul_peak, timed

PART = "where time goes"
# Operation -> kind; what is not listed is dispatch.
KINDS = {
    "matrix products": ("bmm", "baddbmm", "baddbmm_", "mm", "addmm", "addmm_"),
    "batch norm": ("native_batch_norm", "native_batch_norm_backward"),
    "copies (windows, layouts, dtypes)": ("copy_", "cat", "stack"),
    "element by element": (
        "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "addcmul", "addcmul_", "relu_",
        "threshold_backward", "clamp", "abs", "gt", "masked_fill_", "fill_", "zero_", "neg", "square", "rsqrt",
    ),
    "sums and means": ("sum", "mean"),
}  # fmt: skip
KIND_OF = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
KIND_OF["mkldnn::_linear_pointwise"] = "matrix products"
REST = "Python, autograd, dispatch"
# Of the array whose copying is timed: about what a layer makes of all queries of a task.
COPIED_BYTES = 2**20
# Passes over the output of a layer, in arrays of its size that are read or written beside the matrix products. Batch
# norm needs sums over all samples before it can go on, so that what comes after them reads again.
PASSES = {
    "forward": 2,  # y -> outputs; the sums as the product makes y
    "gradient": 5,  # (g, y) -> sums; (g, y) -> gradient with respect to y
    "second": 8,  # (v, y, g) -> sums; (v, y, g) -> gradients with respect to g and y
    "joined": 6,  # the gradient, with the second derivative's part with respect to y added
}


def milliseconds_of_kinds(step: Callable[[], object], repeats: int) -> dict[str, float]:
    """Least milliseconds of each operation over the repeats, summed by kind."""
    least: dict[str, float] = {}
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
        found = {event.key: event.self_cpu_time_total / 1e3 for event in profiler.key_averages()}
        least |= {name: min(spent, least.get(name, spent)) for name, spent in found.items()}
    kinds = dict.fromkeys((*KINDS, REST), 0.0)
    for name, spent in least.items():
        kinds[KIND_OF.get(name, REST)] += spent
    return kinds


def least_milliseconds(steps: list[Callable[[], object]], repeats: int) -> list[float]:
    """CPU time of each, in alternation, without the profiler."""
    found: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats):
        for step, times in zip(steps, found, strict=True):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
    return [1e3 * min(times) for times in found]


def copy_rate(repeats: int = 200) -> float:
    """Best measured rate of copying an array of `COPIED_BYTES`, in bytes/s, read and written."""
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    best = min(timed(lambda: target.copy_(source), "cpu") for _ in range(repeats))
    return 2 * COPIED_BYTES / best


def layer_outputs(config: MSMAMLConfig, length: int) -> tuple[int, int]:
    """Numbers that the layers of the task network and of the task encoder make of one sample, for its sequence's."""
    network = encoder = 0
    own, padding = length, config.task_encoder_kernel_size // 2
    for layer, channels in enumerate(config.layer_channels):
        kernel, stride, pad = (config.per_layer(name)[layer] for name in ("kernel_size", "stride", "padding"))
        length = (length + 2 * pad - kernel) // stride + 1
        own = own + 2 * padding - config.task_encoder_kernel_size + 1
        network, encoder = network + channels * length, encoder + channels * own
    return network, encoder


def bytes_of_passes(contender: Contender, evaluation: bool) -> int:
    """
    Bytes that one step of one task reads and writes beside its matrix products, whatever it is written in: raw inputs
    into floats, `PASSES` over the outputs of layers, and parameters and gradients into new parameters (training: as
    much again for the way back).
    """
    ((modality, batch),) = contender.episodes.items()
    model = contender.model
    config, size = model.config, model.dtype.itemsize
    maps = {part: model.frontends[modality](batch[part], model.dtype) for part in ("support", "query")}
    support, query = (maps[part].shape[1] for part in ("support", "query"))
    with torch.no_grad():
        length = model.task_network.embed(maps["support"][:, :1], modality).shape[-1]
    network, encoder = layer_outputs(config, length)
    inner, outer = PASSES["forward"] + PASSES["gradient"], PASSES["forward"]
    if not evaluation:
        inner, outer = inner + PASSES["second"] + PASSES["joined"], outer + PASSES["gradient"]
    numbers = network * (config.num_inner_steps * support * inner + query * outer) + encoder * support * outer
    adapted = sum(value.numel() for value in model.task_network.task_parameters(modality, 1).values())
    numbers += 3 * adapted * config.num_inner_steps * (1 if evaluation else 2)
    inputs = sum(batch[part].nbytes + maps[part].nbytes for part in maps)
    return inputs + size * numbers


@dataclass
class Found:
    """Of training or evaluation of one task, or summed over several: milliseconds, operations and bytes."""

    kinds: dict[str, float]
    ours: float
    plain: float
    flops: int
    plain_flops: int
    passes: int

    def __add__(self, other: "Found") -> "Found":
        kinds = {name: spent + other.kinds[name] for name, spent in self.kinds.items()}
        return Found(kinds, *(one + more for one, more in zip(astuple(self)[1:], astuple(other)[1:], strict=True)))

    @property
    def products(self) -> float:
        """Milliseconds of the matrix products."""
        return self.kinds["matrix products"]

    def bound(self, peak: float, rate: float) -> float:
        """Milliseconds at the rates of a large product and of copying."""
        return 1e3 * (self.flops / peak + self.passes / rate)

    def within_reach(self, rate: float) -> float:
        """The same with the matrix products as fast as they are."""
        return self.products + 1e3 * self.passes / rate


def find(modality: str, k_shot: int, repeats: int) -> tuple[Found, Found]:
    """Of training and of evaluation."""
    setting = Setting([modality], 5, k_shot, 1, 5, "cpu", "float32")
    contenders = [Contender(name, setting, torch.float32) for name in ("ours", "plain")]
    found = []
    for evaluation in (False, True):
        ours, plain = steps = [one.evaluate if evaluation else one.step for one in contenders]
        flops = [count_flops(step) for step in steps]
        times = least_milliseconds([ours, plain], repeats)
        kinds = milliseconds_of_kinds(ours, repeats)
        found.append(Found(kinds, *times, *flops, bytes_of_passes(contenders[0], evaluation)))
    return found[0], found[1]


# Column -> cell of (training or evaluation, peak, rate).
LIMITS: dict[str, Callable[[Found, float, float], str]] = {
    "Gflop": lambda one, peak, rate: f"{one.flops / 1e9:.3f}",
    "at the peak, ms": lambda one, peak, rate: f"{1e3 * one.flops / peak:.1f}",
    "rate of our products, Gflop/s": lambda one, peak, rate: f"{one.flops / max(one.products, 1e-9) / 1e6:.0f}",
    "passes, MB": lambda one, peak, rate: f"{one.passes / 1e6:.1f}",
    "at the rate of copies, ms": lambda one, peak, rate: f"{1e3 * one.passes / rate:.1f}",
    "bound, ms": lambda one, peak, rate: f"{one.bound(peak, rate):.1f}",
    "ours, ms": lambda one, peak, rate: f"{one.ours:.1f}",
    "plain loop, Gflop": lambda one, peak, rate: f"{one.plain_flops / 1e9:.3f}",
    "plain loop, ms": lambda one, peak, rate: f"{one.plain:.1f}",
}
# Column -> ratio of (training, evaluation, peak, rate).
RATIOS: dict[str, Callable[[Found, Found, float, float], float]] = {
    "training : evaluation, flops": lambda one, other, peak, rate: one.flops / other.flops,
    "bounds": lambda one, other, peak, rate: one.bound(peak, rate) / other.bound(peak, rate),
    "measured": lambda one, other, peak, rate: one.ours / other.ours,
    "plain loop, flops": lambda one, other, peak, rate: one.plain_flops / other.plain_flops,
    "plain loop, measured": lambda one, other, peak, rate: one.plain / other.plain,
    "plain loop : ours, measured": lambda one, other, peak, rate: one.plain / one.ours,
    "our products and passes alone": lambda one, other, peak, rate: one.plain / one.within_reach(rate),
    "at the bound": lambda one, other, peak, rate: one.plain / one.bound(peak, rate),
}


def report(found: dict[str, tuple[Found, Found]], peak: float, rate: float) -> list[str]:
    """The three tables, as Markdown, for modality -> training and evaluation."""
    if len(found) > 1:
        trainings, evaluations = zip(*found.values(), strict=True)
        total = (sum(trainings[1:], trainings[0]), sum(evaluations[1:], evaluations[0]))
        found = found | {"one of each": total}
    runs = [
        (name, run, one)
        for name, pair in found.items()
        for run, one in zip(("training", "evaluation"), pair, strict=True)
    ]
    kinds = [[name, run, *(f"{spent:.1f}" for spent in (*one.kinds.values(), one.ours))] for name, run, one in runs]
    limits = [[name, run, *(cell(one, peak, rate) for cell in LIMITS.values())] for name, run, one in runs]
    ratios = [[name, *(f"{ratio(*pair, peak, rate):.2f}" for ratio in RATIOS.values())] for name, pair in found.items()]
    return [
        "Our step by kind of operation, milliseconds:",
        table(["modality", "run", *KINDS, REST, "step without profiler"], kinds, words=2),
        "Limits:",
        table(["modality", "run", *LIMITS], limits, words=2),
        "Training in relation to evaluation, and the plain loop's training to ours:",
        table(["modality", *RATIOS], ratios),
    ]


def measure(modalities: list[str], k_shot: int, repeats: int) -> str:
    """The tables, as Markdown."""
    peak, rate = matmul_peak(Setting(["image"], 5, 1, 1, 5, "cpu", "float32")), copy_rate()
    found = {modality: find(modality, k_shot, repeats) for modality in modalities}
    conditions = (
        f"5-way {k_shot}-shot, 15 queries per class, one task, 5 inner steps, float32, 1 thread, the least of "
        f"{repeats}; matrix product peak {peak / 1e9:.0f} Gflop/s, copies {rate / 1e9:.0f} GB/s, read and written."
    )
    return "\n\n".join([conditions, *report(found, peak, rate)])


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, k_shot=1, repeats=10)
    parser.add_argument("--modalities", nargs="+", default=list(RAW), choices=list(RAW))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    publish(PART, measure(arguments.modalities, arguments.k_shot, arguments.repeats), arguments.write)


if __name__ == "__main__":
    main()
