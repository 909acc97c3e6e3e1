"""The card of a saved classifier: its classes, how many examples each had, and under which licences it stands."""

import os
import re
from collections.abc import Hashable, Sequence
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from yaml import YAMLError

CARD_FILE = "README.md"
_PLURALS = {"audio": "sounds", "text": "texts", "image": "pictures"}
_ENCODERS, _DATA = "Encoders and licences", "Data and licences"  # headings of the sections of a model's card
# The Hub's names of the licence of a model that one of its encoders asks to name makers, and of one without such.
_ATTRIBUTION, _PERMISSIVE = "cc-by-4.0", "apache-2.0"
_WITHOUT_CONDITIONS = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "public domain"}
_LARGEST = 60  # characters of a class in the table


def classifier_card(
    modality: str, classes: Sequence[Hashable], counts: Sequence[int] | None, model: str, model_card: str | None
) -> ModelCard:
    """
    The card, which names no example.

    Args:
        modality: of the inputs.
        classes: in their order.
        counts: the number of examples of each; `None` if it is not known.
        model: folder or repository of the model that was adapted; it is named if it can be a repository.
        model_card: the text of that model's card, whose licences hold here, too, as far as they are those of parts that
            are here.
    """
    base = None if model_card is None else _read(model_card)
    own = "" if base is None else base.text
    found: Any = None if base is None else base.data
    encoders, data_sets = _section(own, _ENCODERS, modality), _section(own, _DATA)
    licence = None if found is None else _licence(found.license, encoders, modality)
    is_classifier = found is not None and "few-shot-classifier" in (found.tags or [])
    data = ModelCardData(
        library_name="transformers",
        license=licence,
        base_model=found.base_model if found is not None and is_classifier else _repository(model),
        tags=["ms-maml", "few-shot-learning", "few-shot-classifier", modality],
    )
    inputs = _PLURALS.get(modality, f"inputs of modality {modality}")
    total = "" if counts is None else f" from {sum(counts)} labelled examples"
    rows = [
        f"| {_cell(label)} | {'unknown' if counts is None else counts[number]} |"
        for number, label in enumerate(classes)
    ]
    sections = [section for section in (encoders, data_sets) if section]
    if not sections:
        sections = ["## Licences\n\nThe model that was adapted names none for its encoders and data."]
    elif licence is not None:
        why = (
            ". Of the encoders of the model that was adapted, it carries the one below; its head was trained on all of "
            "the data below, whatever their modality."
            if encoders
            else ", as the model that was adapted, which was trained on the data below."
        )
        sections.insert(0, f"## Licence\n\nThis classifier is under `{licence}`{why}")
    return ModelCard(
        "\n".join(
            [
                "---",
                data.to_yaml(),
                "---",
                "",
                f"# A classifier of {inputs} with {len(classes)} classes",
                "",
                f"A few-shot learner (MS-MAML), adapted to these classes{total}:",
                "",
                "| class | examples |",
                "| --- | ---: |",
                *rows,
                "",
                "Neither the examples nor their names are here, but what the model made of them, in numbers.",
                "",
                "## Use",
                "",
                "With the package `msmaml`, and the name of this repository or folder:",
                "",
                "```python",
                "from msmaml import FewShotClassifier",
                "",
                'classifier = FewShotClassifier.from_pretrained("...")',
                "predicted = classifier.predict(inputs)",
                "```",
                "",
                *("\n\n".join(sections).split("\n")),
                "",
            ]
        )
    )


def _read(card: str) -> ModelCard | None:
    """A model's card; `None` where its metadata are no YAML, so that no licence can be taken from it."""
    try:
        return ModelCard(card, ignore_metadata_errors=True)
    except (ValueError, TypeError, YAMLError, RecursionError):
        return None


def _repository(model: str) -> str | None:
    """The name of a model if it can be a repository of the Hub, and is no folder of this machine."""
    if not model or os.path.exists(model):
        return None
    try:
        validate_repo_id(model)
    except HFValidationError:
        return None
    return model


def _cell(label: Hashable) -> str:
    """A class in a table of Markdown, in which nothing of its name is markup."""
    text = " ".join(str(label).split())
    text = text if len(text) <= _LARGEST else f"{text[: _LARGEST - 3]}..."
    return re.sub(r"([\\|`*_\[\]<>#])", r"\\\1", text)


def _section(card: str, heading: str, modality: str | None = None) -> str | None:
    """A section of a model's card, of whose tables only the rows about one modality are kept, if one is named."""
    match = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", card, flags=re.MULTILINE | re.DOTALL)
    if match is None:
        return None
    kept, rows = [], 0
    for line in match[1].strip().split("\n"):
        first = line.strip("| ").partition(" | ")[0]
        is_row = line.startswith("|") and first != "modality" and set(first) != {"-"}
        if is_row and modality not in (None, first):
            continue
        rows += is_row
        kept.append(line)
    return f"## {heading}\n\n" + "\n".join(kept) if rows else None


def _licence(stated: str | None, encoders: str | None, modality: str) -> str | None:
    """
    The licence of a classifier, as the Hub names it: that of the model, unless the model only has to name the makers of
    encoders that are not here.

    Args:
        stated: that of the model.
        encoders: the section on the encoders that are here.
    """
    if stated != _ATTRIBUTION or encoders is None:
        return stated
    table = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in encoders.split("\n") if line.startswith("|")
    ]
    if "licence" not in table[0]:
        return stated
    own = [row[table[0].index("licence")].lower() for row in table if row[0] == modality]
    return _PERMISSIVE if own and set(own) <= _WITHOUT_CONDITIONS else stated
