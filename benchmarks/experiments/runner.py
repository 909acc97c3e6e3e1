"""
Trains each run of the grid once, tests it, and stores one JSON per run and setting in `results/experiments/`.

    python -m benchmarks.experiments.runner --data_dir DATA [--groups modalities baselines ...] [--runs flagship ...]
        [--seeds 0 1] [--n_way 5] [--k_shot 1] [--budget MINUTES] [--workers 2] [--list]

What is stored already is skipped, so that a stopped command goes on where it was. Every run is a process of one thread:
no result depends on `--workers`. `python -m benchmarks.experiments.report` turns the JSONs into docs/results.md.
"""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path

from data_builders import EpisodeDataset, audit_episodes, load_few_shot, shared_with_test
from modeling_msmaml.inputs.labelled_inputs import SPLITS

from ..data import MODALITIES
from ..pages import command_line
from .grid import FOLDERS, GROUPS, REPOSITORY, RUNS, Job, stored_results


def plan(
    names: list[str], groups: list[str], seeds: list[int] | None = None, n_way: int = 5, k_shot: int = 1
) -> list[Job]:
    """The jobs of some runs and groups, all if none are named: first seeds first, rows of the ablation alone last."""
    jobs = []
    for name, run in RUNS.items():
        if (names or groups) and name not in names and not set(groups) & set(run.groups):
            continue
        if run.config is None and k_shot not in run.shots:
            continue
        # Nothing is trained without a config, and so nothing depends on a seed.
        for seed in (0,) if run.config is None else seeds or run.seeds:
            jobs.append(Job(name, seed, n_way, k_shot))
    return sorted(jobs, key=lambda job: (job.run.groups == ("ablation",), job.seed, list(RUNS).index(job.name)))


