"""
A frozen text encoder's nearest centroid beside this project's model on the same encoder, on the same Brown episodes.

    python -m benchmarks.pretrained_text --encoder FOLDER --data_dir DATA [--held_out SEED] [--json FILE]
        [--any_option_of_run_meta value ...]

The model and its training are those of `configs/pretrained_text.yaml`; further options go on top. With `--held_out`,
five categories, drawn from the ten of training, take the place of the test categories, and the model is fitted to and
trained on the other five: what choices are made on.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import run_meta
from data_builders import EpisodeDataset, FewShotSplit
from data_builders.encoded import encode_split
from modeling_msmaml import FewShotAccuracy, MetaTrainer, MSMAMLConfig, MSMAMLModel
from modeling_msmaml.hub_command import commit
from modeling_msmaml.pretrained_stems import mean_over_filled

from .nearest_centroid import all_rows, predict

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


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="folder or name of a text encoder of transformers")
    parser.add_argument("--held_out", type=int, help="seed that draws five training categories to test on")
    parser.add_argument("--layer", type=int, default=4)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--num_episodes", type=int, default=1000)
    parser.add_argument("--episode_seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    own, others = parser.parse_known_args(argv)
    last = {"transformers": own.encoder, "window": own.window, "pool": 12}
    chosen = {**last, "layer": own.layer}
    rows = {"tokenizer": own.encoder, "passage_length": 600}
    encoder_options = ["--embeddings", json.dumps({"text": chosen}), "--dataset_options", json.dumps({"brown": rows})]
    with tempfile.TemporaryDirectory() as folder:
        arguments, data, args = run_meta.parse_arguments(
            [CONFIG, *encoder_options, "--output_dir", folder, "--report_to", "none", *others]
        )
        raw = [run_meta.load_splits(data, part)[0] for part in ("train", "test")]
        model = run_meta.make_model(arguments, args, raw[:1])
        encoded = [encode_split(split, model.frontends["text"], data.cache_dir) for split in raw]
        whole = MSMAMLModel(MSMAMLConfig(modalities=["text"], embeddings={"text": last})).frontends["text"]
        training, test = splits_of(*encoded, own.held_out)
        _, raw_test = splits_of(*raw, own.held_out)
        test_last = encode_split(raw_test, whole, data.cache_dir)
        model.fit_front_ends({"text": run_meta.rows_to_fit_to(training)}, args.seed)
        trainer = MetaTrainer(
            model=model, args=args, train_dataset=run_meta.make_training_episodes([training], data, args)
        )
        results = []

        def add(method: str, k_shot: int, accuracy: float, half_width: float, steps: int) -> None:
            results.append(
                {
                    "method": method,
                    "accuracy": accuracy,
                    "accuracy_ci95": half_width,
                    "k_shot": k_shot,
                    "n_way": 5,
                    "n_query": 15,
                    "episodes": own.num_episodes,
                    "eval_seed": own.episode_seed,
                    "categories": list(test.class_names),
                    "held_out": own.held_out,
                    "training_steps": steps,
                    "seed": args.seed,
                    "transductive": False,
                    "commit": commit(),
                }
            )
            print(f"{k_shot}-shot {method:45} {100 * accuracy:.2f} ± {100 * half_width:.2f}", flush=True)

        def add_model(method: str, steps: int) -> None:
            for k_shot in (1, 5):
                episodes = EpisodeDataset([test], 5, k_shot, 15, own.num_episodes, own.episode_seed)
                found = trainer.predict(episodes, metric_key_prefix="test").metrics
                add(method, k_shot, found["test_accuracy"], found["test_accuracy_ci95"], steps)

        print(f"tested on {', '.join(test.class_names)}; {own.num_episodes} episodes")
        for k_shot in (1, 5):
            for method, split in (("last layer", test_last), (f"layer {own.layer}", test)):
                episodes = EpisodeDataset([split], 5, k_shot, 15, own.num_episodes, own.episode_seed)
                found = centroid_accuracy(split, episodes)
                add(f"nearest centroid, {method}", k_shot, found["accuracy"], found["accuracy_ci95"], 0)
        add_model("this model, fitted, not trained", 0)
        trainer.train()
        add_model(f"this model, {args.max_steps} meta-steps", args.max_steps)
    if own.json is not None:
        own.json.write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
