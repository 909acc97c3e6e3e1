"""
How the fitted front ends were chosen: nearest centroids of descriptors on classes that fitting has not seen.

    python -m benchmarks.studies.front_ends --data_dir DATA

No test class is touched. Audio: 12 of the 40 training and validation classes are held out; text: 5 of the 10 training
categories (Brown's validation has the same categories, and would prefer what knows them); image: the 20 validation
classes. Front end and descriptor are fitted to the other classes, without labels except where whitening is by class.
1-shot and 5-shot (audio: 4-shot, since most classes have 8 clips) accuracy in percent of 5-way episodes from different
sources, mean over folds.
"""

import dataclasses
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import MSMAMLConfig
from modeling_msmaml.model.descriptors import Descriptor
from modeling_msmaml.model.modalities import embedding_class

from ..data import DATA_SETS, of_classes
from ..pages import command_line, table
from .nearest_centroid import FEATURES, centroid_accuracy

FOLDS = {"audio": 4, "text": 8, "image": 1}
HELD_OUT = {"audio": 12, "text": 5}
SHOTS = {"audio": (1, 4), "text": (1, 5), "image": (1, 5)}
N_QUERY = {"audio": 2, "text": 5, "image": 15}
WHITENING = (0.0, 0.25, 0.5, 1.0)
SIZES = (32, 64, 128)
ROWS_TO_FIT_TO = 3_000


@cache
def pooled(modality: str, data_dir: str) -> tuple[FewShotSplit, frozenset[str]]:
    """Training and validation as one split, of rows in memory, and the validation classes that training lacks."""
    splits = [load_few_shot(DATA_SETS[modality], name, data_dir=data_dir) for name in ("train", "validation")]
    training, validation = splits
    classes = sorted({*training.class_names, *validation.class_names})
    names = [split.class_names[label] for split in splits for label in split.labels]
    rows = np.concatenate([split.rows(np.arange(len(split))) for split in splits])
    sources = np.concatenate([split.source_ids for split in splits])
    vocabulary = {"tokenizer": training.tokenizer, "word_vectors": training.word_vectors}
    labels = [classes.index(name) for name in names]
    both = FewShotSplit.from_arrays(rows, labels, sources, modality, class_names=classes, **vocabulary)
    return both, frozenset(classes) - frozenset(training.class_names)


def halves(modality: str, fold: int, data_dir: str) -> tuple[FewShotSplit, FewShotSplit]:
    """The classes that are known in a fold, as a training split, and those that are held out, as a validation split."""
    both, of_validation = pooled(modality, data_dir)
    drawn = np.random.default_rng(fold).permutation(both.class_names)[: HELD_OUT.get(modality)]
    held_out = of_validation if modality == "image" else set(drawn.tolist())
    known = of_classes(both, set(both.class_names) - held_out)
    return known, dataclasses.replace(of_classes(both, held_out), split="validation")


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
    # Name, size, exponent of whitening, and what it is within.
    ways = [(f"{power}", size, power, None) for power in WHITENING for size in SIZES]
    for within, names in (("source", fitted.source_ids[chosen]), ("class", fitted.labels[chosen])):
        groups = np.unique(names, return_inverse=True)[1]
        if groups.max() + 1 < len(groups):  # of images, each is its own source
            ways.append((within, SIZES[-1], statistics.whitening, torch.from_numpy(groups)))
    for name, size, power, groups in ways:
        descriptor = Descriptor(statistics._replace(whitening=power), size)
        descriptor.fit(maps, groups)
        found[f"descriptor, size {size}, whitening {name}"] = F.normalize(descriptor(own), dim=1)
    return found


@torch.no_grad()
def measure(modality: str, data_dir: str, episodes: int) -> dict[str, list[float]]:
    """Way to describe a sample -> accuracy for each number of shots."""
    results: dict[str, list[list[float]]] = {}
    for fold in range(FOLDS[modality]):
        fitted, tested = halves(modality, fold, data_dir)
        drawn = [EpisodeDataset([tested], 5, k_shot, N_QUERY[modality], episodes) for k_shot in SHOTS[modality]]
        for name, features in descriptions(fitted, tested).items():
            results.setdefault(name, []).append([100 * centroid_accuracy(features, own)[0] for own in drawn])
    return {name: np.mean(values, axis=0).tolist() for name, values in results.items()}


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--modalities", nargs="+", default=list(DATA_SETS), choices=list(DATA_SETS))
    parser.add_argument("--episodes", type=int, default=200, help="of each fold")
    options = parser.parse_args(argv)
    for modality in options.modalities:
        head = [f"{modality}, {FOLDS[modality]} folds", *(f"{shots}-shot" for shots in SHOTS[modality])]
        found = measure(modality, options.data_dir, options.episodes)
        print(table(head, ([name, *(f"{value:.1f}" for value in values)] for name, values in found.items())) + "\n")


if __name__ == "__main__":
    main()
