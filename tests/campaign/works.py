"""The works of the campaign: what runs, on which material, and what it must leave."""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import constants, snapshot_download
from safetensors.torch import load_file, save_file

from data_builders import FewShotSplit, encode_split, load_few_shot
from data_builders.episodes import encoded
from modeling_msmaml import FewShotClassifier, MSMAMLModel
from msmaml.commands import classify, push

from ..data_builders.test_builders import tiny_archive
from ..data_builders.test_levels import Levels
from ..fake_hub import TOKEN, USER
from ..own_data import save_tiny_model, text, tiny_processor, write_file
from ..toys import tiny_model
from ..training.test_resume import OPTIONS
from ..training.test_trainer import make_trainer, parameters
from ..training_worker import train

FAULTS = ("kill", "full disk")
HUB_FILE = "hub"  # in the material: the URL of a Hub
NAMES = (("crow", "wren"), ("finch", "heron"))


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def material(shared: Path) -> None:
    """What the works read, made once."""
    tiny_archive("brown", _made(shared / "brown"))
    save_tiny_model(shared / "model", num_inner_steps=3)
    save_tiny_model(shared / "older-model", num_inner_steps=4, seed=1)
    for kind, name in enumerate(NAMES[0]):
        for number in range(3):
            write_file("text", shared / "support" / name, kind, number)
        for number in range(10, 30):
            write_file("text", shared / "query", kind, number)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def train_alone(shared: Path, folder: Path) -> None:
    train(folder, resume="last", **OPTIONS)


def trained(shared: Path, folder: Path) -> str:
    log = json.dumps(json.loads((folder / "log.json").read_text()), sort_keys=True)  # the order of names may differ
    return digest(_tensors(folder / "final.safetensors"), log.encode())


def train_in_two(shared: Path, folder: Path) -> None:
    """The share of one of two processes, whose rank is in the environment."""
    torch.set_num_threads(1)
    trainer = make_trainer(folder, **OPTIONS)
    trainer.train(resume_from_checkpoint="last")
    if os.environ["RANK"] == "0":
        save_file(parameters(trainer), folder / "final.partial")
        os.replace(folder / "final.partial", folder / "final.safetensors")


def trained_in_two(shared: Path, folder: Path) -> str:
    return digest(_tensors(folder / "final.safetensors"))


def _tensors(path: Path) -> bytes:
    return b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(load_file(path).items()))


def build(shared: Path, folder: Path) -> None:
    load_few_shot("brown", "train", data_dir=shared / "brown", cache_dir=folder / "cache")


def built(shared: Path, folder: Path) -> str:
    split = load_few_shot("brown", "train", data_dir=shared / "brown", cache_dir=folder / "cache")
    return digest(split.rows(np.arange(len(split))).tobytes(), split.labels.tobytes())


def _rows() -> FewShotSplit:
    rows = np.random.default_rng(0).integers(2, 50, size=(2000, 12), dtype=np.int32)
    return FewShotSplit.from_arrays(rows, [0] * len(rows), modality="text")


def encode(shared: Path, folder: Path) -> None:
    encoded.PART_ROWS = 64
    encode_split(_rows(), Levels("text"), folder / "cache")


def has_levels(shared: Path, folder: Path) -> str:
    encoded.PART_ROWS = 64
    split = encode_split(_rows(), Levels("text"), folder / "cache")
    levels = split.levels(np.arange(len(split)))
    return digest(*(levels[name].tobytes() for name in sorted(levels)))


def save_model(shared: Path, folder: Path, seed: int = 1) -> None:
    tiny_model(torch.float32, seed=seed).save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")


def save_older_model(shared: Path, folder: Path) -> None:
    save_model(shared, folder, seed=0)


def saved_model(shared: Path, folder: Path) -> str:
    model = MSMAMLModel.from_pretrained(folder / "model")
    return digest(*(tensor.numpy().tobytes() for _, tensor in sorted(model.state_dict().items())))


