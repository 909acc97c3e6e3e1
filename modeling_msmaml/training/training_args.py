"""Arguments of meta-training."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, cast

from transformers import IntervalStrategy, TrainingArguments

from ..model.configuration_msmaml import MSMAMLConfig
from ..model.options import at_least, check_options, default_of, not_negative, option, options_of, parse_json
from .hardware_limits import refuse_bf16_without_gpu, refuse_deepspeed_zero3
from .launchers import check_world_size, trains_on_cpu

# Arguments of TrainingArguments that meta-training has no use for, each with what to do instead. A value other than the
# default is refused, because it would silently do nothing.
UNUSED_ARGUMENTS = {
    "label_smoothing_factor": "the loss is the cross-entropy of the queries; the model's config has label_smoothing",
    "train_sampling_strategy": "episodes are drawn at random already, and their order interleaves the modalities",
    "group_by_length": "episodes have no length",
    "num_train_epochs": "there are no epochs; set max_steps, the number of meta-steps",
    "neftune_noise_alpha": "there are no token embeddings to add noise to",
    "fp16_full_eval": "use fp16, which also holds in evaluation",
    "bf16_full_eval": "use bf16, which also holds in evaluation",
    "batch_eval_metrics": "metrics are taken over episodes, never over batches",
    "include_for_metrics": "metrics are taken over episodes from their predictions and labels",
    "eval_accumulation_steps": "evaluation keeps predicted classes only, on the CPU",
    "prediction_loss_only": "evaluation reports accuracies",
    "length_column_name": "episodes have no length",
    "data_seed": "episodes are a function of seed, and their order is fixed",
    "include_num_input_tokens_seen": "a meta-batch is counted in tasks, not in tokens",
    "use_liger_kernel": "there are no kernels for these layers",
    "auto_find_batch_size": "a meta-batch of another size is another experiment; lower per_device_train_batch_size and "
    "raise gradient_accumulation_steps, which gives the same gradient",
    "logging_nan_inf_filter": "a loss that is not finite raises",
    "eval_do_concat_batches": "evaluation keeps predicted classes only",
    "eval_use_gather_object": "evaluation always gathers from all processes",
    "enable_jit_checkpoint": "a checkpoint in the middle of a meta-step cannot be resumed exactly; a run that is "
    "killed at any moment resumes from its last checkpoint: lower save_steps",
}
# There is one pass over the episodes, so that "epoch" would mean "at the end".
STRATEGIES = ("logging_strategy", "eval_strategy", "save_strategy")


def _counts(value: Any) -> None:
    counts = value.values() if isinstance(value, dict) else [value]
    if not counts or any(not isinstance(count, int) or isinstance(count, bool) or count < 1 for count in counts):
        raise ValueError("must be a positive integer, or one for each modality")


def _counts_or_ranges(value: Any) -> None:
    for single in value.values() if isinstance(value, dict) else [value]:
        ends = single if isinstance(single, list) else [single]
        if not 1 <= len(ends) <= 2 or any(type(end) is not int or end < 1 for end in ends) or sorted(ends) != ends:
            raise ValueError("must be a positive integer, a range such as [3, 10], or one of these for each modality")


def _shares(value: Any) -> None:
    for single in value.values() if isinstance(value, dict) else [value]:
        if isinstance(single, bool) or not isinstance(single, (int, float)) or not 0 <= single <= 1:
            raise ValueError("must be a share from 0 to 1, or one for each modality")


def _of_config(name: str) -> Any:
    """The option that replaces one of the model's config where it is given."""
    field = next(field for field in options_of(MSMAMLConfig) if field.name == name)
    text = field.metadata["help"]
    return option(None, f"{text} By default as in the model's config.", text.check)


