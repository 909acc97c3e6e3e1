"""MetaTrainer and its arguments, on tiny models and random rows."""

import math

import pytest
import torch
from transformers import TrainerCallback

from modeling_msmaml import MetaTrainer, MetaTrainingArguments
from modeling_msmaml.training.checkpoints import why_incomplete

from ..toys import K_SHOT, N_QUERY, N_WAY, tiny_dataset, tiny_model


def arguments(output_dir, **changes) -> MetaTrainingArguments:
    options = {
        "output_dir": str(output_dir),
        "n_way": N_WAY,
        "k_shot": K_SHOT,
        "n_query": N_QUERY,
        "max_steps": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "per_device_train_batch_size": 3,
    }
    return MetaTrainingArguments(**{**options, **changes})


def make_trainer(output_dir, model_changes=None, episodes: int = 12, **changes) -> MetaTrainer:
    args = arguments(output_dir, **changes)
    return MetaTrainer(
        model=tiny_model(torch.float32, **(model_changes or {})),
        args=args,
        train_dataset=tiny_dataset(args.max_steps * args.per_device_train_batch_size, seed=1),
        eval_dataset=tiny_dataset(episodes, seed=2),
    )


def parameters(trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def changed(before, after) -> set[str]:
    """The networks of which a parameter differs."""
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": 0}, "n_way=0"),
        ({"k_shot": 0}, "k_shot=0"),
        ({"n_query": "fifteen"}, "n_query='fifteen'"),
        ({"n_query": {"audio": 0}}, "n_query"),
        ({"max_steps": -1}, "max_steps=-1"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1 has no effect"),
        ({"num_train_epochs": 5}, "set max_steps"),
        ({"train_sampling_strategy": "random"}, "train_sampling_strategy"),
        ({"remove_unused_columns": True}, "remove_unused_columns"),
        ({"task_encoder_max_grad_norm": -1.0}, "task_encoder_max_grad_norm"),
        ({"length_column_name": "frames"}, "length_column_name='frames' has no effect .*no length"),
        ({"data_seed": 3}, "data_seed=3 has no effect .*function of seed"),
        ({"include_num_input_tokens_seen": "all"}, "counted in tasks, not in tokens"),
        ({"auto_find_batch_size": True}, "raise gradient_accumulation_steps"),
        ({"logging_strategy": "epoch"}, "there are no epochs; take logging_strategy='steps' and logging_steps"),
        ({"eval_strategy": "epoch"}, "there are no epochs; take eval_strategy='steps' and eval_steps"),
        ({"save_strategy": "epoch"}, "there are no epochs; take save_strategy='steps' and save_steps"),
        ({"early_stopping_patience": -1}, "early_stopping_patience=-1"),
        ({"early_stopping_patience": 2}, "early_stopping_patience=2 needs evaluations: give eval_strategy='steps'"),
        ({"early_stopping_threshold": 0.1}, "no effect without early_stopping_patience"),
    ],
)
def test_arguments_without_effect_or_out_of_range_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **changes)


@pytest.mark.parametrize(
    ("given", "parsed"),
    [("15", 15), (15, 15), ('{"audio": 3, "text": 15}', {"audio": 3, "text": 15}), ({"audio": 3}, {"audio": 3})],
)
def test_n_query_is_one_number_or_one_a_modality(tmp_path, given, parsed):
    assert arguments(tmp_path, n_query=given).n_query == parsed


def test_arguments_must_fit_the_model(tmp_path):
    with pytest.raises(ValueError, match="n_way=5 does not fit the model, whose classifier has n_way=3"):
        MetaTrainer(tiny_model(), arguments(tmp_path, n_way=5))
    with pytest.raises(ValueError, match="n_way=1 must be an integer of at least 2"):
        MetaTrainer(tiny_model(head="prototype"), arguments(tmp_path, n_way=1))
    with pytest.raises(ValueError, match="alternating_steps=2 needs a task encoder"):
        MetaTrainer(tiny_model(conditioning="none"), arguments(tmp_path, alternating_steps=2))
    with pytest.raises(ValueError, match="norm_statistics='running'"):
        MetaTrainer(tiny_model(), arguments(tmp_path, norm_statistics="running"))


