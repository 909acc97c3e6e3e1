"""The methods of the comparison: a registry, and the models of this project. `baselines.py` has the others."""

import copy
import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit, collate_episodes
from modeling_msmaml import MetaTrainer, MetaTrainingArguments, MSMAMLModel, MSMAMLProcessor

from .cells import DATA_SETS, Cell
from .splits import Material, episodes_of, in_memory, texts_of

TASKS_AT_ONCE = 8
ROWS_AT_ONCE = 256  # of which channels are computed
# The shipped model of version 0.1 reads raw rows, which takes a tenth of a second a task.
FLAGSHIP_EPISODES = 100


@dataclass
class Answers:
    """
    What a method answered in the episodes of a cell.

    Attributes:
        right: the number of right predictions in each episode.
        confidence, correct: of each query of all episodes, the probability of the prediction and whether it is right;
            `None` for a method that gives no probabilities.
    """

    right: list[int]
    confidence: Float[np.ndarray, " queries"] | None = None
    correct: Bool[np.ndarray, " queries"] | None = None


class Method:
    """
    A method of the comparison.

    Attributes:
        name: of its file of results.
        title: what the tables call it.
        statistics: which samples, beside those of the support set, statistics of the features are fitted to.
    """

    name: str
    title: str
    statistics = ""

    def applies(self, cell: Cell) -> bool:
        """Whether it is part of the comparison in such a cell."""
        return True

    def episodes(self, wanted: int) -> int:
        """How many of the wanted episodes it answers."""
        return wanted

    def answers(self, cell: Cell, material: Material, number: int, seed: int) -> Answers:
        """Answers the first `number` episodes of a cell."""
        raise NotImplementedError


METHODS: dict[str, Method] = {}


def register_method(method: Method) -> None:
    """
    Adds a method, so that `--methods` accepts its name.

    Raises:
        ValueError: another one has its name.
    """
    if method.name in METHODS:
        raise ValueError(f"name={method.name!r} is already taken by {METHODS[method.name].title}")
    METHODS[method.name] = method


def batches(episodes: EpisodeDataset) -> Iterator[tuple[str, dict[str, Tensor], Tensor]]:
    """Modality, a meta-batch without the labels of its queries, and these, for all episodes in order."""
    for start in range(0, len(episodes), TASKS_AT_ONCE):
        drawn = [episodes[index] for index in range(start, min(start + TASKS_AT_ONCE, len(episodes)))]
        ((modality, batch),) = collate_episodes(drawn)["episodes"].items()
        labels = batch.pop("query_labels")
        yield modality, batch, labels


def judged(parts: list[tuple[Tensor, Tensor]]) -> Answers:
    """The answers that probabilities (T, Q, N) are, given the labels (T, Q) too, batch by batch."""
    confidence, correct = [], []
    for probabilities, labels in parts:
        most, predicted = probabilities.max(dim=2)
        confidence.append(most)
        correct.append(predicted == labels)
    found = torch.cat(correct)
    return Answers(found.sum(dim=1).tolist(), torch.cat(confidence).flatten().numpy(), found.flatten().numpy())


class Levels(Method):
    """This project's model on levels, with the statistics that it was saved with."""

    name = "levels"
    title = "this project"
    statistics = "shipped"

    def model(self, cell: Cell, material: Material) -> MSMAMLModel:
        """The model that answers in a cell."""
        return material.model

    def answers(self, cell: Cell, material: Material, number: int, seed: int) -> Answers:
        split, parts = material.of(DATA_SETS[cell.data_set]), []
        numbers = in_memory(split, np.arange(len(split))[:, None])
        with torch.no_grad(), channels_known(self.model(cell, material).eval(), split) as model:
            for modality, batch, labels in batches(episodes_of(cell, numbers, number, seed)):
                parts.append((model({modality: batch}).logits[modality].softmax(dim=2), labels))
        return judged(parts)


