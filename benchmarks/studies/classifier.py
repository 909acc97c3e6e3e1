"""
FewShotClassifier against the Trainer's evaluation of the same episodes, and how long one fit and one predict take.

    python -m benchmarks.studies.classifier --model MODEL --data_dir DATA [--episodes 200] [--threads 2] [--write FILE]

Held-out test classes, inputs as a person gives them: waveforms, pictures, and texts as strings. Besides the accuracies
(with 95 % intervals over episodes) and the predictions that differ from the Trainer's under norm_statistics="support":
the accuracy with a last layer that starts anew, as for another number of classes; the calibration error (15 bins, Guo
et al. 2017, arXiv 1706.04599); the share of queries with a probability of at least 0.7, and the accuracy on these; the
accuracy when the classes have from one to all of the examples, repeated to the same number (as by default) or not.
"""

import argparse
import copy
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import FewShotClassifier, MetaTrainer, MetaTrainingArguments, MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.training.metrics import mean_and_ci95

from ..data import DATA_SETS, N_QUERY
from ..pages import command_line, percent, publish, table
from ..speed.meta_step import timed

PART = "classifier"
SURE = 0.7
ACCURACIES = ("trainer", "classifier", "new_head", "repeated", "not_repeated")


# Figure -> its value for each episode, in order; `confidence` and `right` have one for each query.
Measured = dict[str, list]


def as_given(rows: torch.Tensor, modality: str, processor: MSMAMLProcessor) -> Sequence:
    """Rows of a split as a person has such data.

    Raises:
        ValueError: a text that is not read as it was stored.
    """
    if modality != "text":
        return list(rows.numpy())
    tokenizer = processor.tokenizer
    texts = [" ".join(tokenizer.convert_ids_to_tokens([token for token in row if token])) for row in rows.tolist()]
    again = processor(text=texts)["input_ids"]
    if not np.array_equal(again, rows.numpy()):
        raise ValueError(f"{int((again != rows.numpy()).any(axis=1).sum())} texts are tokenised otherwise than stored")
    return texts


def with_new_head(model: MSMAMLModel) -> MSMAMLModel | None:
    """The model whose last layer starts as that of another `n_way`; `None` if that is how it always starts."""
    if not isinstance(getattr(model.task_network, "classifier", None), torch.nn.Linear):
        return None
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.task_network.classifier.parameters():
            parameter.copy_(parameter.mean(dim=0, keepdim=True).expand_as(parameter))
    return model


def trainer_predictions(model: MSMAMLModel, dataset: EpisodeDataset, n_way: int) -> list[list[int]]:
    """What the Trainer's evaluation predicts for every episode."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"output_dir": folder, "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
        args = MetaTrainingArguments(n_way=n_way, norm_statistics="support", **quiet)
        return MetaTrainer(model=copy.deepcopy(model), args=args, eval_dataset=dataset).predict(dataset).predictions


def measure(split: FewShotSplit, path: str, arguments: argparse.Namespace) -> Measured:
    """All figures of one modality."""
    modality = split.modality
    model, processor = MSMAMLModel.from_pretrained(path), MSMAMLProcessor.from_pretrained(path)
    if modality == "text" and processor.tokenizer.get_vocab() != split.tokenizer.get_vocab():
        raise ValueError(f"{path} was trained with another vocabulary than that of {split.name}")
    shape = (arguments.n_way, arguments.k_shot, arguments.n_query or N_QUERY[modality])
    dataset = EpisodeDataset([split], *shape, arguments.episodes, seed=0)
    result, anew = defaultdict(list), with_new_head(model)
    classifier = FewShotClassifier(path, modality=modality, sampling_rate=16_000, batch_size=1_000)
    for number, expected in enumerate(trainer_predictions(model, dataset, arguments.n_way)):
        episode = dataset[number]
        labels, truth = episode["support_labels"].numpy(), episode["query_labels"].numpy()
        support, queries = (as_given(episode[part], modality, processor) for part in ("support", "query"))
        result["fit"].append(timed(partial(classifier.fit, support, labels), "cpu"))
        result["predict_all"].append(timed(partial(classifier.predict_proba, queries), "cpu"))
        result["predict_one"].append(timed(partial(classifier.predict, queries[:1]), "cpu"))
        probabilities = classifier.predict_proba(queries)
        predictions = classifier.classes_[probabilities.argmax(axis=1)]
        right = predictions == truth
        result["trainer"].append(float(np.mean(np.asarray(expected) == truth)))
        result["classifier"].append(float(right.mean()))
        result["differing"].append(int((predictions != np.asarray(expected)).sum()))
        result["confidence"] += probabilities.max(axis=1).tolist()
        result["right"] += right.tolist()
        if anew is not None:
            other = FewShotClassifier(anew, processor, modality, 16_000, batch_size=1_000)
            result["new_head"].append(other.fit(support, labels).score(queries, truth))
        some = unequal(labels, arguments.n_way, arguments.k_shot)
        for repeat, figure in ((True, "repeated"), (False, "not_repeated")):
            other = FewShotClassifier(path, None, modality, 16_000, balance_classes=repeat, batch_size=1_000)
            result[figure].append(other.fit([support[i] for i in some], labels[some]).score(queries, truth))
    return result


def unequal(labels: Int[np.ndarray, " examples"], n_way: int, k_shot: int) -> list[int]:
    """Numbers of examples: one of class 0, all of the last class, and evenly in between."""
    counts = np.round(np.linspace(1, k_shot, n_way)).astype(int)
    return [int(i) for label, count in enumerate(counts) for i in np.flatnonzero(labels == label)[:count]]


def calibration_error(
    confidence: Float[np.ndarray, " queries"], right: Bool[np.ndarray, " queries"], bins: int = 15
) -> float:
    """Mean distance of confidence and accuracy over equal bins of confidence, by their numbers of queries."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[which == i].sum() - confidence[which == i].sum()) for i in range(bins)]
    return float(sum(gaps) / len(right))


