"""
Makes the model that comes with the code, out of what `benchmarks.experiments.runner` trained and tested.

    python -m benchmarks.experiments.ship outputs/experiments/flagship-5w1s-seed0 --name flagship --seed 0 \\
        --data_dir DATA --to pretrained/msmaml-base

Left out are the classifier of the training classes, the code (which this package has) and the state of the training.
`results.json` holds the recorded results, and what the model gives on the first episodes of the test, for a test of
the shipped model to give again.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

import torch

from data_builders import EpisodeDataset, load_few_shot
from modeling_msmaml import MSMAMLModel, MSMAMLProcessor

from ..data import DATA_SETS, MODALITIES, N_QUERY, batches
from ..pages import command_line, table
from .grid import result_path
from .result_tables import cell

FIRST_EPISODES = 25


def first_accuracies(model: MSMAMLModel, data_dir: str, k_shot: int) -> dict[str, float]:
    """Accuracy on the first test episodes of each modality (seed 0, 5-way, class_disjoint)."""
    found = {}
    for name in DATA_SETS.values():
        split = load_few_shot(name, "test", data_dir=data_dir)
        episodes = EpisodeDataset([split], 5, k_shot, N_QUERY, FIRST_EPISODES, seed=0)
        (batch,) = batches(episodes, FIRST_EPISODES)
        with torch.no_grad():
            logits = model.eval()(batch).logits[split.modality]
        found[split.modality] = (logits.argmax(dim=-1) == batch[split.modality]["query_labels"]).double().mean().item()
    return found


def without_code(folder: Path) -> None:
    """Removes the copies of this package's modules, and the references to them."""
    for module in folder.glob("*.py"):
        module.unlink()
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text(), object_hook=_without_auto_map)
        if path.name != "tokenizer.json":
            path.write_text(json.dumps(content, indent=2) + "\n")


def _without_auto_map(content: dict) -> dict:
    return {key: value for key, value in content.items() if key != "auto_map"}


def card(trained: Path, results: dict[str, dict], to: Path, data_note: str) -> str:
    """The run's card under its new name, with the results of both numbers of shots and a note on the data."""
    text = (trained / "README.md").read_text()
    text = text.replace(str(trained), str(to)).replace(f"name: {trained.name}", f"name: {to.name}")
    rows = (
        [f"{own['k_shot']}-shot", *(cell(own, f"test_{modality}_accuracy") for modality in MODALITIES)]
        for own in results.values()
    )
    found = table(["test, 5-way", *MODALITIES], rows)
    found += "\n\nWith prototypes for a classifier it takes any number of classes and examples.\n"
    for before, more in (("Means over episodes, with", found), ("Some of the data that it was trained on", data_note)):
        text = text.replace(before, f"{more}\n{before}", 1)
    # The code does not lie beside these weights.
    text = re.sub(r"Without it, running the code.*?```\n\n## Classify", "## Classify", text, flags=re.DOTALL)
    command = results["1shot"]["command"].replace("--output_dir OUTPUT ", "")
    return re.sub(r"(?m)^python run_meta\.py .*$", command, text)


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False, name="flagship", seed=0)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--data_note", default="", help="what the card is to say of the data, a sentence")
    parser.add_argument("--to", type=Path, default=Path("pretrained/msmaml-base"))
    options = parser.parse_args(argv)
    model = MSMAMLModel.from_pretrained(options.trained)
    first = {f"{k}shot": first_accuracies(model, options.data_dir, k) for k in (1, 5)}
    model.auxiliary, model.config.auxiliary_classes = torch.nn.ModuleDict(), None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model.save_pretrained(folder)
        MSMAMLProcessor.from_pretrained(options.trained).save_pretrained(folder)
        without_code(folder)
        shutil.rmtree(options.to, ignore_errors=True)
        shutil.copytree(folder, options.to)
    results = {f"{k}shot": json.loads(result_path(options.name, options.seed, k).read_text()) for k in (1, 5)}
    (options.to / "README.md").write_text(card(options.trained, results, options.to, options.data_note))
    shipped = MSMAMLModel.from_pretrained(options.to)
    again = {f"{k}shot": first_accuracies(shipped, options.data_dir, k) for k in (1, 5)}
    if again != first:
        raise RuntimeError(f"the shipped model gives {again}, the trained one {first}")
    results["first_episodes"] = {"number": FIRST_EPISODES, **first}
    (options.to / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
