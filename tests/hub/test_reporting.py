"""What training reports, and that it arrives in TensorBoard and trackio."""

import math

import pytest
import torch

from modeling_msmaml.training.training_record import TrainingRecord

from ..toys import tiny_dataset
from ..training.test_trainer import make_trainer, parameters

MODALITIES = ("audio", "text", "image")
DETAILS = {
    *(f"{modality}_accuracy_before" for modality in MODALITIES),
    *(f"{modality}_support_loss_step{step}" for modality in MODALITIES for step in (1, 2, 3)),
    *("task_network_grad_norm", "task_encoder_grad_norm"),
}
REPORTED = {"loss", "learning_rate", *(f"{modality}_accuracy" for modality in MODALITIES), *DETAILS}


def log_entries(trainer) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_details_are_logged_when_a_tracker_is_named(tmp_path):
    assert not make_trainer(tmp_path).args.log_inner_loop
    assert make_trainer(tmp_path, report_to="tensorboard").args.log_inner_loop
    assert not make_trainer(tmp_path, report_to="tensorboard", log_inner_loop=False).args.log_inner_loop
    trainer = make_trainer(tmp_path)
    trainer.train()
    assert not any(DETAILS & entry.keys() for entry in log_entries(trainer))


def test_details_are_those_of_the_logged_step(tmp_path):
    """Accuracies before and after adaptation, support losses and norms, computed by hand at the first step."""
    trainer = make_trainer(tmp_path, max_steps=1, max_grad_norm=1e-3, log_inner_loop=True)
    episodes = next(iter(trainer.get_train_dataloader()))["episodes"]
    output = trainer.model(episodes)
    output.loss.backward()
    expected = {}
    for network in ("task_network", "task_encoder"):
        gradients = [p.grad for name, p in trainer.model.named_parameters() if name.startswith(network)]
        squares = (gradient.square().sum().item() for gradient in gradients if gradient is not None)
        expected[f"{network}_grad_norm"] = math.sqrt(sum(squares))
    trainer.model.zero_grad()
    trainer.model.config.num_inner_steps = 0
    before = trainer.model(episodes).logits
    trainer.model.config.num_inner_steps = 3
    for modality in MODALITIES:
        labels = episodes[modality]["query_labels"]
        for name, logits in (("accuracy_before", before), ("accuracy", output.logits)):
            expected[f"{modality}_{name}"] = (logits[modality].argmax(-1) == labels).float().mean().item()
        for step in range(3):
            expected[f"{modality}_support_loss_step{step + 1}"] = output.support_loss[modality][:, step].mean().item()
    trainer.train()
    entry = log_entries(trainer)[0]
    assert entry.keys() - {"epoch", "step", "grad_norm"} == REPORTED
    for name, value in expected.items():
        assert entry[name] == pytest.approx(value, rel=1e-5), name


def test_details_do_not_change_training(tmp_path):
    plain, detailed = (make_trainer(tmp_path, log_inner_loop=details) for details in (False, True))
    plain.train()
    detailed.train()
    assert all(torch.equal(parameters(plain)[name], value) for name, value in parameters(detailed).items())
    assert detailed.model.config.num_inner_steps == 3


def test_unadapted_network_is_run_at_logged_steps_only(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=6, logging_steps=3, logging_first_step=True, log_inner_loop=True)
    steps = []
    trainer.model.register_forward_pre_hook(
        lambda model, inputs: steps.append(trainer.state.global_step + 1) if model.config.num_inner_steps == 0 else None
    )
    trainer.train()
    assert steps == [1, 3, 6]
    assert [entry["step"] for entry in log_entries(trainer)] == steps
    assert all(entry.keys() >= REPORTED for entry in log_entries(trainer))


def test_model_without_task_encoder_has_one_norm(tmp_path):
    trainer = make_trainer(tmp_path, model_changes={"conditioning": "none"}, log_inner_loop=True)
    trainer.train()
    assert "task_network_grad_norm" in log_entries(trainer)[0]
    assert "task_encoder_grad_norm" not in log_entries(trainer)[0]


def test_loss_of_the_run_is_the_mean_over_all_its_steps(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=5, logging_steps=2, gradient_accumulation_steps=2)
    trainer.train_dataset = tiny_dataset(5 * 2 * 3)
    each = []
    compute_loss = trainer.compute_loss

    def record(*args, **kwargs):
        loss = compute_loss(*args, **kwargs)
        each.append(loss.item())
        return loss

    trainer.compute_loss = record
    metrics = trainer.train().metrics
    assert [entry["loss"] for entry in log_entries(trainer)] == pytest.approx([sum(each[:4]) / 4, sum(each[4:8]) / 4])
    assert metrics["train_loss"] == pytest.approx(sum(each) / 10)


def test_sums_survive_a_change_of_the_number_of_processes(tmp_path):
    for rank in range(3):
        record = TrainingRecord()
        record.add("loss", torch.tensor(float(rank)), 1)
        record.save(tmp_path, rank)
    for world_size in (1, 2, 3, 5):
        sums = []
        for rank in range(world_size):
            record = TrainingRecord()
            record.load(tmp_path, rank, world_size)
            sums.append(record._floats().get("loss", (0.0, 0)))
        assert (sum(total for total, _ in sums), sum(count for _, count in sums)) == (3.0, 3)


def test_tensorboard_shows_what_was_logged(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = make_trainer(tmp_path, report_to="tensorboard", eval_strategy="steps", eval_steps=2)
    trainer.train()
    (folder,) = (tmp_path / "runs").iterdir()
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {f"train/{name}" for name in REPORTED} | {"eval/accuracy", "eval/audio_accuracy_ci95"}
    for name in ("audio_accuracy", "audio_accuracy_before", "text_support_loss_step3", "task_encoder_grad_norm"):
        shown = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert shown == pytest.approx({entry["step"]: entry[name] for entry in log_entries(trainer)})


def test_trackio_keeps_what_was_logged(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    storage = pytest.importorskip("trackio.sqlite_storage", reason="trackio is not installed")
    trainer = make_trainer(tmp_path / "run", report_to="trackio", project="msmaml-test", run_name="tiny")
    trainer.train()
    rows = storage.SQLiteStorage.get_logs("msmaml-test", "tiny")
    for name in ("audio_accuracy", "audio_accuracy_before", "text_support_loss_step3", "task_encoder_grad_norm"):
        shown = [row[f"train/{name}"] for row in rows if f"train/{name}" in row]
        assert shown == pytest.approx([entry[name] for entry in log_entries(trainer)])


def test_wandb_keeps_offline_what_was_logged(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra trackers is not installed")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "PROJECT": "msmaml-test", "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    trainer = make_trainer(tmp_path / "run", report_to="wandb", run_name="tiny")
    trainer.train()
    import wandb

    summary = dict(wandb.run.summary)
    wandb.finish()
    for name in ("audio_accuracy", "audio_accuracy_before", "text_support_loss_step3", "task_encoder_grad_norm"):
        assert summary[f"train/{name}"] == pytest.approx(log_entries(trainer)[-1][name])
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert file.stat().st_size
