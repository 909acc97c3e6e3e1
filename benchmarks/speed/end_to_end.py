"""
Training with real data beside its computation alone, and how long a step waits for data.

    python -m benchmarks.speed.end_to_end --data_dir DATA [--steps 20] [--rounds 3] [--write docs/benchmarks.md]

A round trains with the Trainer (episodes drawn from the archives' rows, collated, the optimizer's step, logging at the
end), then repeats the same steps on the same meta-batches held in memory: gradients and the optimizer's step, nothing
else. The first step of either is left out. Reported are medians over rounds.
"""

import argparse
import statistics
import tempfile
import time

import torch
from transformers import TrainerCallback, set_seed

from data_builders import EpisodeDataset, load_few_shot
from modeling_msmaml import MetaTrainer, MetaTrainingArguments, MSMAMLConfig, MSMAMLModel

from ..data import DATA_SETS, N_QUERY, batches
from ..pages import command_line, publish, table

PART = "end to end"


class Clock(TrainerCallback):
    """When each step began, its data at hand, and ended."""

    def __init__(self):
        self.began: list[float] = []
        self.ended: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.began.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.ended.append(time.perf_counter())

    def seconds_a_step(self) -> float:
        return (self.ended[-1] - self.ended[0]) / (len(self.ended) - 1)

    def waiting_a_step(self) -> float:
        """Between the end of a step and the beginning of the next, on average."""
        pairs = zip(self.began[1:], self.ended[:-1], strict=True)
        return sum(began - ended for began, ended in pairs) / (len(self.ended) - 1)


def make_trainer(episodes: EpisodeDataset, clock: Clock, folder: str, arguments: argparse.Namespace) -> MetaTrainer:
    set_seed(0)
    model = MSMAMLModel(MSMAMLConfig(vocab_size=arguments.vocab_size))
    quiet = {"output_dir": folder, "save_strategy": "no", "disable_tqdm": True, "report_to": "none"}
    device = {"use_cpu": arguments.device == "cpu", "dataloader_num_workers": arguments.workers}
    args = MetaTrainingArguments(max_steps=arguments.steps, n_query=N_QUERY, **device, **quiet)
    return MetaTrainer(model=model, args=args, train_dataset=episodes, callbacks=[clock])


def compute_alone(trainer: MetaTrainer, episodes: EpisodeDataset) -> float:
    """Seconds a step of gradients and optimizer on meta-batches that lie in memory."""
    model, size = trainer.model, trainer.args.per_device_train_batch_size
    in_memory = [
        {name: {part: tensor.to(model.device) for part, tensor in tasks.items()} for name, tasks in batch.items()}
        for batch in batches(episodes, size)
    ]
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=trainer.args.learning_rate)
    for index, batch in enumerate(in_memory):
        if index == 1:
            start = time.perf_counter()
        model(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / (len(in_memory) - 1)


def measure(arguments: argparse.Namespace) -> str:
    """The table, as Markdown."""
    splits = [load_few_shot(name, "train", data_dir=arguments.data_dir) for name in arguments.datasets]
    texts = [split for split in splits if split.modality == "text"]
    arguments.vocab_size = len(texts[0].word_vectors) if texts else 400
    whole, waiting, alone = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.rounds):
            episodes = EpisodeDataset(splits, 5, 1, N_QUERY, 6 * arguments.steps, seed)
            clock = Clock()
            trainer = make_trainer(episodes, clock, folder, arguments)
            trainer.train()
            whole.append(clock.seconds_a_step())
            waiting.append(clock.waiting_a_step())
            alone.append(compute_alone(trainer, episodes))
    ratios = [one / other for one, other in zip(whole, alone, strict=True)]
    shares = [one / other for one, other in zip(waiting, whole, strict=True)]
    middle, middle_alone, ratio, share = map(statistics.median, (whole, alone, ratios, shares))
    cells = [f"{middle:.3f}", f"{middle_alone:.3f}", f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})"]
    head = ["training, s per step", "computation alone, s per step", "ratio (least to greatest)", "waiting for data, %"]
    return (
        f"5-way 1-shot, 6 tasks per step, {arguments.rounds} rounds of {arguments.steps} steps, "
        f"{torch.get_num_threads()} threads, {arguments.workers} workers, on {arguments.device}:\n\n"
        + table(head, [[*cells, f"{100 * share:.1f}"]], words=0)
    )


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, rounds=3)
    parser.add_argument("--data_dir", help="folder with the archives")
    parser.add_argument("--datasets", nargs="+", default=list(DATA_SETS.values()))
    parser.add_argument("--steps", type=int, default=20, help="of a round; at least 2")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw episodes")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args(argv)
    if arguments.steps < 2:
        parser.error(f"--steps {arguments.steps}: at least 2 are needed, since the first is left out")
    publish(PART, measure(arguments), arguments.write)


if __name__ == "__main__":
    main()
