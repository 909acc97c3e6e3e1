"""An option is declared once: what its field says is what the config, the command line and the errors say."""

import argparse
import dataclasses
import json
from pathlib import Path

import pytest
from transformers import HfArgumentParser

from modeling_msmaml import MetaTrainingArguments, MSMAMLConfig
from modeling_msmaml.inference.base_model import SHIPPED
from modeling_msmaml.model.options import options_of
from msmaml.runs.data_arguments import DataArguments
from msmaml.runs.run_arguments import ModelArguments, find_config, parse_arguments
from msmaml.runs.run_model import READ_BY, check_effect

from ..conftest import REPOSITORY

OPTIONS = {field.name: field for field in options_of(MSMAMLConfig)}
# Values that are no defaults, as text of a command line.
VALUES = {
    "modalities": '["text"]',
    "kernel_size": "[5, 3]",
    "stride": "1",
    "network_gain": '{"text": 0.5}',
    "descriptor_whitening": "class",
    "embeddings": '{"image": {"timm": "resnet18"}}',
    "task_encoder_kernel_size": "5",
    "inner_grad_clip": "3",
    "lora_layers": '["projection"]',
    "inner_optimizer_kwargs": '{"momentum": 0.5}',
    "task_network_kwargs": '{"num_layers": 3}',
    "task_chunk_size": "2",
    "inner_loop_checkpointing": "true",
    "norm_eps": "1e-3",
    "norm_statistics": "support",
    "first_order": "true",
    "inner_lr": "0.5",
    "patch_dictionary_size": "16",
}


def as_given(value: str) -> object:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def fields(*classes: type) -> list[str]:
    return [field.name for cls in classes for field in dataclasses.fields(cls)]


def training_arguments(tmp_path, **changes) -> MetaTrainingArguments:
    return MetaTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **changes)


def test_every_option_of_the_config_is_an_argument_of_a_run_once():
    arguments = fields(ModelArguments, DataArguments, MetaTrainingArguments)
    assert len(arguments) == len(set(arguments))
    assert MSMAMLConfig.own_arguments() == list(OPTIONS) and set(OPTIONS) <= set(arguments)
    assert set(fields(ModelArguments)) - set(OPTIONS) == {"model_name_or_path", "auxiliary"}


def test_help_of_the_command_line_and_of_the_docstring_is_that_of_the_field():
    parser = HfArgumentParser((ModelArguments, MetaTrainingArguments))
    actions = {action.dest: action for action in parser._actions if not isinstance(action, argparse._HelpAction)}
    documented = " ".join(MSMAMLConfig.__doc__.split())
    assert "{options}" not in documented
    for name, field in OPTIONS.items():
        text = field.metadata["help"]
        assert text.endswith(".") and " ".join(text.split()) in documented
        if name != "n_way":  # of the episodes, which a checkpoint must fit
            assert actions[name].help.startswith(text)
    assert tuple(actions["norm"].choices) == ("batch", "group", "task")
    parser.format_help()


@pytest.mark.parametrize("name", VALUES)
def test_a_value_of_the_command_line_is_that_of_the_config(name, tmp_path):
    arguments, _, args = parse_arguments([f"--{name}", VALUES[name], "--output_dir", str(tmp_path), "--use_cpu"])
    assert {**arguments.given(), **args.model_overrides()} == {name: as_given(VALUES[name])}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_way", 0, "n_way=0 must be an integer of at least 1"),
        ("n_way", 5.0, "n_way=5.0 must be an integer"),
        ("num_layers", True, "num_layers=True must be an integer"),
        ("inner_lr", 0, "inner_lr=0 must be positive"),
        ("inner_lr", "0.1", "inner_lr='0.1' must be a number"),
        ("inner_lr", float("nan"), "inner_lr=nan must be positive"),
        ("inner_grad_clip", 0, "inner_grad_clip=0 must be positive, or None"),
        ("task_chunk_size", 0, "task_chunk_size=0 must be an integer of at least 1, or None"),
        ("norm", "layer", "norm='layer' is unknown; choose one of batch, group, task"),
        ("norm", None, "norm=None is unknown"),
        ("dropout", 1, r"dropout=1 must be in \[0, 1\)"),
        ("first_order", "yes", "first_order='yes' must be true or false"),
        ("modalities", "audio", "modalities='audio' must be a list of texts"),
        ("stride", "2", "stride='2' must be an integer or a list of integers"),
        ("stride", [2, 0], r"stride=\[2, 0\] must be an integer of at least 1"),
        ("network_gain", {"audio": "x"}, "network_gain={'audio': 'x'} must be a number or a dict of numbers"),
        ("network_gain", {"audio": 0}, "network_gain={'audio': 0} must be positive"),
        ("auxiliary_classes", {"audio": 0}, "must be an integer of at least 1, or None"),
        ("descriptor_whitening", {"audio": "no"}, "is unknown; choose one of total, source, class"),
    ],
)
def test_a_wrong_value_is_refused_where_it_is_given_or_assigned(name, value, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLConfig(**{name: value})
    config = MSMAMLConfig()
    before = config.own_values()
    with pytest.raises(ValueError, match=message):
        setattr(config, name, value)
    assert config.own_values() == before


def test_an_unknown_option_is_refused_unless_another_version_of_transformers_saved_it():
    with pytest.raises(ValueError, match="no argument 'num_chanels'; did you mean 'num_channels'"):
        MSMAMLConfig(num_chanels=8)
    saved = {**MSMAMLConfig(num_channels=8).to_dict(), "transformers_version": "5.0.0", "no_longer_known": 1}
    assert MSMAMLConfig.from_dict(saved).num_channels == 8


def test_a_config_goes_to_disk_and_back(tmp_path):
    config = MSMAMLConfig(norm="task", kernel_size=[5, 3, 3, 3], inner_grad_clip=None, task_chunk_size=2)
    config.save_pretrained(tmp_path)
    assert MSMAMLConfig.from_pretrained(tmp_path).own_values() == config.own_values()
    assert MSMAMLConfig(**config.to_dict()).own_values() == config.own_values()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_query": '{"audio": 3}', "train_n_way": "7", "augment": ["spec_augment"], "new_classes": ["rotate"]},
        {"mix_classes": '{"text": 0.3}', "augment": True, "inner_lr": 0.1, "norm_statistics": "support"},
        {"eval_strategy": "steps", "eval_steps": 5, "early_stopping_patience": 2, "save_steps": 5},
    ],
)
def test_arguments_of_training_can_be_made_again_from_their_values(tmp_path, changes):
    arguments = training_arguments(tmp_path, **changes)
    assert dataclasses.replace(arguments) == arguments
    for values in (arguments.to_dict(), json.loads(arguments.to_json_string())):
        again = MetaTrainingArguments(**values)
        assert again.to_dict() == arguments.to_dict()


