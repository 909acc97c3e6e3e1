"""
Trains on part of the training classes and tests on the rest: what settings of the default model were chosen on.

    python -m benchmarks.studies.held_out_classes --data_dir DATA [--fold 0] [--json FILE] [options of run_meta.py]

Brown's validation has the categories of its training, and ESC-50's has five classes. Therefore each number of `--fold`
holds out other classes, as `front_ends.py` does: 12 of the 40 training and validation classes of audio and 5 of the 10
training categories of text; of images, the 20 validation classes. No test class is touched. The model is that of
configs/flagship.yaml with the options given, its seed the fold; 5-way 1-shot and 5-shot (audio: 4-shot, as most classes
have 8 clips) accuracy, with 2 queries per class of audio, 5 of text and 15 of images.
"""

import json
import shlex
from pathlib import Path

import torch
from transformers import set_seed

from data_builders import EpisodeDataset, FewShotSplit, load_few_shot
from modeling_msmaml import MetaTrainer
from modeling_msmaml.hub.provenance import commit
from msmaml.runs.run_arguments import parse_arguments
from msmaml.runs.run_data import make_training_episodes
from msmaml.runs.run_model import fit_front_ends, make_model

from ..data import DATA_SETS
from ..pages import command_line, percent
from . import front_ends
from .front_ends import N_QUERY, SHOTS

CONFIG = "configs/flagship.yaml"


def halves(modality: str, fold: int, data_dir: str) -> tuple[FewShotSplit, FewShotSplit]:
    """What to train on, and what to test on, of other classes."""
    if modality == "image":  # from the disk
        return tuple(load_few_shot(DATA_SETS[modality], name, data_dir=data_dir) for name in ("train", "validation"))
    return front_ends.halves(modality, fold, data_dir)


def measure(fold: int, data_dir: str, episodes: int, options: list[str]) -> dict:
    """Trains once; the accuracies of every modality with few and with more shots."""
    words = [CONFIG, "--data_dir", data_dir, "--output_dir", "outputs/held_out_classes", "--seed", str(fold)]
    arguments, data, args = parse_arguments([*words, "--logging_steps", "100", *options])
    splits = {modality: halves(modality, fold, data_dir) for modality in DATA_SETS}
    training = make_training_episodes([half for half, _ in splits.values()], data, args)
    set_seed(args.seed)
    model = make_model(arguments, args, training.splits)
    fit_front_ends(model, training.splits, args.seed)
    trainer = MetaTrainer(model=model, args=args, train_dataset=training)
    trainer.train()
    accuracies = {}
    for column, shots in enumerate(("few", "more")):
        for modality, (_, held_out) in splits.items():
            k_shot = SHOTS[modality][column]
            tests = EpisodeDataset([held_out], args.n_way, k_shot, N_QUERY[modality], episodes, data.eval_seed)
            metrics = trainer.predict(tests, metric_key_prefix=shots).metrics
            accuracies[f"{modality}_{k_shot}shot"] = [metrics[f"{shots}_accuracy{end}"] for end in ("", "_ci95")]
    how = {"options": shlex.join(options), "fold": fold, "training_steps": args.max_steps, "seed": args.seed}
    how |= {"tasks_per_step": args.tasks_per_step, "n_way": args.n_way, "n_query": N_QUERY, "episodes": episodes}
    how |= {"split": "held-out training classes", "transductive": False, "commit": commit()}
    return {**how, "accuracies": accuracies}


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--fold", type=int, default=0, help="which classes are held out, 0 to 3; also the seed")
    parser.add_argument("--episodes", type=int, default=500, help="a modality and number of shots")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options, others = parser.parse_known_args(argv)
    if not 0 <= options.fold < 4:
        parser.error(f"--fold {options.fold} must be 0 to 3")
    torch.set_num_threads(1)
    result = measure(options.fold, options.data_dir, options.episodes, others)
    for name, accuracy in result["accuracies"].items():
        print(f"{name:14} {percent(*accuracy)}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
