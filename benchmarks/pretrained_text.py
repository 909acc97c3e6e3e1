"""
A frozen text encoder's nearest centroid beside this project's model on the same encoder, on the same Brown episodes.

    python -m benchmarks.pretrained_text --encoder FOLDER --data_dir DATA [--seeds 0 1] [--held_out SEED] [--json FILE]
        [--page docs/pretrained.md] [--any_option_of_run_meta value ...]

The model and its training are those of `configs/pretrained_text.yaml`; further options go on top. With `--held_out`,
five categories, drawn from the ten of training, take the place of the test categories, and the model is fitted to and
trained on the other five: what choices are made on. `--page` writes the table between that page's marks.
"""

import argparse
import copy
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import set_seed

import run_meta
from data_builders import EpisodeDataset, FewShotSplit
from data_builders.episodes.encoded import encode_split
from modeling_msmaml import FewShotAccuracy, MetaTrainer, MSMAMLConfig, MSMAMLModel
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.model.pretrained_encoder import mean_over_filled

from .nearest_centroid import all_rows, predict
from .pages import replace_between

BEGIN, END = "<!-- pretrained_text: begin -->", "<!-- pretrained_text: end -->"
K_SHOTS = (1, 5)
N_QUERY = 15
N_QUERY_HELD_OUT = 10  # some training categories could not fill an episode with more
CONFIG = "configs/pretrained_text.yaml"


def of_categories(split: FewShotSplit, names: list[str]) -> FewShotSplit:
    """The rows of some categories."""
    kept = [number for number, name in enumerate(split.class_names) if name in names]
    rows = np.flatnonzero(np.isin(split.labels, kept))
    return dataclasses.replace(
        split,
        class_names=tuple(split.class_names[number] for number in kept),
        labels=np.searchsorted(kept, split.labels[rows]),
        source_ids=split.source_ids[rows],
        _row_numbers=split._row_numbers[rows],
    )


def splits_of(training: FewShotSplit, test: FewShotSplit, held_out: int | None) -> tuple[FewShotSplit, FewShotSplit]:
    """Training and test split, the latter of held-out training categories if a seed says which."""
    if held_out is None:
        return training, test
    names = sorted(training.class_names)
    chosen = np.random.default_rng(held_out).choice(names, 5, replace=False).tolist()
    return of_categories(training, [name for name in names if name not in chosen]), of_categories(training, chosen)


def mean_states(split: FewShotSplit) -> Float[Tensor, "rows features"]:
    """Unit vectors."""
    parts = all_rows(split).split(256)
    return F.normalize(torch.cat([mean_over_filled(part.float()) for part in parts]), dim=1)


def centroid_accuracy(split: FewShotSplit, episodes: EpisodeDataset) -> dict[str, float]:
    features = mean_states(split)
    drawn = [episodes[index] for index in range(len(episodes))]
    return FewShotAccuracy().compute(
        predictions=[predict(features, episode, 5) for episode in drawn],
        references=[episode["query_labels"].tolist() for episode in drawn],
        modalities=["text"] * len(drawn),
    )


