"""Meta-training and evaluation on episodes."""

import logging
import math
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, PreTrainedModel
from transformers.trainer_utils import EvalLoopOutput, HPSearchBackend, TrainOutput

from ..model.meta_batch import MSMAMLOutput, modality_of_group
from ..model.modeling_msmaml import MSMAMLModel
from ..model.task_loss import TaskLoss
from .callbacks import OuterGradientRules, StepSettings
from .checkpoints import check_continuation, checkpoint_step, checkpoints, resolve, run_settings
from .collator import collate_episodes
from .disk_space import told_if_full
from .evaluation import (
    episode_results,
    evaluated_episodes,
    evaluation_dataloader,
    explain_not_finite,
    loss_of_numbers,
    query_scores,
    summarise,
    without_inner_loop,
)
from .model_settings import fit_to_arguments
from .task_facts import FactsCollator, TaskFacts, named_splits
from .task_log import TaskLog
from .task_rows import task_rows
from .trainer_hooks import TrainerHooks, logs_this_step
from .training_args import MetaTrainingArguments
from .training_record import TrainingRecord
from .trials import check_reached, objective_of, searched_values

logger = logging.getLogger(__name__)

# Arguments of `Trainer` that meta-training would not use.
WITHOUT_EFFECT = {"compute_metrics", "preprocess_logits_for_metrics", "compute_loss_func"}


