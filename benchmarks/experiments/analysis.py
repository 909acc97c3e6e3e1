"""
What a trained model does, measured for the pictures of docs/results.md: JSONs in `results/experiments/analysis/`.

    python -m benchmarks.experiments.analysis inner_steps outputs/experiments/flagship-5w1s-seed0 --data_dir DATA
    python -m benchmarks.experiments.analysis task_codes outputs/experiments/flagship-5w1s-seed0 --data_dir DATA

`inner_steps`: accuracy on validation classes after 0, 1, 2, ... steps of the inner loop; where its rates are trained
for each step, steps beyond these go on at the rate of the last. `task_codes`: what the task encoder gives out for
support sets of test classes, all layers' modulations in one vector, as points of a plane (PCA, and t-SNE with
perplexity 30); several tasks for each of a few sets of classes.
"""

import json
import math
import shlex
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.training.evaluation import episode_results, summarise
from modeling_msmaml.training.task_facts import TaskFacts

from ..data import batches, of_classes
from ..pages import command_line
from . import grid
from .runner import write_json

TASKS_AT_A_TIME = 6


def settings_of(trained: Path) -> dict:
    """
    What a run was trained and tested with.

    Raises:
        FileNotFoundError: the folder holds no finished run.
    """
    path = trained / "all_results.json"
    if not path.is_file():
        raise FileNotFoundError(f"{trained} holds no finished run: it has no {path.name}")
    return json.loads(path.read_text())["settings"]


def load_splits(settings: dict, part: str, data_dir: str | None) -> list[FewShotSplit]:
    return [load_few_shot(name, part, settings["protocol"], data_dir) for name in settings["datasets"]]


@torch.no_grad()
def accuracies(model: MSMAMLModel, episodes: EpisodeDataset) -> dict[str, float]:
    """Accuracies with intervals, in all and for each modality."""
    results = []
    for batch in batches(episodes, TASKS_AT_A_TIME):
        # One data set per modality.
        tasks = [TaskFacts(name, data_set=name) for name, tasks in batch.items() for _ in tasks["support"]]
        results += episode_results(model(batch), batch, tasks)
    return {name: value for name, value in summarise(results).items() if "accuracy" in name}


def inner_steps(trained: Path, data_dir: str | None, steps: list[int], num_episodes: int) -> dict:
    """Accuracy after each number of inner steps, on the first validation episodes of each modality."""
    settings, model = settings_of(trained), MSMAMLModel.from_pretrained(trained).eval()
    trained_steps = model.config.num_inner_steps
    splits = load_splits(settings, "validation", data_dir)
    shape = (settings["n_way"], settings["k_shot"], settings["n_query"], num_episodes * len(splits))
    apart = settings["source_disjoint"]
    episodes = EpisodeDataset(splits, *shape, settings["eval_seed"], source_disjoint=apart)
    curve = []
    for number in steps:
        model.config.num_inner_steps = number  # trained rates of single steps go on with that of the last step
        curve.append({"steps": number, **accuracies(model, episodes)})
    kept = ("protocol", "n_way", "k_shot", "n_query", "eval_seed", "datasets", "training_steps", "tasks_per_step")
    how = {"split": "validation", "episodes": num_episodes, "training_commit": settings["commit"]}
    how |= {name: settings[name] for name in (*kept, "seed", "transductive")}
    return {**how, "trained_steps": trained_steps, "inner_rates": model.config.inner_rates, "curve": curve}


def class_sets(split: FewShotSplit, n_way: int, number: int) -> list[list[str]]:
    """`number` different sets of `n_way` classes, or as many as there are; a function of the split."""
    number = min(number, math.comb(len(split.class_names), n_way))
    generator, found = np.random.default_rng(0), []
    while len(found) < number:
        drawn = sorted(generator.choice(split.class_names, n_way, replace=False).tolist())
        if drawn not in found:
            found.append(drawn)
    return found


@torch.no_grad()
def codes(model: MSMAMLModel, split: FewShotSplit, settings: dict, tasks: int) -> Float[np.ndarray, "tasks size"]:
    """All layers' modulations of support sets, one vector per task."""
    shape = (settings["n_way"], settings["k_shot"], 1)
    episodes = EpisodeDataset([split], *shape, tasks, seed=0, source_disjoint=settings["source_disjoint"])
    (batch,) = (part[split.modality] for part in batches(episodes, tasks))
    adapted = model.adapt(split.modality, batch["support"], batch["support_labels"], settings["n_way"])
    return torch.cat(adapted.modulation, dim=1).float().numpy()


def task_codes(trained: Path, data_dir: str | None, sets: int, tasks: int) -> dict:
    """
    The task encoder's output for `tasks` support sets of each of `sets` class sets per modality, in two dimensions.

    Raises:
        ValueError: the model has no task encoder.
    """
    settings, model = settings_of(trained), MSMAMLModel.from_pretrained(trained).eval()
    if model.task_encoder is None:
        raise ValueError(f"{trained} has conditioning={model.config.conditioning!r}, and so no task encoder")
    model.config.num_inner_steps = 0  # the modulation does not depend on them
    groups, rows = [], []
    for split in load_splits(settings, "test", data_dir):
        for number, names in enumerate(class_sets(split, settings["n_way"], sets)):
            rows.append(codes(model, of_classes(split, names), settings, tasks))
            groups.append({"modality": split.modality, "set": number, "classes": names})
    vectors = np.concatenate(rows)
    analysis = PCA(2, svd_solver="full").fit(vectors)
    planes = {
        "pca": analysis.transform(vectors),
        "tsne": TSNE(2, perplexity=min(30, len(vectors) // 4), init="pca", random_state=0).fit_transform(vectors),
    }
    for plane, points in planes.items():
        for group, own in zip(groups, points.reshape(len(groups), tasks, 2), strict=True):
            group[plane] = np.round(own, 4).tolist()
    kept = ("protocol", "n_way", "k_shot", "datasets", "training_steps", "seed")
    how = {"split": "test", "tasks_of_a_set": tasks, "size": vectors.shape[1], "training_commit": settings["commit"]}
    how |= {"explained_variance": analysis.explained_variance_ratio_.round(4).tolist()}
    return {**how, **{name: settings[name] for name in kept}, "groups": groups}


ANALYSES = {"inner_steps": (inner_steps, "steps", "num_episodes"), "task_codes": (task_codes, "sets", "tasks")}


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False)
    parser.add_argument("what", choices=list(ANALYSES))
    parser.add_argument("trained", type=Path, help="folder of a finished run")
    parser.add_argument("--data_dir", help="folder with the data sets' archives; without it they are fetched")
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 1, 2, 3, 5, 10], help="of inner_steps")
    parser.add_argument("--num_episodes", type=int, default=200, help="of inner_steps: episodes per modality")
    parser.add_argument("--sets", type=int, default=4, help="of task_codes: class sets per modality")
    parser.add_argument("--tasks", type=int, default=40, help="of task_codes: support sets per class set")
    options = parser.parse_args(argv)
    function, *names = ANALYSES[options.what]
    given = {name: getattr(options, name) for name in names}
    words = ["python", "-m", "benchmarks.experiments.analysis", options.what, "TRAINED"]
    words += [] if options.data_dir is None else ["--data_dir", "DATA"]
    for name, value in given.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    path = grid.RESULTS / "analysis" / f"{options.what}-{options.trained.resolve().name}.json"
    head = {"name": options.trained.resolve().name, "commit": commit(), "command": shlex.join(words)}
    write_json(path, head | function(options.trained, options.data_dir, **given))
    print(f"{path} is written")


if __name__ == "__main__":
    main()
