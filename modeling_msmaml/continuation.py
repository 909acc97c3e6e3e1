"""Whether a run may go on from a checkpoint: only with the settings that the checkpoint was made with."""

import json
from pathlib import Path

from transformers import PretrainedConfig

from .training_args import MetaTrainingArguments

# Another value would make the resumed run another experiment, or would silently have no effect, because the optimizer
# takes the one of the checkpoint.
ARGUMENTS = (
    *(
        "seed",
        "n_way",
        "k_shot",
        "n_query",
        "train_n_way",
        "train_k_shot",
        "train_n_query",
        "augment",
        "new_classes",
        "mix_classes",
        "tasks_per_step",
    ),
    *("multi_step_loss_steps", "first_order_steps"),
    *("optim", "learning_rate", "task_network_learning_rate", "task_encoder_learning_rate", "weight_decay"),
    *("lr_scheduler_type", "warmup_steps", "max_grad_norm", "task_encoder_max_grad_norm", "alternating_steps"),
    *("early_stopping_patience", "early_stopping_threshold"),
)
# What a config holds besides the model.
_NOT_THE_MODEL = {"_name_or_path", "architectures", "auto_map", "dtype", "transformers_version"}


def run_settings(args: MetaTrainingArguments, config: PretrainedConfig) -> dict:
    """What must stay as it is when a run is resumed, as JSON would hold it."""
    arguments = {name: getattr(args, name) for name in ARGUMENTS}
    model = {name: value for name, value in config.to_dict().items() if name not in _NOT_THE_MODEL}
    return json.loads(json.dumps({"arguments": arguments, "model": model}))


def check_continuation(checkpoint: Path, args: MetaTrainingArguments, config: PretrainedConfig) -> None:
    """
    Raises:
        `ValueError`: `args` or `config` are not those of the run that wrote `checkpoint`.
    """
    path = checkpoint / f"training_record_{args.process_index}.json"
    if not path.is_file():
        # More processes than wrote the checkpoint.
        path = checkpoint / "training_record_0.json"
    before, now = json.loads(path.read_text())["settings"], run_settings(args, config)
    changes = [
        f"{name} was {old.get(name)!r} and is {new.get(name)!r}"
        for old, new in ((before["arguments"], now["arguments"]), (before["model"], now["model"]))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if changes:
        raise ValueError(
            f"{checkpoint} is of a run with other settings: {'; '.join(changes)}. Resume with the same ones, or start "
            f"a new run from its weights with model_name_or_path={checkpoint}"
        )
