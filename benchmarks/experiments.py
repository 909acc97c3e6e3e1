"""
The grid of experiments: trains each run once, tests it, and stores a JSON a run and setting in `results/experiments/`.

    python -m benchmarks.experiments --data_dir DATA [--groups modalities baselines ...] [--runs flagship ...]
        [--seeds 0 1] [--n_way 5] [--k_shot 1] [--budget MINUTES] [--workers 2] [--list]

What is stored already is skipped, so that a stopped command goes on where it was. Every run is a process of one thread:
no result depends on `--workers`. `python -m benchmarks.report` turns the JSONs into docs/results.md.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import yaml

from data_builders import EpisodeDataset, load_few_shot
from data_builders.audit import audit_episodes, shared_with_test
from data_builders.episodes.task_augmentation import NEW_CLASSES
from modeling_msmaml.inputs.labelled_inputs import SPLITS

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "results" / "experiments"
DATA_SET_OF = {"audio": "esc50", "text": "brown", "image": "cifar100"}
MODALITIES = tuple(DATA_SET_OF)
FLAGSHIP = "configs/flagship.yaml"
REFERENCE = "configs/audio_text_image.yaml"
GROUPS = ("modalities", "baselines", "reference", "original", "ablation")
# The same training for all; evaluated on the way for the learning curves.
BUDGET = {
    "max_steps": "1000",
    "per_device_train_batch_size": "3",
    "logging_steps": "50",
    "eval_strategy": "steps",
    "eval_steps": "250",
    "num_eval_episodes": "100",
}
# The reference architecture ends with the weights that were best on validation, which it saves at every evaluation.
REFERENCE_BUDGET = {"save_steps": "250"}
WITHOUT_MODULATION = {
    "conditioning": "none",
    "modulation_init": "default",
    "task_encoder_pooling": "mean",
    "share_embeddings": "false",
    "task_encoder_learning_rate": "0",  # which is to have no meaning without one
}
WITHOUT_INNER_LOOP = {"num_inner_steps": "0", "inner_rates": "fixed"}
# The published evaluation draws 15 queries a class, again and again where a class has fewer.
ORIGINAL = {"protocol": "original", "n_query": "15"}

Options = dict[str, str | list[str]]


@dataclass(frozen=True)
class Run:
    """
    One row of the tables.

    Attributes:
        what: it shows.
        groups: tables that it belongs to.
        config: the YAML file; none for what is not trained.
        options: that differ from the config's, beside the common `BUDGET`.
        shots: of the tests; trained for the first.
        seeds: of the training, unless the command gives some.
        test_episodes: a modality.
    """

    what: str
    groups: tuple[str, ...]
    config: str | None = FLAGSHIP
    options: Options = field(default_factory=dict)
    shots: tuple[int, ...] = (1,)
    seeds: tuple[int, ...] = (0,)
    test_episodes: int = 600


def _default(what: str, *groups: str, **more) -> Run:
    return Run(what, groups, FLAGSHIP, **more)


def _reference(what: str, *groups: str, config: str = REFERENCE, **more) -> Run:
    return Run(what, groups, config, **more)


BOTH = (1, 5)
ALL = {"shots": BOTH, "test_episodes": 1000}
# In the order in which they run: the most informative first.
RUNS: dict[str, Run] = {
    "nearest_centroid": Run("nearest centroid, nothing learned", ("baselines", "ablation"), None, **ALL),
    "flagship": _default("default architecture", *("modalities", "baselines", "ablation"), seeds=(0, 1, 2, 3), **ALL),
    "no_modulation": _default(
        "without modulation (plain MAML)", "baselines", "ablation", options=WITHOUT_MODULATION, seeds=(0, 1)
    ),
    "protonet": _default(
        "ProtoNet, same backbone",
        *("baselines", "ablation"),
        options={**WITHOUT_MODULATION, **WITHOUT_INNER_LOOP, "label_smoothing": "0"},
        seeds=(0, 1),
        **ALL,
    ),
    # In training the cosine classifier of the training classes; in the test a linear layer that starts from prototypes
    # and is fitted to the support set by gradient descent.
    "supervised": _default(
        "supervised backbone, linear head",
        *("baselines", "ablation"),
        options={
            **WITHOUT_MODULATION,
            "inner_rates": "fixed",
            "label_smoothing": "0",
            "auxiliary": "true",
            "episode_weight": "0",
            "num_inner_steps": "20",
        },
        seeds=(0, 1),
        **ALL,
    ),
    "audio": _default("audio", "modalities", options={"datasets": ["esc50"]}, seeds=(0, 1), shots=BOTH),
    "text": _default("text", "modalities", options={"datasets": ["brown"]}, seeds=(0, 1), shots=BOTH),
    "image": _default("image", "modalities", options={"datasets": ["cifar100"]}, seeds=(0, 1), shots=BOTH),
    "audio_text": _default("audio, text", "modalities", options={"datasets": ["esc50", "brown"]}, shots=BOTH),
    "audio_image": _default("audio, image", "modalities", options={"datasets": ["esc50", "cifar100"]}, shots=BOTH),
    "text_image": _default("text, image", "modalities", options={"datasets": ["brown", "cifar100"]}, shots=BOTH),
    **{
        f"{modality}_third": _default(
            f"{modality}, as many tasks of it as the model of three",
            "baselines",
            options={"datasets": [name], "per_device_train_batch_size": "1"},
            seeds=(0, 1, 2, 3),
            shots=BOTH,
        )
        for modality, name in DATA_SET_OF.items()
    },
    "reference": _reference("reference architecture", "reference", "original"),
    "reference_no_modulation": _reference(
        "without modulation (plain MAML)", "reference", options={"conditioning": "none"}
    ),
    "original_audio": _reference("audio", "original", config="configs/audio.yaml", options=ORIGINAL),
    "reference_audio": _reference("audio", "original", config="configs/audio.yaml"),
    "original_text": _reference("text", "original", config="configs/text.yaml", options=ORIGINAL),
    "reference_text": _reference("text", "original", config="configs/text.yaml"),
    "original": _reference("audio, text, image", "original", options=ORIGINAL),
    "first_order": _default("first order", "baselines", "ablation", options={"first_order": "true"}, seeds=(0, 1)),
    "all_parameters": _default(
        "all parameters adapted, not the head alone (ANIL)",
        *("baselines", "ablation"),
        options={"adapted_parameters": "all"},
    ),
    "reference_first_order": _reference("first order", "reference", options={"first_order": "true"}),
    "reference_anil": _reference("head alone adapted (ANIL)", "reference", options={"adapted_parameters": "head"}),
    "reference_one_embedding": _reference(
        "images read as sounds: no modality-aware embedding", "reference", options={"image_signal_side": "163"}
    ),
    "reference_inductive": _reference(
        "queries normalised with the support set's statistics",
        "reference",
        options={"norm_statistics": "support"},
    ),
    "untrained": _default(
        "fitted, not trained",
        "ablation",
        options={"max_steps": "1", "learning_rate": "1e-12", "warmup_steps": "0"},
    ),
    "no_inner_loop": _default("without inner loop", "ablation", options=WITHOUT_INNER_LOOP),
    "no_descriptor": _default(
        "without descriptor", "ablation", options={"descriptor_size": "0", "network_gain": "1.0"}
    ),
    "no_augmentation": _default("without augmentation", "ablation", options={"augment": "false"}),
    "batch_norm": _default(
        "batch norm over each set for itself, queries with queries",
        "ablation",
        options={"norm": "batch", "norm_statistics": "transductive"},
    ),
    "no_new_classes": _default(
        "without rotated images and faster and slower sounds as new classes",
        "ablation",
        options={"new_classes": "false"},
    ),
    "mix_classes": _default("with mixed classes", "ablation", options={"mix_classes": '{"audio": 0.5, "image": 0.5}'}),
    "same_way": _default("trained 5-way 1-shot", "ablation", options={"train_n_way": "5", "train_k_shot": "1"}),
    "no_label_smoothing": _default("without label smoothing", "ablation", options={"label_smoothing": "0"}),
    "fixed_rates": _default("without trained inner rates", "ablation", options={"inner_rates": "fixed"}),
    "meta_sgd": _default("rates of each element (Meta-SGD)", "ablation", options={"inner_rates": "per_element"}),
    "kernel_modulation": _default("modulated kernels (after KML)", "ablation", options={"conditioning": "kernel"}),
    "multi_step_loss": _default(
        "with multi-step loss and first order at first",
        "ablation",
        options={"multi_step_loss_steps": "300", "first_order_steps": "100"},
    ),
    "auxiliary": _default("with auxiliary classification", "ablation", options={"auxiliary": "true"}),
}
# Folders, which the stored commands name as a reader would.
FOLDERS = {"--data_dir": "DATA", "--output_dir": "OUTPUT", "--model_name_or_path": "TRAINED", "--json": "FILE"}


@dataclass(frozen=True)
class Job:
    """A run with a seed and a setting to train for."""

    name: str
    seed: int
    n_way: int = 5
    k_shot: int = 1

    @property
    def run(self) -> Run:
        return RUNS[self.name]

    @property
    def shots(self) -> tuple[int, ...]:
        """Of its tests. Another setting than the usual one is trained and tested for itself."""
        return self.run.shots if (self.n_way, self.k_shot) == (5, 1) else (self.k_shot,)

    @property
    def label(self) -> str:
        return f"{self.name}-{self.n_way}w{self.k_shot}s-seed{self.seed}"

    def result(self, k_shot: int) -> Path:
        return result_path(self.name, self.seed, k_shot, self.n_way)

    def missing(self) -> list[int]:
        """Shots of the tests that have no result yet."""
        return [k_shot for k_shot in self.shots if not self.result(k_shot).is_file()]

    def options(self) -> Options:
        """What goes on top of the config, without folders."""
        setting = {} if (self.n_way, self.k_shot) == (5, 1) else {"n_way": str(self.n_way), "k_shot": str(self.k_shot)}
        test = {"num_test_episodes": str(self.run.test_episodes), "seed": str(self.seed)}
        common = BUDGET if self.run.config == FLAGSHIP else {**BUDGET, **REFERENCE_BUDGET}
        options = {**common, **test, **self.run.options, **setting}
        return {**options, **_of_its_modalities(self.run.config, options)}

    def command(self, data_dir: str | None, output_dir: Path) -> list[str]:
        """The command line that trains it and tests it, after `python`."""
        folders = ({"data_dir": data_dir} if data_dir else {}) | {"output_dir": str(output_dir)}
        return ["run_meta.py", self.run.config, *_words({**folders, **self.options()})]

    def values(self) -> dict:
        """All options that the run is made of, those of the config included."""
        return {**_yaml(self.run.config), **self.options(), "output_dir": None}


def _of_its_modalities(config: str, options: Options) -> Options:
    """Values that the config gives for modalities which the run does not have, without these."""
    own, few = _yaml(config), {}
    if "datasets" not in options:
        return few
    if "new_classes" in own and "new_classes" not in options:
        kept = [new for new in own["new_classes"] if DATA_SET_OF[NEW_CLASSES[new].modality] in options["datasets"]]
        few["new_classes"] = kept or "false"
    for name in ("network_gain", "descriptor_whitening"):
        value = own.get(name)
        value = json.loads(value) if isinstance(value, str) and value.startswith("{") else value
        if isinstance(value, dict) and name not in options:
            few[name] = json.dumps({m: value[m] for m in value if DATA_SET_OF[m] in options["datasets"]})
    return few


@cache
def _yaml(config: str) -> dict:
    return yaml.safe_load((REPOSITORY / config).read_text())


def _words(options: Options) -> list[str]:
    return [
        word
        for name, value in options.items()
        for word in (f"--{name}", *([value] if isinstance(value, str) else value))
    ]


def result_path(name: str, seed: int, k_shot: int, n_way: int = 5) -> Path:
    return RESULTS / f"{name}-{n_way}w{k_shot}s-seed{seed}.json"


def stored_results() -> list[dict]:
    """All JSONs of runs, by file name."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*-seed*.json"))]


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
        done = subprocess.run(
            [sys.executable, *words], cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    if done.returncode:
        lines = log.read_text(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")
        raise RuntimeError(f"{said} (exit status {done.returncode}; all of it in {log})")


def anonymous(words: list[str]) -> list[str]:
    """The command line with folders as a reader would name them."""
    return [FOLDERS.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def write_json(path: Path, content: dict) -> None:
    """Whole or not at all."""
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
    words = ["-m", "benchmarks.nearest_centroid", *(("--data_dir", data_dir) if data_dir else ())]
    words += ["--n_way", str(job.n_way), "--k_shot", str(k_shot), "--num_episodes", str(job.run.test_episodes)]
    words += ["--json", str(unstored)]
    start = time.monotonic()
    run_command(words, unstored.with_suffix(".txt"))
    content = {
        "name": job.name,
        "what": job.run.what,
        "groups": job.run.groups,
        "config": None,
        "n_way": job.n_way,
        "k_shot": k_shot,
        "seed": job.seed,
        "rows": json.loads(unstored.read_text()),
        "wall_s": round(time.monotonic() - start, 1),
        "command": shlex.join(["python", *anonymous(words)]),
    }
    write_json(job.result(k_shot), content)


def result_of(job: Job, k_shot: int, folder: Path, trained: Path) -> dict:
    """Accuracies of a test, and everything that they are worth nothing without."""
    test = json.loads((folder / "test_results.json").read_text())
    training = json.loads((trained / "all_results.json").read_text())
    settings, told = test["settings"], training["settings"]
    if settings["k_shot"] != k_shot or settings["n_way"] != job.n_way:
        raise RuntimeError(f"{folder} holds a test of {settings['n_way']}-way {settings['k_shot']}-shot")
    return {
        "name": job.name,
        "what": job.run.what,
        "groups": job.run.groups,
        "config": job.run.config,
        "split": "test",
        **{
            key: settings[key]
            for key in ("protocol", "source_disjoint", "n_way", "k_shot", "n_query", "eval_seed", "datasets")
        },
        **{key: settings[key] for key in ("training_steps", "best_step", "tasks_per_step", "seed", "transductive")},
        "commit": settings["commit"],
        "training_commit": told["commit"],
        "trained": {key: value for key, value in told.items() if key in ("n_way", "k_shot", "n_query")}
        | {key: value for key, value in told.items() if key.startswith("train_") or key == "augment"},
        **{key: value for key, value in test.items() if "accuracy" in key or key.endswith("episodes")},
        "validation": {key: value for key, value in training.items() if key.startswith("eval_") and "accuracy" in key},
        "train_runtime_s": training.get("train_runtime"),
        "warnings": settings.get("warnings", []),
        "learning_curve": learning_curve(trained),
    }


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
                episodes = EpisodeDataset(
                    [test],
                    result["n_way"],
                    result["k_shot"],
                    n_query,
                    result[f"test_{modality}_episodes"],
                    result["eval_seed"],
                    source_disjoint=result["source_disjoint"],
                )
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
    Runs the jobs, `workers` at a time, as long as the next one is expected to end within the budget.

    Returns:
        A line for each that failed.
    """
    start, failures, lock = time.monotonic(), [], threading.Lock()
    waiting = [job for job in jobs if job.missing()]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are done; {len(waiting)} to do", flush=True)

    def next_job() -> Job | None:
        with lock:
            if not waiting:
                return None
            minutes = (time.monotonic() - start + expected_seconds(waiting[0])) / 60
            if budget_minutes is not None and minutes > budget_minutes:
                print(f"the budget of {budget_minutes:g} minutes leaves {len(waiting)} runs for later", flush=True)
                waiting.clear()
                return None
            return waiting.pop(0)

    def worker() -> None:
        while (job := next_job()) is not None:
            print(f"{job.label}: started", flush=True)
            began = time.monotonic()
            try:
                execute(job, data_dir, outputs)
            except (RuntimeError, ValueError, OSError, KeyError) as error:
                failures.append(f"{job.label}: failed: {error}")
                print(failures[-1], flush=True)
            else:
                print(f"{job.label}: done in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(worker) for _ in range(workers)]:
            done.result()
    return failures


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status: 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