@dataclass
class MetaTrainingArguments(TrainingArguments):
    """
    `transformers.TrainingArguments` for episodes. A batch is a meta-batch: `per_device_train_batch_size` counts tasks.

    Changed defaults: Adam at a constant rate of 1e-3 without gradient clipping, six tasks per meta-step.

    Raises:
        `ValueError`: a value out of range, an inherited argument that meta-training has no use for, or a launcher that
            started another number of processes than would train together.
    """

    n_way: int = option(
        5,
        "The number of classes in an episode, at least 2; with a task_loss of numbers, the number of outputs.",
        at_least(1),
    )
    k_shot: int = option(1, "The number of support samples per class; at least 1.", at_least(1))
    # Texts are what HfArgumentParser takes from a command line; once parsed, these are integers or dicts.
    n_query: str = option(
        "15",
        "The number of query samples per class: an integer, or one per modality or data set as in "
        '\'{"audio": 3, "text": 15}\'.',
        _counts,
        typed=False,
    )
    train_n_way: str | None = option(
        None,
        "The number of classes in a training episode: an integer, a range '[3, 10]' from which each episode draws its "
        "own, or one of these per modality or data set; more than n_way train a model with prototypes better "
        "(ProtoNet, arXiv 1703.05175, section 3). Default: n_way.",
        _counts_or_ranges,
        typed=False,
    )
    train_k_shot: str | None = option(
        None,
        "The number of support samples per class in training, as train_n_way. Default: k_shot.",
        _counts_or_ranges,
        typed=False,
    )
    train_n_query: str | None = option(
        None,
        "The number of query samples per class in training, as train_n_way. Default: n_query.",
        _counts,
        typed=False,
    )
    train_shots: Literal["equal", "log_equal", "unequal", "meta_dataset"] = option(
        "equal",
        "Whether the classes of a training episode have equally many support samples, as often few as many of "
        "train_k_shot ('log_equal'), each its own number from train_k_shot ('unequal'), or numbers that follow the "
        "sizes of the classes (Meta-Dataset, arXiv 1903.03096).",
    )
    num_unlabelled: int = option(
        0,
        "The number of samples per class that an episode has besides, without labels (semi-supervised, arXiv "
        "1803.00676); the model makes use of them with soft_kmeans_steps.",
        at_least(0),
    )
    num_distractors: int = option(
        0, "The number of further classes of which an episode has unlabelled samples only.", at_least(0)
    )
    # True, False or names once parsed.
    augment: list[str] | None = option(
        None,
        "Change training samples at random: 'true' (which is 'basic'), or any of 'basic', 'affine', "
        "'spec_augment', 'random_resized_crop', 'rand_augment', 'random_erasing'; see "
        "data_builders/episodes/augmentation.py.",
        typed=False,
    )
    new_classes: list[str] | None = option(
        None,
        "Changed training classes as classes of their own: any of 'rotate' (images), 'speed' and 'reverse' (sounds), "
        "or 'false', as by default; see data_builders/episodes/task_augmentation.py.",
        typed=False,
    )
    # A number or a dict once parsed.
    mix_classes: str | None = option(
        None,
        "The share of the training episodes in which every class is mixed of two, 0 to 1, or one per modality as in "
        "'{\"text\": 0.3}'; see data_builders/episodes/task_augmentation.py.",
        _shares,
        typed=False,
    )
    num_inner_steps: int | None = _of_config("num_inner_steps")
    inner_lr: float | None = _of_config("inner_lr")
    first_order: bool | None = _of_config("first_order")
    norm_statistics: Literal["transductive", "support"] | None = _of_config("norm_statistics")
    multi_step_loss_steps: int = option(
        0,
        "The number of meta-steps over which the query losses after all inner steps count, at first all alike, at last "
        "the last alone (MAML++, arXiv 1810.09502); 0 takes the last alone from the beginning.",
        at_least(0),
    )
    first_order_steps: int = option(
        0,
        "The number of meta-steps at the beginning without second derivatives (MAML++).",
        at_least(0),
    )
    task_network_learning_rate: float | None = option(
        None, "The outer learning rate of the task network (and word vectors). Default: learning_rate."
    )
    task_encoder_learning_rate: float | None = option(
        None, "The outer learning rate of the task encoder. Default: learning_rate."
    )
    task_encoder_max_grad_norm: float = option(
        0.0, "Clip the task encoder's outer gradient to this norm; 0 clips nothing.", not_negative
    )
    alternating_steps: int = option(
        0,
        "Update the task network alone for this many meta-steps, then the task encoder alone for as many, and so on; "
        "0 updates both at every step.",
        at_least(0),
    )
    early_stopping_patience: int = option(
        0,
        "Stop when metric_for_best_model has not improved in this many evaluations; 0 never stops early.",
        at_least(0),
    )
    early_stopping_threshold: float = option(
        0.0, "By how much the metric must improve to count, with early_stopping_patience.", not_negative
    )
    log_inner_loop: bool | None = option(
        None,
        "Log, for each modality, accuracy before adaptation and support loss before each inner step, and the gradient "
        "norms of both networks. Default: when report_to names a tracker.",
    )
    log_tasks: Literal["none", "evaluation", "all"] = option(
        "none",
        "Write a row for each task into Parquet files in the folder task_log of output_dir: its data set, classes and "
        "shots, support loss before each inner step, query loss, accuracy of each class, and modulation; of the tasks "
        "that are evaluated, or of all, those of training too.",
    )

    do_eval: bool | None = option(
        None,
        "Evaluate on the validation episodes after training. Default: when eval_strategy evaluates during training.",
    )
    metric_for_best_model: str | None = option(
        None,
        "What the best model is best in. Default: eval_accuracy (eval_squared_error where targets are numbers), or "
        "eval_loss for reduce_lr_on_plateau.",
    )
    per_device_train_batch_size: int = option(6, "The number of tasks in a meta-batch, on each device.")
    per_device_eval_batch_size: int = option(6, "The number of tasks that are evaluated at a time, on each device.")
    learning_rate: float = option(1e-3, "The outer learning rate.")
    lr_scheduler_type: str = option("constant", "The schedule of the outer learning rates.")
    optim: str = option("adamw_torch", "The outer optimizer; with no weight decay it is Adam.")
    max_grad_norm: float = option(0.0, "Clip the whole outer gradient; 0 clips nothing.")
    max_steps: int = option(1000, "The number of meta-steps.", at_least(1))
    logging_steps: float = option(10, "The number of meta-steps between two log entries.")
    logging_nan_inf_filter: bool = option(False, "Unused: a loss that is not finite raises.")
    restore_callback_states_from_checkpoint: bool = option(
        True, "Resume early stopping with the evaluations that it has counted."
    )
    remove_unused_columns: bool = option(False, "It must be False: episodes have no columns.")
    train_sampling_strategy: str = option("sequential", "It must be 'sequential'.")

    def __post_init__(self):
        for name in ("n_query", "train_n_way", "train_k_shot", "train_n_query"):
            expected = 'neither an integer nor JSON such as {"audio": 3, "text": 15}'
            setattr(self, name, parse_json(name, getattr(self, name), expected))
        expected = 'neither a number nor JSON such as {"text": 0.3}'
        self.mix_classes = parse_json("mix_classes", self.mix_classes, expected)
        self.check()
        self.augment = cast(Any, _parse_names(self.augment))
        self.new_classes = cast(Any, _parse_names(self.new_classes) or None)
        if self.new_classes is True:
            raise ValueError("new_classes=true does not say which: give any of rotate, speed and reverse, or false")
        # Which one the model has will be known with the model, see `fit_to_arguments`.
        self.has_default_metric = False
        if self.metric_for_best_model is None and self.lr_scheduler_type != "reduce_lr_on_plateau":
            self.has_default_metric = self._needs_best_model()
            self.metric_for_best_model = "eval_accuracy" if self.has_default_metric else None
        self.use_cpu = self.use_cpu or trains_on_cpu()
        refuse_bf16_without_gpu(self)
        asked, evaluates = self.do_eval, self.eval_strategy != "no"
        if asked is False and self.do_train and evaluates:
            strategy = IntervalStrategy(self.eval_strategy).value
            raise ValueError(
                f"do_eval=False, but eval_strategy='{strategy}' evaluates during training: give eval_strategy='no' "
                "too, or leave do_eval out"
            )
        super().__post_init__()
        self.do_eval = evaluates if asked is None else asked  # `TrainingArguments` turns False into True
        check_world_size(self.world_size)
        self._check_sharing()
        if self.log_inner_loop is None:
            self.log_inner_loop = bool(self.report_to)
        # Pinned memory speeds copies to a GPU up; without one, PyTorch only warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type == "cuda"

    def check(self) -> None:
        """Raises `ValueError` for a value that is out of range, or that would have no effect."""
        defaults = {item.name: item for item in dataclasses.fields(self)}
        for name in filter(defaults.__contains__, UNUSED_ARGUMENTS):
            value, default = getattr(self, name), default_of(defaults[name])
            # Whatever asks for nothing is taken, so that arguments can be read from where they were written: YAML turns
            # "no" into False, and TrainingArguments itself some of the defaults None. But 0 is a seed.
            if value is None:
                setattr(self, name, default)
            elif value != default and (value or default not in (None, "no") or name == "data_seed"):
                raise ValueError(f"{name}={value!r} has no effect in meta-training: {UNUSED_ARGUMENTS[name]}")
        check_options(self)
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns=True would remove the episodes' contents: leave it False")
        for name in STRATEGIES:
            if getattr(self, name) == "epoch":
                steps = name.replace("strategy", "steps")
                raise ValueError(f"{name}='epoch': there are no epochs; take {name}='steps' and {steps}")
        refuse_deepspeed_zero3(self.deepspeed)
        self._check_early_stopping()

    def _check_early_stopping(self) -> None:
        if self.early_stopping_threshold and not self.early_stopping_patience:
            raise ValueError(
                f"early_stopping_threshold={self.early_stopping_threshold} has no effect without "
                "early_stopping_patience"
            )
        if self.early_stopping_patience and self.eval_strategy == "no":
            raise ValueError(
                f"early_stopping_patience={self.early_stopping_patience} needs evaluations: give eval_strategy='steps' "
                "and eval_steps"
            )

    def _check_sharing(self) -> None:
        """Refuses options of accelerate's data loaders under which processes would not read equally many tasks."""
        for name, needed in (("split_batches", False), ("dispatch_batches", None), ("even_batches", True)):
            if getattr(self.accelerator_config, name) not in (needed, bool(needed)):
                raise ValueError(
                    f"accelerator_config.{name}={getattr(self.accelerator_config, name)}: every process must read "
                    f"per_device_train_batch_size tasks for itself, for the gradient to be a mean over tasks; leave it "
                    f"{needed}"
                )

    def take_metric(self, name: str) -> None:
        """Takes a metric of evaluations as `metric_for_best_model`, if one is needed and none was given."""
        if self.has_default_metric:
            self.metric_for_best_model, self.greater_is_better = f"eval_{name}", name == "accuracy"

    def _needs_best_model(self) -> bool:
        return self.load_best_model_at_end or self.save_strategy == "best" or self.early_stopping_patience > 0

    @property
    def tasks_per_step(self) -> int:
        """Tasks in a meta-batch, over all processes and accumulated batches."""
        return self.per_device_train_batch_size * self.world_size * self.gradient_accumulation_steps

    def model_overrides(self) -> dict:
        """The fields that replace those of the model's config, because they were given."""
        names = ("num_inner_steps", "inner_lr", "first_order", "norm_statistics")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def _parse_names(value: bool | str | list[str] | None) -> bool | list[str]:
    """True, "true", ["true"] -> True; "basic" -> True, which it is; nothing -> False; other names -> a list of them."""
    names = [value] if isinstance(value, (bool, str)) else list(value or [False])
    if len(names) == 1 and str(names[0]).lower() in ("true", "basic", "false"):
        return str(names[0]).lower() != "false"
    return list(map(str, names))
