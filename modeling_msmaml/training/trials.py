"""The trials of a hyperparameter search: each trains a model of its own, to which what is searched must reach."""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig, TrainingArguments


def searched_values(trial: Any) -> dict[str, Any]:
    """What a trial of Optuna, Ray Tune or W&B has chosen, by name."""
    return dict(getattr(trial, "params", trial) or {})


def check_reached(values: dict[str, Any], config: PreTrainedConfig, args: TrainingArguments) -> None:
    """
    Raises:
        `ValueError`: a searched option of the model, which no argument replaces, has another value in its config; or a
            searched name is neither an option of the model nor an argument.
    """
    for name, value in values.items():
        if hasattr(args, name):
            continue
        if not hasattr(config, name):
            raise ValueError(f"{name}={value!r} is searched, but neither an argument of training nor one of the model")
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}={value!r} is searched, but model_init made a model with {getattr(config, name)!r}: it must "
                f"take the trial and read trial.params[{name!r}]"
            )


def objective_of(metric: str | None, default: str) -> tuple[Callable[[dict[str, float]], float], str]:
    """The objective that returns a metric of an evaluation, or the default one, and the direction to search in."""
    name = metric or default
    name = name if name.startswith("eval_") else f"eval_{name}"
    return lambda metrics: metrics[name], "minimize" if name.endswith(("loss", "squared_error")) else "maximize"
