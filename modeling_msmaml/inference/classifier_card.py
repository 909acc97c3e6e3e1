"""The card of a saved classifier: its classes, how many examples each had, and under which licences it stands."""

import os
import re
from collections.abc import Hashable, Sequence
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

CARD_FILE = "README.md"
_PLURALS = {"audio": "sounds", "text": "texts", "image": "pictures"}
_LICENCES = ("Encoders and licences", "Data and licences")  # headings of the sections of a model's card
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
        model_card: the text of that model's card, whose licences hold here, too.
    """
    base = None if model_card is None else ModelCard(model_card, ignore_metadata_errors=True)
    own = "" if base is None else base.text
    found: Any = None if base is None else base.data
    is_classifier = found is not None and "few-shot-classifier" in (found.tags or [])
    data = ModelCardData(
        library_name="transformers",
        license=None if found is None else found.license,
        base_model=found.base_model if found is not None and is_classifier else _repository(model),
        tags=["ms-maml", "few-shot-learning", "few-shot-classifier", modality],
    )
    inputs = _PLURALS.get(modality, f"inputs of modality {modality}")
    total = "" if counts is None else f" from {sum(counts)} labelled examples"
    rows = [
        f"| {_cell(label)} | {'unknown' if counts is None else counts[number]} |"
        for number, label in enumerate(classes)
    ]
    sections = [section for heading in _LICENCES if (section := _licences(own, heading, modality))]
    if not sections:
        sections = ["## Licences\n\nThe model that was adapted names none for its encoders and data."]
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


def _licences(card: str, heading: str, modality: str) -> str | None:
    """A section of a model's card with the rows of its tables that are about one modality."""
    match = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", card, flags=re.MULTILINE | re.DOTALL)
    if match is None:
        return None
    kept, rows = [], 0
    for line in match[1].strip().split("\n"):
        first = line.strip("| ").partition(" | ")[0]
        if line.startswith("|") and first not in ("modality", modality) and set(first) != {"-"}:
            continue
        rows += first == modality
        kept.append(line)
    return f"## {heading}\n\n" + "\n".join(kept) if rows else None