def run_command(words: list[str], log: Path) -> None:
    """
    A process of one thread in the repository, with this Python; `log` holds what it prints.

    Raises:
        RuntimeError: it failed; the message is the last line that it printed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    with log.open("w") as output:
        to_log = {"stdout": output, "stderr": subprocess.STDOUT}
        done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, env=environment, **to_log)
    if done.returncode:
        lines = log.read_text(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")
        raise RuntimeError(f"{said} (exit status {done.returncode}; all of it in {log})")


def anonymous(words: list[str]) -> list[str]:
    """The command line with placeholders for the folders of this machine."""
    return [FOLDERS.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def write_json(path: Path, content: dict) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, path)


def execute(job: Job, data_dir: str | None, outputs: Path) -> None:
    """Trains, unless that is done, tests with every number of shots, and stores a result for each that is missing."""
    if job.run.config is None:
        for k_shot in job.missing():
            _execute_centroid(job, k_shot, data_dir, outputs)
        return
    trained = outputs / job.label
    command = job.command(data_dir, trained)
    for k_shot in job.missing():
        folder, words, start = trained, command, time.monotonic()
        if k_shot == job.k_shot or not (trained / "test_results.json").is_file():
            (trained / "test_results.json").unlink(missing_ok=True)
            run_command(command, trained / "log.txt")
        if k_shot != job.k_shot:
            folder = trained / f"{k_shot}shot"
            words = job.command(data_dir, folder)
            words += ["--do_train", "false", "--do_eval", "false", "--k_shot", str(k_shot)]
            words += ["--model_name_or_path", str(trained)]
            run_command(words, folder / "log.txt")
        seconds = time.monotonic() - start
        content = result_of(job, k_shot, folder, trained)
        content |= describe_data(content, data_dir)
        content |= {"wall_s": round(seconds, 1), "threads": 1, "command": shlex.join(["python", *anonymous(words)])}
        if k_shot != job.k_shot:
            content["training_command"] = shlex.join(["python", *anonymous(command)])
        write_json(job.result(k_shot), {**content, "options": job.values()})


def _execute_centroid(job: Job, k_shot: int, data_dir: str | None, outputs: Path) -> None:
    unstored = outputs / job.label / f"{k_shot}shot.json"
    words = ["-m", "benchmarks.studies.nearest_centroid", *(("--data_dir", data_dir) if data_dir else ())]
    words += ["--n_way", str(job.n_way), "--k_shot", str(k_shot), "--num_episodes", str(job.run.test_episodes)]
    words += ["--json", str(unstored)]
    start = time.monotonic()
    run_command(words, unstored.with_suffix(".txt"))
    content = {**_head(job), "n_way": job.n_way, "k_shot": k_shot, "seed": job.seed}
    content |= {"rows": json.loads(unstored.read_text()), "wall_s": round(time.monotonic() - start, 1)}
    write_json(job.result(k_shot), {**content, "command": shlex.join(["python", *anonymous(words)])})


def _head(job: Job) -> dict:
    return {"name": job.name, "what": job.run.what, "groups": job.run.groups, "config": job.run.config}


def result_of(job: Job, k_shot: int, folder: Path, trained: Path) -> dict:
    """The accuracies of a test, and everything that a reader must know about them."""
    test = json.loads((folder / "test_results.json").read_text())
    training = json.loads((trained / "all_results.json").read_text())
    settings, told = test["settings"], training["settings"]
    if settings["k_shot"] != k_shot or settings["n_way"] != job.n_way:
        raise RuntimeError(f"{folder} holds a test of {settings['n_way']}-way {settings['k_shot']}-shot")
    kept = ("protocol", "source_disjoint", "n_way", "k_shot", "n_query", "eval_seed", "datasets")
    kept += ("training_steps", "best_step", "tasks_per_step", "seed", "transductive", "commit")
    trained_with = ("n_way", "k_shot", "n_query", "augment")
    found = {**_head(job), "split": "test", **{key: settings[key] for key in kept}, "training_commit": told["commit"]}
    found["trained"] = {k: value for k, value in told.items() if k in trained_with or k.startswith("train_")}
    found |= {key: value for key, value in test.items() if "accuracy" in key or key.endswith("episodes")}
    found["validation"] = {k: value for k, value in training.items() if k.startswith("eval_") and "accuracy" in k}
    found |= {"train_runtime_s": training.get("train_runtime"), "warnings": settings.get("warnings", [])}
    return {**found, "learning_curve": learning_curve(trained)}


def learning_curve(trained: Path) -> dict[str, dict[str, list[list[float]]]]:
    """`{"train": {modality: [[step, accuracy], ...]}, "validation": ...}` of what was logged during training."""
    log = json.loads((trained / "trainer_state.json").read_text())["log_history"]
    curves: dict[str, dict[str, list[list[float]]]] = {"train": {}, "validation": {}}
    for entry in log:
        for modality in MODALITIES:
            for part, key in (("train", f"{modality}_accuracy"), ("validation", f"eval_{modality}_accuracy")):
                if key in entry:
                    curves[part].setdefault(modality, []).append([entry["step"], round(entry[key], 5)])
    return curves


_one_at_a_time = threading.Lock()


def describe_data(result: dict, data_dir: str | None) -> dict:
    """
    Classes and samples of every split; for runs that stand beside protocol `original` also what training shares with
    the test, and support with query, in as many test episodes of the same kind.
    """
    data, overlap = {}, {}
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name in result["datasets"]:
            splits = {part: _split(name, part, result["protocol"], data_dir) for part in SPLITS}
            test, modality = splits["test"], splits["test"].modality
            sizes = {part: [len(split.class_names), len(split)] for part, split in splits.items()}
            data[modality] = {"name": name, "classes_and_samples": sizes}
            if "original" in result["groups"]:
                n_query = result["n_query"] if isinstance(result["n_query"], int) else result["n_query"][modality]
                shape = (result["n_way"], result["k_shot"], n_query, result[f"test_{modality}_episodes"])
                apart = result["source_disjoint"]
                episodes = EpisodeDataset([test], *shape, result["eval_seed"], source_disjoint=apart)
                classes, sources = shared_with_test(splits["train"], test)
                shared = {"classes_of_training_in_test": classes, "sources_of_training_in_test": sources}
                overlap[modality] = shared | asdict(audit_episodes(episodes))
    return {"data": data} | ({"overlap": overlap} if overlap else {})


@cache
def _split(name: str, part: str, protocol: str, data_dir: str | None):
    return load_few_shot(name, part, protocol, data_dir)


def expected_seconds(job: Job) -> float:
    """The longest that a run of the same config and as many data sets has taken, else any run; 0 before the first."""
    stored = [result for result in stored_results() if "training_command" not in result]

    def kind(values: dict) -> tuple:
        return values["config"], len(values.get("options", {}).get("datasets", ()))

    own = (job.run.config, len(job.values()["datasets"]) if job.run.config else 0)
    alike = [result for result in stored if kind(result) == own]
    others = [result for result in stored if result["config"] is not None and job.run.config is not None]
    return max((result["wall_s"] for result in alike or others), default=0.0)


def state(job: Job) -> str:
    """`done`, `to do`, or what a stored result says of another grid."""
    if job.missing():
        return "to do"
    if job.run.config is None:
        return "done"
    now = json.loads(json.dumps(job.values()))
    for k_shot in job.shots:
        then = json.loads(job.result(k_shot).read_text())["options"]
        changed = sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))
        if changed:
            return f"done with other {', '.join(changed)}: delete {job.result(k_shot).name} to run it again"
    return "done"


def work(jobs: list[Job], data_dir: str | None, outputs: Path, workers: int, budget_minutes: float | None) -> list[str]:
    """
    Runs the jobs in their order, `workers` at a time, but none that is expected to end after the budget.

    Returns:
        A line for each that failed.
    """
    start, failures, left = time.monotonic(), [], []
    waiting = [job for job in jobs if job.missing()]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are done; {len(waiting)} to do", flush=True)

    def run(job: Job) -> None:
        began = time.monotonic()
        if budget_minutes is not None and (began - start + expected_seconds(job)) / 60 > budget_minutes:
            left.append(job)
            return
        print(f"{job.label}: started", flush=True)
        try:
            execute(job, data_dir, outputs)
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            failures.append(f"{job.label}: failed: {error}")
            print(failures[-1], flush=True)
        else:
            print(f"{job.label}: done in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, waiting))
    if left:
        print(f"the budget of {budget_minutes:g} minutes leaves {len(left)} runs for later", flush=True)
    return failures


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status: 1 if a run failed."""
    parser = command_line(__doc__, page=False)
    parser.add_argument("--data_dir", help="folder with the data sets' archives; without it they are fetched")
    parser.add_argument("--runs", nargs="+", default=[], choices=list(RUNS), metavar="NAME", help="see --list")
    parser.add_argument("--groups", nargs="+", default=[], choices=GROUPS)
    parser.add_argument("--seeds", nargs="+", type=int, help="of the training; by default what --list shows")
    parser.add_argument("--n_way", type=int, default=5)
    parser.add_argument("--k_shot", type=int, default=1, help="of training and test; 5-way 1-shot also tests 5-shot")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="start no run that would end later")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side, a thread each")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/experiments"), help="where the models go")
    parser.add_argument("--list", action="store_true", help="only say what there is and what is done")
    options = parser.parse_args(argv)
    for name, least in (("n_way", 2), ("k_shot", 1), ("workers", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)} must be at least {least}")
    jobs = plan(options.runs, options.groups, options.seeds, options.n_way, options.k_shot)
    if options.list:
        for job in jobs:
            print(f"{job.label:40} {', '.join(job.run.groups):34} {job.run.what}: {state(job)}")
        return 0
    data_dir = os.path.abspath(options.data_dir) if options.data_dir else None
    failures = work(jobs, data_dir, options.outputs.resolve(), options.workers, options.budget)
    print("\n".join([f"{len(failures)} failed:", *failures]) if failures else "none failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
