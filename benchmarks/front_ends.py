"""
How the fitted front ends were chosen: nearest centroids of descriptors on classes that fitting has not seen.

    python -m benchmarks.front_ends --data_dir DATA

No test class is touched. Audio: 12 of the 40 training and validation classes are held out; text: 5 of the 10 training
categories (Brown's validation has the same categories, and would prefer what knows them); image: the 20 validation
classes. Front end and descriptor are fitted to the other classes, without labels except where whitening is by class.
1-shot and 5-shot (audio: 4-shot, since most classes have 8 clips) accuracy in percent of 5-way episodes from different
sources, mean over folds.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import MSMAMLConfig
from modeling_msmaml.model.descriptors import Descriptor
from modeling_msmaml.model.modalities import embedding_class

from .nearest_centroid import FEATURES, predict

DATA_SETS = {"audio": "esc50", "text": "brown", "image": "cifar100"}
FOLDS = {"audio": 4, "text": 8, "image": 1}
HELD_OUT = {"audio": 12, "text": 5}
SHOTS = {"audio": (1, 4), "text": (1, 5), "image": (1, 5)}
N_QUERY = {"audio": 2, "text": 5, "image": 15}
WHITENING = (0.0, 0.25, 0.5, 1.0)
SIZES = (32, 64, 128)
ROWS_TO_FIT_TO = 3_000


def pooled(modality: str, data_dir: str) -> tuple[np.ndarray, list[str], np.ndarray, FewShotSplit]:
    """Rows, class names and sources of training and validation, and the training split."""
    splits = [load_few_shot(DATA_SETS[modality], name, data_dir=data_dir) for name in ("train", "validation")]
    rows = np.concatenate([split.rows(np.arange(len(split))) for split in splits])
    names = [split.class_names[label] for split in splits for label in split.labels]
    return rows, names, np.concatenate([split.source_ids for split in splits]), splits[0]


def folds(modality: str, names: list[str], training: FewShotSplit) -> list[set[str]]:
    """Classes that are held out, fold by fold."""
    if modality == "image":
        return [set(names) - set(training.class_names)]
    classes = sorted(set(names))
    return [
        set(np.random.default_rng(fold).permutation(classes)[: HELD_OUT[modality]].tolist())
        for fold in range(FOLDS[modality])
    ]


def part(
    modality: str, rows, names, sources, chosen: set[str], training: FewShotSplit, split: str = "validation"
) -> FewShotSplit:
    """The rows of some classes as a split."""
    kept = np.asarray([name in chosen for name in names])
    classes = sorted(chosen)
    labels = [classes.index(name) for name in np.asarray(names)[kept]]
    fields = {"tokenizer": training.tokenizer, "word_vectors": training.word_vectors}
    return FewShotSplit.from_arrays(
        rows[kept], labels, sources[kept], modality, split=split, class_names=classes, **fields
    )


def accuracy(features: Float[Tensor, "rows size"], split: FewShotSplit, k_shot: int, episodes: int) -> float:
    dataset = EpisodeDataset([split], 5, k_shot, N_QUERY[split.modality], episodes, seed=0)
    right = [
        np.mean(np.asarray(predict(features, episode, 5)) == episode["query_labels"].numpy())
        for episode in (dataset[index] for index in range(episodes))
    ]
    return 100 * float(np.mean(right))


def descriptions(fitted: FewShotSplit, held_out: FewShotSplit) -> dict[str, Float[Tensor, "rows size"]]:
    """Held-out rows described in every way that is compared."""
    found = {name: extract(held_out, fitted) for name, extract in FEATURES[held_out.modality].items()}
    vocabulary = len(fitted.tokenizer) if fitted.tokenizer is not None else 400
    config = MSMAMLConfig(modalities=[held_out.modality], front_ends="fitted", vocab_size=vocabulary)
    kind = embedding_class(held_out.modality, "fitted")
    frontend, statistics = kind.frontend(config).requires_grad_(False), kind.statistics(config)
    if hasattr(frontend, "reset_parameters"):
        frontend.reset_parameters()
    chosen = np.linspace(0, len(fitted) - 1, min(len(fitted), ROWS_TO_FIT_TO)).astype(np.int64)
    rows = torch.from_numpy(fitted.rows(chosen))
    frontend.fit(rows, torch.Generator().manual_seed(0))
    maps, own = (
        torch.cat([frontend(some, torch.float32) for some in torch.from_numpy(values).split(64)])
        for values in (rows.numpy(), held_out.rows(np.arange(len(held_out))))
    )
    for whitening in WHITENING:
        for size in SIZES:
            descriptor = Descriptor(statistics._replace(whitening=whitening), size)
            descriptor.fit(maps)
            found[f"descriptor, size {size}, whitening {whitening}"] = F.normalize(descriptor(own), dim=1)
    for whitening, names in (("source", fitted.source_ids[chosen]), ("class", fitted.labels[chosen])):
        groups = np.unique(names, return_inverse=True)[1]
        if groups.max() + 1 < len(groups):  # of images, each is its own source
            descriptor = Descriptor(statistics, SIZES[-1])
            descriptor.fit(maps, torch.from_numpy(groups))
            found[f"descriptor, size {SIZES[-1]}, whitening {whitening}"] = F.normalize(descriptor(own), dim=1)
    return found


@torch.no_grad()
def measure(modality: str, data_dir: str, episodes: int) -> dict[str, list[float]]:
    """Way to describe a sample -> accuracy for each number of shots."""
    rows, names, sources, training = pooled(modality, data_dir)
    results: dict[str, list[list[float]]] = {}
    for held_out in folds(modality, names, training):
        arguments = (modality, rows, names, sources)
        fitted = part(*arguments, set(names) - held_out, training)
        tested = part(*arguments, held_out, training)
        for name, features in descriptions(fitted, tested).items():
            values = [accuracy(features, tested, k_shot, episodes) for k_shot in SHOTS[modality]]
            results.setdefault(name, []).append(values)
    return {name: np.mean(values, axis=0).tolist() for name, values in results.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--modalities", nargs="+", default=list(DATA_SETS), choices=list(DATA_SETS))
    parser.add_argument("--episodes", type=int, default=200, help="of each fold")
    options = parser.parse_args(argv)
    for modality in options.modalities:
        shots = SHOTS[modality]
        print(f"| {modality}, {FOLDS[modality]} folds | {shots[0]}-shot | {shots[1]}-shot |\n| --- | ---: | ---: |")
        for name, (one, few) in measure(modality, options.data_dir, options.episodes).items():
            print(f"| {name} | {one:.1f} | {few:.1f} |")
        print(flush=True)


if __name__ == "__main__":
    main()
