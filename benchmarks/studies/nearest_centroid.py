"""
Nearest centroid without any learning, on the episodes that models are evaluated on: what a model must beat.

    python -m benchmarks.studies.nearest_centroid --data_dir DATA [--split test] [--k_shot 5] [--json FILE]

Audio: mean and standard deviation over time of the log-mel spectrogram. Text: TF-IDF of words of at least two letters,
with document frequencies of the training passages, once with log(1 + count); and the mean word vector. Image: pixels.
Euclidean distance to the mean of a class's support samples; rows of text are scaled to unit length first.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import MSMAMLConfig
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.model.modality_audio import LogMelFrontend
from modeling_msmaml.training.metrics import mean_and_ci95

from ..data import DATA_SETS, N_QUERY
from ..pages import command_line, percent


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
    known = torch.zeros(len(split.tokenizer))
    for token, number in split.tokenizer.get_vocab().items():
        known[number] = float(number > 1 and len(token) > 1 and token.isalpha())
    return known


def tf_idf(split: FewShotSplit, training: FewShotSplit, sublinear: bool = False) -> Float[Tensor, "rows vocabulary"]:
    known, counts = word_counts(training), word_counts(split)
    idf = torch.log((1 + len(known)) / (1 + (known > 0).sum(dim=0))) + 1
    return F.normalize((counts.log1p() if sublinear else counts) * idf * is_word(split), dim=1)


def mean_word_vector(split: FewShotSplit, training: FewShotSplit) -> Float[Tensor, "rows 128"]:
    return F.normalize(word_counts(split) @ torch.from_numpy(training.word_vectors), dim=1)


def pixels(split: FewShotSplit, training: FewShotSplit) -> Float[Tensor, "rows values"]:
    return all_rows(split).flatten(1).float() / 255


sublinear_tf_idf = partial(tf_idf, sublinear=True)
FEATURES: dict[str, dict[str, Callable[[FewShotSplit, FewShotSplit], Tensor]]] = {
    "audio": {"log-mel statistics": log_mel_statistics},
    "text": {"TF-IDF": tf_idf, "sublinear TF-IDF": sublinear_tf_idf, "mean word vector": mean_word_vector},
    "image": {"pixels": pixels},
}


def all_rows(split: FewShotSplit) -> Tensor:
    return torch.from_numpy(split.rows(np.arange(len(split))))


def centroid_accuracy(
    features: Float[Tensor, "rows size"], episodes: EpisodeDataset | list[dict]
) -> tuple[float, float]:
    """
    Accuracy of the nearest centroid of each episode's support set, and the half-width of its 95 % interval.

    Args:
        features: of all rows of the split that the episodes are drawn from.
        episodes: of one modality.
    """
    accuracies = []
    for index in range(len(episodes)):
        episode = episodes[index]
        n_way = int(episode["support_labels"].max()) + 1
        centroids = features[episode["support_ids"]].view(n_way, -1, features.shape[1]).mean(dim=1)
        right = torch.cdist(features[episode["query_ids"]], centroids).argmin(dim=1) == episode["query_labels"]
        accuracies.append(right.sum().item() / len(right))
    return mean_and_ci95(accuracies)


def measure(
    name: str, split_name: str, n_way: int, k_shot: int, num_episodes: int, seed: int, data_dir: str | None
) -> list[dict]:
    """One result for each kind of features of a data set's modality."""
    split, training = (load_few_shot(name, part, data_dir=data_dir) for part in (split_name, "train"))
    episodes = EpisodeDataset([split], n_way, k_shot, N_QUERY, num_episodes, seed)
    how = {"split": split_name, "protocol": split.protocol, "n_way": n_way, "k_shot": k_shot, "dataset": name}
    how |= {"n_query": N_QUERY[split.modality], "episodes": num_episodes, "eval_seed": seed, "commit": commit()}
    results = []
    for kind, extract in FEATURES[split.modality].items():
        accuracy, half_width = centroid_accuracy(extract(split, training), episodes)
        found = {"accuracy": accuracy, "accuracy_ci95": half_width, "training_steps": 0, "transductive": False}
        results.append({"method": f"nearest centroid, {kind}", "modality": split.modality, **found, **how})
    return results


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False, data_dir=None, n_way=5, k_shot=1, num_episodes=1000, seed=0)
    parser.add_argument("--datasets", nargs="+", default=list(DATA_SETS.values()), choices=list(DATA_SETS.values()))
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(argv)
    results = []
    for name in options.datasets:
        shape = (options.n_way, options.k_shot, options.num_episodes, options.seed)
        results += measure(name, options.split, *shape, options.data_dir)
    print(f"{options.split}, {options.n_way}-way {options.k_shot}-shot, {options.num_episodes} episodes per modality")
    for result in results:
        accuracy = percent(result["accuracy"], result["accuracy_ci95"])
        print(f"{result['modality']:6} {result['method']:40} {accuracy}")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