@pytest.mark.parametrize("value", ["false", "true"])
def test_checkpointing_is_read_from_the_command_line(value, tmp_path):
    argv = ["--output_dir", str(tmp_path), "--use_cpu", "--gradient_checkpointing", value]
    assert parse_arguments(argv)[2].gradient_checkpointing is (value == "true")


@pytest.mark.parametrize("name", READ_BY)
def test_options_of_a_modality_that_it_does_not_read_are_refused(name):
    modality, front_ends = READ_BY[name]
    default = getattr(MSMAMLConfig, name)
    given = {name: not default if isinstance(default, bool) else default + 1}
    others = [other for other in ("audio", "text", "image") if other != modality]
    with pytest.raises(ValueError, match=f"{name}=.* has no effect without {modality} data"):
        check_effect(given, MSMAMLConfig(modalities=others))
    for kind in ("raw", "fitted"):
        config = MSMAMLConfig(front_ends=kind)
        check_effect({name: default}, config)
        if kind in front_ends:
            check_effect(given, config)
        else:
            with pytest.raises(ValueError, match=f"has no effect on {modality} with {kind} front ends"):
                check_effect(given, config)


def test_options_of_a_task_encoder_that_is_not_there_are_refused():
    for name in ("task_encoder_kernel_size", "task_encoder_hidden_size"):
        check_effect({name: 7}, MSMAMLConfig())
        with pytest.raises(ValueError, match=f"{name}=7 has no effect with conditioning='none'"):
            check_effect({name: 7}, MSMAMLConfig(conditioning="none"))


def test_auxiliary_classes_are_those_of_the_data(tmp_path):
    with pytest.raises(SystemExit, match="they are those of the training data; give auxiliary"):
        parse_arguments(["--auxiliary_classes", '{"image": 60}', "--output_dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--kernel_size", "[5"], r"train: kernel_size='\[5' is not JSON such as"),
        (["--dataset_options", "[1]"], r"train: dataset_options='\[1\]' is not JSON such as"),
        (["--num_eval_episodes", "1"], "train: num_eval_episodes=1 must be an integer of at least 2"),
        (["--inner_lr", "-1"], "train: inner_lr=-1.0 must be positive"),
    ],
)
def test_a_wrong_argument_of_a_run_is_named(tmp_path, argv, message):
    with pytest.raises(SystemExit, match=message):
        parse_arguments([*argv, "--output_dir", str(tmp_path)])


@pytest.mark.parametrize("name", ["reproductions/maml_omniglot", "configs/reproductions/maml_omniglot.yaml"])
def test_configs_in_folders_of_those_that_come_with_the_code_are_known_too(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name).samefile(REPOSITORY / "configs" / "reproductions" / "maml_omniglot.yaml")
    with pytest.raises(FileNotFoundError, match="did you mean 'reproductions/maml_omniglot'"):
        find_config("maml_omniglot")


@pytest.mark.parametrize(
    ("name", "is_found"),
    [
        *((name, True) for name in ("base", "base.yaml", "configs/base.yaml", "configs/base", "./base")),
        *((name, False) for name in ("bases", "runs/base.yaml", "base.json", "configs", "")),
    ],
)
def test_configs_that_come_with_the_code_are_known_by_name(name, is_found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if is_found:
        assert find_config(name).samefile(REPOSITORY / "configs" / "base.yaml")
        return
    with pytest.raises(FileNotFoundError, match=r"(?s)there is no config file .*: audio, .*quickstart") as raised:
        find_config(name)
    assert ("did you mean 'base'?" in str(raised.value)) == (name in ("bases", "runs/base.yaml", "base.json"))


def test_a_config_of_ones_own_goes_before_that_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "base.yaml").write_text("seed: 7\n")
    monkeypatch.chdir(tmp_path)
    assert find_config("configs/base.yaml") == Path("configs/base.yaml")
    assert find_config("base").samefile(REPOSITORY / "configs" / "base.yaml")


def test_options_name_the_shipped_model_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, *_ = parse_arguments(["base", "--model_name_or_path", "pretrained/msmaml-base"])
    assert arguments.model_name_or_path == arguments.level_encoders == str(SHIPPED)