def test_arguments_take_over_the_inner_loop(tmp_path):
    trainer = make_trainer(tmp_path, num_inner_steps=2, inner_lr=0.01, first_order=True, norm_statistics="support")
    config = trainer.model.config
    assert (config.num_inner_steps, config.inner_lr, config.first_order) == (2, 0.01, True)
    assert config.norm_statistics == "support"
    assert make_trainer(tmp_path).model.config.num_inner_steps == 3, "what is not given stays as in the config"


def test_training_moves_both_networks_and_logs_each_modality(tmp_path):
    trainer = make_trainer(tmp_path)
    before = parameters(trainer)
    trainer.train()
    assert changed(before, parameters(trainer)) == {"task_network", "task_encoder"}
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logged] == [1, 2, 3, 4]
    for entry in logged:
        assert all(0 <= entry[f"{modality}_accuracy"] <= 1 for modality in ("audio", "text", "image"))


def test_meta_batch_interleaves_the_modalities(tmp_path):
    trainer = make_trainer(tmp_path, per_device_train_batch_size=6)
    batch = next(iter(trainer.get_train_dataloader()))["episodes"]
    assert {modality: len(part["support"]) for modality, part in batch.items()} == {"audio": 2, "text": 2, "image": 2}


def test_each_network_has_its_learning_rate(tmp_path):
    trainer = make_trainer(tmp_path, task_encoder_learning_rate=0.0, task_network_learning_rate=0.1, optim="sgd")
    before = parameters(trainer)
    trainer.train()
    assert changed(before, parameters(trainer)) == {"task_network"}


