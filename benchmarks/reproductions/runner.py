"""
Trains a reproduction with its reduced schedule, tests it, and stores a record in `results/reproductions/`.

    python -m benchmarks.reproductions.runner --data_dir DATA [--runs maml_omniglot ...] [--seed 0] [--list]

What is stored already is skipped. A run that was stopped goes on from its last checkpoint. Each is a process of one
thread. `python -m benchmarks.reproductions.report` turns the records into the tables of docs/reproductions.md.
"""

import json
import shlex
import sys
import time
from pathlib import Path

import yaml
from transformers.trainer_utils import get_last_checkpoint

from data_builders import load_few_shot
from modeling_msmaml.inputs.labelled_inputs import SPLITS

from ..experiments.runner import anonymous, learning_curve, run_command, write_json
from ..pages import command_line
from .runs import REPOSITORY, RUNS, command, result_path

# Of the settings that a run stores beside its accuracies: what a reader must know about these.
KEPT = ("protocol", "source_disjoint", "n_way", "k_shot", "n_query", "eval_seed", "datasets", "training_steps")
KEPT += ("best_step", "tasks_per_step", "seed", "num_inner_steps", "num_eval_inner_steps", "inner_lr", "transductive")


def record(name: str, folder: Path, data_dir: str | None, seconds: float, words: list[str]) -> dict:
    """What is stored of a run that has ended in `folder`."""
    run = RUNS[name]
    test = json.loads((folder / "test_results.json").read_text())
    whole = json.loads((folder / "all_results.json").read_text())
    settings = test["settings"]
    of_config = yaml.safe_load((REPOSITORY / run.config).read_text())
    options = run.options.get("dataset_options", of_config.get("dataset_options", {}))
    options = json.loads(options) if isinstance(options, str) else options
    return {
        "name": name,
        "method": run.method,
        "config": run.config,
        **{key: settings.get(key) for key in KEPT},
        "trained": {k: v for k, v in settings.items() if k.startswith("train_") or k in ("augment", "new_classes")},
        **{key: test[f"test_{key}"] for key in ("accuracy", "accuracy_ci95", "episodes")},
        "validation": {key: whole[f"eval_{key}"] for key in ("accuracy", "accuracy_ci95", "episodes")},
        "developed_on": run.developed_on,
        "data": {
            data_set: {
                "options": options.get(data_set, {}),
                "classes_and_samples": classes_and_samples(
                    data_set, settings["protocol"], data_dir, options.get(data_set, {})
                ),
            }
            for data_set in settings["datasets"]
        },
        "commit": settings["commit"],
        "train_runtime_s": whole.get("train_runtime"),
        "wall_s": round(seconds, 1),
        "threads": 1,
        "command": shlex.join(["python", *anonymous(words)]),
        "options": run.options,
        "learning_curve": learning_curve(folder),
    }


def classes_and_samples(name: str, protocol: str, data_dir: str | None, options: dict) -> dict[str, list[int]]:
    """Numbers of classes and of samples of each split of a data set."""
    splits = {part: load_few_shot(name, part, protocol, data_dir, **options) for part in SPLITS}
    return {part: [len(split.class_names), len(split)] for part, split in splits.items()}


def execute(name: str, seed: int, data_dir: str | None, outputs: Path) -> dict:
    """
    Trains and tests a reproduction, from its last checkpoint if it was stopped, and stores its record.

    Raises:
        RuntimeError: the run failed.
    """
    folder, start = outputs / f"{name}-seed{seed}", time.monotonic()
    words = command(name, seed, data_dir, folder)
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    run_command([*words, *(["--resume_from_checkpoint", last] if last else [])], outputs / f"{name}-seed{seed}.log")
    found = record(name, folder, data_dir, time.monotonic() - start, words)
    write_json(result_path(name, seed), found)
    return found


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status: 1 if a run failed."""
    parser = command_line(__doc__, page=False)
    parser.add_argument("--data_dir", help="folder with the data sets' archives; without it they are fetched")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS), metavar="NAME", help="see --list")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/reproductions"), help="where the models go")
    parser.add_argument("--list", action="store_true", help="only say what there is and what is done")
    options = parser.parse_args(argv)
    failed = False
    for name in options.runs:
        path = result_path(name, options.seed)
        if options.list or path.is_file():
            print(f"{name:24} {RUNS[name].method:12} {'done' if path.is_file() else 'to do'}")
            continue
        data_dir = str(Path(options.data_dir).resolve()) if options.data_dir else None
        try:
            found = execute(name, options.seed, data_dir, options.outputs.resolve())
        except RuntimeError as error:
            failed = True
            print(f"{name}: failed: {error}", flush=True)
        else:
            print(f"{name}: {100 * found['accuracy']:.2f} ± {100 * found['accuracy_ci95']:.2f} %", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
