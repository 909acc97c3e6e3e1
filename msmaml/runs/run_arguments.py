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
from modeling_msmaml.inference.base_model import shipped_or_given
from modeling_msmaml.model.configuration_msmaml import WHITENINGS
from modeling_msmaml.model.options import option, options_of, parse_json, types_of

from .data_arguments import DataArguments

# A wheel holds the folder `configs` in this package (setup.py), a repository beside it.
_PACKAGE = Path(__file__).resolve().parents[1]
CONFIGS = (_PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent) / "configs"

# The options of `MSMAMLConfig` that a command line gives as JSON, each with an example.
_EXAMPLES = {
    "modalities": '["audio", "text"]',
    "kernel_size": "[5, 5, 3, 3]",
    "layer_widths": "[64, 64, 64, 64]",
    "stride": "[2, 2, 1, 1]",
    "padding": "[1, 1, 0, 0]",
    "descriptor_whitening": '{"audio": "class"}',
    "network_gain": '{"text": 0.3}',
    "auxiliary_classes": '{"image": 60}',
    "lora_layers": '["convolutions", "projection"]',
    "inner_optimizer_kwargs": '{"momentum": 0.9}',
    "task_network_kwargs": '{"num_layers": 4}',
    "level_encoders": '{"text": "encoders/text"}',
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
        for name in ("model_name_or_path", "level_encoders"):
            if isinstance(place := getattr(self, name), str):
                setattr(self, name, shipped_or_given(place))
        for name, example in _EXAMPLES.items():
            words = WHITENINGS if name == "descriptor_whitening" else ()
            expected = f"neither one of {', '.join(words)} nor JSON" if words else "not JSON"
            if name == "level_encoders" and not str(self.level_encoders).lstrip().startswith("{"):
                continue  # the name of a saved model
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


def option_parser(command: str = "train") -> HfArgumentParser:
    """The parser of all options of a run, which a command of this name shows."""
    return HfArgumentParser(
        (ModelArguments, DataArguments, MetaTrainingArguments),
        prog=f"msmaml {command}",
        description=__doc__,
        epilog=f"example:  msmaml {command} configs/quickstart.yaml --num_test_episodes 100",
    )


def parse_arguments(
    argv: list[str], command: str = "train"
) -> tuple[ModelArguments, DataArguments, MetaTrainingArguments]:
    """
    A YAML file, if the first argument names one (see `find_config`), then command-line options on top of it.

    Args:
        argv: what follows the command.
        command: the command, for its usage and messages.

    Raises:
        `SystemExit`: an option that does not exist, or cannot have its value; the message says why.
    """
    parser, config = option_parser(command), None
    try:
        if argv and not argv[0].startswith("-"):
            config = find_config(argv[0])
            parser.set_defaults(**read_yaml(config, {action.dest for action in parser._actions}))
            argv = argv[1:]
        arguments, data, args = parser.parse_args_into_dataclasses(args=argv)
        return cast(ModelArguments, arguments), cast(DataArguments, data), cast(MetaTrainingArguments, args)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"{command}: {error}") from error
    except (TypeError, AttributeError, KeyError, ArithmeticError) as error:  # a YAML file may have values of any type
        if config is None:
            raise
        raise SystemExit(f"{command}: {config} has an option with a value of another type: {error}") from error


def find_config(name: str) -> Path:
    """
    The YAML file of a run: a file, or else one that comes with the code, `base` and `configs/base.yaml` alike, and
    `reproductions/protonet_omniglot` of a folder in it.

    Raises:
        `FileNotFoundError`: there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {file.relative_to(CONFIGS).with_suffix("").as_posix(): file for file in CONFIGS.rglob("*.yaml")}
    asked = path.parent / path.stem
    asked = asked.relative_to("configs") if asked.is_relative_to("configs") else asked
    if path.suffix in ("", ".yaml") and asked.as_posix() in shipped:
        return shipped[asked.as_posix()]
    by_stem = {known.rpartition("/")[2]: known for known in shipped}
    close = difflib.get_close_matches(path.stem, by_stem, n=1)
    hint = f" (did you mean {by_stem[close[0]]!r}?)" if close else ""
    names = ", ".join(sorted(shipped)) or "none"
    raise FileNotFoundError(f"there is no config file {name}{hint}; those that come with the code are: {names}")


def read_yaml(path: Path, known: set[str]) -> dict[str, Any]:
    """
    The options in a YAML file.

    Raises:
        `ValueError`: no options, one that is not `known`, or one without a value; or it is no YAML.
    """
    try:
        options = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
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
