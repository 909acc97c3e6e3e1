"""What a model card says of the data that a model was trained on."""

from dataclasses import dataclass

APACHE, NON_COMMERCIAL = "apache-2.0", "cc-by-nc-4.0"


@dataclass(frozen=True)
class DataSetFacts:
    """
    Args:
        name: as in `--datasets`, without a modality.
        title: for people.
        url: where the data come from; `None` for data that are made on the spot.
        licence: as its makers state it.
        is_commercial_use_excluded: by that licence.
    """

    name: str
    title: str
    url: str | None
    licence: str
    is_commercial_use_excluded: bool = False


_KNOWN = {
    facts.name: facts
    for facts in (
        DataSetFacts("esc50", "ESC-50", "https://github.com/karolpiczak/ESC-50", "CC BY-NC, non-commercial", True),
        DataSetFacts(
            "brown",
            "Brown Corpus",
            "https://www.nltk.org/nltk_data/",
            "non-commercial use only",
            is_commercial_use_excluded=True,
        ),
        DataSetFacts(
            "cifar100", "CIFAR-100", "https://www.cs.toronto.edu/~kriz/cifar.html", "none stated; see its page"
        ),
        DataSetFacts("synthetic", "synthetic tasks of this project", None, "Apache-2.0"),
    )
}


def data_set_facts(name: str) -> DataSetFacts:
    """The facts of a data set as `--datasets` names it (`"esc50"`, `"synthetic:audio"`); of another one, its name."""
    base = name.split(":", 1)[0]
    return _KNOWN.get(base) or DataSetFacts(base, base, None, "unknown")


def model_license(data_sets: list[DataSetFacts]) -> str:
    """The licence of a model trained on these data, as the Hub names it: non-commercial as soon as one of them is."""
    return NON_COMMERCIAL if any(facts.is_commercial_use_excluded for facts in data_sets) else APACHE
