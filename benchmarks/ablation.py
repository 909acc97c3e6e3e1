"""
Trains and tests the flagship, variants of it without one part each, and baselines on the same backbone; then writes the
tables of docs/results.md.

    python -m benchmarks.ablation --data_dir DATA [--runs flagship no_modulation ...] [--seeds 0 1] [--report]

A run whose result is in `results/flagship/` already is skipped, so that a stopped command goes on where it was.
`--report` only writes the tables.
"""

import argparse
import json
import shlex
from pathlib import Path

import run_meta

from . import nearest_centroid
from .pages import replace_between

CONFIG = "configs/flagship.yaml"
RESULTS = Path("results/flagship")
REPORT = Path("docs/results.md")
BEGIN, END = "<!-- ablation: begin -->", "<!-- ablation: end -->"
MODALITIES = ("audio", "text", "image")
WITHOUT_MODULATION = {
    "conditioning": "none",
    "modulation_init": "default",
    "task_encoder_pooling": "mean",
    "share_embeddings": "false",
    "task_encoder_learning_rate": "0",  # which is to have no meaning without one
}
WITHOUT_INNER_LOOP = {"num_inner_steps": "0", "inner_rates": "fixed"}
# Tested 1-shot and 5-shot on all episodes of the config; the others 1-shot on `ABLATION_EPISODES` a modality.
FULLY_TESTED = ("flagship", "protonet", "supervised")
ABLATION_EPISODES = 600
# Name -> what it shows, and the options that differ from the flagship's.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "flagship": ("flagship", {}),
    "no_modulation": ("without modulation (plain MAML)", WITHOUT_MODULATION),
    "kernel_modulation": ("modulated kernels (after KML)", {"conditioning": "kernel"}),
    "multi_step_loss": (
        "with multi-step loss and first order at first",
        {"multi_step_loss_steps": "300", "first_order_steps": "100"},
    ),
    "meta_sgd": ("rates of each element (Meta-SGD)", {"inner_rates": "per_element"}),
    "no_label_smoothing": ("without label smoothing", {"label_smoothing": "0"}),
    "no_inner_loop": ("without inner loop", WITHOUT_INNER_LOOP),
    "fixed_rates": ("without trained inner rates", {"inner_rates": "fixed"}),
    "no_descriptor": ("without descriptor", {"descriptor_size": "0", "network_gain": "1.0"}),
    "auxiliary": ("with auxiliary classification", {"auxiliary": "true"}),
    "no_augmentation": ("without augmentation", {"augment": "false"}),
    "same_way": ("trained 5-way 1-shot", {"train_n_way": "5", "train_k_shot": "1"}),
    "untrained": ("fitted, not trained", {"max_steps": "1", "learning_rate": "1e-12", "warmup_steps": "0"}),
    "protonet": (
        "ProtoNet, same backbone",
        {**WITHOUT_MODULATION, **WITHOUT_INNER_LOOP, "label_smoothing": "0"},
    ),
    # In training the cosine classifier of the training classes; in the test a linear layer that starts from prototypes
    # and is fitted to the support set by gradient descent.
    "supervised": (
        "supervised backbone, linear head",
        {
            **WITHOUT_MODULATION,
            "inner_rates": "fixed",
            "label_smoothing": "0",
            "auxiliary": "true",
            "episode_weight": "0",
            "num_inner_steps": "20",
        },
    ),
    "audio": ("specialist for audio", {"datasets": "esc50"}),
    "text": ("specialist for text", {"datasets": "brown"}),
    "image": ("specialist for image", {"datasets": "cifar100"}),
}
SETTINGS = ("training_steps", "tasks_per_step", "seed", "protocol", "n_query", "eval_seed", "transductive", "commit")


def options_of(name: str, seed: int, data_dir: str, output_dir: str) -> list[str]:
    """The command line that trains a run and tests it 1-shot, after `run_meta.py`."""
    changes = {"data_dir": data_dir, "output_dir": output_dir, "seed": str(seed), **RUNS[name][1]}
    return [CONFIG, *(word for option, value in changes.items() for word in (f"--{option}", value))]


def run(name: str, seed: int, data_dir: str, outputs: Path) -> None:
    """Trains once, tests 1-shot and, if it is among `FULLY_TESTED`, 5-shot, and stores a result for each."""
    trained = outputs / f"{name}-seed{seed}"
    options = options_of(name, seed, data_dir, str(trained))
    if name not in FULLY_TESTED:
        options += ["--num_test_episodes", str(ABLATION_EPISODES)]
    store(name, seed, 1, run_meta.main(options), options, trained)
    if name not in FULLY_TESTED:
        return
    tested = outputs / f"{name}-seed{seed}-5shot"
    options[options.index("--output_dir") + 1] = str(tested)
    options += ["--do_train", "false", "--do_eval", "false", "--k_shot", "5", "--model_name_or_path", str(trained)]
    store(name, seed, 5, run_meta.main(options), options, tested)


