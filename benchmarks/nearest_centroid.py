"""
Nearest centroid without any learning, on the episodes that models are evaluated on: what a model must beat.

    python -m benchmarks.nearest_centroid --data_dir DATA [--split test] [--k_shot 5] [--json FILE]

Audio: mean and standard deviation over time of the log-mel spectrogram. Text: TF-IDF of words of at least two letters,
with document frequencies of the training passages, once with log(1 + count); and the mean word vector. Image: pixels.
Euclidean distance to the mean of a class's support samples; rows of text are scaled to unit length first.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import FewShotAccuracy, MSMAMLConfig
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.model.modality_audio import LogMelFrontend

DATA_SETS = ("esc50", "brown", "cifar100")
N_QUERY = {"audio": 3, "text": 15, "image": 15}


def log_mel_statistics(split: FewShotSplit, training: FewShotSplit) -> Float[Tensor, "rows 128"]:
    frontend = LogMelFrontend(MSMAMLConfig())
    frontend.reset_parameters()
    maps = torch.cat([frontend.maps(part, torch.float32) for part in all_rows(split).split(64)])
    return torch.cat([maps.mean(dim=2), maps.std(dim=2)], dim=1)


def word_counts(split: FewShotSplit) -> Float[Tensor, "rows vocabulary"]:
    rows = all_rows(split).long()
    counts = torch.zeros(len(rows), len(split.tokenizer)).scatter_add_(1, rows, torch.ones(rows.shape))
    counts[:, 0] = 0  # padding
    return counts


def is_word(split: FewShotSplit) -> Float[Tensor, " vocabulary"]:
    """1 for tokens of at least two letters, 0 for punctuation, numbers and words that are not in the vocabulary."""
    vocabulary = split.tokenizer.get_vocab()
    known = torch.zeros(len(split.tokenizer))
    for token, number in vocabulary.items():
        known[number] = float(number > 1 and len(token) > 1 and token.isalpha())
    return known


def tf_idf(split: FewShotSplit, training: FewShotSplit) -> Float[Tensor, "rows vocabulary"]:
    known = word_counts(training)
    idf = torch.log((1 + len(known)) / (1 + (known > 0).sum(dim=0))) + 1
    return F.normalize(word_counts(split) * idf * is_word(split), dim=1)


def sublinear_tf_idf(split: FewShotSplit, training: FewShotSplit) -> Float[Tensor, "rows vocabulary"]:
    known = word_counts(training)
    idf = torch.log((1 + len(known)) / (1 + (known > 0).sum(dim=0))) + 1
    return F.normalize(word_counts(split).log1p() * idf * is_word(split), dim=1)


def mean_word_vector(split: FewShotSplit, training: FewShotSplit) -> Float[Tensor, "rows 128"]:
    return F.normalize(word_counts(split) @ torch.from_numpy(training.word_vectors), dim=1)


def pixels(split: FewShotSplit, training: FewShotSplit) -> Float[Tensor, "rows values"]:
    return all_rows(split).flatten(1).float() / 255


FEATURES: dict[str, dict[str, Callable[[FewShotSplit, FewShotSplit], Tensor]]] = {
    "audio": {"log-mel statistics": log_mel_statistics},
    "text": {"TF-IDF": tf_idf, "sublinear TF-IDF": sublinear_tf_idf, "mean word vector": mean_word_vector},
    "image": {"pixels": pixels},
}


def all_rows(split: FewShotSplit) -> Tensor:
    return torch.from_numpy(split.rows(np.arange(len(split))))


def predict(features: Float[Tensor, "rows size"], episode: dict, n_way: int) -> list[int]:
    """The nearest centroid of every query."""
    centroids = features[episode["support_ids"]].view(n_way, -1, features.shape[1]).mean(dim=1)
    return torch.cdist(features[episode["query_ids"]], centroids).argmin(dim=1).tolist()


def measure(
    name: str, split_name: str, n_way: int, k_shot: int, num_episodes: int, seed: int, data_dir: str | None
) -> list[dict]:
    """One result for each kind of features of a data set's modality."""
    split, training = (load_few_shot(name, part, data_dir=data_dir) for part in (split_name, "train"))
    episodes = EpisodeDataset([split], n_way, k_shot, N_QUERY, num_episodes, seed)
    results = []
    for kind, extract in FEATURES[split.modality].items():
        features = extract(split, training)
        drawn = [episodes[index] for index in range(num_episodes)]
        accuracy = FewShotAccuracy().compute(
            predictions=[predict(features, episode, n_way) for episode in drawn],
            references=[episode["query_labels"].tolist() for episode in drawn],
            modalities=[split.modality] * num_episodes,
        )
        results.append(
            {
                "method": f"nearest centroid, {kind}",
                "modality": split.modality,
                "accuracy": accuracy["accuracy"],
                "accuracy_ci95": accuracy["accuracy_ci95"],
                "split": split_name,
                "protocol": split.protocol,
                "n_way": n_way,
                "k_shot": k_shot,
                "n_query": N_QUERY[split.modality],
                "episodes": num_episodes,
                "eval_seed": seed,
                "dataset": name,
                "training_steps": 0,
                "transductive": False,
                "commit": commit(),
            }
        )
    return results


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir")
    parser.add_argument("--datasets", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--n_way", type=int, default=5)
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--num_episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(argv)
    results = []
    for name in options.datasets:
        shape = (options.n_way, options.k_shot, options.num_episodes, options.seed)
        results += measure(name, options.split, *shape, options.data_dir)
    print(f"{options.split}, {options.n_way}-way {options.k_shot}-shot, {options.num_episodes} episodes a modality")
    for result in results:
        accuracy, half_width = 100 * result["accuracy"], 100 * result["accuracy_ci95"]
        print(f"{result['modality']:6} {result['method']:40} {accuracy:.2f} ± {half_width:.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
