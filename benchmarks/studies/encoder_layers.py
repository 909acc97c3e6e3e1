"""
Which layer of a frozen text encoder to take, and how far to whiten its states, measured on training categories alone.

    python -m benchmarks.studies.encoder_layers --encoder FOLDER --data_dir DATA [--draws 10] [--json FILE]
        [--write docs/pretrained.md]

Five of Brown's ten training categories are held out, several times over; mean accuracy over those draws of the nearest
centroid of mean states, and of the same after centring and partial whitening fitted to the other five (what
`Descriptor` does), by the components' deviations, or within documents or categories (`descriptor_whitening`).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.hub.provenance import commit
from modeling_msmaml.model.descriptors import Descriptor, DescriptorStatistics

from ..pages import command_line, publish, table
from .nearest_centroid import all_rows, centroid_accuracy
from .pretrained_text import K_SHOTS, N_QUERY_HELD_OUT, splits_of

PART = "encoder_layers"
WHITENINGS = (0.0, 0.25, 0.5)


@torch.no_grad()
def mean_states(split: FewShotSplit, encoder: str, window: int) -> Float[Tensor, "rows layers features"]:
    """The mean of every layer's states over the positions of a passage; the first layer is that of the embeddings."""
    spec = {"transformers": encoder, "window": window}
    frontend = MSMAMLModel(MSMAMLConfig(modalities=["text"], embeddings={"text": spec})).frontends["text"]
    means = []
    for rows in all_rows(split).split(16):
        windows = frontend.windows(rows.long())
        filled = windows != 0
        flat, used = windows.flatten(0, 1), filled.flatten(0, 1).any(dim=1)
        mask = (flat[used] != 0).long()
        found = frontend.encoder(input_ids=flat[used], attention_mask=mask, output_hidden_states=True).hidden_states
        sums = torch.zeros(len(flat), len(found), found[0].shape[2])
        sums[used] = torch.stack([(states * mask[..., None]).sum(dim=1) for states in found], dim=1)
        means.append(sums.unflatten(0, windows.shape[:2]).sum(dim=1) / filled.sum(dim=(1, 2))[:, None, None])
    return torch.cat(means)


def measure(split: FewShotSplit, options: argparse.Namespace) -> list[dict]:
    """One result for each layer, method and number of shots."""
    means = mean_states(split, options.encoder, options.window)
    ways = [(str(power), power, None) for power in WHITENINGS]
    ways += [("source", 0.0, torch.from_numpy(np.unique(split.source_ids, return_inverse=True)[1]))]
    ways += [("class", 0.0, torch.from_numpy(split.labels))]
    found: dict[tuple[int, str, int], list[float]] = {}
    for draw in range(options.draws):
        # Numbers of their rows in the whole split.
        halves = training, held_out = splits_of(split, split, draw)
        fitted, tested = (np.searchsorted(split._row_numbers, part._row_numbers) for part in halves)
        for k_shot in K_SHOTS:
            data = EpisodeDataset([held_out], 5, k_shot, N_QUERY_HELD_OUT, options.num_episodes, seed=draw)
            episodes = [data[index] for index in range(len(data))]
            for layer in range(means.shape[1]):
                states = means[:, layer]
                kinds = {"nearest centroid": F.normalize(states[tested], dim=1)}
                for name, power, groups in ways:
                    descriptor = Descriptor(
                        DescriptorStatistics(torch.Tensor.float, states.shape[1], False, power), options.size
                    )
                    descriptor.fit_statistics(states[fitted], None if groups is None else groups[fitted])
                    kinds[f"descriptor, whitening {name}"] = descriptor(states[tested])
                for kind, features in kinds.items():
                    found.setdefault((layer, kind, k_shot), []).append(centroid_accuracy(features, episodes)[0])
    return [
        {"layer": layer, "method": kind, "k_shot": k_shot, "accuracy": float(np.mean(values)), "draws": values}
        for (layer, kind, k_shot), values in found.items()
    ]


def described(results: list[dict], num_episodes: int) -> str:
    """Markdown: one row per layer, one column per method, 1 / 5 shots."""
    found = {(result["layer"], result["method"], result["k_shot"]): result["accuracy"] for result in results}
    layers, methods = (list(dict.fromkeys(result[name] for result in results)) for name in ("layer", "method"))
    rows = []
    for layer in layers:
        cells = (" / ".join(f"{100 * found[layer, method, k_shot]:.1f}" for k_shot in K_SHOTS) for method in methods)
        rows.append([str(layer), *cells])
    return (
        f"5-way, 1 / 5 shots, {N_QUERY_HELD_OUT} queries per class; mean over {len(results[0]['draws'])} draws of five "
        f"of the ten training categories, {num_episodes} episodes each; in %.\n\n"
    ) + table(["layer", *methods], rows, words=0)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = command_line(__doc__, data_dir=None, cache_dir=None, window=256, draws=10)
    parser.add_argument("--encoder", required=True, help="folder or name of a text encoder of transformers")
    parser.add_argument("--num_episodes", type=int, default=200, help="of each draw")
    parser.add_argument("--size", type=int, default=128, help="of the descriptor")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(argv)
    folders = {"data_dir": options.data_dir, "cache_dir": options.cache_dir}
    split = load_few_shot("brown", **folders, tokenizer=options.encoder, passage_length=600)
    results = measure(split, options)
    publish(PART, described(results, options.num_episodes), options.write)
    if options.json is not None:
        options.json.write_text(json.dumps({"commit": commit(), "results": results}, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
