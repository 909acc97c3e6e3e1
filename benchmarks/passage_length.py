"""Accuracy against the length of a Brown passage: 5-way 1-shot, equal training steps, validation classes.

    python -m benchmarks.passage_length --data_dir DATA [--lengths 372 480 600 900 1200 3000] [--steps 150]

Every length trains a model of its own from the same seeds and is evaluated on held-out documents of the training
categories; the test categories are not looked at. 3000 stands for whole documents (`unit="document"`). All lengths have
the same categories: those that whole documents can fill an episode with. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings

import numpy as np
import torch

from data_builders import EpisodeDataset, FewShotSplit, collate_episodes, load_few_shot
from data_builders.episodes.source_partition import can_fill
from data_builders.storage.text_rows import DOCUMENT_LENGTH
from modeling_msmaml import MSMAMLConfig, MSMAMLModel

N_WAY, K_SHOT, N_QUERY = 5, 1, 5
TASKS_PER_STEP = 4


def load(length: int, split: str, arguments: argparse.Namespace) -> FewShotSplit:
    """One split with passages of a length, or with documents."""
    unit = {"unit": "document"} if length == DOCUMENT_LENGTH else {"passage_length": length}
    return load_few_shot("brown", split, data_dir=arguments.data_dir, cache_dir=arguments.cache_dir, **unit)


def fillable(documents: FewShotSplit) -> list[str]:
    """Categories with enough documents for one document a sample."""
    counts = np.bincount(documents.labels, minlength=len(documents.class_names))
    return [name for name, n in zip(documents.class_names, counts, strict=True) if can_fill([1] * n, K_SHOT, N_QUERY)]


def restricted(split: FewShotSplit, class_names: list[str]) -> FewShotSplit:
    """The rows of some classes."""
    kept = np.flatnonzero([split.class_names[label] in class_names for label in split.labels])
    labels = [class_names.index(split.class_names[label]) for label in split.labels[kept]]
    return dataclasses.replace(
        split,
        class_names=tuple(class_names),
        labels=np.asarray(labels, dtype=np.int64),
        source_ids=split.source_ids[kept],
        _row_numbers=split._row_numbers[kept],
    )


def train(split: FewShotSplit, steps: int, seed: int) -> tuple[MSMAMLModel, float]:
    """A model after some meta-steps (Adam, 1e-3), and the seconds that one took."""
    torch.manual_seed(seed)
    model = MSMAMLModel(MSMAMLConfig(modalities=["text"], n_way=N_WAY))
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.from_numpy(split.word_vectors)))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    episodes = EpisodeDataset([split], N_WAY, K_SHOT, N_QUERY, steps * TASKS_PER_STEP, seed)
    start = time.perf_counter()
    for step in range(steps):
        batch = [episodes[step * TASKS_PER_STEP + task] for task in range(TASKS_PER_STEP)]
        optimizer.zero_grad()
        model.train()(collate_episodes(batch)["episodes"]).loss.backward()
        optimizer.step()
    return model, (time.perf_counter() - start) / steps


def accuracies(model: MSMAMLModel, split: FewShotSplit, num_episodes: int) -> np.ndarray:
    """Of every validation episode."""
    episodes, found = EpisodeDataset([split], N_WAY, K_SHOT, N_QUERY, num_episodes, seed=0), []
    model.eval()
    for start in range(0, num_episodes, TASKS_PER_STEP):
        batch = [episodes[index] for index in range(start, min(start + TASKS_PER_STEP, num_episodes))]
        tasks = collate_episodes(batch)["episodes"]
        with torch.no_grad():
            correct = model(tasks).logits["text"].argmax(-1) == tasks["text"]["query_labels"]
        found += correct.float().mean(dim=1).tolist()
    return np.asarray(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder with brown.zip; it is fetched when left out")
    parser.add_argument("--cache_dir", help="where built data go; the cache of datasets by default")
    parser.add_argument("--lengths", type=int, nargs="+", default=[372, 480, 600, 900, 1200, DOCUMENT_LENGTH])
    parser.add_argument("--steps", type=int, default=150, help="meta-steps of each run")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each length")
    parser.add_argument("--episodes", type=int, default=200, help="validation episodes of each run")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    names = {split: fillable(load(DOCUMENT_LENGTH, split, arguments)) for split in ("train", "validation")}
    print(f"validation categories: {', '.join(names['validation'])}; training: {', '.join(names['train'])}\n")
    seeds = range(arguments.seeds)
    by_seed = " | ".join(f"seed {seed}" for seed in seeds)
    print(f"| tokens | train rows | accuracy, % | 95 % interval | {by_seed} | s a step |")
    print("| ---: " * (arguments.seeds + 5) + "|")
    for length in arguments.lengths:
        splits = {split: restricted(load(length, split, arguments), own) for split, own in names.items()}
        found, seconds = [], []
        for seed in seeds:
            model, step_seconds = train(splits["train"], arguments.steps, seed)
            found.append(accuracies(model, splits["validation"], arguments.episodes))
            seconds.append(step_seconds)
        every = 100 * np.concatenate(found)
        half_width = 1.96 * every.std(ddof=1) / np.sqrt(len(every))
        by_seed = " | ".join(f"{100 * own.mean():.1f}" for own in found)
        print(
            f"| {length} | {len(splits['train'])} | {every.mean():.1f} | ± {half_width:.1f} | {by_seed} | "
            f"{np.mean(seconds):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
