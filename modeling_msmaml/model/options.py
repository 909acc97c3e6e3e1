"""
How an option is declared once: one dataclass field has its type, default, help and check, and the docstring, the
command line and the errors come from there.
"""

import dataclasses
import difflib
import json
import math
import numbers
import sys
import textwrap
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache
from inspect import get_annotations
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

# Raises `ValueError` with what a value must be, for instance "must be positive"; name and value are put before it.
Check = Callable[[Any], None]
Declared = TypeVar("Declared", bound=type)
Value = TypeVar("Value")
_KINDS = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
_MANY = {int: "integers", float: "numbers", str: "texts", dict: "dicts"}
_LINE = 120


class _Help(str):
    """
    The help of an option, with its check: `HfArgumentParser` hands all metadata of a field to argparse, which takes the
    help and nothing that it does not know.
    """

    check: Check | None = None
    typed: bool = True


def option(default: Any, help: str, check: Check | None = None, typed: bool = True) -> Any:
    """
    The field of a dataclass.

    Args:
        default: its value where none is given; lists and dicts are copied.
        help: what it does, in whole sentences; units and ranges included.
        check: what its values must be beyond their type. It is not asked about `None` where the type allows it.
        typed: whether values are of the field's type; not so where that is what a command line needs, which is parsed.
    """
    text = _Help(help)
    text.check, text.typed = check, typed
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=default.copy, metadata={"help": text})
    return dataclasses.field(default=default, metadata={"help": text})


def options_of(declared: Any) -> list[dataclasses.Field]:
    """The fields of a dataclass, or of an instance of one, that are declared by [`option`]."""
    return [field for field in dataclasses.fields(declared) if isinstance(field.metadata.get("help"), _Help)]


@lru_cache
def types_of(declared: type) -> dict[str, Any]:
    """The types of a dataclass's fields as they were declared: `HfArgumentParser` changes those in the fields."""
    return {name: kind for cls in reversed(declared.__mro__) for name, kind in get_annotations(cls).items()}


def declared(cls: Declared) -> Declared:
    """
    A class decorator: options are checked when they are assigned, and `{options}` in the docstring becomes their list.

    Raises (from assignments):
        `ValueError`: a value of another type, or one that the option's check refuses.
    """
    fields = {field.name: field for field in options_of(cls)}
    types = {name: field.type for name, field in fields.items()}
    assign: Any = cls.__setattr__

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if name in fields:
            check_option(fields[name], types[name], value)
        assign(self, name, value)

    setattr(cls, "__setattr__", __setattr__)  # noqa: B010 (a type checker sees a method here)
    if cls.__doc__:
        cls.__doc__ = cls.__doc__.replace("{options}", "\n".join(map(_documented, fields.values())).lstrip())
    return cls


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field, made anew where it has a factory."""
    factory: Any = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _documented(field: dataclasses.Field) -> str:
    head = f"{field.name} (`{type_name(field.type)}`, defaults to `{default_of(field)!r}`):"
    body = textwrap.wrap(field.metadata["help"], _LINE - 12)
    return "\n".join([" " * 8 + head, *(" " * 12 + line for line in body)])


def type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(repr, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(type_name, get_args(annotation)))
    if annotation is NoneType:
        return "None"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def check_options(declared: Any) -> None:
    """
    Checks the values of all options of an instance.

    Raises:
        `ValueError`: see [`declared`].
    """
    types = types_of(type(declared))
    for field in options_of(declared):
        check_option(field, types[field.name], getattr(declared, field.name))


def check_option(field: dataclasses.Field, annotation: Any, value: Any) -> None:
    """Raises `ValueError`, with the option's name, unless it can have this value."""
    check, typed = field.metadata["help"].check, field.metadata["help"].typed
    annotations = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if value is None and NoneType in annotations:
        return

    def check_type_and_value(value: Any) -> None:
        try:
            if typed and not any(_fits(value, annotation) for annotation in annotations):
                raise ValueError(_expected(annotations))
            if check is not None:
                check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or None" if NoneType in annotations else f"{error}") from None

    checked(field.name, value, check_type_and_value)


