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
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..model.meta_batch import MSMAMLOutput, modality_of_group
from ..model.modeling_msmaml import MSMAMLModel
from ..model.task_loss import task_loss_of
from .callbacks import OuterGradientRules, StepSettings, check_annealing
from .checkpoints import check_continuation, checkpoint_step, checkpoints, resolve, run_settings
from .collator import collate_episodes
from .disk_space import told_if_full
from .evaluation import (
    evaluated_episodes,
    evaluation_dataloader,
    explain_not_finite,
    query_accuracies,
    summarise,
    without_inner_loop,
)
from .hardware_limits import refuse_missing_bf16, refuse_what_cannot_work, warn_of_fp16
from .trainer_hooks import TrainerHooks, logs_this_step
from .training_args import MetaTrainingArguments
from .training_record import TrainingRecord

logger = logging.getLogger(__name__)

# Arguments of `Trainer` that meta-training would not use.
WITHOUT_EFFECT = {"compute_metrics", "preprocess_logits_for_metrics", "compute_loss_func", "model_init"}


class MetaTrainer(TrainerHooks):
    """
    `transformers.Trainer` for an [`MSMAMLModel`] and data sets of episodes (`data_builders.EpisodeDataset`).

    Evaluation adapts to every episode, keeps no outer graph, and reports means and 95 % intervals over episodes:
    `eval_accuracy`, `eval_accuracy_ci95`, `eval_loss`, `eval_episodes`, and the same for each modality and each data
    set: `eval_<modality>_accuracy`, `eval_<data set>_accuracy` and so on.

    Args:
        model: the model to train; its config takes over the inner-loop settings that `args` gives.
        args: the arguments, with the `n_way` that the model was made for.
        data_collator: makes a meta-batch of a list of episodes; by default [`collate_episodes`].
        kwargs: as for `transformers.Trainer`, without those that replace its losses, metrics or model.

    Raises:
        `ValueError`: `args` do not fit the model, or ask for what cannot work with an inner loop.
        `FloatingPointError`: a loss is not finite, in evaluation or in training. On the CPU this is noticed before it
            has changed a parameter. An accelerator would have to stop at every step to know, so that there it is
            noticed at the next log entry and before the next checkpoint.
    """

    def __init__(
        self,
        model: MSMAMLModel,
        args: MetaTrainingArguments,
        data_collator: Callable[[list[dict]], dict] | None = None,
        **kwargs,
    ):
        if model.fixed_n_way not in (None, args.n_way):
            raise ValueError(
                f"n_way={args.n_way} does not fit the model, whose classifier has n_way={model.config.n_way}: "
                "evaluate with that, or train a model of the n_way you want"
            )
        if not task_loss_of(model.config).classifies:
            raise ValueError(
                f"task_loss={model.config.task_loss!r} has numbers for targets, but MetaTrainer draws and evaluates "
                "episodes of classes: train the model in a loop of your own, as examples/sine_regression.py does"
            )
        if model.task_encoder is None:
            for name in ("alternating_steps", "task_encoder_max_grad_norm", "task_encoder_learning_rate"):
                if getattr(args, name):
                    raise ValueError(f"{name}={getattr(args, name)} needs a task encoder, but conditioning is 'none'")
        steps = model.config.num_inner_steps
        if model.config.inner_rates == "per_layer_per_step" and args.num_inner_steps not in (None, steps):
            raise ValueError(
                f"num_inner_steps={args.num_inner_steps} does not fit the model, which has trained rates for {steps} "
                "steps: leave it out, or make a model with that many"
            )
        for name, value in args.model_overrides().items():
            setattr(model.config, name, value)
        model.config.check()
        refuse_what_cannot_work(args, model.config.first_order)
        refuse_missing_bf16(args)
        if warning := warn_of_fp16(args, model.config.first_order):
            logger.warning(warning)
        if args.train_n_way not in (None, args.n_way) and model.fixed_n_way is not None:
            raise ValueError(
                f"train_n_way={args.train_n_way} does not fit a linear classifier of n_way={args.n_way}: leave it out, "
                "or make a model with head='prototype'"
            )
        if data_collator is None:
            data_collator = partial(
                collate_episodes,
                class_ids=bool(model.config.auxiliary_classes),
                n_way=model.fixed_n_way is None,
            )
        for name in WITHOUT_EFFECT & kwargs.keys():
            raise ValueError(f"{name} has no effect in meta-training: losses and metrics are those of episodes")
        super().__init__(model=model, args=args, data_collator=data_collator, **kwargs)
        self.add_callback(OuterGradientRules(self))
        if args.multi_step_loss_steps or args.first_order_steps:
            check_annealing(args, model.config)
        self.add_callback(StepSettings(model))
        if args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience, args.early_stopping_threshold))
        self._record = TrainingRecord()

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
        return super().train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint), **kwargs)

    def save_progress(self, checkpoint: Path) -> None:
        settings = run_settings(self.args, self.model.config, self.train_dataset)
        self._record.save(checkpoint, self.args.process_index, settings=settings)

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
        output = model(**inputs, return_dict=True)
        episodes = inputs["episodes"]
        if self._looks_at_every_loss() and not torch.isfinite(output.loss):
            when = f"at meta-step {self.state.global_step + 1}"
            raise FloatingPointError(explain_not_finite(self, output, episodes, when))
        self._record.add("loss", output.loss.detach(), 1)
        for modality, accuracies in query_accuracies(output, episodes).items():
            self._record.add(f"{modality}_accuracy", accuracies.sum(), len(accuracies))
        if self._details_are_due():
            self._record_adaptation(output, episodes)
        return (output.loss, output) if return_outputs else output.loss

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
        """Records the support losses before each inner step, and the accuracy of the network before it is adapted."""
        for group, losses in output.support_loss.items():
            modality = modality_of_group(group)
            for step, column in enumerate(losses.detach().float().unbind(dim=1), start=1):
                self._record.add(f"{modality}_support_loss_step{step}", column.sum(), len(column))
        model = self.accelerator.unwrap_model(self.model)
        with torch.no_grad(), self.accelerator.autocast(), without_inner_loop(model):
            unadapted = model(episodes, return_dict=True)
        for modality, accuracies in query_accuracies(unadapted, episodes).items():
            self._record.add(f"{modality}_accuracy_before", accuracies.sum(), len(accuracies))

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
        results = evaluated_episodes(self, dataloader, description)
        return EvalLoopOutput(
            # Lists, since episodes may differ in their number of queries.
            predictions=[result.predictions for result in results],  # pyright: ignore[reportArgumentType]
            label_ids=[result.labels for result in results],  # pyright: ignore[reportArgumentType]
            metrics={f"{metric_key_prefix}_{name}": value for name, value in summarise(results).items()},
            num_samples=len(results),
        )
