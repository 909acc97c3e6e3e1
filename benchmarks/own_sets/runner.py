"""
This project's model and simple classifiers on small sets of our own: texts that we wrote, in `texts/`, and pictures and
sounds that are drawn and synthesised (`media.py`), besides spoken digits of FSDD.

    python -m benchmarks.own_sets.runner --model FOLDER [--data_dir DATA] [--draws 30] [--threads 2] [--sets NAME ...]

Of each set, random support sets are drawn, 1 and 5 samples a class; all other samples, at most 10 a class, are queries.
All methods have the same draws. Results go to `results/own_sets.json`; `python -m benchmarks.comparison.report` makes
tables of them. Spoken digits are left out without `--data_dir`.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from data_builders import load_few_shot
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.training.metrics import mean_and_ci95

from ..comparison.baselines import STRENGTHS, logistic_regression, unit
from ..comparison.splits import tokenizer_of
from ..pages import command_line
from . import features, media

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "results" / "own_sets.json"
TEXTS = {path.stem: path for path in sorted((Path(__file__).parent / "texts").glob("*.json"))}
SPOKEN = "spoken digits"
SHOTS, QUERIES = (1, 5), 10
OURS = "this project"
REGRESSION = "logistic regression on the encoder"
SIMPLE: dict[str, dict[str, Callable[[Any], Tensor]]] = {
    "text": {},
    "image": {"pixels": features.pixels, "HOG": features.oriented_gradients},
    "audio": {"log-mel statistics": features.log_mel_statistics},
}

# Maps support features, their labels, and query features to predictions.
Predict = Callable[[Tensor, Int[np.ndarray, " S"], Tensor], Int[np.ndarray, " Q"]]


def samples_of(name: str, tokenizer: Any, data_dir: str | None) -> tuple[str, np.ndarray, list[str]]:
    """Returns the modality of a set, its raw rows, and the class of each."""
    if name in TEXTS:
        by_class = json.loads(TEXTS[name].read_text())
        texts = [text for own in by_class.values() for text in own]
        ids = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="np")["input_ids"]
        return "text", ids.astype(np.int32), [label for label, own in by_class.items() for _ in own]
    if name in media.PICTURES:
        return "image", *media.pictures(name)
    if name in media.SOUNDS:
        return "audio", *media.sounds(name)
    split = load_few_shot("fsdd", "test", data_dir=data_dir)
    random = np.random.default_rng(0)
    chosen = [random.permutation(np.flatnonzero(split.labels == label))[: media.PER_CLASS] for label in range(10)]
    rows = np.concatenate(chosen)
    return "audio", split.rows(rows), [split.class_names[label] for label in split.labels[rows]]


def encoded(model: MSMAMLModel, modality: str, rows: np.ndarray) -> Float16[Tensor, "n total"]:
    """Returns the levels of raw rows, in the type in which a model takes them for such."""
    parts = [model.frontends[modality](part[None], torch.float32)[0] for part in torch.from_numpy(rows).split(64)]
    return torch.cat(parts).half()


def by_model(model: MSMAMLModel, modality: str, support: Tensor, labels: np.ndarray, query: Tensor) -> np.ndarray:
    """Predicts by this project's model, from levels."""
    batch = {"support": support[None], "support_labels": torch.from_numpy(labels)[None], "query": query[None]}
    return model({modality: batch}).logits[modality][0].argmax(dim=1).numpy()


def by_regression(support: Tensor, labels: np.ndarray, query: Tensor, strength: float, scaled: bool) -> np.ndarray:
    """Predicts by logistic regression on the encoder's own embedding, of unit length or as it is."""
    both = [part.float().numpy() for part in (support, query)]
    one, other = map(unit, both) if scaled else both
    return logistic_regression(one, labels, other, strength).argmax(axis=1)


