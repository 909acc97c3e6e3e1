"""What changes in the course of training, step by step: rules for the outer gradient, and the inner loop itself."""

from torch import nn
from transformers import PreTrainedConfig, TrainerCallback, TrainerControl, TrainerState

from .trainer_hooks import TrainerHooks
from .training_args import MetaTrainingArguments


class OuterGradientRules(TrainerCallback):
    """
    What happens to the outer gradient between the backward pass and the optimizer step: the task encoder's gradient is
    clipped, and under alternating updates that of the resting network is dropped (set to `None`, so that Adam leaves
    its parameters alone).

    Args:
        trainer: the trainer that this callback is added to.
    """

    def __init__(self, trainer: TrainerHooks):
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: MetaTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs
    ) -> None:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if model.task_encoder is None:
            return
        if args.task_encoder_max_grad_norm:
            # accelerate's own clipping is not used: under fp16 `Trainer` has unscaled the gradients already, and doing
            # so twice is an error.
            nn.utils.clip_grad_norm_(model.task_encoder.parameters(), args.task_encoder_max_grad_norm)
        if args.alternating_steps:
            network_turn = state.global_step // args.alternating_steps % 2 == 0
            for name, parameter in model.named_parameters():
                if name.startswith("task_encoder.") == network_turn:
                    parameter.grad = None


class StepSettings(TrainerCallback):
    """
    Sets what changes in a model from meta-step to meta-step, as functions of the number of the step alone: whose turn
    it is among the statistics of training (see [`MSMAMLModel.fit_for_training`]), and in the inner loop, the weights of
    the multi-step loss (`multi_step_loss_steps`) and whether second derivatives are left out (`first_order_steps`;
    both of MAML++, Antoniou et al. 2019, arXiv 1810.09502).

    Args:
        trainer: the trainer that this callback is added to.
    """

    def __init__(self, trainer: TrainerHooks):
        self.trainer = trainer

    def on_step_begin(
        self, args: MetaTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs
    ) -> None:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        model.training_turn = state.global_step
        model.first_order_for_now = state.global_step < args.first_order_steps
        model.multi_step_weights = None
        if args.multi_step_loss_steps:
            progress = state.global_step / args.multi_step_loss_steps
            model.multi_step_weights = step_weights(model.config.num_inner_steps, progress)

    def on_train_end(self, args: MetaTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        model.first_order_for_now, model.multi_step_weights = False, None


def step_weights(num_inner_steps: int, progress: float) -> tuple[float, ...] | None:
    """
    The weights of the query losses after each inner step (MAML++): all are equal at `progress` 0, and the
    last alone counts at 1.

    Args:
        num_inner_steps: number of inner steps, at least 0.
        progress: from 0 to 1.

    Returns:
        One weight per inner step, with the sum 1; `None` when the last alone counts.
    """
    if progress >= 1 or num_inner_steps < 2:
        return None
    early = (1 - progress) / num_inner_steps
    return (*[early] * (num_inner_steps - 1), 1 - early * (num_inner_steps - 1))


def check_annealing(args: MetaTrainingArguments, config: PreTrainedConfig) -> None:
    """
    Raises:
        `ValueError`: the annealing that `args` ask for would have no effect on the inner loop of `config`.
    """
    least = 2 if args.multi_step_loss_steps else 1
    if config.num_inner_steps < least:
        raise ValueError(
            f"multi_step_loss_steps={args.multi_step_loss_steps} and first_order_steps={args.first_order_steps} have "
            f"no effect with num_inner_steps={config.num_inner_steps}"
        )
    if args.first_order_steps and config.first_order:
        raise ValueError(f"first_order_steps={args.first_order_steps} has no effect with first_order=True")