def test_updates_alternate(tmp_path):
    trainer = make_trainer(tmp_path, alternating_steps=2)
    snapshots = [parameters(trainer)]

    class Record(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            snapshots.append(parameters(trainer))

    trainer.add_callback(Record())
    trainer.train()
    moved = [changed(before, after) for before, after in zip(snapshots, snapshots[1:], strict=False)]
    assert moved == [{"task_network"}] * 2 + [{"task_encoder"}] * 2


def test_task_encoder_gradient_is_clipped(tmp_path):
    """With SGD the first step is rate times clipped gradient."""
    trainer = make_trainer(
        tmp_path, max_steps=1, optim="sgd", learning_rate=1.0, task_encoder_max_grad_norm=1e-3, logging_steps=1
    )
    before = parameters(trainer)
    trainer.train()
    after = parameters(trainer)
    norms = {
        network: math.sqrt(sum((after[n] - before[n]).square().sum().item() for n in before if n.startswith(network)))
        for network in ("task_encoder", "task_network")
    }
    assert norms["task_encoder"] == pytest.approx(1e-3, rel=1e-3)
    assert norms["task_network"] > 1e-2


def test_gradient_accumulation_equals_the_larger_meta_batch(tmp_path):
    large = make_trainer(tmp_path, max_steps=1, per_device_train_batch_size=6, optim="sgd", learning_rate=0.1)
    small = make_trainer(
        tmp_path,
        max_steps=1,
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
        optim="sgd",
        learning_rate=0.1,
    )
    small.train_dataset = large.train_dataset
    large.train()
    small.train()
    for name, expected in parameters(large).items():
        torch.testing.assert_close(parameters(small)[name], expected, rtol=1e-4, atol=1e-6, msg=name)


def test_evaluation_reports_every_modality_with_intervals(tmp_path):
    metrics = make_trainer(tmp_path).evaluate()
    assert metrics["eval_episodes"] == 12
    for name in ("eval", "eval_audio", "eval_text", "eval_image"):
        assert 0 <= metrics[f"{name}_accuracy"] <= 1
        assert 0 <= metrics[f"{name}_accuracy_ci95"] < 1
        assert metrics[f"{name}_loss"] > 0
    assert metrics["eval_accuracy_ci95"] > 0
    means = [metrics[f"eval_{modality}_accuracy"] for modality in ("audio", "text", "image")]
    assert metrics["eval_accuracy"] == pytest.approx(sum(means) / 3)


def test_evaluation_equals_the_model_episode_by_episode(tmp_path):
    trainer = make_trainer(tmp_path)
    prediction = trainer.predict(trainer.eval_dataset, metric_key_prefix="test")
    losses = []
    for index in range(len(trainer.eval_dataset)):
        batch = trainer.data_collator([trainer.eval_dataset[index]])
        with torch.no_grad():
            losses.append(trainer.model(**batch).loss.item())
    assert prediction.metrics["test_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert len(prediction.predictions) == len(prediction.label_ids) == 12
    assert all(len(row) == N_WAY * N_QUERY for row in prediction.predictions)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_evaluation_does_not_depend_on_its_batch_size(tmp_path, batch_size):
    expected = make_trainer(tmp_path).evaluate()
    actual = make_trainer(tmp_path, per_device_eval_batch_size=batch_size).evaluate()
    for name, value in expected.items():
        if "accuracy" in name or "episodes" in name:
            assert actual[name] == value, name
        elif name.endswith("loss"):
            assert actual[name] == pytest.approx(value, rel=1e-5), name


def test_evaluation_leaves_model_and_random_state_alone(tmp_path):
    trainer = make_trainer(tmp_path)
    before, state = parameters(trainer), torch.get_rng_state()
    trainer.evaluate()
    assert not changed(before, parameters(trainer))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_loss_that_is_not_finite_stops_before_it_does_harm(tmp_path):
    trainer = make_trainer(tmp_path, inner_lr=1e30, model_changes={"inner_grad_clip": None})
    before = parameters(trainer)
    with pytest.raises(FloatingPointError, match=r"meta-step 1, in .*inner step 2.*inner_lr \(now 1e\+30\)"):
        trainer.train()
    assert not changed(before, parameters(trainer))


@pytest.mark.parametrize("options", [{"logging_steps": 2, "save_steps": 100}, {"logging_steps": 100, "save_steps": 2}])
def test_on_an_accelerator_a_loss_that_is_not_finite_is_found_before_it_is_logged_or_saved(
    options, tmp_path, monkeypatch
):
    monkeypatch.setattr(MetaTrainer, "_looks_at_every_loss", lambda self: False)
    trainer = make_trainer(
        tmp_path, inner_lr=1e30, model_changes={"inner_grad_clip": None}, save_strategy="steps", **options
    )
    with pytest.raises(FloatingPointError, match=r"nan at meta-step 2.*inner_lr \(now 1e\+30\)"):
        trainer.train()
    assert not trainer.state.log_history and not list(tmp_path.rglob("*.safetensors"))


def test_loss_that_is_not_finite_is_no_result_of_an_evaluation(tmp_path):
    trainer = make_trainer(tmp_path, inner_lr=1e30, model_changes={"inner_grad_clip": None})
    with pytest.raises(FloatingPointError, match=r"in evaluation, in .*inner_lr"):
        trainer.evaluate()


def test_evaluation_keeps_no_outer_graph(tmp_path):
    trainer, seen = make_trainer(tmp_path), []
    trainer.model.register_forward_hook(lambda module, inputs, output: seen.append(output.loss.requires_grad))
    trainer.evaluate()
    assert seen and not any(seen)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_predictions_come_in_the_order_of_the_episodes(tmp_path, batch_size):
    trainer = make_trainer(tmp_path, per_device_eval_batch_size=batch_size)
    prediction = trainer.predict(trainer.eval_dataset)
    for index, predicted in enumerate(prediction.predictions):
        batch = trainer.data_collator([trainer.eval_dataset[index]])
        with torch.no_grad():
            (logits,) = trainer.model(**batch).logits.values()
        assert predicted == logits[0].argmax(dim=-1).tolist()


def test_functions_that_would_not_be_used_are_refused(tmp_path):
    with pytest.raises(ValueError, match="compute_metrics has no effect"):
        MetaTrainer(tiny_model(), arguments(tmp_path), compute_metrics=lambda prediction: {})


def test_inputs_that_are_not_finite_are_named(tmp_path):
    trainer = make_trainer(tmp_path)

    def poison(episodes, collate=trainer.data_collator):
        batch = collate(episodes)
        audio = batch["episodes"]["audio"]
        audio["support"] = audio["support"].float() * float("nan")
        return batch

    trainer.data_collator = poison
    with pytest.raises(FloatingPointError, match="The inputs of audio are not finite themselves"):
        trainer.train()


def test_seed_reproduces_training(tmp_path):
    first, second = make_trainer(tmp_path), make_trainer(tmp_path)
    first.train()
    second.train()
    assert not changed(parameters(first), parameters(second))


def scripted_evaluation(trainer: MetaTrainer, accuracies: list[float]) -> None:
    """Makes `trainer` find these accuracies on the validation episodes, one after the other."""
    evaluate, script = trainer.evaluation_loop, iter(accuracies)

    def evaluation_loop(*args, **kwargs):
        output = evaluate(*args, **kwargs)
        output.metrics["eval_accuracy"] = next(script)
        return output

    trainer.evaluation_loop = evaluation_loop


def test_best_model_is_the_one_of_the_highest_accuracy(tmp_path):
    saving = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tmp_path, load_best_model_at_end=True, save_total_limit=1, **saving)
    assert trainer.args.metric_for_best_model == "eval_accuracy" and trainer.args.greater_is_better
    scripted_evaluation(trainer, [0.3, 0.5, 0.4, 0.2])
    snapshots = []

    class Record(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            snapshots.append(parameters(trainer))

    trainer.add_callback(Record())
    trainer.train()
    assert trainer.state.best_metric == 0.5 and trainer.state.best_global_step == 2
    assert not changed(parameters(trainer), snapshots[1])
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2"}, "the best outlives the newest"


def test_checkpoints_are_limited_and_whole(tmp_path):
    make_trainer(tmp_path, save_strategy="steps", save_steps=1, save_total_limit=2).train()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", "checkpoint-4"}
    for path in tmp_path.iterdir():
        assert why_incomplete(path) is None


def test_training_stops_early(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=9, eval_strategy="steps", eval_steps=1, early_stopping_patience=2)
    scripted_evaluation(trainer, [0.3, 0.5, 0.4, 0.5, 0.9])
    trainer.train()
    assert trainer.state.global_step == 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lr_scheduler_type": "linear", "warmup_steps": 2}, [0.0, 0.5, 1.0, 0.5]),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}, [0.0, 0.5, 1.0, 1.0]),
        (
            {"lr_scheduler_type": "cosine"},
            [1.0, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * math.cos(math.pi / 4)],
        ),
    ],
)
def test_schedule_holds_for_the_rate_of_each_network(tmp_path, changes, expected):
    rates = []

    class Record(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
            rates.append({group["lr"] for group in optimizer.param_groups})

    trainer = make_trainer(tmp_path, task_network_learning_rate=0.01, task_encoder_learning_rate=0.001, **changes)
    trainer.add_callback(Record())
    trainer.train()
    assert [max(rate) for rate in rates] == pytest.approx([0.01 * factor for factor in expected])
    assert [min(rate) for rate in rates] == pytest.approx([0.001 * factor for factor in expected])


def test_trainer_itself_draws_nothing_at_random(tmp_path):
    """`run_meta.py` gives the seed to model and episodes."""
    trainers = [make_trainer(tmp_path, seed=seed) for seed in (1, 2)]
    for trainer in trainers:
        trainer.train()
    assert not changed(*(parameters(trainer) for trainer in trainers))
