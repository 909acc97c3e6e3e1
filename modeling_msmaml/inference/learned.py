"""What the JSON of a saved classifier says, checked: whoever wrote the file may have written anything into it."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from .class_labels import label_from_json, label_to_json

# Arguments that are saved with an adapted classifier, and their types besides `None`; the model and its processor are
# saved beside them.
SAVED_ARGUMENTS: dict[str, tuple[type, ...]] = {
    "modality": (str,),
    "sampling_rate": (int, float),
    "num_inner_steps": (int,),
    "balance_classes": (bool,),
    "reject_below": (float, int),
    "skip_unreadable": (bool,),
    "batch_size": (int,),
}


def check_arguments(stored: Any) -> None:
    """
    Checks the arguments of a classifier that was saved.

    Raises:
        `ValueError`: one that is not saved, which could be any attribute, or a value of another type.
    """
    if not isinstance(stored, Mapping):
        raise ValueError("arguments is no object: fit again")
    if unknown := sorted(stored.keys() - SAVED_ARGUMENTS.keys()):
        raise ValueError(f"it has arguments that none has that was saved, {', '.join(unknown)[:200]}: fit again")
    for name, value in stored.items():
        kinds = SAVED_ARGUMENTS[name]
        fits = value is None or (isinstance(value, kinds) and isinstance(value, bool) == (kinds == (bool,)))
        if not fits:
            raise ValueError(f"{name}={str(value)[:200]} is no {' or '.join(kind.__name__ for kind in kinds)}")


@dataclass(frozen=True)
class Learned:
    """
    What a fitted classifier is besides its tensors.

    Attributes:
        modality: of its inputs.
        classes: in their order.
        support_losses: before each step and after the last.
        class_count: the number of examples of each class; `None` where it was not saved.
        given: the number of inputs that were given, where the examples are saved.
    """

    modality: str
    classes: list[Hashable]
    support_losses: list[float]
    class_count: list[int] | None
    given: int | None

    @classmethod
    def of(cls, content: Mapping[str, Any], modalities: Sequence[str]) -> Self:
        """
        Takes it from an object of JSON.

        Args:
            content: the object.
            modalities: those of the model.

        Raises:
            `ValueError`: a value is missing, or not possible.
        """
        modality, entries, losses = (content.get(name) for name in ("modality", "classes", "support_losses"))
        if modality not in modalities:
            raise ValueError(f"modality={str(modality)[:200]!r} is none of the model, {', '.join(modalities)}")
        classes = [label_from_json(entry) for entry in entries] if isinstance(entries, list) else []
        if len(classes) < 2 or len({repr(label_to_json(label)) for label in classes}) < len(classes):
            raise ValueError("classes must have at least 2 classes, each once")
        if not isinstance(losses, list) or not all(isinstance(loss, (int, float)) for loss in losses):
            raise ValueError("support_losses is no list of numbers")
        counts = content.get("class_count")
        if counts is not None and (not isinstance(counts, list) or len(counts) != len(classes) or not _counts(counts)):
            raise ValueError("class_count must have the number of examples of each class")
        given = content.get("given") if content.get("has_examples") else None
        if content.get("has_examples") and not _counts([given]):
            raise ValueError(f"given={str(given)[:200]} is no number of inputs")
        return cls(str(modality), classes, [_number(loss) for loss in losses], counts, given)


def _counts(values: list[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 for value in values)


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of any length
        return math.inf
