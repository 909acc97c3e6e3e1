"""What is noticed about inputs while they are read: said once per call, with the names of the inputs."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any


def listing(names: Sequence[str], shown: int = 5, joined: str = ", ") -> str:
    """The first few of several names, and how many there are."""
    listed = joined.join(map(str, names[:shown]))
    return listed if len(names) <= shown else f"{listed}{joined}... ({len(names)} in all)"


class UnreadableInput(ValueError):
    """An input that cannot be read; the message names it and says why. What may be skipped raises this."""


def named(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """
    The result of a function of one input, with errors that say which input they are about.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: the function raised anything else.
    """
    try:
        return function(*arguments)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: {error}") from error
    except Exception as error:  # arrays, tensors and decoders fail in many ways
        kind = "" if isinstance(error, (ValueError, TypeError, OSError)) else f"{type(error).__name__}: "
        raise UnreadableInput(f"{name}: {kind}{error}") from error


def warn_of_unreadable(unreadable: dict[int, str], number: int) -> None:
    """Says in one warning which of `number` inputs were passed over, and why."""
    why = listing(list(unreadable.values()), joined="; ")
    warnings.warn(f"{len(unreadable)} of {number} inputs cannot be read: {why}", UserWarning, stacklevel=3)


class Notes:
    """
    Collects what is to be said about single inputs, and says it in one warning per kind.

    ```python
    notes = Notes()
    rows = [read_audio(sound, 16_000, 80_000, name=name, notes=notes) for name, sound in sounds]
    notes.warn()
    ```
    """

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self.prefix = ""  # of the names that are noted, such as the position of the input that is being read

    def add(self, what: str, name: str) -> None:
        """Notes `what`, a sentence that fits any input of its kind, about the input called `name`."""
        self._names.setdefault(what, []).append(f"{self.prefix}{name}")

    def take(self, other: "Notes", renamed: Callable[[str], str] = str) -> None:
        """Adds what another one has noted, with its names as `renamed` gives them."""
        for what, names in other._names.items():
            for name in names:
                self.add(what, renamed(name))

    @property
    def count(self) -> int:
        """How often something was noted."""
        return sum(map(len, self._names.values()))

    def warn(self, stacklevel: int = 3) -> None:
        """Gives the warnings, and forgets them."""
        for what, names in self._names.items():
            warnings.warn(f"{what}: {listing(names)}", UserWarning, stacklevel=stacklevel)
        self._names.clear()
