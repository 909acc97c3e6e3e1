"""
What bfloat16 on the CPU costs in accuracy: a trained model tested in float32 and under autocast, on the same episodes.

    python -m benchmarks.bfloat16 --model pretrained/msmaml-base --data_dir DATA [--write docs/benchmarks.md]

Adaptation runs in bfloat16 too. The difference is taken episode by episode, so that its interval (95%, over episodes)
holds nothing of how episodes differ. Speed is the median ratio of the seconds of the same episodes. How fast a
meta-step of training is in bfloat16, `python -m benchmarks.meta_step --dtype bfloat16` says.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from data_builders import EpisodeDataset, collate_episodes, load_few_shot
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.training.evaluation import query_accuracies
from modeling_msmaml.training.metrics import mean_and_ci95

from .pages import replace_between

BEGIN, END = "<!-- bfloat16: begin -->", "<!-- bfloat16: end -->"
DATA_SETS = ("esc50", "brown", "cifar100")
N_QUERY = {"audio": 3, "text": 15, "image": 15}


@torch.no_grad()
def accuracies(model: MSMAMLModel, episodes: dict, bf16: bool) -> tuple[list[float], float]:
    """Accuracy of each episode, and the seconds of all."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = model(episodes)
    seconds = time.perf_counter() - start
    (values,) = query_accuracies(output, episodes).values()
    return values.tolist(), seconds


def row(name: str, model: MSMAMLModel, arguments: argparse.Namespace) -> str:
    """One line of the table."""
    split = load_few_shot(name, "test", data_dir=arguments.data_dir)
    episodes = EpisodeDataset([split], model.config.n_way, arguments.k_shot, N_QUERY, arguments.episodes, seed=0)
    exact, rounded, times = [], [], {False: [], True: []}
    for start in range(0, len(episodes), 2):
        batch = collate_episodes([episodes[index] for index in range(start, min(start + 2, len(episodes)))])["episodes"]
        for bf16, found in ((False, exact), (True, rounded)):
            values, seconds = accuracies(model, batch, bf16)
            found += values
            times[bf16].append(seconds)
    differences = [one - other for one, other in zip(rounded, exact, strict=True)]
    cells = " | ".join(
        f"{100 * mean:{sign}.2f} ± {100 * half_width:.2f}"
        for sign, (mean, half_width) in (
            ("", mean_and_ci95(exact)), ("", mean_and_ci95(rounded)), ("+", mean_and_ci95(differences))
        )
    )  # fmt: skip
    speed = statistics.median(one / other for one, other in zip(times[False], times[True], strict=True))
    return f"| {split.modality} | {cells} | {speed:.2f} |"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--datasets", nargs="+", default=list(DATA_SETS), help="one a modality")
    parser.add_argument("--data_dir", help="folder with the archives")
    parser.add_argument("--episodes", type=int, default=200, help="a modality; at least 2")
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--write", type=Path, help="put the table into its place on this page")
    arguments = parser.parse_args(argv)
    model = MSMAMLModel.from_pretrained(arguments.model).eval()
    lines = [
        f"{model.config.n_way}-way {arguments.k_shot}-shot, {arguments.episodes} test episodes a modality, "
        f"{torch.get_num_threads()} threads:",
        "",
        "| modality | float32, % | bfloat16, % | difference | times as fast as float32 |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(row(name, model, arguments) for name in arguments.datasets),
    ]
    print("\n".join(lines))
    if arguments.write is not None:
        replace_between(arguments.write, BEGIN, END, "\n".join(lines))


if __name__ == "__main__":
    main()
