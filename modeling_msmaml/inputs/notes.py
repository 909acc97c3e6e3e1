"""What is noticed about inputs while they are read: said once per call, with the names of the inputs."""

import warnings
from collections.abc import Sequence


def listing(names: Sequence[str], shown: int = 5, joined: str = ", ") -> str:
    """The first few of several names, and how many there are."""
    listed = joined.join(map(str, names[:shown]))
    return listed if len(names) <= shown else f"{listed}{joined}... ({len(names)} in all)"


class UnreadableInput(ValueError):
    """An input that cannot be read; the message names it and says why. What may be skipped raises this."""


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

    def warn(self, stacklevel: int = 3) -> None:
        """Gives the warnings, and forgets them."""
        for what, names in self._names.items():
            warnings.warn(f"{what}: {listing(names)}", UserWarning, stacklevel=stacklevel)
        self._names.clear()
