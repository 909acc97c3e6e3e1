"""
Makes the model that comes with the code, out of published encoders and of what a run has trained on them.

    python -m scripts.make_level_encoders outputs/level_encoders
    accelerate launch run_meta.py configs/base.yaml --level_encoders outputs/level_encoders
    python -m scripts.make_base_model outputs/base [--to pretrained/msmaml-base] [--wheels FOLDER] [--data_dir DATA]

The encoders are those of `scripts/make_level_encoders.py`, from packages of PyPI that are checked by their checksums,
in float16; the run must have been trained on the same. Of the run it takes the model, its whitening in float16, its
processor, its results and its card. `NOTICE` names the makers and licences of everything. With `--data_dir`, the made
model must be as accurate as the trained one on the first test episodes of each modality, which `results.json` holds for
a test of the shipped model to repeat.
"""

import argparse
import copy
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from data_builders import EpisodeDataset, collate_episodes, load_few_shot
from modeling_msmaml import MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.hub.encoder_facts import encoders_of
from modeling_msmaml.hub.model_card import DataSetFacts, data_set_facts
from modeling_msmaml.model.level_encoder import CONFIG_FILE
from modeling_msmaml.model.level_frontend import LevelFrontend
from modeling_msmaml.model.level_sources import source_of
from modeling_msmaml.model.level_statistics import LevelStatistics

from .make_level_encoders import make_level_encoders

MOST_BYTES = 90_000_000
# One test set of each modality, on whose first episodes the shipped model repeats its accuracies.
FIRST_DATA_SETS = {"audio": "esc50", "text": "clinc150", "image": "omniglot"}
FIRST_EPISODES, N_QUERY = 5, {"audio": 3, "text": 15, "image": 15}


