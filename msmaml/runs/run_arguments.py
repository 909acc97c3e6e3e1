"""The options of a run come from a YAML file and from the command line, which takes precedence."""

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, cast, get_args, get_origin

import yaml
from transformers import HfArgumentParser

from modeling_msmaml import MetaTrainingArguments, MSMAMLConfig
from modeling_msmaml.model.configuration_msmaml import WHITENINGS
from modeling_msmaml.model.options import at_least, check_options, option, options_of, parse_json, types_of

# The options of `MSMAMLConfig` that a command line gives as JSON, each with an example.
_EXAMPLES = {
    "modalities": '["audio", "text"]',
    "kernel_size": "[5, 5, 3, 3]",
    "stride": "[2, 2, 1, 1]",
    "padding": "[1, 1, 0, 0]",
    "descriptor_whitening": '{"audio": "class"}',
    "network_gain": '{"text": 0.3}',
    "auxiliary_classes": '{"image": 60}',
    "embeddings": '{"image": {"timm": "resnet18"}}',
}


def _on_a_command_line(annotation: Any) -> Any:
    """Returns the type of an optional command-line option: a type that argparse knows, and text for all others."""
    if get_origin(annotation) is Literal:
        return annotation | None
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    simple = len(kinds) == 1 and (kinds[0] in (int, float, bool, str) or get_origin(kinds[0]) is Literal)
    return (kinds[0] if simple else str) | None


def _config_options() -> type:
    """Makes a dataclass of the options of `MSMAMLConfig` that `MetaTrainingArguments` lacks; all are optional."""
    elsewhere = {field.name for field in dataclasses.fields(MetaTrainingArguments)}
    types = types_of(MSMAMLConfig)
    fields = [
        (field.name, _on_a_command_line(types[field.name]), option(None, field.metadata["help"]))
        for field in options_of(MSMAMLConfig)
        if field.name not in elsewhere
    ]
    return dataclasses.make_dataclass("ConfigOptions", fields)


@dataclass
class ModelArguments(_config_options()):
    """Options that name the model to start from, or say how to build one.

    An option that is not given has the value of the checkpoint, or the default of `MSMAMLConfig`.
    """

    model_name_or_path: str | None = option(None, "The checkpoint to start from or to evaluate.")
    auxiliary: bool = option(
        False, "Also classify the samples of training episodes among all training classes (co-training)."
    )

    def __post_init__(self) -> None:
        for name, example in _EXAMPLES.items():
            words = WHITENINGS if name == "descriptor_whitening" else ()
            expected = f"neither one of {', '.join(words)} nor JSON" if words else "not JSON"
            setattr(self, name, parse_json(name, getattr(self, name), f"{expected} such as {example}", words))
        if self.auxiliary_weight is not None and not self.auxiliary:
            raise ValueError(f"auxiliary_weight={self.auxiliary_weight} has no effect without auxiliary")
        if self.auxiliary_classes is not None:
            raise ValueError(
                f"auxiliary_classes={self.auxiliary_classes}: they are those of the training data; give auxiliary"
            )

    def given(self) -> dict[str, Any]:
        """Returns the fields of `MSMAMLConfig` that were given."""
        own = ("model_name_or_path", "auxiliary")
        values = {name: value for name, value in vars(self).items() if value is not None and name not in own}
        if values.get("inner_grad_clip") == 0:
            values["inner_grad_clip"] = None  # a command line cannot give None
        return values


@dataclass
class DataArguments:
    """Options that say which episodes to train and evaluate on."""

    datasets: list[str] = option(
        ["esc50", "brown", "cifar100"],
        "The data sets, one per modality: esc50, brown, cifar100, synthetic:audio|text|image, folder, hub:REPOSITORY, "
        "or a registered one.",
    )
    data_dir: str | None = option(
        None, "The folder with the data sets' archives. Without it, the official archives are downloaded."
    )
    # A dict after parsing; the command line gives a string.
    dataset_options: dict[str, dict[str, Any]] | str | None = option(
        None, 'Options per data set, as JSON: \'{"brown": {"unit": "document"}}\'.', typed=False
    )
    cache_dir: str | None = option(None, "The folder in which built data sets are stored. Default: HF_DATASETS_CACHE.")
    cache_features: bool = option(False, "Compute the features of pretrained encoders once and store them.")
    protocol: str = option("class_disjoint", "The protocol by which classes and samples are split.")
    source_disjoint: bool = option(
        True, "Whether the support and query sets of an episode share no recording or document."
    )
    num_eval_episodes: int = option(
        1000, "The number of validation episodes per modality; at least 2, for an interval to exist.", at_least(2)
    )
    num_test_episodes: int = option(
        1000, "The number of test episodes per modality; at least 2, for an interval to exist.", at_least(2)
    )
    eval_seed: int = option(0, "The seed of validation and test episodes, apart from --seed.")

    def __post_init__(self) -> None:
        if isinstance(self.datasets, str):  # a YAML file may give a single name without brackets
            self.datasets = [self.datasets]
        expected = 'not JSON such as {"brown": {"unit": "document"}}'
        options = parse_json("dataset_options", self.dataset_options, expected) or {}
        if not isinstance(options, dict):
            raise ValueError(f"dataset_options={self.dataset_options!r} is {expected}")
        if unknown := sorted(options.keys() - set(self.datasets)):
            raise ValueError(f"dataset_options is for {', '.join(unknown)}, but datasets={self.datasets}")
        self.dataset_options = cast(Any, options)
        check_options(self)

    def options_of_data_set(self, name: str) -> dict[str, Any]:
        """Returns the options of one data set, which may be none."""
        return cast(dict, self.dataset_options).get(name, {})


def parse_arguments(
    argv: list[str], command: str = "train"
) -> tuple[ModelArguments, DataArguments, MetaTrainingArguments]:
    """
    A YAML file, if the first argument names one, then command-line options on top of it.

    Args:
        argv: what follows the command.
        command: the command, for its usage and messages.

    Raises:
        `SystemExit`: an option that does not exist, or cannot have its value; the message says why.
    """
    parser = HfArgumentParser(
        (ModelArguments, DataArguments, MetaTrainingArguments), prog=f"msmaml {command}", description=__doc__
    )
    try:
        if argv and not argv[0].startswith("-"):
            parser.set_defaults(**read_yaml(Path(argv[0]), {action.dest for action in parser._actions}))
            argv = argv[1:]
        arguments, data, args = parser.parse_args_into_dataclasses(args=argv)
        return cast(ModelArguments, arguments), cast(DataArguments, data), cast(MetaTrainingArguments, args)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"{command}: {error}") from error


def read_yaml(path: Path, known: set[str]) -> dict[str, Any]:
    """
    The options in a YAML file.

    Raises:
        `FileNotFoundError`: no such file.
        `ValueError`: no options, one that is not `known`, or one without a value.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no config file {path}")
    options = yaml.safe_load(path.read_text()) or {}
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold 'option: value' lines")
    for name, value in options.items():
        if value is None:
            raise ValueError(f"{path} gives {name!r} no value; leave it out for its default")
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; --help lists all options"
            raise ValueError(f"{path} has an unknown option {name!r}{hint}")
    return options
