"""The data sets and episode shapes of the comparison. A *cell* is one shape on one data set."""

from dataclasses import dataclass, field
from typing import Any

PROTOCOL = "class_disjoint"


@dataclass(frozen=True)
class DataSet:
    """
    A data set of the comparison.

    Attributes:
        title: what the tables call it, which is its name here too.
        name: of `load_few_shot`.
        modality: of its samples.
        options: of `load_few_shot`, besides the tokenizer of texts.
        source_disjoint: whether support and query come from different recordings, documents or speakers.
        fitted_on: the data set whose training classes stand for its own, which is itself where it has any.
        has_ten: whether its test classes are only enough for 10-way tasks, not for 20-way ones.
    """

    title: str
    name: str
    modality: str
    options: dict[str, Any] = field(default_factory=dict)
    source_disjoint: bool = True
    fitted_on: str = ""
    has_ten: bool = False


DATA_SETS = {
    data_set.title: data_set
    for data_set in (
        DataSet("brown", "brown", "text", {"passage_length": 256}),
        DataSet("banking77", "banking77", "text"),
        DataSet("clinc150", "clinc150", "text"),
        DataSet("esc50", "esc50", "audio", has_ten=True),
        DataSet("cifar100", "cifar100", "image"),
        DataSet("omniglot", "omniglot", "image", {"image_size": 105}),
        DataSet("fsdd", "fsdd", "audio", source_disjoint=False, fitted_on="esc50", has_ten=True),
        DataSet("fsdd, other speakers", "fsdd", "audio", fitted_on="esc50", has_ten=True),
    )
}


@dataclass(frozen=True)
class Cell:
    """
    One shape of episodes on one data set.

    Attributes:
        data_set: title of the data set.
        n_way, k_shot, n_query: of every episode.
        looked_at: whether accuracies of this data set's test classes in such episodes were seen while the method was
            developed.
    """

    data_set: str
    n_way: int
    k_shot: int
    n_query: int
    looked_at: bool

    @property
    def key(self) -> tuple[str, int, int]:
        return self.data_set, self.n_way, self.k_shot


def cells() -> list[Cell]:
    """All cells: 5-way with 1, 5 and 20 shots, and 20-way with 1 and 5, or 10-way where there are ten classes only."""
    found = []
    for title, own in DATA_SETS.items():
        shapes = [(5, 1), (5, 5), (5, 20)]
        if own.name != "brown":  # which has five test classes
            shapes += [(10 if own.has_ten else 20, k_shot) for k_shot in (1, 5)]
        for n_way, k_shot in shapes:
            k_shot, n_query = _feasible(own.name, k_shot)
            if n_query:
                found.append(Cell(title, n_way, k_shot, n_query, looked_at=n_way == 5))
    return found


def _feasible(name: str, k_shot: int) -> tuple[int, int]:
    """The number of shots, and of queries of a class, that a data set has instead of 15 queries; 0 if it has none."""
    if name == "esc50":  # 15 clips of a class here, some of the same recording
        return k_shot, {1: 5, 5: 3}.get(k_shot, 0)
    if name == "omniglot" and k_shot == 20:  # 20 drawings of a character
        return 15, 5
    return k_shot, 15
