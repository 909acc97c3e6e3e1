"""
Trains MS-MAML and every baseline with the same data, episodes, steps and seed, and tests all on the same episodes.

    python -m benchmarks.baselines --data_dir DATA [--settings cifar100 clinc150] [--contenders ms_maml ridge ...]
        [--seed 0] [--steps 300] [--tasks 4] [--episodes 300] [--outputs FOLDER] [--write docs/baselines.md]

Each is a run of `run_meta.py`, in a process of one thread. What is stored already is skipped, so that a stopped command
goes on where it was; every contender leaves a JSON in `results/baselines/`, and the tables are made of these.
"""

import os
import shlex
import time
from pathlib import Path
from typing import Any

import torch

from modeling_msmaml import MetaTrainer
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.training.metrics import mean_and_ci95
from msmaml.runs.run_arguments import parse_arguments
from msmaml.runs.run_data import make_datasets, shared_text, splits_of
from msmaml.runs.run_model import make_model, store_features, tokenizer_of, tokenizer_of_levels

from ..experiments.runner import anonymous, run_command, write_json
from ..pages import command_line
from .contenders import CONTENDERS, SETTINGS, SHOTS, options_of, result_path
from .report import publish_tables


def words_of(options: dict[str, str], **folders: str | Path | None) -> list[str]:
    """The options as a command line, folders first."""
    given = {name: str(value) for name, value in folders.items() if value is not None}
    return [word for name, value in {**given, **options}.items() for word in (f"--{name}", value)]


def right_answers(options: dict[str, str], k_shot: int, episodes: int, data_dir: str | None, trained: Path) -> dict:
    """
    Tests a trained contender.

    Returns:
        The mean accuracy with its interval, how many queries of each test episode were right, and the conditions.
    """
    changes = {"do_predict": "true", "k_shot": str(k_shot), "num_test_episodes": str(episodes)}
    of_training = ("auxiliary", "episode_weight", "max_steps")
    kept = {name: value for name, value in options.items() if name not in of_training}
    folders = {"data_dir": data_dir, "output_dir": trained / f"{k_shot}shot", "model_name_or_path": trained}
    arguments, data, args = parse_arguments(words_of({**kept, **changes}, **folders))
    text = shared_text(data, ["test"], tokenizer_of(str(trained)), tokenizer_of_levels(arguments))
    datasets = make_datasets(data, args, text)
    model = make_model(arguments, args, splits_of(datasets))
    if data.cache_features:
        datasets = store_features(datasets, model, data, args.device)
    found: Any = MetaTrainer(model=model, args=args).predict(datasets["test"])
    right = [
        sum(int(one == other) for one, other in zip(*pair, strict=True))
        for pair in zip(found.predictions, found.label_ids, strict=True)
    ]
    queries = len(found.label_ids[0])
    accuracy, half_width = mean_and_ci95([number / queries for number in right])
    (split,) = datasets["test"].splits
    return {
        "k_shot": k_shot,
        "accuracy": accuracy,
        "accuracy_ci95": half_width,
        "queries": queries,
        "right": right,
        "n_way": args.n_way,
        "protocol": data.protocol,
        "source_disjoint": data.source_disjoint,
        "eval_seed": data.eval_seed,
        "transductive": model.config.norm_statistics == "transductive",
        "test_classes": len(split.class_names),
        "parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }


def measure(setting: str, name: str, options: Any) -> dict:
    """Trains and tests a contender; returns what its JSON holds."""
    given = options_of(setting, name, options.seed, options.steps, options.tasks)
    trained = options.outputs.resolve() / f"{setting}-{name}-seed{options.seed}"
    words = words_of({"do_train": "true", **given}, data_dir=options.data_dir, output_dir=trained)
    start = time.monotonic()
    run_command(["run_meta.py", *words], trained.with_suffix(".txt"))
    seconds = time.monotonic() - start
    tests = [right_answers(given, k_shot, options.episodes, options.data_dir, trained) for k_shot in SHOTS]
    return {
        "setting": setting,
        "name": name,
        "seed": options.seed,
        "steps": options.steps,
        "tasks": options.tasks,
        "commit": commit(),
        "training_seconds": round(seconds, 1),
        "command": shlex.join(["python", "run_meta.py", *anonymous(words)]),
        "tests": tests,
    }


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status: 1 if a contender failed."""
    parser = command_line(__doc__ or "", data_dir=None, seed=0, steps=300, tasks=4, episodes=300)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/baselines"), help="where the models go")
    options = parser.parse_args(argv)
    for name in ("steps", "tasks", "episodes"):
        if getattr(options, name) < (2 if name == "episodes" else 1):
            parser.error(f"--{name} {getattr(options, name)} is too few")
    options.data_dir = os.path.abspath(options.data_dir) if options.data_dir else None
    torch.set_num_threads(1)
    failures = []
    for setting in options.settings:
        for name in options.contenders:
            path = result_path(setting, name, options.seed)
            if path.is_file():
                print(f"{path.name} is there already: delete it to measure it again")
                continue
            try:
                write_json(path, measure(setting, name, options))
            except (RuntimeError, ValueError, OSError) as error:
                failures.append(f"{setting}, {name}: {error}")
                print(f"failed: {failures[-1]}", flush=True)
            else:
                print(f"{path.name} is written", flush=True)
    publish_tables(options.settings, options.seed, options.write)
    return 1 if failures else 0
