"""Makes a table of the settings (n_way, k_shot, n_query) that the data can fill, for every data set and protocol.

    python -m scripts.feasibility --data_dir DATA           # prints the table
    python -m scripts.feasibility --data_dir DATA --write   # writes it into data_builders/README.md

The table shows what `EpisodeDataset` accepts with `source_disjoint=True`. Classes that are too small may be left out,
except the test classes of `class_disjoint`, each of which must be able to fill an episode.
"""

from __future__ import annotations

import argparse
import warnings
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_builders import EpisodeSampler, FewShotSplit, NoSuchSplit, load_few_shot, read_protocols
from modeling_msmaml.inputs.labelled_inputs import SPLITS

README = Path(__file__).resolve().parents[1] / "data_builders" / "README.md"
BEGIN, END = "<!-- feasibility: begin -->", "<!-- feasibility: end -->"
N_WAY, N_QUERY, SHOTS = 5, 15, (1, 5)
DATA_SETS: tuple[tuple[str, dict], ...] = (
    ("esc50", {}),
    ("brown", {"unit": "passage"}),
    ("brown", {"unit": "document"}),
    ("cifar100", {}),
    ("clinc150", {}),
    ("banking77", {}),
    ("fsdd", {}),
    ("omniglot", {"part": "small1"}),
)


def is_feasible(split: FewShotSplit, n_way: int, k_shot: int, n_query: int) -> bool:
    """Returns whether `EpisodeDataset` accepts the setting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            EpisodeSampler(split, n_way, k_shot, n_query, source_disjoint=True)
        except ValueError:
            return False
    return True


def largest(is_possible: Callable[[int], bool], limit: int) -> int:
    """Returns the largest possible number from 1 to limit, or 0 if there is none.

    All numbers below a possible one must be possible, too.
    """
    return bisect(range(1, limit + 1), False, key=lambda number: not is_possible(number))


def feasible_settings(split: FewShotSplit) -> list[str]:
    """Returns four cells: the largest n_way with 15 queries and the largest n_query with 5 ways, for 1 and 5 shots."""
    n_classes, n_rows = len(split.class_names), int(np.bincount(split.labels).max())
    ways = [largest(lambda n, k=k: n == 1 or is_feasible(split, n, k, N_QUERY), n_classes) for k in SHOTS]
    if split.protocol == "original":  # rows repeat, so there is no limit
        queries = ["any"] * len(SHOTS)
    else:
        queries = [largest(lambda n, k=k: is_feasible(split, N_WAY, k, n), n_rows) for k in SHOTS]
    return [str(number) if number != "any" and number > 1 or number == "any" else "none" for number in ways] + [
        str(number or "none") for number in queries
    ]


def table(data_dir: str | None, cache_dir: str | None = None) -> Iterator[str]:
    """Yields the lines of the Markdown table."""
    yield (
        "| data set | protocol | split | classes | samples | sources | samples per class | n_way: 1-shot, 15 queries "
        "| n_way: 5-shot, 15 queries | n_query: 5-way 1-shot | n_query: 5-way 5-shot |"
    )
    yield "| --- | --- | --- " + "| ---: " * 8 + "|"
    for name, options in DATA_SETS:
        title = " ".join([name, *options.values()])
        for protocol in read_protocols(name):
            if protocol == "original" and options.get("unit") == "passage":  # published with documents only
                continue
            for split_name in SPLITS:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    try:
                        split = load_few_shot(name, split_name, protocol, data_dir, cache_dir, **options)
                    except NoSuchSplit:
                        continue
                counts = np.bincount(split.labels, minlength=len(split.class_names))
                sizes = f"{counts.min()} to {counts.max()}" if counts.min() != counts.max() else str(counts.min())
                cells = [title, protocol, split_name, len(counts), len(split), len(set(split.source_ids)), sizes]
                yield "| " + " | ".join(map(str, [*cells, *feasible_settings(split)])) + " |"


def written_table() -> str:
    """Returns the table that is in the README."""
    return README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder with the data; by default the official archives are downloaded")
    parser.add_argument("--cache_dir", help="folder for the built data; by default the cache of datasets")
    parser.add_argument("--write", action="store_true", help="write the table into the README")
    arguments = parser.parse_args(argv)
    lines = "\n".join(table(arguments.data_dir, arguments.cache_dir))
    print(lines)
    if arguments.write:
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{lines}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
