"""A command that counts leakage: what training and test share, and what support and query share in real episodes.

    python -m data_builders.audit esc50 --protocol class_disjoint --n_way 5 --k_shot 1 --n_query 3 --episodes 1000 \\
        --data_dir DATA

The command accepts any name that `load_few_shot` accepts, and the options of the data set as JSON, for instance
`--options '{"unit": "document"}'`. With `--same_source`, support and query may share a source, as with
`source_disjoint=False`. The exit status is 1 if no split can fill an episode.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from data_builders.splits.protocols import PROTOCOLS, NoSuchSplit
from modeling_msmaml.hub.model_card import data_set_origin
from modeling_msmaml.inputs.labelled_inputs import SPLITS, few

from .episodes.episode_dataset import EpisodeDataset
from .load import load_few_shot
from .storage.few_shot_split import FewShotSplit, numbered_names


@dataclass(frozen=True)
class EpisodeAudit:
    """Counts over the episodes of one split.

    Attributes:
        episodes: number of episodes that were inspected.
        repeated_samples: number of samples that their episode already contains, summed over the episodes.
        pairs: number of (support, query) pairs.
        same_sample: number of pairs in which both samples are the same one.
        same_source: number of pairs in which both samples come from the same recording or document; these include the
            pairs of `same_sample`.
        leaking_episodes: number of episodes with at least one pair of `same_source`.
    """

    episodes: int
    repeated_samples: int
    pairs: int
    same_sample: int
    same_source: int
    leaking_episodes: int


def audit_episodes(dataset: EpisodeDataset) -> EpisodeAudit:
    """Inspects all episodes of a data set that has exactly one split."""
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
    """Returns how many classes and how many sources a split has in common with the test split."""
    classes = set(split.class_names) & set(test.class_names)
    return len(classes), len(set(split.source_ids) & set(test.source_ids))


class ClassesInBoth(NamedTuple):
    """The classes that a training split shares with a split for evaluation, sorted by name."""

    train: FewShotSplit
    held_out: FewShotSplit
    class_names: list[str]


def classes_in_both(train_splits: Iterable[FewShotSplit], test_splits: Iterable[FewShotSplit]) -> list[ClassesInBoth]:
    """Finds classes that are trained on and evaluated, also those that two data sets have of the same origin.

    Classes of different origins (`data_set_origin`) are not compared, since the same name may stand for other things.
    Neither are the training and validation split of one data set, which may share classes (as in Brown), nor numbers
    in place of names, as `FewShotSplit.from_arrays` gives them.

    Args:
        train_splits: splits for training.
        test_splits: splits for validation or test.

    Returns:
        The pairs of splits that share a class.
    """
    train_splits, found = list(train_splits), []
    for held_out in test_splits:
        origin = data_set_origin(held_out.name)
        if held_out.class_names == numbered_names(len(held_out.class_names)):
            continue
        for train in train_splits:
            is_other_part = train.name != held_out.name or held_out.split == "test"
            if is_other_part and train.modality == held_out.modality and data_set_origin(train.name) == origin:
                shared = sorted(set(train.class_names) & set(held_out.class_names))
                found += [ClassesInBoth(train, held_out, shared)] if shared else []
    return found


def check_class_disjoint(datasets: Mapping[str, EpisodeDataset]) -> None:
    """Checks that the protocol `class_disjoint` also holds between the data sets of a run.

    Args:
        datasets: the episodes of a run: those of `"train"`, if there are any, and others.

    Raises:
        ValueError: a class of a training split under `class_disjoint` is also one of an evaluation (see
            `classes_in_both`). The message names both data sets and some of the classes.
    """
    splits = {name: [s for s in own.splits if s.protocol == "class_disjoint"] for name, own in datasets.items()}
    train = splits.pop("train", [])
    for shared in classes_in_both(train, [split for own in splits.values() for split in own]):
        ours, theirs = shared.train.name, shared.held_out.name
        raise ValueError(
            f"the {len(shared.class_names)} classes {few(shared.class_names)} are trained on in {ours} and also in the "
            f"{shared.held_out.split} split of {theirs}, which protocol='class_disjoint' rules out: "
            + ("its splits must have different classes" if ours == theirs else f"leave out {ours} or {theirs}")
        )


def audit(
    name: str,
    protocol: str,
    n_way: int,
    k_shot: int,
    n_query: int,
    episodes: int,
    seed: int = 0,
    source_disjoint: bool = True,
    **load_options: Any,
) -> tuple[str, bool]:
    """Returns the report as Markdown, and whether any split can fill an episode.

    Args:
        name, protocol, **load_options: arguments of `load_few_shot`.
        n_way, k_shot, n_query, seed, source_disjoint: arguments of `EpisodeDataset`.
        episodes: number of episodes per split.
    """
    splits, remarks = {}, []
    for split in SPLITS:
        try:
            splits[split] = load_few_shot(name, split, protocol, **load_options)
        except NoSuchSplit as error:
            remarks.append(str(error))
    test = splits.get("test")
    setting = f"{n_way}-way {k_shot}-shot, {n_query} queries per class, {episodes} episodes per split"
    setting += "" if source_disjoint else ", support and query may share a source"
    lines = [
        f"{name}, protocol {protocol}: {setting}",
        "",
        "| split | classes | samples | sources | classes also in test | sources also in test | repeated samples "
        "| support/query pairs | of one sample | of one source | episodes with such pairs |",
        "| --- " + "| ---: " * 10 + "|",
    ]
    is_possible = False
    for name_of_split, split in splits.items():
        in_test = shared_with_test(split, test) if test is not None and split is not test else ("", "")
        cells = [name_of_split, len(split.class_names), len(split), len(set(split.source_ids)), *in_test]
        try:
            dataset = EpisodeDataset([split], n_way, k_shot, n_query, episodes, seed, source_disjoint)
        except ValueError as error:
            remarks.append(f"{name_of_split}: {error}")
            cells += ["not possible"] + [""] * 4
        else:
            is_possible = True
            found = audit_episodes(dataset)
            share = f"{found.leaking_episodes} ({found.leaking_episodes / found.episodes:.1%})"
            cells += [found.repeated_samples, found.pairs, found.same_sample, found.same_source, share]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    remarks += [test.warning] if test is not None and test.warning else []
    return "\n".join([*lines, *(f"\n{remark}" for remark in remarks)]), is_possible


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the data set, as load_few_shot accepts it")
    parser.add_argument("--protocol", default="class_disjoint", choices=PROTOCOLS)
    parser.add_argument("--n_way", type=int, default=5)
    parser.add_argument("--k_shot", type=int, default=1)
    parser.add_argument("--n_query", type=int, default=15)
    parser.add_argument("--episodes", type=int, default=1000, help="number of episodes per split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir", help="folder with the data; by default the official archives are downloaded")
    parser.add_argument("--cache_dir", help="folder for the built data; by default the cache of datasets")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the data set, as JSON")
    parser.add_argument(
        "--same_source", dest="source_disjoint", action="store_false", help="let support and query share a source"
    )
    arguments = vars(parser.parse_args(argv))
    report, is_possible = audit(**arguments.pop("options"), **arguments)
    print(report)
    return 0 if is_possible else 1


if __name__ == "__main__":
    sys.exit(main())