def save_classifier(shared: Path, folder: Path, which: int = 1) -> None:
    texts = [text(kind, number) for kind in (0, 1) for number in range(3)]
    labels = [name for name in NAMES[which] for _ in range(3)]
    texts = texts if which else texts[::-1]
    FewShotClassifier.from_pretrained(shared / "model").fit(texts, labels).save_pretrained(folder / "classifier")


def save_older_classifier(shared: Path, folder: Path) -> None:
    save_classifier(shared, folder, which=0)


def saved_classifier(shared: Path, folder: Path) -> str:
    classifier = FewShotClassifier.from_pretrained(folder / "classifier")
    queries = [text(kind, number) for kind in (0, 1) for number in range(40, 45)]
    return digest(classifier.predict_proba(queries).tobytes(), repr(classifier.classes_.tolist()).encode())


def classify_files(shared: Path, folder: Path) -> None:
    arguments = {"model": "model", "support": "support", "query": "query"}
    options = [option for name, place in arguments.items() for option in (f"--{name}", str(shared / place))]
    with contextlib.redirect_stdout(io.StringIO()):
        classify.main([*options, "--output", str(folder / "results.jsonl")])


def classified(shared: Path, folder: Path) -> str:
    """Every line in its place, with five digits of probabilities: the rest of a batch rounds otherwise than all."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for line in lines:
        line["probabilities"] = {name: round(value, 5) for name, value in line["probabilities"].items()}
    return digest(json.dumps(lines).encode())


def _on_hub(shared: Path, folder: Path) -> str:
    """Makes the Hub whose URL is in `shared` that of this process; returns the repository that belongs to a folder."""
    constants.ENDPOINT = (shared / HUB_FILE).read_text()
    constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_DISABLE_XET, constants.HF_HUB_OFFLINE = True, False
    os.environ.update({"HF_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
    return f"{USER}/{folder.parent.name}-{folder.name}"


def push_model(shared: Path, folder: Path, model: str = "model") -> None:
    repository = _on_hub(shared, folder)
    with contextlib.redirect_stdout(io.StringIO()):
        push.main([str(shared / model), repository])


def push_older_model(shared: Path, folder: Path) -> None:
    push_model(shared, folder, "older-model")


def pushed_model(shared: Path, folder: Path) -> str:
    """All files of the repository, from which the model can be loaded."""
    repository = _on_hub(shared, folder)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        MSMAMLModel.from_pretrained(repository, cache_dir=cache)
        files = sorted(path for path in Path(snapshot_download(repository, cache_dir=cache)).rglob("*"))
        return digest(*(path.name.encode() + path.read_bytes() for path in files if path.is_file()))


@dataclass(frozen=True)
class Work:
    """One kind of work.

    Attributes:
        run: does it, or goes on with it.
        outcome: stands for what it has left; it is an error where that is not there or not whole.
        before: what is in the folder at first. What a stopped work leaves must then be the former, the new, or an error
            for whoever reads it.
        processes: how many do it together.
        faults: of `trials.FAULTS`, those that concern it.
        is_remote: what `before` leaves is not in the folder, so that it is called before each trial.
    """

    run: Callable[[Path, Path], None]
    outcome: Callable[[Path, Path], str]
    before: Callable[[Path, Path], None] | None = None
    processes: int = 1
    faults: tuple[str, ...] = FAULTS
    is_remote: bool = False


WORKS = {
    "train": Work(train_alone, trained),
    "train, two processes": Work(train_in_two, trained_in_two, processes=2),
    "build a data set": Work(build, built),
    "store levels": Work(encode, has_levels),
    "save a model": Work(save_model, saved_model, save_older_model),
    "save a classifier": Work(save_classifier, saved_classifier, save_older_classifier),
    "msmaml classify --output": Work(classify_files, classified),
    "push a model": Work(push_model, pushed_model, push_older_model, faults=("kill",), is_remote=True),
}
