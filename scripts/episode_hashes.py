"""Computes hashes of the first 20 episodes of every split and protocol.

    python -m scripts.episode_hashes --data_dir DATA           # prints the hashes
    python -m scripts.episode_hashes --data_dir DATA --write   # stores them in data_builders/splits/episode_hashes.json

Tests compare the stored hashes with computed ones, so that no change of the code changes the episodes unnoticed. A hash
covers the classes and samples of the episodes, by their names, sources and row numbers. It therefore covers the class
lists, the divisions, the order of the rows and the random stream, but not the rows themselves, whose last bit may
depend on the version of a sound decoder. The hashes belong to the data in `data_dir`, and other data have other hashes.
A split that cannot fill an episode, or that the data set does not have, has `null` in place of a hash.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from data_builders import EpisodeDataset, FewShotSplit, NoSuchSplit, load_few_shot, read_protocols
from modeling_msmaml.inputs.labelled_inputs import SPLITS

STORED = Path(__file__).resolve().parents[1] / "data_builders" / "splits" / "episode_hashes.json"
DATA_SETS = ("esc50", "brown", "cifar100", "clinc150", "banking77", "fsdd", "omniglot")
N_WAY, K_SHOT, N_QUERY, SEED, EPISODES = 5, 1, {"audio": 3, "text": 15, "image": 15}, 0, 20


def guarded_episodes(split: FewShotSplit) -> EpisodeDataset | None:
    """Returns the episodes that are hashed, or None if the split cannot fill an episode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return EpisodeDataset([split], N_WAY, K_SHOT, N_QUERY, EPISODES, SEED)
        except ValueError:
            return None


def episode_hash(split: FewShotSplit, episode: dict) -> str:
    """Returns the SHA-256 hash of the classes and samples of an episode."""
    classes = [split.class_names[c] for c in episode["class_ids"].tolist()]
    samples = [
        [(i, str(split.source_ids[i])) for i in episode[f"{side}_ids"].tolist()] for side in ("support", "query")
    ]
    return hashlib.sha256(json.dumps([classes, samples]).encode()).hexdigest()


def split_hash(split: FewShotSplit) -> str | None:
    """Returns one hash for the first 20 episodes of a split, or None if the split cannot fill an episode."""
    dataset = guarded_episodes(split)
    if dataset is None:
        return None
    hashes = [episode_hash(split, dataset[index]) for index in range(EPISODES)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def all_hashes(data_dir: str | None, cache_dir: str | None = None) -> dict[str, str | None]:
    """Returns the hash of every split, by `<data set>/<protocol>/<split>`."""
    found = {}
    for name in DATA_SETS:
        for protocol in read_protocols(name):
            for split in SPLITS:
                found[f"{name}/{protocol}/{split}"] = loaded_hash(name, split, protocol, data_dir, cache_dir)
    return found


def loaded_hash(name: str, split: str, protocol: str, data_dir: str | None, cache_dir: str | None) -> str | None:
    """Returns the hash of a split, or None if it does not exist or cannot fill an episode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return split_hash(load_few_shot(name, split, protocol, data_dir, cache_dir))
        except NoSuchSplit:
            return None


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder with the data; by default the official archives are downloaded")
    parser.add_argument("--cache_dir", help="folder for the built data; by default the cache of datasets")
    parser.add_argument("--write", action="store_true", help="store the hashes in the package")
    arguments = parser.parse_args(argv)
    lines = json.dumps(all_hashes(arguments.data_dir, arguments.cache_dir), indent=1) + "\n"
    print(lines, end="")
    if arguments.write:
        STORED.write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
