"""
What bfloat16 on the CPU costs in accuracy: a trained model tested in float32 and under autocast, on the same episodes.

    python -m benchmarks.speed.bfloat16 --model pretrained/msmaml-base --data_dir DATA [--write docs/benchmarks.md]

Adaptation runs in bfloat16 too. The difference is taken episode by episode, so that its interval (95%, over episodes)
holds nothing of how episodes differ. Speed is the median ratio of the seconds of the same episodes. How fast a
meta-step of training is in bfloat16, `python -m benchmarks.speed.meta_step --dtype bfloat16` says.
"""

import argparse
import statistics
import time

import torch

from data_builders import EpisodeDataset, load_few_shot
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.metrics import mean_and_ci95
from modeling_msmaml.trainer import query_accuracies

from ..data import DATA_SETS, N_QUERY, batches
from ..pages import command_line, percent, publish, table

PART = "bfloat16"


@torch.no_grad()
def accuracies(model: MSMAMLModel, episodes: dict, bf16: bool) -> tuple[list[float], float]:
    """The accuracy of each episode, and the seconds of all."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = model(episodes)
    seconds = time.perf_counter() - start
    (values,) = query_accuracies(output, episodes).values()
    return values.tolist(), seconds


def row(name: str, model: MSMAMLModel, arguments: argparse.Namespace) -> list[str]:
    """One line of the table."""
    split = load_few_shot(name, "test", data_dir=arguments.data_dir)
    episodes = EpisodeDataset([split], model.config.n_way, arguments.k_shot, N_QUERY, arguments.episodes, seed=0)
    exact, rounded, speeds = [], [], []
    for batch in batches(episodes, 2):
        (one, seconds), (other, rounded_seconds) = (accuracies(model, batch, bf16) for bf16 in (False, True))
        exact, rounded, speeds = exact + one, rounded + other, [*speeds, seconds / rounded_seconds]
    differences = [one - other for one, other in zip(rounded, exact, strict=True)]
    cells = [percent(*mean_and_ci95(values)) for values in (exact, rounded)]
    return [split.modality, *cells, percent(*mean_and_ci95(differences), "+"), f"{statistics.median(speeds):.2f}"]


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--datasets", nargs="+", default=list(DATA_SETS.values()), help="one per modality")
    parser.add_argument("--data_dir", help="folder with the archives")
    parser.add_argument("--episodes", type=int, default=200, help="of each modality; at least 2")
    parser.add_argument("--k_shot", type=int, default=1)
    arguments = parser.parse_args(argv)
    model = MSMAMLModel.from_pretrained(arguments.model).eval()
    head = ["modality", "float32, %", "bfloat16, %", "difference", "times as fast as float32"]
    found = (
        f"{model.config.n_way}-way {arguments.k_shot}-shot, {arguments.episodes} test episodes a modality, "
        f"{torch.get_num_threads()} threads:\n\n"
    ) + table(head, (row(name, model, arguments) for name in arguments.datasets))
    publish(PART, found, arguments.write)


if __name__ == "__main__":
    main()