def table(results: list[dict]) -> str:
    """Markdown: one row a method and seed, one column a number of shots."""
    first = results[0]
    where = (
        "test categories" if first["held_out"] is None else f"training categories held out (draw {first['held_out']})"
    )
    lines = [
        f"Brown, {where}: {', '.join(first['categories'])}; 5-way, {first['n_query']} queries a class, "
        f"{first['episodes']} episodes each, the same for all (seed {first['eval_seed']}), support and query from "
        f"different documents; inductive; mean and 95 % interval in %. {first['encoder']}, layer {first['layer']}, "
        f"windows of {first['window']} tokens.",
        "",
        "| method | seed | " + " | ".join(f"{k}-shot" for k in K_SHOTS) + " | meta-steps |",
        "| --- | ---: |" + " ---: |" * (len(K_SHOTS) + 1),
    ]
    for method, seed in dict.fromkeys((result["method"], result["seed"]) for result in results):
        of_row = [result for result in results if (result["method"], result["seed"]) == (method, seed)]
        cells = [f"{100 * result['accuracy']:.2f} ± {100 * result['accuracy_ci95']:.2f}" for result in of_row]
        seed_cell = "" if seed is None else str(seed)
        lines.append(f"| {method} | {seed_cell} | {' | '.join(cells)} | {of_row[0]['training_steps']} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="folder or name of a text encoder of transformers")
    parser.add_argument("--encoder_name", default="all-MiniLM-L6-v2", help="what the table calls it")
    parser.add_argument("--held_out", type=int, help="seed that draws five training categories to test on")
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--num_episodes", type=int, default=1000)
    parser.add_argument("--episode_seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of models and their training")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--page", type=Path, help="write the table between the marks of this page")
    own, others = parser.parse_known_args(argv)
    last = {"transformers": own.encoder, "window": own.window, "pool": 12}
    chosen = {**last, "layer": own.layer}
    rows = {"tokenizer": own.encoder, "passage_length": 600}
    encoder_options = ["--embeddings", json.dumps({"text": chosen}), "--dataset_options", json.dumps({"brown": rows})]
    n_query = N_QUERY if own.held_out is None else N_QUERY_HELD_OUT
    with tempfile.TemporaryDirectory() as folder:
        arguments, data, args = run_meta.parse_arguments(
            [CONFIG, *encoder_options, "--output_dir", folder, "--report_to", "none", *others]
        )
        raw = [run_meta.load_splits(data, part)[0] for part in ("train", "test")]
        frontend = run_meta.make_model(arguments, args, raw[:1]).frontends["text"]
        encoded = encode_split(raw[0], frontend, data.cache_dir)
        training = encoded if own.held_out is None else splits_of(encoded, encoded, own.held_out)[0]
        trainers, untrained = {}, None
        for seed in own.seeds:
            args.seed = seed
            set_seed(seed)
            model = run_meta.make_model(arguments, args, raw[:1])
            run_meta.fit_front_ends(model, [training], seed)
            untrained = untrained or MetaTrainer(copy.deepcopy(model), copy.copy(args))
            episodes = run_meta.make_training_episodes([training], data, args)
            trainers[seed] = MetaTrainer(model, copy.copy(args), train_dataset=episodes)
            trainers[seed].train()
        test = encode_split(raw[1], frontend, data.cache_dir) if own.held_out is None else encoded
        whole = MSMAMLModel(MSMAMLConfig(modalities=["text"], embeddings={"text": last})).frontends["text"]
        test_last = encode_split(raw[1] if own.held_out is None else raw[0], whole, data.cache_dir)
        if own.held_out is not None:
            test, test_last = (splits_of(split, split, own.held_out)[1] for split in (test, test_last))
        results, at_commit = [], commit()

        def add(method: str, k_shot: int, found: dict[str, float], steps: int, seed: int | None) -> None:
            results.append(
                {
                    "method": method,
                    "accuracy": found["accuracy"],
                    "accuracy_ci95": found["accuracy_ci95"],
                    "encoder": own.encoder_name,
                    "layer": own.layer,
                    "window": own.window,
                    "k_shot": k_shot,
                    "n_way": 5,
                    "n_query": n_query,
                    "episodes": own.num_episodes,
                    "eval_seed": own.episode_seed,
                    "categories": list(test.class_names),
                    "held_out": own.held_out,
                    "training_steps": steps,
                    "seed": seed,
                    "transductive": False,
                    "commit": at_commit,
                }
            )
            shown = f"{100 * found['accuracy']:.2f} ± {100 * found['accuracy_ci95']:.2f}"
            print(f"{k_shot}-shot {method:45} seed {seed} {shown}", flush=True)
            if own.json is not None:
                own.json.write_text(json.dumps(results, indent=2) + "\n")

        def episodes_of(split: FewShotSplit, k_shot: int) -> EpisodeDataset:
            return EpisodeDataset([split], 5, k_shot, n_query, own.num_episodes, own.episode_seed)

        def add_model(trainer: MetaTrainer, method: str, steps: int, seed: int) -> None:
            for k_shot in K_SHOTS:
                found = trainer.predict(episodes_of(test, k_shot), metric_key_prefix="test").metrics
                add(method, k_shot, {n: found[f"test_{n}"] for n in ("accuracy", "accuracy_ci95")}, steps, seed)

        print(f"tested on {', '.join(test.class_names)}; {own.num_episodes} episodes")
        for method, split in (("last layer", test_last), (f"layer {own.layer}", test)):
            for k_shot in K_SHOTS:
                found = centroid_accuracy(split, episodes_of(split, k_shot))
                add(f"nearest centroid, {method}", k_shot, found, 0, None)
        for seed, trainer in trainers.items():
            add_model(trainer, "this model, trained", args.max_steps, seed)
        add_model(untrained, "this model, fitted, not trained", 0, own.seeds[0])
    print(table(results))
    if own.page is not None:
        replace_between(own.page, BEGIN, END, table(results))
    return results


if __name__ == "__main__":
    main()
