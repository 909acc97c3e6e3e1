"""Meta-training and evaluation where the targets of tasks are numbers."""

import statistics

import pandas as pd
import pytest
import torch
from torch import nn
from transformers.trainer_utils import IntervalStrategy

from modeling_msmaml import (
    MetaTrainer,
    ModalityEmbedding,
    MSMAMLConfig,
    MSMAMLModel,
    TaskLoss,
    register_modality,
    register_task_loss,
)
from modeling_msmaml.model import modalities, task_loss
from modeling_msmaml.training.metrics import mean_and_ci95
from modeling_msmaml.training.trials import objective_of

from .test_trainer import arguments

OUTPUTS, EPISODES = 2, 7


class PointEmbedding(ModalityEmbedding):
    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.linear = nn.Linear(3, config.num_channels)

    def forward(self, inputs):
        return self.linear(inputs).relu()[..., None]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """A modality of points, and a loss of one's own, in this test alone."""
    monkeypatch.setattr(modalities, "_REGISTRY", dict(modalities._REGISTRY))
    monkeypatch.setattr(task_loss, "_REGISTRY", dict(task_loss._REGISTRY))
    register_modality("point", PointEmbedding)
    loss = TaskLoss(lambda outputs, targets: (outputs - targets).abs().mean(dim=(1, 2)), classifies=False)
    register_task_loss("absolute_error", loss)


def make_task(seed: int) -> dict:
    """A plane of a random slope: (4 + 5) points and their two values."""
    draw = torch.rand(12, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    points, values = draw[3:], draw[3:] @ draw[:3, :OUTPUTS]
    return {
        "modality": "point",
        "data_set": f"planes{seed % 2}",
        "support": points[:4],
        "query": points[4:],
        "support_labels": values[:4],
        "query_labels": values[4:],
    }


def make_trainer(output_dir, loss: str = "squared_error", **changes) -> MetaTrainer:
    network = {"num_channels": 8, "num_layers": 1, "kernel_size": 1, "stride": 1, "padding": 0, "norm": "group"}
    options = {"n_way": OUTPUTS, "task_loss": loss, "conditioning": "none", "num_inner_steps": 2, "inner_lr": 0.05}
    torch.manual_seed(0)
    model = MSMAMLModel(MSMAMLConfig(modalities=["point"], **network, **options))
    args = arguments(output_dir, **{"n_way": OUTPUTS, **changes})
    tasks = list(map(make_task, range(args.max_steps * args.tasks_per_step)))
    return MetaTrainer(model, args, train_dataset=tasks, eval_dataset=list(map(make_task, range(100, 100 + EPISODES))))


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
def test_an_evaluation_reports_squared_errors_with_their_interval_and_the_loss(tmp_path, loss):
    trainer = make_trainer(tmp_path, loss, log_tasks="evaluation")
    metrics, errors, losses = trainer.evaluate(), [], []
    for task in trainer.eval_dataset:
        batch = {name: value[None] for name, value in task.items() if isinstance(value, torch.Tensor)}
        output = trainer.model.eval()({"point": batch})
        errors.append((output.logits["point"][0] - task["query_labels"]).square().mean().item())
        losses.append(output.loss.item())
    assert (loss == "squared_error") == (errors == pytest.approx(losses))
    mean, ci95 = mean_and_ci95(errors)
    for name in ("eval", "eval_point"):
        assert metrics[f"{name}_squared_error"] == pytest.approx(mean)
        assert metrics[f"{name}_loss"] == pytest.approx(statistics.mean(losses))
        assert metrics[f"{name}_episodes"] == EPISODES
    assert metrics["eval_point_squared_error_ci95"] == pytest.approx(ci95, rel=0.2)
    assert metrics["eval_planes0_squared_error"] == pytest.approx(statistics.mean(errors[::2]))
    assert not [name for name in metrics if "accuracy" in name]
    rows = pd.read_parquet(tmp_path / "task_log")
    assert rows.squared_error.tolist() == pytest.approx(errors) and rows.query_loss.tolist() == pytest.approx(losses)
    assert rows.accuracy.isna().all() and rows.class_names.map(len).eq(0).all()
    assert rows.support_losses.map(len).eq(2).all()


def test_training_learns_and_logs_squared_errors(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=30, log_inner_loop=True, learning_rate=0.01, log_tasks="all")
    before = trainer.evaluate()
    trainer.train()
    assert trainer.evaluate()["eval_squared_error"] < 0.8 * before["eval_squared_error"]
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert entry["point_squared_error"] == pytest.approx(entry["loss"], rel=1e-5)
    assert entry["point_squared_error_before"] > 0 and entry["point_support_loss_step2"] > 0


def test_the_best_model_has_the_least_squared_error(tmp_path):
    best = {"load_best_model_at_end": True, "eval_strategy": IntervalStrategy.STEPS, "eval_steps": 1}
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=3, learning_rate=0.3, **best)
    trainer.train()
    errors = [entry["eval_squared_error"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert errors.index(min(errors)) < len(errors) - 1, "the test would not tell the best from the last"
    assert trainer.state.best_metric == min(errors) == trainer.evaluate()["eval_squared_error"]


def test_a_search_goes_down_the_squared_error():
    objective, direction = objective_of(None, "eval_squared_error")
    assert (objective({"eval_squared_error": 0.5}), direction) == (0.5, "minimize")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": 5}, "n_way=5 does not fit the model, whose network has n_way=2 outputs"),
        ({"train_n_way": 3}, "train_n_way=3 is about classes, but task_loss='squared_error' has numbers"),
        ({"train_shots": "unequal"}, "train_shots='unequal' is about classes"),
        ({"num_unlabelled": 2}, "num_unlabelled=2 is about classes"),
        ({"num_distractors": 2}, "num_distractors=2 is about classes"),
        ({"mix_classes": 0.3}, "mix_classes=0.3 is about classes"),
        ({"new_classes": "rotate"}, r"new_classes=\['rotate'\] is about classes"),
        ({"metric_for_best_model": "eval_accuracy"}, "take 'eval_squared_error'"),
    ],
)
def test_what_is_about_classes_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **changes)