def _percent(values: list[float]) -> str:
    if not values:
        return "the same"
    return percent(*mean_and_ci95(values))


def _milliseconds(values: list[float]) -> str:
    return f"{1e3 * np.median(values):.1f} ({1e3 * np.percentile(values, 95):.1f})"


def tables(results: dict[str, Measured], arguments: argparse.Namespace) -> str:
    """The figures as Markdown."""
    rows, times = [], []
    for modality, result in results.items():
        confidence, right = np.asarray(result["confidence"]), np.asarray(result["right"])
        sure = confidence >= SURE
        accuracies = {figure: _percent(result[figure]) for figure in ACCURACIES}
        cells = [accuracies["trainer"], accuracies["classifier"], f"{sum(result['differing'])} of {len(right)}"]
        cells += [accuracies["new_head"], f"{100 * calibration_error(confidence, right):.1f}"]
        cells += [f"{100 * sure.mean():.0f}", f"{100 * right[sure].mean():.1f}" if sure.any() else "none"]
        rows.append([modality, *cells, accuracies["repeated"], accuracies["not_repeated"]])
        times.append([modality, *(_milliseconds(result[name]) for name in ("fit", "predict_one", "predict_all"))])
    head = ["modality", "Trainer, %", "fit and predict, %", "predictions that differ", "new last layer, %"]
    head += ["calibration error, %", f"at least {SURE} sure, %", "accuracy on these, %"]
    head += [f"1 to {arguments.k_shot} examples, repeated, %", "not repeated, %"]
    head_of_times = ["modality", "one fit", "one predict of one query", "one predict of all queries of an episode"]
    parts = [
        f"{arguments.n_way}-way {arguments.k_shot}-shot, {arguments.episodes} episodes per modality:",
        table(head, rows),
        f"Median milliseconds on {arguments.threads} threads, and 95th percentile in brackets, decoding included:",
        table(head_of_times, times),
    ]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, n_way=5, k_shot=5, threads=2)
    parser.add_argument("--model", required=True, help="folder of a trained model with its processor")
    parser.add_argument("--datasets", nargs="+", default=list(DATA_SETS.values()), help="one per modality")
    parser.add_argument("--data_dir", help="folder with the archives")
    parser.add_argument("--episodes", type=int, default=200, help="of each modality; at least 2")
    parser.add_argument("--n_query", type=int, help=f"by default {N_QUERY}")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    results = {}
    for name in arguments.datasets:
        split = load_few_shot(name, "test", data_dir=arguments.data_dir)
        results[split.modality] = measure(split, arguments.model, arguments)
    publish(PART, tables(results, arguments), arguments.write)


if __name__ == "__main__":
    main()
