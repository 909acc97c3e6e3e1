"""How a config is read from a file that someone else wrote."""

import os
from typing import Any, Self, cast

from .saved_files import read_from


class ReadsConfig:
    """The part of [`MSMAMLConfig`] that concerns its file."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Self:
        """
        As in transformers.

        Raises:
            `OSError`: there is no such file, folder or repository.
            `ValueError`: it is damaged, or has options that no config has; the message names it.
        """
        with read_from(pretrained_model_name_or_path):
            return cast(Any, super()).from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
