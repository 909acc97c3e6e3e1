"""Hashes of the first 20 episodes of every split and protocol, stored in `splits/episode_hashes.json`.

    python -m scripts.episode_hashes --data_dir DATA           # prints them
    python -m scripts.episode_hashes --data_dir DATA --write   # stores them

A hash covers which classes and samples an episode has, by their names, sources and row numbers. It guards the class
lists, the divisions, the order of the rows and the random stream; not the rows themselves, which may differ in the last
bit where a sound decoder does. It is of the data that `data_dir` holds: other data, other hashes. `null` stands for a
split that cannot fill an episode.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from data_builders import PROTOCOLS, EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml.inputs.labelled_inputs import SPLITS

STORED = Path(__file__).resolve().parents[1] / "data_builders" / "splits" / "episode_hashes.json"
DATA_SETS = ("esc50", "brown", "cifar100")
N_WAY, K_SHOT, N_QUERY, SEED, EPISODES = 5, 1, {"audio": 3, "text": 15, "image": 15}, 0, 20


def guarded_episodes(split: FewShotSplit) -> EpisodeDataset | None:
    """The episodes that are hashed; None where the split cannot fill one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return EpisodeDataset([split], N_WAY, K_SHOT, N_QUERY, EPISODES, SEED)
        except ValueError:
            return None


def episode_hash(split: FewShotSplit, episode: dict) -> str:
    """SHA-256 of what makes an episode."""
    classes = [split.class_names[c] for c in episode["class_ids"].tolist()]
    samples = [
        [(i, str(split.source_ids[i])) for i in episode[f"{side}_ids"].tolist()] for side in ("support", "query")
    ]
    return hashlib.sha256(json.dumps([classes, samples]).encode()).hexdigest()


def split_hash(split: FewShotSplit) -> str | None:
    """One hash for the first 20 episodes."""
    dataset = guarded_episodes(split)
    if dataset is None:
        return None
    hashes = [episode_hash(split, dataset[index]) for index in range(EPISODES)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def all_hashes(data_dir: str | None, cache_dir: str | None = None) -> dict[str, str | None]:
    """`<data set>/<protocol>/<split>` -> hash."""
    found = {}
    for name in DATA_SETS:
        for protocol in PROTOCOLS:
            for split in SPLITS:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    loaded = load_few_shot(name, split, protocol, data_dir, cache_dir)
                found[f"{name}/{protocol}/{split}"] = split_hash(loaded)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder with the data; official archives are fetched when left out")
    parser.add_argument("--cache_dir", help="where built data go; the cache of datasets by default")
    parser.add_argument("--write", action="store_true", help="store them in the package")
    arguments = parser.parse_args(argv)
    lines = json.dumps(all_hashes(arguments.data_dir, arguments.cache_dir), indent=1) + "\n"
    print(lines, end="")
    if arguments.write:
        STORED.write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
