"""The options that say which data sets a run trains and evaluates on, and by which protocol."""

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any, cast

from modeling_msmaml.model.options import at_least, check_options, option, parse_json

_EXAMPLE_OF_OPTIONS = '{"brown": {"unit": "document"}}'
_EXAMPLE_OF_WEIGHTS = '{"esc50": 1, "brown": 2}'
# The option that names the data sets of each split where `datasets` does not.
_OPTION_OF_SPLIT = {"train": "train_datasets", "validation": "eval_datasets", "test": "test_datasets"}


@dataclass
class DataArguments:
    """Options that say which episodes to train and evaluate on."""

    datasets: list[str] = option(
        ["esc50", "brown", "cifar100"],
        "The data sets, any number per modality: esc50, brown, cifar100, clinc150, banking77, fsdd, omniglot, "
        "synthetic:audio|text|image, folder, folder:SUBFOLDER, hub:REPOSITORY, a registered one, and those of "
        "docs/data.md.",
    )
    train_datasets: list[str] | None = option(None, "The data sets to train on. Default: datasets.")
    eval_datasets: list[str] | None = option(
        None, "The data sets to validate on. Default: train_datasets, or datasets."
    )
    test_datasets: list[str] | None = option(None, "The data sets to test on. Default: datasets.")
    leave_one_out: bool = option(
        False,
        "Make one run for each of datasets, which trains and validates on the others and tests on this one, in a "
        "folder of its own inside output_dir.",
    )
    # A dict after parsing; the command line gives a string.
    dataset_weights: dict[str, float] | str | None = option(
        None,
        f"How often each training set is drawn, as JSON: '{_EXAMPLE_OF_WEIGHTS}'. Default: the modalities have equal "
        "shares, which their data sets divide by the square root of their numbers of classes.",
        typed=False,
    )
    data_dir: str | None = option(
        None, "The folder with the data sets' archives. Without it, the official archives are downloaded."
    )
    # A dict after parsing; the command line gives a string.
    dataset_options: dict[str, dict[str, Any]] | str | None = option(
        None,
        f"Options per data set, among them its own data_dir, as JSON: '{_EXAMPLE_OF_OPTIONS}'.",
        typed=False,
    )
    import_module: list[str] | None = option(
        None,
        "Modules to import first, by name, from the current folder or the environment: they may register data sets, "
        "modalities, encoders and more.",
    )
    cache_dir: str | None = option(None, "The folder in which built data sets are stored. Default: HF_DATASETS_CACHE.")
    cache_features: bool = option(False, "Compute the features of pretrained encoders once and store them.")
    protocol: str = option("class_disjoint", "The protocol by which classes and samples are split.")
    source_disjoint: bool = option(
        True, "Whether the support and query sets of an episode share no recording or document."
    )
    num_eval_episodes: int = option(
        1000, "The number of validation episodes per data set; at least 2, for an interval to exist.", at_least(2)
    )
    num_test_episodes: int = option(
        1000, "The number of test episodes per data set; at least 2, for an interval to exist.", at_least(2)
    )
    eval_seed: int = option(0, "The seed of validation and test episodes, apart from --seed.")

    def __post_init__(self) -> None:
        for name in ("datasets", *_OPTION_OF_SPLIT.values(), "import_module"):
            if isinstance(value := getattr(self, name), str):  # a YAML file may give a single name without brackets
                setattr(self, name, [value])
        for name in ("datasets", *_OPTION_OF_SPLIT.values()):
            names = getattr(self, name) or []
            if not isinstance(names, (list, tuple)) or not all(isinstance(own, str) for own in names):
                raise ValueError(f"{name}={names!r} must be a list of names of data sets")
            if repeated := sorted({own for own in names if names.count(own) > 1}):
                raise ValueError(f"{name} names {', '.join(repeated)} more than once")
        if self.leave_one_out and any(getattr(self, name) for name in _OPTION_OF_SPLIT.values()):
            raise ValueError("leave_one_out divides datasets itself: leave out train_, eval_ and test_datasets")
        if self.leave_one_out and len(self.datasets) < 2:
            raise ValueError(f"leave_one_out needs at least two data sets, but datasets={self.datasets}")
        self.dataset_options = cast(Any, self._by_data_set("dataset_options", dict, _EXAMPLE_OF_OPTIONS))
        self.dataset_weights = (
            cast(Any, self._by_data_set("dataset_weights", (int, float), _EXAMPLE_OF_WEIGHTS)) or None
        )
        check_options(self)
        import_modules(self.import_module or [])

    def _by_data_set(self, name: str, kind: type | tuple[type, ...], example: str) -> dict[str, Any]:
        """The values of an option that has one for each of some data sets."""
        values = parse_json(name, getattr(self, name), f"not JSON such as {example}") or {}
        if not isinstance(values, dict) or not all(isinstance(value, kind) for value in values.values()):
            raise ValueError(f"{name}={getattr(self, name)!r} is not JSON such as {example}")
        if unknown := sorted(map(str, values.keys() - set(self.names()))):
            raise ValueError(f"{name} is for {', '.join(unknown)}, but the data sets are {', '.join(self.names())}")
        return values

    def names(self, *splits: str) -> list[str]:
        """The data sets of some of `"train"`, `"validation"` and `"test"`; by default those of all of them."""
        given = {split: getattr(self, option) for split, option in _OPTION_OF_SPLIT.items()}
        given["validation"] = given["validation"] or given["train"]
        chosen = [given[split] or self.datasets for split in splits or _OPTION_OF_SPLIT]
        return list(dict.fromkeys(name for names in chosen for name in names))

    def options_of_data_set(self, name: str) -> dict[str, Any]:
        """Returns the arguments of `load_few_shot` for one data set: its own options, and the shared folders."""
        shared = {"data_dir": self.data_dir, "cache_dir": self.cache_dir}
        return {**shared, **cast(dict, self.dataset_options).get(name, {})}


def import_modules(names: list[str]) -> None:
    """
    Imports modules by name, also from the current folder, as `python -m` would.

    Raises:
        ValueError: there is no module of this name.
    """
    for name in names:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists, but one that it imports does not
            raise ValueError(
                f"import_module={name}: there is no module {name} in {os.getcwd()} or in the environment; give the "
                "name of a module without .py"
            ) from error
