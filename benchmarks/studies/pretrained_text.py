"""
A frozen text encoder's nearest centroid beside this project's model on the same encoder, on the same Brown episodes.

    python -m benchmarks.studies.pretrained_text --encoder FOLDER --data_dir DATA [--seeds 0 1] [--held_out SEED]
        [--json FILE] [--write docs/pretrained.md] [--any_option_of_run_meta value ...]

The model and its training are those of `configs/pretrained_text.yaml`; further options go on top. With `--held_out`,
five categories, drawn from the ten of training, take the place of the test categories, and the model is fitted to and
trained on the other five: what choices are made on. `--write` writes the table between that page's marks.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import set_seed

from data_builders import EpisodeDataset, FewShotSplit, encode_split
from modeling_msmaml import MetaTrainer, MSMAMLConfig, MSMAMLModel
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.model.pretrained_encoder import mean_over_filled
from msmaml.runs.run_arguments import parse_arguments
from msmaml.runs.run_data import load_splits, make_training_episodes
from msmaml.runs.run_model import fit_front_ends, make_model

from ..data import of_classes
from ..pages import command_line, percent, publish, table
from .nearest_centroid import all_rows, centroid_accuracy

PART = "pretrained_text"
K_SHOTS = (1, 5)
N_QUERY = 15
N_QUERY_HELD_OUT = 10  # some training categories could not fill an episode with more
CONFIG = "configs/pretrained_text.yaml"


def splits_of(training: FewShotSplit, test: FewShotSplit, held_out: int | None) -> tuple[FewShotSplit, FewShotSplit]:
    """Training and test split, the latter of held-out training categories if a seed says which."""
    if held_out is None:
        return training, test
    names = sorted(training.class_names)
    chosen = np.random.default_rng(held_out).choice(names, 5, replace=False).tolist()
    return of_classes(training, [name for name in names if name not in chosen]), of_classes(training, chosen)


def centroids(split: FewShotSplit, episodes: EpisodeDataset) -> tuple[float, float]:
    """Accuracy of the nearest centroid of mean states, as unit vectors, and the half-width of its interval."""
    means = [mean_over_filled(part.float()) for part in all_rows(split).split(256)]
    return centroid_accuracy(F.normalize(torch.cat(means), dim=1), episodes)


def described(results: list[dict]) -> str:
    """Markdown: one row per method and seed, one column per number of shots."""
    first, rows = results[0], []
    draw = first["held_out"]
    where = "test categories" if draw is None else f"training categories held out (draw {draw})"
    for method, seed in dict.fromkeys((result["method"], result["seed"]) for result in results):
        own = [result for result in results if (result["method"], result["seed"]) == (method, seed)]
        cells = [percent(result["accuracy"], result["accuracy_ci95"]) for result in own]
        rows.append([method, "" if seed is None else str(seed), *cells, str(own[0]["training_steps"])])
    return (
        f"Brown, {where}: {', '.join(first['categories'])}; 5-way, {first['n_query']} queries per class, "
        f"{first['episodes']} episodes each, the same for all (seed {first['eval_seed']}), support and query from "
        f"different documents; inductive; mean and 95 % interval in %. {first['encoder']}, layer {first['layer']}, "
        f"windows of {first['window']} tokens.\n\n"
    ) + table(["method", "seed", *(f"{k_shot}-shot" for k_shot in K_SHOTS), "meta-steps"], rows)


def measure(own: argparse.Namespace, options: list[str], folder: str) -> list[dict]:
    """
    One result for each method, seed and number of shots.

    Args:
        own: options of this command.
        options: of `run_meta.py`.
        folder: where runs leave what nobody needs.
    """
    last = {"transformers": own.encoder, "window": own.window, "pool": 12}
    rows = {"tokenizer": own.encoder, "passage_length": 600}
    words = [CONFIG, "--embeddings", json.dumps({"text": {**last, "layer": own.layer}})]
    words += ["--dataset_options", json.dumps({"brown": rows}), "--output_dir", folder, "--report_to", "none", *options]
    arguments, data, args = parse_arguments(words)
    raw = [load_splits(data, part)[0] for part in ("train", "test")]
    frontend = make_model(arguments, args, raw[:1]).frontends["text"]
    whole = MSMAMLModel(MSMAMLConfig(modalities=["text"], embeddings={"text": last})).frontends["text"]
    # What is tested on: the test categories, or some of training.
    tested = raw[1] if own.held_out is None else raw[0]
    encoded, test, test_last = (
        encode_split(split, encoder, data.cache_dir)
        for split, encoder in ((raw[0], frontend), (tested, frontend), (tested, whole))
    )
    training, test = splits_of(encoded, test, own.held_out)
    test_last = splits_of(test_last, test_last, own.held_out)[1]
    trainers, untrained = {}, None
    for seed in own.seeds:
        args.seed = seed
        set_seed(seed)
        model = make_model(arguments, args, raw[:1])
        fit_front_ends(model, [training], seed)
        untrained = untrained or MetaTrainer(copy.deepcopy(model), copy.copy(args))
        episodes = make_training_episodes([training], data, args)
        trainers[seed] = MetaTrainer(model, copy.copy(args), train_dataset=episodes)
        trainers[seed].train()
    n_query = N_QUERY if own.held_out is None else N_QUERY_HELD_OUT

    def episodes_of(split: FewShotSplit, k_shot: int) -> EpisodeDataset:
        return EpisodeDataset([split], 5, k_shot, n_query, own.num_episodes, own.episode_seed)

    def predicted(trainer: MetaTrainer, k_shot: int) -> tuple[float, float]:
        found = trainer.predict(episodes_of(test, k_shot), metric_key_prefix="test").metrics
        return found["test_accuracy"], found["test_accuracy_ci95"]

    def of_centroids(split: FewShotSplit, k_shot: int) -> tuple[float, float]:
        return centroids(split, episodes_of(split, k_shot))

    # Method, meta-steps, seed, and what gives its accuracy with a number of shots.
    methods: list[tuple[str, int, int | None, Callable[[int], tuple[float, float]]]] = [
        ("nearest centroid, last layer", 0, None, partial(of_centroids, test_last)),
        (f"nearest centroid, layer {own.layer}", 0, None, partial(of_centroids, test)),
    ]
    methods += [("this model, trained", args.max_steps, n, partial(predicted, each)) for n, each in trainers.items()]
    methods += [("this model, fitted, not trained", 0, own.seeds[0], partial(predicted, untrained))]
    how = {"encoder": own.encoder_name, "layer": own.layer, "window": own.window, "n_way": 5, "n_query": n_query}
    how |= {"episodes": own.num_episodes, "eval_seed": own.episode_seed, "categories": list(test.class_names)}
    how |= {"held_out": own.held_out, "transductive": False, "commit": commit()}
    results = []
    for method, steps, seed, accuracy_of in methods:
        for k_shot in K_SHOTS:
            accuracy, half_width = accuracy_of(k_shot)
            found = {"method": method, "accuracy": accuracy, "accuracy_ci95": half_width, "k_shot": k_shot}
            results.append({**found, **how, "training_steps": steps, "seed": seed})
    return results


def main(argv: list[str] | None = None) -> list[dict]:
    parser = command_line(__doc__, layer=3, window=256, num_episodes=1000, episode_seed=0)
    parser.add_argument("--encoder", required=True, help="folder or name of a text encoder of transformers")
    parser.add_argument("--encoder_name", default="all-MiniLM-L6-v2", help="what the table calls it")
    parser.add_argument("--held_out", type=int, help="seed that draws five training categories to test on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of models and their training")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    own, others = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(own, others, folder)
    publish(PART, described(results), own.write)
    if own.json is not None:
        own.json.write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
