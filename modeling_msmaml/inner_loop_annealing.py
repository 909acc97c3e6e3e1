"""How the inner loop changes in the course of training (MAML++, Antoniou et al. 2019, arXiv 1810.09502)."""

from transformers import TrainerCallback, TrainerControl, TrainerState

from .model.modeling_msmaml import MSMAMLModel
from .training_args import MetaTrainingArguments


def step_weights(num_inner_steps: int, progress: float) -> tuple[float, ...] | None:
    """
    Weights of the query losses after each inner step (section 4.1): equal at `progress` 0, the last alone at 1.

    Args:
        progress: from 0 to 1.

    Returns:
        Weights with the sum 1; `None` when the last alone counts.
    """
    if progress >= 1 or num_inner_steps < 2:
        return None
    early = (1 - progress) / num_inner_steps
    return (*[early] * (num_inner_steps - 1), 1 - early * (num_inner_steps - 1))


class InnerLoopAnnealing(TrainerCallback):
    """
    Sets, before each meta-step, the weights of the multi-step loss (`multi_step_loss_steps`) and whether second
    derivatives are left out (`first_order_steps`): a function of the number of the step alone.
    """

    def __init__(self, model: MSMAMLModel):
        self.model = model

    def on_step_begin(self, args: MetaTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.model.first_order_for_now = state.global_step < args.first_order_steps
        self.model.multi_step_weights = None
        if args.multi_step_loss_steps:
            progress = state.global_step / args.multi_step_loss_steps
            self.model.multi_step_weights = step_weights(self.model.config.num_inner_steps, progress)

    def on_train_end(self, args: MetaTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.model.first_order_for_now, self.model.multi_step_weights = False, None
