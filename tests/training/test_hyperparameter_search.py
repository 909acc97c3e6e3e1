"""Searches for hyperparameters: a new model for each trial, which has what is searched."""

import re

import pytest
import torch

from modeling_msmaml import MetaTrainer

from ..toys import tiny_dataset, tiny_model
from .test_distributed import REPOSITORY
from .test_trainer import arguments


def searching(folder, model_init, **changes) -> MetaTrainer:
    args = arguments(folder, max_steps=1, **changes)
    return MetaTrainer(
        None, args, model_init=model_init, train_dataset=tiny_dataset(3, seed=1), eval_dataset=tiny_dataset(6, seed=2)
    )


def recorded(trainer: MetaTrainer, *names: str) -> list[dict]:
    """What the config of each evaluated model says, as the trials go on."""
    found, evaluate = [], trainer.evaluate
    trainer.evaluate = lambda *rest, **options: (
        found.append({name: getattr(trainer.model.config, name) for name in names}) or evaluate(*rest, **options)
    )
    return found


def test_every_training_starts_from_a_new_model(tmp_path):
    trainer = searching(tmp_path, lambda: tiny_model(torch.float32), inner_lr=0.3, multi_step_loss_steps=1)
    assert trainer.model.config.inner_lr == 0.3
    losses = [trainer.train().training_loss for _ in range(2)]
    assert losses[0] == losses[1] and trainer.model.config.inner_lr == 0.3
    assert trainer.evaluate()["eval_episodes"] == 6


def test_searched_values_reach_the_model(tmp_path):
    pytest.importorskip("optuna", reason="the extra search is not installed")

    def model_init(trial=None):
        channels = trial.params["num_channels"] if trial else 4
        return tiny_model(torch.float32, num_channels=channels)

    trainer = searching(tmp_path, model_init)
    met = recorded(trainer, "inner_lr", "num_inner_steps", "num_channels")
    asked = []

    def space(trial):
        chosen = {
            "inner_lr": trial.suggest_float("inner_lr", 0.01, 1.0),
            "num_inner_steps": trial.suggest_int("num_inner_steps", 1, 4),
            "num_channels": trial.suggest_categorical("num_channels", [2, 6]),
        }
        asked.append(chosen)
        return chosen

    best = trainer.hyperparameter_search(space, n_trials=4)
    assert len(met) == 4 and all(values in asked for values in met)
    assert len({values["inner_lr"] for values in met}) == 4
    assert best.hyperparameters in met and 0 <= best.objective <= 1


@pytest.mark.parametrize(
    ("searched", "model_changes", "message"),
    [
        ({"num_channels": 6}, {}, r"num_channels=6 is searched, but .* with 4: .*trial.params\['num_channels'\]"),
        ({"inner_lr": 0.7}, {"inner_rates": "per_element"}, "inner_lr=0.7 has no effect .*'per_element' are trained"),
        ({"rate_of_learning": 1.0}, {}, "rate_of_learning=1.0 is searched, but neither an argument"),
        ({"inner_lr": -1.0}, {}, "inner_lr=-1.0"),
    ],
)
def test_a_searched_value_that_reaches_nothing_is_refused(tmp_path, searched, model_changes, message):
    pytest.importorskip("optuna", reason="the extra search is not installed")
    trainer = searching(tmp_path, lambda: tiny_model(torch.float32, **model_changes))

    def space(trial):
        return {name: trial.suggest_categorical(name, [value]) for name, value in searched.items()}

    with pytest.raises(ValueError, match=message):
        trainer.hyperparameter_search(space, n_trials=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hp_space": None}, "hp_space must say what is searched"),
        ({"hp_space": dict, "compute_objective": len}, "direction must say"),
    ],
)
def test_a_search_that_is_not_described_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        searching(tmp_path, lambda: tiny_model(torch.float32)).hyperparameter_search(**options)


def test_a_search_and_a_trainer_need_a_model(tmp_path):
    with pytest.raises(ValueError, match="each trial trains a new model: .*model_init"):
        MetaTrainer(tiny_model(torch.float32), arguments(tmp_path)).hyperparameter_search(dict)
    with pytest.raises(ValueError, match="either a model, or model_init"):
        MetaTrainer(None, arguments(tmp_path))


def test_the_documented_search_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna", reason="the extra search is not installed")
    page = (REPOSITORY / "docs" / "training.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "hyperparameter_s" in block]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"\{'inner_lr': [\d.]+, 'num_inner_steps': \d, .*\} 0\.\d+", printed)
