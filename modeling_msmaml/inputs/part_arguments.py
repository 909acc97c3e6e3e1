"""Arguments of the processor's parts: those that a call or `from_pretrained` may change, and their checks."""

import inspect
import numbers
from collections.abc import Collection
from typing import Any, TypedDict, TypeVar

Part = TypeVar("Part")
PADDINGS = ("max_length", "longest")


class ImageArguments(TypedDict, total=False):
    """What `from_pretrained` of the image processor takes besides where to look."""

    size: int | None


def is_count(value: Any) -> bool:
    """Whether a value is a positive integer."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) > 0


def is_positive(value: Any) -> bool:
    """Whether a value is a positive number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and float(value) > 0


def own_arguments(part: type) -> list[str]:
    """The arguments of a part's `__init__`, by name."""
    parameters = inspect.signature(part.__init__).parameters.values()
    return [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"]


def changed(part: Part, known: Collection[str], arguments: dict[str, Any]) -> Part:
    """
    Returns a part with other arguments.

    Args:
        known: the arguments that a call may change.

    Raises:
        ValueError: an argument is unknown, or has a value that the part refuses.
    """
    _refuse_unknown(type(part).__name__, known, arguments)
    own = {name: getattr(part, name) for name in own_arguments(type(part))}
    return type(part)(**{**own, **arguments})


def text_arguments(arguments: dict[str, Any], padding: str, max_length: int) -> tuple[str, int]:
    """
    Returns how texts are padded and how many tokens they have at most.

    Args:
        arguments: of a call, `"padding"` and `"max_length"`.
        padding, max_length: where they are not given.

    Raises:
        ValueError: an argument is unknown, or has a value that texts cannot have.
    """
    _refuse_unknown("text_kwargs", ("padding", "max_length"), arguments)
    padding, given = arguments.get("padding", padding), arguments.get("max_length", max_length)
    padding = "longest" if padding is True else padding  # as tokenizers take it
    if padding not in PADDINGS:
        raise ValueError(f"padding={padding!r} must be one of {', '.join(PADDINGS)}")
    if not is_count(given):
        raise ValueError(f"max_length={given!r} must be positive (tokens)")
    return padding, given


def _refuse_unknown(whose: str, known: Collection[str], arguments: dict[str, Any]) -> None:
    if unknown := sorted(set(arguments) - set(known)):
        raise ValueError(f"{whose} got {', '.join(unknown)}; a call takes {', '.join(sorted(known))}")