def make_base_model(trained: Path, to: Path, encoders: Path, rank: int, data_dir: str | None = None) -> None:
    """
    Writes the folder of the model, in place of what is there.

    Args:
        trained: `output_dir` of a run on the encoders.
        to: folder of the model.
        encoders: folder with the encoders as they were made from the packages.
        rank: the most eigenvectors that the whitening of a level keeps.
        data_dir: folder with data sets for the first accuracies; by default none are measured.

    Raises:
        ValueError: a run without level encoders, on other encoders or on data that exclude commercial use; a model
            that is too large or less accurate than the trained one.
    """
    data_sets = training_data(trained)
    whole = MSMAMLModel.from_pretrained(trained)
    model = with_rank(whole, rank)
    take_encoders(model, encoders)
    results = json.loads((trained / "all_results.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / to.name
        model.save_pretrained(folder, state_dict=with_halved_whitening(model.state_dict()))
        MSMAMLProcessor.from_pretrained(trained).save_pretrained(folder)
        without_code(folder)
        if data_dir is not None:
            first, found = (
                first_accuracies(whole, data_dir),
                first_accuracies(MSMAMLModel.from_pretrained(folder), data_dir),
            )
            if any(abs(found[name] - first[name]) > 0.01 for name in first):
                raise ValueError(f"the model for {to} has the accuracies {found}, the trained one {first}")
            results["first_episodes"] = {"number": FIRST_EPISODES, "k_shot": 5, **found}
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        (folder / "NOTICE").write_text(notice(model, data_sets))
        (folder / "README.md").write_text(card(trained, to))
        check_size(folder)
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(folder, to)


def training_data(trained: Path) -> list[DataSetFacts]:
    """
    Returns facts of the data sets that a run was trained on.

    Raises:
        ValueError: one of them excludes commercial use.
    """
    settings = json.loads((trained / "all_results.json").read_text())["settings"]
    names = settings.get("train_datasets") or settings["datasets"]
    facts = list(dict.fromkeys(data_set_facts(name) for name in names))
    if excluded := [fact.title for fact in facts if fact.is_commercial_use_excluded]:
        raise ValueError(f"{trained} was trained on {', '.join(excluded)}, whose licences exclude commercial use")
    return facts


def take_encoders(model: MSMAMLModel, encoders: Path) -> None:
    """
    Lets a model read its encoders from the folder that was made from the packages.

    Raises:
        ValueError: the model has none, or was trained on others.
    """
    for modality in model.config.modalities:
        frontend = cast(LevelFrontend, model.frontends[modality])
        made = json.loads((encoders / modality / CONFIG_FILE).read_text())
        if made != frontend.recorded["encoder"]:
            raise ValueError(
                f"the encoder of {modality} is {frontend.recorded['encoder']}, but the packages give {made}: train on "
                "what scripts/make_level_encoders.py makes"
            )
        frontend.recorded["source"] = source_of(encoders / modality)._asdict()


def with_rank(model: MSMAMLModel, rank: int) -> MSMAMLModel:
    """
    Returns the model with whitening of a lower rank: of each level it keeps the eigenvectors with the largest
    eigenvalues, and the mean of the other eigenvalues.

    Raises:
        ValueError: the model has no levels, or was trained with a higher rank than this one.
    """
    if model.config.task_network != "levels":
        raise ValueError(f"the run has task_network={model.config.task_network!r}, not 'levels'")
    if model.config.level_rank is not None and model.config.level_rank <= rank:
        return model
    config = copy.deepcopy(model.config)
    config.level_rank = rank
    reduced, weights = MSMAMLModel(config), model.state_dict()
    for name, module in reduced.named_modules():
        if isinstance(module, LevelStatistics) and module.rank < len(weights[f"{name}.values"]):
            values = weights[f"{name}.values"]  # in ascending order
            others = torch.cat([values[: -module.rank], weights[f"{name}.rest"].repeat(module.size - len(values))])
            weights[f"{name}.rest"] = others.mean()
            weights[f"{name}.values"] = values[-module.rank :]
            weights[f"{name}.directions"] = weights[f"{name}.directions"][:, -module.rank :].contiguous()
    reduced.load_state_dict(weights)
    reduced.name_or_path = reduced.config.name_or_path = model.name_or_path
    return reduced.eval()


def with_halved_whitening(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rounds eigenvectors, nearly all of the numbers, to float16; loading widens them again."""
    return {name: tensor.half() if name.endswith(".directions") else tensor.clone() for name, tensor in weights.items()}


def without_code(folder: Path) -> None:
    """Removes the copies of this package's modules, and the references to them."""
    for module in folder.glob("*.py"):
        module.unlink()
    for path in (folder / "config.json", folder / "processor_config.json", folder / "tokenizer_config.json"):
        if path.is_file():
            path.write_text(json.dumps(json.loads(path.read_text(), object_hook=_without_auto_map), indent=2) + "\n")


def _without_auto_map(content: dict) -> dict:
    return {key: value for key, value in content.items() if key != "auto_map"}


def first_accuracies(model: MSMAMLModel, data_dir: str, k_shot: int = 5) -> dict[str, float]:
    """Returns the accuracy on the first test episodes of each modality (seed 0, 5-way), from raw inputs."""
    found = {}
    for modality in model.config.modalities:
        options = {}
        if modality == "text":
            options["tokenizer"] = str(model.config.name_or_path)
        split = load_few_shot(FIRST_DATA_SETS[modality], "test", data_dir=data_dir, **options)
        episodes = EpisodeDataset([split], 5, k_shot, N_QUERY[modality], FIRST_EPISODES, seed=0)
        batch = collate_episodes([episodes[number] for number in range(FIRST_EPISODES)])
        with torch.no_grad():
            logits = model.eval()(**batch).logits[modality]
        labels = batch["episodes"][modality]["query_labels"]
        found[modality] = (logits.argmax(dim=-1) == labels).double().mean().item()
    return found


def notice(model: MSMAMLModel, data_sets: list[DataSetFacts]) -> str:
    """Returns the content of `NOTICE`: makers and licences of the encoders and of the training data."""
    lines = [
        "MS-MAML base model",
        "",
        "The trained part, model.safetensors, is licensed under Apache-2.0, as is the code.",
        "",
        "Works of others in the folder encoders, whose weights were rounded to float16:",
        "",
    ]
    for modality, fact in encoders_of(model.config).items():
        if fact.licence == "unknown":
            raise ValueError(f"the encoder of {modality} has no facts: add them to hub/encoder_facts.py")
        lines += [
            f"encoders/{modality}: {fact.title}",
            f"  {fact.attribution}",
            f"  {fact.url}",
            f"  {fact.licence}",
            "",
        ]
    lines += ["Data that the trained part was fitted to, none of which is part of this folder:", ""]
    for facts in data_sets:
        lines += [f"{facts.title}", *([f"  {facts.url}"] if facts.url else []), f"  {facts.licence}", ""]
    return "\n".join(lines)


def card(trained: Path, to: Path) -> str:
    """Returns the run's card under the name of the model, without what it says of code that does not lie beside it."""
    text = (trained / "README.md").read_text()
    text = text.replace(str(trained), to.as_posix()).replace(f"name: {trained.name}\n", f"name: {to.name}\n")
    text = re.sub(r"Without it, running the code.*?```\n\n(?=## )", "", text, flags=re.DOTALL)
    return text.replace("None of the data are part", "`NOTICE` names makers and licences. None of the data are part")


def check_size(folder: Path) -> None:
    """Raises ValueError if the files of a model take more than `MOST_BYTES`."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ValueError(
            f"the model takes {sum(sizes.values())} bytes, more than {MOST_BYTES}; the largest file is {largest} with "
            f"{sizes[largest]} bytes"
        )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, help="output_dir of the run")
    parser.add_argument("--to", type=Path, default=Path("pretrained/msmaml-base"), help="folder of the model")
    parser.add_argument("--wheels", type=Path, help="folder with downloaded wheels; by default a temporary one")
    parser.add_argument("--rank", type=int, default=512, help="eigenvectors that the whitening of a level keeps")
    parser.add_argument("--data_dir", help="folder with the archives of the data sets, to compare accuracies")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            encoders = Path(temporary) / "encoders"
            make_level_encoders(encoders, arguments.wheels or Path(temporary) / "wheels")
            make_base_model(arguments.trained, arguments.to, encoders, arguments.rank, arguments.data_dir)
    except (FileNotFoundError, RuntimeError, ValueError) as error:
        parser.exit(1, f"scripts/make_base_model.py: {error}\n")
    for path in sorted(path for path in arguments.to.rglob("*") if path.is_file()):
        print(f"{path.stat().st_size / 1e6:7.2f} MB  {path.relative_to(arguments.to)}")


if __name__ == "__main__":
    main()