def result_path(name: str, seed: int, k_shot: int) -> Path:
    return RESULTS / f"{name}-seed{seed}-{k_shot}shot.json"


def store(name: str, seed: int, k_shot: int, results: dict, options: list[str], folder: Path) -> None:
    """One result: accuracies, and everything that they are worth nothing without."""
    settings = json.loads((folder / "test_results.json").read_text())["settings"]
    accuracies = {key: value for key, value in results.items() if key.startswith("test_") and "accuracy" in key}
    episodes = {key: value for key, value in results.items() if key.startswith("test_") and key.endswith("episodes")}
    validation = {key: value for key, value in results.items() if key.startswith("eval_") and "accuracy" in key}
    command = shlex.join(["python", "run_meta.py", *anonymous(options)])
    content = {
        "run": name,
        "what": RUNS[name][0],
        "split": "test",
        "n_way": settings["n_way"],
        "k_shot": k_shot,
        **accuracies,
        **episodes,
        "validation": validation,
        "train_runtime_s": results.get("train_runtime"),
        "settings": settings,
        "command": command,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    result_path(name, seed, k_shot).write_text(json.dumps(content, indent=2) + "\n")


def anonymous(options: list[str]) -> list[str]:
    """The options with folders as a reader would name them."""
    named = {"--data_dir": "DATA", "--output_dir": "OUTPUT", "--model_name_or_path": "TRAINED"}
    return [named.get(before, word) for before, word in zip(["", *options], options, strict=False)]


def table(k_shot: int) -> str:
    """All results of `results/flagship/` with this many shots, as Markdown."""
    lines = [
        "| model | seed | audio | text | image | mean | meta-steps |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for centroid in stored_centroids(k_shot):
        cells = [f"{cell(centroid, 'accuracy')}" if centroid["modality"] == m else "" for m in MODALITIES]
        lines.append(f"| {centroid['method']} | | {' | '.join(cells)} | | 0 |")
    for name in RUNS:
        for path in sorted(RESULTS.glob(f"{name}-seed*-{k_shot}shot.json")):
            result = json.loads(path.read_text())
            cells = [cell(result, f"test_{m}_accuracy") if f"test_{m}_accuracy" in result else "" for m in MODALITIES]
            values = [result[f"test_{m}_accuracy"] for m in MODALITIES if f"test_{m}_accuracy" in result]
            mean = f"{100 * sum(values) / 3:.2f}" if len(values) == 3 else ""
            settings = result["settings"]
            lines.append(
                f"| {result['what']} | {settings['seed']} | {' | '.join(cells)} | {mean} | "
                f"{settings['training_steps']} |"
            )
    return "\n".join(lines)


def stored_centroids(k_shot: int) -> list[dict]:
    path = RESULTS / f"nearest_centroid-{k_shot}shot.json"
    return json.loads(path.read_text()) if path.is_file() else []


def cell(result: dict, key: str) -> str:
    return f"{100 * result[key]:.2f} ± {100 * result[f'{key}_ci95']:.2f}"


def report() -> str:
    """What stands between the marks of docs/results.md."""
    parts = []
    for k_shot in (1, 5):
        some = next(iter(sorted(RESULTS.glob(f"flagship-seed*-{k_shot}shot.json"))), None)
        if some is not None:
            result = json.loads(some.read_text())
            settings = result["settings"]
            parts.append(
                f"### 5-way {k_shot}-shot\n\n"
                f"{settings['protocol']}, support and query from different sources; queries a class "
                f"{', '.join(f'{m} {n}' for m, n in settings['n_query'].items())}; "
                f"{result['test_audio_episodes']} test episodes a modality (seed {settings['eval_seed']}; the first "
                f"{ABLATION_EPISODES} of them for all but {', '.join(RUNS[name][0] for name in FULLY_TESTED)}); "
                f"the same for all; inductive; {settings['tasks_per_step']} tasks a meta-step; mean and 95 % interval."
            )
            parts.append(table(k_shot))
    return "\n\n".join(parts)


def write_report() -> None:
    replace_between(REPORT, BEGIN, END, report())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder with the data sets' archives")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs/ablation"), help="where the models go")
    parser.add_argument("--report", action="store_true", help="only write the tables")
    options = parser.parse_args(argv)
    if not options.report:
        if options.data_dir is None:
            parser.error("--data_dir is needed to train")
        for k_shot in (1, 5):
            path = RESULTS / f"nearest_centroid-{k_shot}shot.json"
            if not path.is_file():
                RESULTS.mkdir(parents=True, exist_ok=True)
                nearest_centroid.main(["--data_dir", options.data_dir, "--k_shot", str(k_shot), "--json", str(path)])
        for seed in options.seeds:
            for name in options.runs:
                last = 5 if name in FULLY_TESTED else 1
                if not result_path(name, seed, last).is_file():
                    run(name, seed, options.data_dir, options.outputs)
    write_report()


if __name__ == "__main__":
    main()