class MetaTrainer(TrainerHooks):
    """
    `transformers.Trainer` for an [`MSMAMLModel`] and data sets of episodes (`data_builders.EpisodeDataset`).

    Evaluation adapts to every episode, keeps no outer graph, and reports means and 95 % intervals over episodes:
    `eval_accuracy`, `eval_accuracy_ci95`, `eval_loss`, `eval_episodes`, and the same for each modality and each data
    set: `eval_<modality>_accuracy`, `eval_<data set>_accuracy` and so on. With a `task_loss` of numbers it is the mean
    squared error, `eval_squared_error` and so on.

    Args:
        model: the model to train; its config takes over the inner-loop settings that `args` gives. `None` with
            `model_init`, a function that makes a model for each training, of a trial of `hyperparameter_search` or
            without arguments.
        args: the arguments, with the `n_way` that the model was made for.
        data_collator: makes a meta-batch of a list of episodes; by default [`collate_episodes`].
        kwargs: as for `transformers.Trainer`, without those that replace its losses or metrics.

    Raises:
        `ValueError`: `args` do not fit the model, or ask for what cannot work with an inner loop.
        `FloatingPointError`: a loss is not finite, in evaluation or in training. On the CPU this is noticed before it
            has changed a parameter. An accelerator would have to stop at every step to know, so that there it is
            noticed at the next log entry and before the next checkpoint.
    """

    def __init__(
        self,
        model: MSMAMLModel | None,
        args: MetaTrainingArguments,
        data_collator: Callable[[list[dict]], dict] | None = None,
        **kwargs,
    ):
        for name in WITHOUT_EFFECT & kwargs.keys():
            raise ValueError(f"{name} has no effect in meta-training: losses and metrics are those of episodes")
        if (model is None) == (kwargs.get("model_init") is None):
            raise ValueError("a trainer needs either a model, or model_init, a function that makes one")
        self._collates_by_default = data_collator is None
        if model is not None:
            fit_to_arguments(model, args)
        super().__init__(model=model, args=args, data_collator=data_collator or collate_episodes, **kwargs)
        self._collate_for_model()
        self.add_callback(OuterGradientRules(self))
        self.add_callback(StepSettings(self))
        if args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience, args.early_stopping_threshold))
        self._record = TrainingRecord()
        self._task_log = self._new_task_log()

    def _new_task_log(self, trial: Any = None) -> TaskLog | None:
        if self.args.log_tasks == "none":
            return None
        return TaskLog(Path(self._get_output_dir(trial)), self.args.process_index, self.args.world_size)

    def _collate_for_model(self) -> None:
        """Makes meta-batches of what the model needs, unless the caller does."""
        if self._collates_by_default:
            class_ids, n_way = bool(self.model.config.auxiliary_classes), self.model.fixed_n_way is None
            self.data_collator = partial(collate_episodes, class_ids=class_ids, n_way=n_way)

    # Training

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """
        Trains, from the beginning or from a checkpoint. A resumed run ends like one that was never interrupted: on the
        CPU with the same parameters, optimizer state and logged losses to the last bit.

        Args:
            resume_from_checkpoint: a complete checkpoint; or `True`, `"true"` or `"last"`, the last complete one of
                `output_dir` (none yet: the run starts anew).
            kwargs: as for `Trainer.train`.

        Raises:
            `ValueError`: the checkpoint is incomplete, or of a run with other settings.
        """
        args, output_dir = self.args, Path(str(self.args.output_dir))
        with args.main_process_first(local=args.save_on_each_node, desc="looking for checkpoints"):
            checkpoint = resolve(resume_from_checkpoint, output_dir)
        self._record = TrainingRecord()
        self._resumed_step = None
        if checkpoint is not None:
            check_continuation(checkpoint, args, self.model.config, self.train_dataset)
            self._record.load(checkpoint, args.process_index, args.world_size)
            self._resumed_step = checkpoint_step(checkpoint)
        elif args.should_save and checkpoints(output_dir):
            logger.warning(
                "%s holds checkpoints of an earlier run, up to %s, which this run will mix with its own; "
                "resume_from_checkpoint=last goes on from them, another output_dir keeps them apart",
                *(output_dir, checkpoints(output_dir)[-1].name),
            )
        self._loaded_step = None
        if kwargs.get("trial") is not None:
            self._task_log = self._new_task_log(kwargs["trial"])
        if self._task_log is not None:
            if args.local_process_index == 0:
                self._task_log.begin(self._resumed_step)
            self.accelerator.wait_for_everyone()
        try:
            return super().train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint), **kwargs)
        finally:
            if self._task_log is not None:
                self._task_log.end_training()

    def call_model_init(self, trial: Any = None) -> nn.Module:
        if trial is not None and self.hp_search_backend == HPSearchBackend.OPTUNA:
            self.hp_space(trial)  # so that `model_init` finds in `trial.params` what is searched
        model: Any = super().call_model_init(trial)
        if trial is None:
            fit_to_arguments(model, self.args)
        return model

    def _hp_search_setup(self, trial: Any) -> None:
        super()._hp_search_setup(trial)
        if self.hp_search_backend is not None and trial is not None:
            self.args.check()
            fit_to_arguments(self.model, self.args)
            check_reached(searched_values(trial), self.model.config, self.args)
            self._collate_for_model()

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        **kwargs,
    ) -> Any:
        """
        As in transformers, with what fits episodes by default: the objective is `metric_for_best_model`, or else
        `eval_accuracy` (`eval_squared_error` where targets are numbers).

        Args:
            hp_space: what is searched, by the names of arguments of training or of the model (`inner_lr` and others). A
                model option that is no argument is read by `model_init` from `trial.params`.
            compute_objective: the objective as a function of an evaluation's metrics.
            n_trials: how many trainings there are.
            direction: `"minimize"` or `"maximize"`; needed with an objective of one's own.
            kwargs: as for `Trainer.hyperparameter_search`.

        Raises:
            `ValueError`: no `hp_space`, no `model_init`, no direction; or a searched value that reaches nothing.
        """
        if self.model_init is None:
            raise ValueError(
                "each trial trains a new model: make the trainer with MetaTrainer(None, args, model_init=...)"
            )
        if hp_space is None:
            raise ValueError(
                "hp_space must say what is searched, as in lambda trial: {'inner_lr': trial.suggest_float(...)}"
            )
        if compute_objective is None:
            metric = self.args.metric_for_best_model
            compute_objective, direction_of_metric = objective_of(metric, f"eval_{self._score}")
            direction = direction or direction_of_metric
        if direction is None:
            raise ValueError("direction must say whether compute_objective is to be 'minimize'd or 'maximize'd")
        return super().hyperparameter_search(hp_space, compute_objective, n_trials, direction, **kwargs)

    def save_progress(self, checkpoint: Path) -> None:
        settings = run_settings(self.args, self.model.config, self.train_dataset)
        self._record.save(checkpoint, self.args.process_index, settings=settings)
        if self._task_log is not None:
            self._task_log.end_training()

    def create_optimizer(self, model: PreTrainedModel | None = None) -> torch.optim.Optimizer:
        """One parameter group for each network and kind of weight decay, each with its learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        if options.keys() & {"params", "model", "optimizer_dict"}:
            raise ValueError(f"optim={self.args.optim} chooses its own parameters; take one that has parameter groups")
        # Weight decay would pull learning rates and scales to zero, where zero is no neutral value.
        decayed = {n for n in self.get_decay_parameter_names(model) if not n.startswith("inner_rates.")}
        decayed -= {"task_network.cosine_scale.value"}
        decayed = {n for n in decayed if not n.startswith("task_network.head.")}  # logarithms of the levels' factors
        groups = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups["task_encoder." in name, name in decayed].append(parameter)
        if not groups:
            raise ValueError(
                f"there is nothing to train: task_network={self.model.config.task_network!r} has no parameters of its "
                "own, and its features are frozen; feature_size maps them to a trained number of features"
            )
        rates = {True: self.args.task_encoder_learning_rate, False: self.args.task_network_learning_rate}
        self.optimizer = optimizer_class(
            [
                {
                    "params": parameters,
                    "lr": self.args.learning_rate if rates[is_encoder] is None else rates[is_encoder],
                    "weight_decay": self.args.weight_decay if is_decayed else 0.0,
                }
                for (is_encoder, is_decayed), parameters in groups.items()
            ],
            **options,
        )
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch=None
    ) -> Tensor | tuple[Tensor, MSMAMLOutput]:
        tasks: list[TaskFacts] | None = inputs.pop("tasks", None)
        output = model(**inputs, return_dict=True)
        episodes = inputs["episodes"]
        if self._looks_at_every_loss() and not torch.isfinite(output.loss):
            when = f"at meta-step {self.state.global_step + 1}"
            raise FloatingPointError(explain_not_finite(self, output, episodes, when))
        self._record.add("loss", output.loss.detach(), 1)
        self._record_scores(output, episodes)
        if self._details_are_due() and self.model.takes_inner_steps:
            self._record_adaptation(output, episodes)
        if tasks is not None and self._task_log is not None:
            rows = task_rows(episode_results(output, episodes, tasks, self._of_numbers), output, episodes, tasks)
            step = self.state.global_step + 1
            self._task_log.add_training(step, [{**row, "phase": "train", "step": step} for row in rows])
        return (output.loss, output) if return_outputs else output.loss

    def get_train_dataloader(self) -> DataLoader:
        if self.args.log_tasks != "all":
            return super().get_train_dataloader()
        collate = self.data_collator
        self.data_collator = FactsCollator(collate, named_splits(self.train_dataset))
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collate

    def _looks_at_every_loss(self) -> bool:
        """Whether every loss is checked: reading one from an accelerator stalls its queue until all work is done."""
        return self.args.device.type == "cpu"

    def _refuse_losses_that_are_not_finite(self, loss: float | None) -> None:
        if loss is not None and not math.isfinite(loss):
            raise FloatingPointError(
                f"the mean loss since the last log entry is {loss} at meta-step {self.state.global_step}. Lower "
                f"inner_lr (now {self.model.config.inner_lr}) or learning_rate (now {self.args.learning_rate}), or set "
                f"inner_grad_clip (now {self.model.config.inner_grad_clip}); this model's parameters are spoilt, but "
                "checkpoints are intact."
            )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._refuse_losses_that_are_not_finite(self._record.own_mean("loss"))
        folder = Path(self._get_output_dir(trial))
        remedy = (
            "free some, and go on from the last complete checkpoint, if there is one, with "
            f"resume_from_checkpoint=last; save_total_limit (now {self.args.save_total_limit}) deletes older ones"
        )
        with told_if_full(folder, f"checkpoint-{self.state.global_step}", remedy):
            super()._save_checkpoint(model, trial)

    def training_step(self, model: nn.Module, *args, **kwargs) -> Tensor:
        loss = super().training_step(model, *args, **kwargs)
        if self._details_are_due() and self.accelerator.sync_gradients:
            self._record_gradient_norms()
        return loss

    def _details_are_due(self) -> bool:
        return bool(self.args.log_inner_loop) and logs_this_step(self.args, self.state)

    def _record_adaptation(self, output: MSMAMLOutput, episodes: dict) -> None:
        """Records the support losses before each inner step, and the scores of the network before it is adapted."""
        for group, losses in output.support_loss.items():
            modality = modality_of_group(group)
            for step, column in enumerate(losses.detach().float().unbind(dim=1), start=1):
                self._record.add(f"{modality}_support_loss_step{step}", column.sum(), len(column))
        model = self.accelerator.unwrap_model(self.model)
        with torch.no_grad(), self.accelerator.autocast(), without_inner_loop(model):
            unadapted = model(episodes, return_dict=True)
        self._record_scores(unadapted, episodes, "_before")

    def _record_scores(self, output: MSMAMLOutput, episodes: dict, suffix: str = "") -> None:
        name = f"{self._score}{suffix}"
        for modality, scores in query_scores(output, episodes, self._of_numbers is None).items():
            self._record.add(f"{modality}_{name}", scores.sum(), len(scores))

    @property
    def _of_numbers(self) -> TaskLoss | None:
        return loss_of_numbers(self.accelerator.unwrap_model(self.model))

    @property
    def _score(self) -> str:
        return "accuracy" if self._of_numbers is None else "squared_error"

    def _record_gradient_norms(self) -> None:
        """Records the norms of the outer gradient before anything clips it."""
        model = self.accelerator.unwrap_model(self.model)
        scaler = getattr(self.accelerator, "scaler", None)
        scale = scaler.get_scale() if scaler is not None else 1.0
        for name in ("task_network", "task_encoder"):
            gradients = [p.grad for n, p in model.named_parameters() if n.startswith(f"{name}.") and p.grad is not None]
            if gradients:
                self._record.add(f"{name}_grad_norm", nn.utils.get_total_norm(gradients) / scale, 1)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            means = self._record.drain()
            self._refuse_losses_that_are_not_finite(means.get("loss"))
            logs.update(means)
        if "train_loss" in logs:
            # Trainer's own counts only the steps since the last resume.
            logs["train_loss"] = self._record.mean_loss() or logs["train_loss"]
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict) -> int:
        """0, meaning not counted: Trainer's formula (6 x parameters x tokens) does not hold for an inner loop."""
        return 0

    # Evaluation

    def get_eval_dataloader(self, eval_dataset: Dataset | str | None = None) -> DataLoader:
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        if dataset is None:
            raise ValueError("evaluation needs an eval_dataset")
        return evaluation_dataloader(self, dataset)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        return evaluation_dataloader(self, test_dataset)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        if self._task_log is None:
            results = evaluated_episodes(self, dataloader, description)
        else:
            step = self.state.global_step if self._loaded_step is None else self._loaded_step
            place = {"phase": metric_key_prefix, "step": step}
            with self._task_log.evaluation(metric_key_prefix, step, self.accelerator.wait_for_everyone) as file:
                results = evaluated_episodes(
                    self, dataloader, description, lambda rows: file.add([{**row, **place} for row in rows])
                )
        return EvalLoopOutput(
            # Lists, since episodes may differ in their number of queries.
            predictions=[result.predictions for result in results],  # pyright: ignore[reportArgumentType]
            label_ids=[result.labels for result in results],  # pyright: ignore[reportArgumentType]
            metrics={f"{metric_key_prefix}_{name}": value for name, value in summarise(results).items()},
            num_samples=len(results),
        )
