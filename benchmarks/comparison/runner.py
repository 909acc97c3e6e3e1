"""
The comparison of docs/results.md: this project's model on levels beside what anyone does with the same frozen encoder,
and the from-scratch model of version 0.1, all on the same episodes of eight sets.

    python -m benchmarks.comparison.runner --model FOLDER --data_dir DATA [--without esc50=FOLDER ...]
        [--from_scratch FOLDER] [--methods NAME ...] [--sets NAME ...] [--n_way 5 ...] [--k_shot 1 ...]
        [--episodes 400] [--threads 2] [--missing]
    python -m benchmarks.comparison.report  # writes the tables from the JSON files

Levels of each split are computed once and kept in `cache_dir`. `--missing` measures only what has no result yet, or one
of fewer episodes. `--without` names a model that was trained without a data set; `--from_scratch` is slow.
"""

import time

import torch

from modeling_msmaml import MSMAMLModel
from modeling_msmaml.hub.provenance import commit

from ..pages import command_line
from . import baselines, results  # noqa: F401  # baselines registers its methods
from .cells import DATA_SETS, cells
from .methods import METHODS, FromScratch, Levels, LevelsOnEverything, LevelsOwnStatistics, LevelsWithout, Method
from .splits import Material, fingerprint, folders


def methods_of(without: list[str], everything: str | None, from_scratch: str | None) -> dict[str, Method]:
    """Returns all methods by name, those that need a model of their own only if it is given."""
    own: list[Method] = [Levels()]
    own += [LevelsOnEverything(everything), LevelsOwnStatistics(everything)] if everything is not None else []
    own += [LevelsWithout(folders(without))] if without else []
    own += [FromScratch(from_scratch)] if from_scratch is not None else []
    return {method.name: method for method in own} | METHODS


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False, episodes=400, seed=0, threads=2, cache_dir=None, data_dir=None)
    parser.add_argument("--model", required=True, help="folder of the model on levels")
    parser.add_argument("--without", nargs="+", default=[], metavar="SET=FOLDER", help="models trained without a set")
    parser.add_argument("--everything", metavar="FOLDER", help="a model trained on all sets: configs/everything.yaml")
    parser.add_argument("--from_scratch", metavar="FOLDER", help="a model on raw rows, such as that of version 0.1")
    parser.add_argument("--methods", nargs="+", help="names of the methods; by default all")
    parser.add_argument("--sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--n_way", nargs="+", type=int, default=[5, 10, 20])
    parser.add_argument("--k_shot", nargs="+", type=int, default=[1, 5, 15, 20])
    parser.add_argument("--missing", action="store_true", help="leave what has been measured as it is")
    own = parser.parse_args(argv)
    torch.set_num_threads(own.threads)
    found = methods_of(own.without, own.everything, own.from_scratch)
    if unknown := sorted(set(own.methods or ()) - set(found)):
        parser.error(f"--methods {' '.join(unknown)}: choose from {', '.join(found)}")
    material = Material(MSMAMLModel.from_pretrained(own.model), own.model, own.data_dir, own.cache_dir)
    for method in [found[name] for name in own.methods or found]:
        stored = results.read(method.name)
        for cell in cells():
            number = method.episodes(own.episodes)
            old = stored.get(cell.key)
            is_done = old is not None and old["episodes"] >= number and old["seed"] == own.seed
            is_asked = cell.data_set in own.sets and cell.n_way in own.n_way and cell.k_shot in own.k_shot
            if not is_asked or not method.applies(cell) or (own.missing and is_done):
                continue
            start, data_set = time.perf_counter(), DATA_SETS[cell.data_set]
            answers = method.answers(cell, material, number, own.seed)
            more = {"seed": own.seed, "commit": commit(), "rows": fingerprint(material.raw(cell.data_set, "test"))}
            entry = results.entry(method, cell, answers, data_set.source_disjoint, **more)
            results.write(method.name, [entry])
            print(
                f"{method.title}, {cell.data_set}, {cell.n_way}-way {cell.k_shot}-shot: {100 * entry['accuracy']:.2f} "
                f"± {100 * entry['accuracy_ci95']:.2f}, {time.perf_counter() - start:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
