"""What users of transformers' own trainer and arguments expect of ours."""

import dataclasses
import json
import warnings

import pytest
import torch
import yaml
from transformers import HfArgumentParser, Trainer, TrainingArguments

from modeling_msmaml import MetaTrainer, MetaTrainingArguments
from modeling_msmaml.training.collator import collate_episodes

from ..toys import K_SHOT, N_QUERY, N_WAY, tiny_dataset, tiny_model

OPTIONS = {"use_cpu": True, "report_to": "none", "max_steps": 2, "save_strategy": "no", "disable_tqdm": True}
STEPS = {"eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 5}
SHAPE = {"n_way": N_WAY, "k_shot": K_SHOT, "n_query": N_QUERY, "per_device_train_batch_size": 3}


def _parsed(arguments: dict) -> MetaTrainingArguments:
    return HfArgumentParser(MetaTrainingArguments).parse_dict(arguments)[0]


WAYS = {
    "replace": dataclasses.replace,
    "dict": lambda arguments: MetaTrainingArguments(**arguments.to_dict()),
    "json": lambda arguments: _parsed(json.loads(arguments.to_json_string())),
    "yaml": lambda arguments: _parsed(yaml.safe_load(yaml.safe_dump(json.loads(arguments.to_json_string())))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_query": '{"audio": 3}', "train_n_way": {"text": [3, 10]}, "train_k_shot": "[1, 5]", "mix_classes": "0.2"},
        {"augment": ["basic", "spec_augment"], "new_classes": ["rotate"]},
        {"augment": "true", "new_classes": "false"},
        {"load_best_model_at_end": True, **STEPS},
        {"lr_scheduler_type": "reduce_lr_on_plateau", **STEPS},
        {"early_stopping_patience": 2, "early_stopping_threshold": 0.1, **STEPS},
        {"first_order": True, "num_inner_steps": 2, "activation_checkpointing": True},
    ],
    ids=lambda changes: ",".join(changes) or "defaults",
)
def test_arguments_are_read_from_where_they_were_written(changes, way, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers writes deprecated names beside the new ones
        arguments = MetaTrainingArguments(str(tmp_path), **{**OPTIONS, **changes})
        assert WAYS[way](arguments).to_dict() == arguments.to_dict()


@pytest.mark.parametrize(
    "flags",
    [
        ["--activation_checkpointing", "false"],
        ["--include_num_input_tokens_seen", "false"],
        ["--neftune_noise_alpha", "0"],
        ["--prediction_loss_only", "false"],
    ],
    ids=lambda flags: flags[0],
)
def test_neutral_values_are_accepted(flags, tmp_path):
    HfArgumentParser(MetaTrainingArguments).parse_args_into_dataclasses(
        ["--output_dir", str(tmp_path), "--report_to", "none", "--use_cpu", *flags]
    )


@pytest.mark.parametrize("name", ["num_train_epochs", "eval_do_concat_batches", "data_seed", "include_for_metrics"])
def test_none_asks_for_nothing(name, tmp_path):
    default = getattr(MetaTrainingArguments(str(tmp_path), **OPTIONS), name)
    assert getattr(MetaTrainingArguments(str(tmp_path), **OPTIONS, **{name: None}), name) == default


def test_a_plain_trainer_trains_and_evaluates_the_model(tmp_path):
    model = tiny_model(torch.float32)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    options = {"remove_unused_columns": False, "prediction_loss_only": True, "learning_rate": 0.1, "logging_steps": 1}
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), **OPTIONS, **options),
        collate_episodes,
        tiny_dataset(16, seed=1),
        tiny_dataset(6, seed=2),
    )
    trainer.train()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"task_network", "task_encoder"}
    assert trainer.state.total_flos == 0
    assert trainer.evaluate()["eval_loss"] > 0


def _trainer(folder, model=None, **changes) -> MetaTrainer:
    arguments = MetaTrainingArguments(str(folder), **{**OPTIONS, **SHAPE, **changes})
    model = tiny_model(torch.float32) if model is None else model
    return MetaTrainer(model, arguments, train_dataset=tiny_dataset(6, seed=1), eval_dataset=tiny_dataset(3, seed=2))


def test_gradient_checkpointing_changes_no_parameter(tmp_path):
    plain, checkpointed = _trainer(tmp_path), _trainer(tmp_path, activation_checkpointing=True)
    plain.train()
    checkpointed.train()
    assert checkpointed.model.config.inner_loop_checkpointing and checkpointed.model.is_activation_checkpointing
    torch.testing.assert_close(dict(checkpointed.model.state_dict()), dict(plain.model.state_dict()))
    checkpointed.model.activation_checkpointing_disable()
    assert not checkpointed.model.config.inner_loop_checkpointing


def test_return_dict_of_the_config_is_no_matter_to_the_trainer(tmp_path):
    trainer = _trainer(tmp_path)
    trainer.model.config.return_dict = False
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_compiled_training_with_first_order_gives_the_loss_of_the_model(threads, tmp_path):
    torch._dynamo.reset()
    losses = []
    for compiled in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        trainer = _trainer(tmp_path, first_order=True, max_steps=1, **compiled)
        losses += [(trainer.train().training_loss, trainer.evaluate()["eval_loss"])]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