def by_standardised(support: Tensor, labels: np.ndarray, query: Tensor) -> np.ndarray:
    """Predicts by logistic regression on standardised features."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(support.numpy(), labels)
    return fitted.predict(query.numpy())


def methods_of(model: MSMAMLModel, modality: str, rows: np.ndarray) -> dict[str, tuple[Tensor, Predict]]:
    """Returns the features of all samples and the classifier of each method."""
    levels, layout = encoded(model, modality, rows), model.task_network.levels[modality]
    parts = levels.split(list(layout.sizes.values()), dim=1)
    last = dict(zip(layout.sizes, parts, strict=True))[layout.last]
    found: dict[str, tuple[Tensor, Predict]] = {OURS: (levels, partial(by_model, model, modality))}
    for strength in STRENGTHS:
        found[f"{REGRESSION}, C = {strength}"] = last, partial(by_regression, strength=strength, scaled=True)
    found[f"{REGRESSION}, unscaled, C = 1"] = last, partial(by_regression, strength=1, scaled=False)
    for name, features_of in SIMPLE[modality].items():
        found[f"logistic regression on {name}"] = features_of(rows), by_standardised
    return found


def drawn(labels: np.ndarray, k_shot: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the support samples and the queries of a draw, class by class."""
    orders = [random.permutation(np.flatnonzero(labels == label)) for label in range(labels.max() + 1)]
    support = np.concatenate([order[:k_shot] for order in orders])
    return support, np.concatenate([order[k_shot : k_shot + QUERIES] for order in orders])


def measure(model: MSMAMLModel, name: str, tokenizer: Any, data_dir: str | None, draws: int) -> list[dict[str, Any]]:
    """Returns the accuracies of all methods in all draws of a set, for each number of shots."""
    modality, rows, names = samples_of(name, tokenizer, data_dir)
    classes, labels = np.unique(names, return_inverse=True)
    methods, found = methods_of(model, modality, rows), []
    for k_shot in SHOTS:
        random, accuracies = np.random.default_rng(0), {method: [] for method in methods}
        for _ in range(draws):
            support, query = drawn(labels, k_shot, random)
            for method, (own, predict) in methods.items():
                right = predict(own[support], labels[support], own[query]) == labels[query]
                accuracies[method].append(float(right.mean()))
        own = {"set": name, "modality": modality, "classes": classes.tolist(), "k_shot": k_shot, "draws": draws}
        found.append({**own, "seed": 0, "looked_at": False, "commit": commit(), "accuracies": accuracies})
    return found


def stored_results() -> list[dict[str, Any]]:
    """Returns what has been measured, which may be nothing."""
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else []


def against(own: dict[str, Any], method: str) -> tuple[float, float]:
    """Returns the mean difference of our accuracies and a method's, and the half-width of its interval over draws."""
    pairs = zip(own["accuracies"][OURS], own["accuracies"][method], strict=True)
    return mean_and_ci95([ours - theirs for ours, theirs in pairs])


def best_other(own: dict[str, Any]) -> str:
    """Returns the other method with the highest mean accuracy."""
    return max((name for name in own["accuracies"] if name != OURS), key=lambda name: np.mean(own["accuracies"][name]))


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False, draws=30, threads=2, data_dir=None)
    parser.add_argument("--model", required=True, help="folder of the model on levels")
    names = [*TEXTS, *media.PICTURES, *media.SOUNDS, SPOKEN]
    parser.add_argument("--sets", nargs="+", choices=names, default=names)
    parser.add_argument("--json", type=Path, default=RESULTS)
    own = parser.parse_args(argv)
    torch.set_num_threads(own.threads)
    model = MSMAMLModel.from_pretrained(own.model).eval()
    tokenizer = tokenizer_of(own.model)
    results = []
    for name in own.sets:
        if name == SPOKEN and own.data_dir is None:
            continue
        with torch.no_grad():
            results += measure(model, name, tokenizer, own.data_dir, own.draws)
        for result in results[-len(SHOTS) :]:
            best = best_other(result)
            (mean, half_width), ours = against(result, best), np.mean(result["accuracies"][OURS])
            gain = f"{100 * mean:+.1f} ± {100 * half_width:.1f} to {best}"
            print(f"{name}, {result['k_shot']} shots: {100 * ours:.1f}, {gain}", flush=True)
    own.json.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