@contextmanager
def channels_known(model: MSMAMLModel, split: FewShotSplit) -> Iterator[MSMAMLModel]:
    """
    Within, the model takes row numbers (T, samples, 1) for the levels of a split. Their channels are computed once, not
    for each episode that has them, which is most of the time; all else is as always.
    """
    network, frontend = model.task_network, model.frontends[split.modality]
    with torch.no_grad():
        parts = [
            network.unit_channels(split.modality, torch.from_numpy(split.rows(numbers)))
            for numbers in np.array_split(np.arange(len(split)), len(split) // ROWS_AT_ONCE + 1)
        ]
    channels = [torch.cat(own) for own in zip(*parts, strict=True)]

    def looked_up(modality: str, numbers: Tensor, turn: int | None = None) -> list[Tensor]:
        return [own[numbers[..., 0].long()] for own in channels]

    network.unit_channels = looked_up
    model.frontends[split.modality] = _AsGiven()
    try:
        yield model
    finally:
        del network.unit_channels
        model.frontends[split.modality] = frontend


class _AsGiven(torch.nn.Module):
    """A frontend whose inputs are what it returns."""

    def forward(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        return inputs.to(dtype)


class LevelsOnEverything(Levels):
    """
    The model trained on the training classes of all sets, those that exclude commercial use among them.

    Args:
        folder: of the model.
    """

    name = "levels_everything"
    title = "this project, trained on all sets"
    statistics = "training classes of all sets"

    def __init__(self, folder: str | Path):
        self.folder = folder

    def model(self, cell: Cell, material: Material) -> MSMAMLModel:
        return _with_same_encoder(self.folder, cell, material)


class LevelsOwnStatistics(LevelsOnEverything):
    """The same with statistics fitted to training classes of the tested set alone."""

    name = "levels_own"
    title = "this project, trained on all sets, the set's own statistics"
    statistics = "own training classes"

    def __init__(self, folder: str | Path):
        super().__init__(folder)
        self._fitted: tuple[str, MSMAMLModel] | None = None  # of the last data set, since a fit takes seconds

    def model(self, cell: Cell, material: Material) -> MSMAMLModel:
        own = DATA_SETS[cell.data_set]
        name = own.fitted_on or own.name
        if self._fitted is None or self._fitted[0] != name:
            model = super().model(cell, material)
            model.task_network.fit(own.modality, *material.training(own))
            self._fitted = name, model
        return self._fitted[1]


class LevelsWithout(Levels):
    """
    The model trained, and its statistics fitted, without a data set, tested on it.

    Args:
        folders: name of the data set -> the model's folder.
    """

    name = "levels_without"
    title = "this project, trained without the set"
    statistics = "other data sets"

    def __init__(self, folders: dict[str, Path]):
        self.folders = folders

    def applies(self, cell: Cell) -> bool:
        return DATA_SETS[cell.data_set].name in self.folders

    def model(self, cell: Cell, material: Material) -> MSMAMLModel:
        return _with_same_encoder(self.folders[DATA_SETS[cell.data_set].name], cell, material)


def _with_same_encoder(folder: str | Path, cell: Cell, material: Material) -> MSMAMLModel:
    """Loads a model, which must read levels of the encoder that made those at hand."""
    model, modality = MSMAMLModel.from_pretrained(folder), DATA_SETS[cell.data_set].modality
    theirs, ours = (each.config.level_encoders[modality]["encoder"] for each in (model, material.model))
    if theirs != ours:
        raise ValueError(f"{folder} has another encoder of {modality} than the compared model")
    return model


class FromScratch(Method):
    """
    A model that reads raw rows, as version 0.1 came with, in 5-way cells of 1 and 5 shots.

    Args:
        folder: of the model and its processor.
    """

    name = "from_scratch"
    title = "from-scratch model of version 0.1"
    statistics = "ESC-50, Brown, CIFAR-100 (CC BY-NC)"

    def __init__(self, folder: str):
        self.model, self.processor = MSMAMLModel.from_pretrained(folder), MSMAMLProcessor.from_pretrained(folder)

    def applies(self, cell: Cell) -> bool:
        return cell.n_way == 5 and cell.k_shot in (1, 5)

    def episodes(self, wanted: int) -> int:
        return min(wanted, FLAGSHIP_EPISODES)

    def split(self, cell: Cell, material: Material) -> FewShotSplit:
        """The test split as this model reads it: its own vocabulary, pictures of its own size."""
        own = DATA_SETS[cell.data_set]
        if own.modality == "image":
            size = self.model.config.image_size
            return material.raw(cell.data_set, "test", image_size=size)
        split = material.raw(cell.data_set, "test")
        if own.modality != "text":
            return split
        texts = texts_of(material.tokenizer(), split.rows(np.arange(len(split))))
        ids = np.asarray(self.processor(text=texts)["input_ids"], dtype=np.int32)
        return dataclasses.replace(in_memory(split, ids), tokenizer=self.processor.tokenizer)

    def answers(self, cell: Cell, material: Material, number: int, seed: int) -> Answers:
        episodes = episodes_of(cell, self.split(cell, material), number, seed)
        with tempfile.TemporaryDirectory() as folder:
            quiet = {"output_dir": folder, "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
            args = MetaTrainingArguments(n_way=cell.n_way, norm_statistics="support", **quiet)
            trainer = MetaTrainer(model=copy.deepcopy(self.model), args=args, eval_dataset=episodes)
            predicted = trainer.predict(episodes).predictions
        truth = np.repeat(np.arange(cell.n_way), cell.n_query)
        return Answers([int((np.asarray(own) == truth).sum()) for own in predicted])