def checked(name: str, value: Value, check: Check) -> Value:
    """The value; raises `ValueError`, with its name, where a check refuses it."""
    try:
        check(value)
    except ValueError as error:
        raise ValueError(f"{name}={value!r} {error}") from None
    return value


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type, as far as options have types; an integer is a number too, a tuple a list."""
    kind = get_origin(annotation) or annotation
    if kind is Any:
        return True
    if kind is Literal:
        return value in get_args(annotation)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in (list, tuple):
        (inner, *_) = get_args(annotation) or (Any,)
        return isinstance(value, (list, tuple)) and all(_fits(item, inner) for item in value)
    if kind is dict:
        (_, inner) = get_args(annotation) or (Any, Any)
        return isinstance(value, Mapping) and all(_fits(item, inner) for item in value.values())
    return isinstance(value, kind)


def _expected(annotations: Sequence[Any]) -> str:
    choices = [choice for a in annotations if get_origin(a) is Literal for choice in get_args(a)]
    others = [a for a in annotations if get_origin(a) is not Literal and a is not NoneType]
    if choices and not others:
        return f"is unknown; choose one of {', '.join(map(str, choices))}"
    return f"must be {' or '.join(dict.fromkeys([*map(str, choices), *map(_kind_name, others)]))}"


def _kind_name(annotation: Any) -> str:
    """What an error calls a type: "an integer", "a list of integers", "a dict of numbers by modality"."""
    kind, inner = get_origin(annotation), [_MANY.get(a, "values") for a in get_args(annotation)]
    if kind is dict:
        return f"a dict of {inner[1]} by modality"
    return f"a list of {inner[0]}" if kind in (list, tuple) else _KINDS.get(annotation, f"a {annotation.__name__}")


def choices(declared: type, name: str) -> tuple[str, ...]:
    """The words that an option of a `Literal` type can have."""
    annotation = types_of(declared)[name]
    for one in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,):
        if get_origin(one) is Literal:
            return get_args(one)
    raise ValueError(f"{name} of {declared.__name__} is no choice between words")


def given_options(declared: type | None, name: str, given: Mapping[str, Any] | None, owner: str) -> dict[str, Any]:
    """
    The values of a dict of options, such as `inner_optimizer_kwargs`.

    Args:
        declared: the dataclass whose fields, declared by [`option`], are known; any other class, or `None`, has none.
        name: what an error calls the dict.
        given: the dict; `None` has no values.
        owner: what an error calls that which has these options.

    Raises:
        `ValueError`: an unknown option, or a value that its option does not take.
    """
    known = {field.name: field for field in options_of(declared)} if dataclasses.is_dataclass(declared) else {}
    for key, value in (given or {}).items():
        if key not in known:
            raise ValueError(f"{name}={given} has {key!r}, but {owner} takes {', '.join(known) or 'no options'}")
        try:
            check_option(known[key], types_of(cast(type, declared))[key], value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return dict(given or {})


def refuse_unknown(declared: type, given: Mapping[str, Any], known: Container[str]) -> None:
    """Raises `ValueError` for a keyword that is neither an option nor otherwise known (private ones are)."""
    names = [field.name for field in options_of(declared)]
    for name in given:
        if name not in known and name not in names and not name.startswith("_"):
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(names)}"
            raise ValueError(f"{declared.__name__} has no argument {name!r}{hint}")


# Checks


def at_least(least: int, most: float = 2**31 - 1) -> Check:
    """Integers from `least` on, up to `most`: what is beyond is no size of anything that fits into a machine."""

    def check(value: Any) -> None:
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"must be an integer of at least {least}")
        if int(value) > most:
            raise ValueError(f"must be an integer of at most {most:,}")

    return check


def any_seed(value: Any) -> None:
    """Integers from 0 on, of any size: random bits are hashed of a seed, which is the size of nothing."""
    at_least(0, math.inf)(value)


def each(check: Check) -> Check:
    """One value, or a list or dict of values that a check accepts."""

    def check_each(value: Any) -> None:
        values = (
            value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else [value]
        )
        for single in values:
            check(single)

    return check_each


def one_of(*choices: str) -> Check:
    """One of some words."""

    def check(value: Any) -> None:
        if value not in choices:
            raise ValueError(f"is unknown; choose one of {', '.join(choices)}")

    return check


def positive(value: float) -> None:
    """Numbers above 0."""
    if not value > 0:
        raise ValueError("must be positive")
    _finite(value)


def not_negative(value: float) -> None:
    """Numbers from 0 on."""
    if not value >= 0:
        raise ValueError("must not be negative")
    _finite(value)


def _finite(value: float) -> None:
    if not value <= sys.float_info.max:
        raise ValueError("must be finite")


def fraction(value: float) -> None:
    """Numbers in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError("must be in [0, 1)")


def parse_json(name: str, value: Any, expected: str, words: Sequence[str] = ()) -> Any:
    """
    The value of an option that a command line gives as text.

    Args:
        value: JSON as text; everything that is no text passes as it is.
        expected: for the error, for instance 'neither a number nor JSON such as {"text": 0.3}'.
        words: texts that are values themselves.

    Raises:
        `ValueError`: text that is neither.
    """
    if not isinstance(value, str) or value in words:
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}={value!r} is {expected}") from error
