"""What training shares with test, and support with query, counted over real episodes.

    python -m data_builders.audit esc50 --protocol class_disjoint --n_way 5 --k_shot 1 --n_query 3 --episodes 1000 \\
        --data_dir DATA

Any name that `load_few_shot` takes; its options as JSON: `--options '{"unit": "document"}'`. Exit status 1 when no
split can fill an episode.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_builders.splits.protocols import PROTOCOLS
from modeling_msmaml.inputs.labelled_inputs import SPLITS

from .episodes.episode_dataset import EpisodeDataset
from .load import load_few_shot
from .storage.few_shot_split import FewShotSplit


@dataclass(frozen=True)
class EpisodeAudit:
    """Counts over some episodes of one split.

    Attributes:
        episodes: how many were looked at.
        repeated_samples: places in an episode that hold a sample which the episode has already, summed.
        pairs: (support, query) pairs.
        same_sample: pairs of a sample with itself.
        same_source: pairs from one recording or document (a sample with itself included).
        leaking_episodes: episodes with at least one such pair.
    """

    episodes: int
    repeated_samples: int
    pairs: int
    same_sample: int
    same_source: int
    leaking_episodes: int


def audit_episodes(dataset: EpisodeDataset) -> EpisodeAudit:
    """Counts over all episodes of a data set with one split."""
    (split,) = dataset.splits
    sources = np.unique(split.source_ids.astype(str), return_inverse=True)[1]
    repeated = pairs = same_sample = same_source = leaking = 0
    for index in range(len(dataset)):
        episode = dataset[index]
        support, query = episode["support_ids"].numpy(), episode["query_ids"].numpy()
        repeated += len(support) + len(query) - len(np.union1d(support, query))
        pairs += len(support) * len(query)
        same_sample += int((support[:, None] == query).sum())
        from_one_source = int((sources[support][:, None] == sources[query]).sum())
        same_source += from_one_source
        leaking += from_one_source > 0
    return EpisodeAudit(len(dataset), repeated, pairs, same_sample, same_source, leaking)


def shared_with_test(split: FewShotSplit, test: FewShotSplit) -> tuple[int, int]:
    """How many classes, and how many sources, a split has in common with the test split."""
    classes = set(split.class_names) & set(test.class_names)
    return len(classes), len(set(split.source_ids) & set(test.source_ids))


def audit(
    name: str,
    protocol: str,
    n_way: int,
    k_shot: int,
    n_query: int,
    episodes: int,
    seed: int = 0,
    **load_options: Any,
) -> tuple[str, bool]:
    """The report as Markdown, and whether any split could fill an episode; see the docstring of this module."""
    splits = {split: load_few_shot(name, split, protocol, **load_options) for split in SPLITS}
    setting = f"{n_way}-way {k_shot}-shot, {n_query} queries a class, {episodes} episodes a split"
    lines = [
        f"{name}, protocol {protocol}: {setting}",
        "",
        "| split | classes | samples | sources | classes also in test | sources also in test | repeated samples "
        "| support/query pairs | of one sample | of one source | episodes with such pairs |",
        "| --- " + "| ---: " * 10 + "|",
    ]
    remarks, is_possible = [], False
    for name_of_split, split in splits.items():
        in_test = shared_with_test(split, splits["test"]) if name_of_split != "test" else ("", "")
        cells = [name_of_split, len(split.class_names), len(split), len(set(split.source_ids)), *in_test]
        try:
            dataset = EpisodeDataset([split], n_way, k_shot, n_query, episodes, seed)
        except ValueError as error:
            remarks.append(f"{name_of_split}: {error}")
            cells += ["not possible"] + [""] * 4
        else:
            is_possible = True
            found = audit_episodes(dataset)
            share = f"{found.leaking_episodes} ({found.leaking_episodes / found.episodes:.1%})"
            cells += [found.repeated_samples, found.pairs, found.same_sample, found.same_source, share]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    remarks += [splits["test"].warning] if splits["test"].warning else []
    return "\n".join([*lines, *(f"\n{remark}" for remark in remarks)]), is_possible


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a data set, as load_few_shot takes it")
    parser.add_argument("--protocol", default="class_disjoint", choices=PROTOCOLS)
    parser.add_argument("--n_way", type=int, default=5)
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--n_query", type=int, default=15)
    parser.add_argument("--episodes", type=int, default=1000, help="of each split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir", help="folder with the data; official archives are fetched when left out")
    parser.add_argument("--cache_dir", help="where built data go; the cache of datasets by default")
    parser.add_argument("--options", type=json.loads, default={}, help="of the data set, as JSON")
    arguments = vars(parser.parse_args(argv))
    report, is_possible = audit(**arguments.pop("options"), **arguments)
    print(report)
    return 0 if is_possible else 1


if __name__ == "__main__":
    sys.exit(main())
