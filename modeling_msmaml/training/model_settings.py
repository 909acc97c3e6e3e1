"""Whether a model and the arguments of its training fit each other, and what of the arguments it takes over."""

import logging

from ..model.modeling_msmaml import MSMAMLModel
from ..model.task_loss import task_loss_of
from .callbacks import check_annealing
from .hardware_limits import refuse_missing_bf16, refuse_what_cannot_work, warn_of_fp16
from .training_args import MetaTrainingArguments

logger = logging.getLogger(__name__)


def fit_to_arguments(model: MSMAMLModel, args: MetaTrainingArguments) -> None:
    """
    Gives the model's config the inner-loop settings that `args` replace.

    Raises:
        `ValueError`: they do not fit each other, or ask for what cannot work with an inner loop.
    """
    if model.fixed_n_way not in (None, args.n_way):
        raise ValueError(
            f"n_way={args.n_way} does not fit the model, whose classifier has n_way={model.config.n_way}: evaluate "
            "with that, or train a model of the n_way you want"
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
    if model.config.inner_rates != "fixed" and args.inner_lr not in (None, model.config.inner_lr):
        raise ValueError(
            f"inner_lr={args.inner_lr} has no effect on a model whose inner_rates={model.config.inner_rates!r} are "
            f"trained, and started from inner_lr={model.config.inner_lr}: leave it out, or make a model with it"
        )
    for name, value in args.model_overrides().items():
        setattr(model.config, name, value)
    model.check_options()
    if not model.takes_inner_steps:
        for name in ("multi_step_loss_steps", "first_order_steps"):
            if getattr(args, name):
                raise ValueError(
                    f"{name}={getattr(args, name)} has no effect with task_network={model.config.task_network!r}, "
                    "which takes no inner steps: leave it out"
                )
    refuse_what_cannot_work(args, model.config.first_order)
    refuse_missing_bf16(args)
    if warning := warn_of_fp16(args, model.config.first_order):
        logger.warning(warning)
    if args.train_n_way not in (None, args.n_way) and model.fixed_n_way is not None:
        raise ValueError(
            f"train_n_way={args.train_n_way} does not fit a linear classifier of n_way={args.n_way}: leave it out, "
            "or make a model with head='prototype'"
        )
    if args.multi_step_loss_steps or args.first_order_steps:
        check_annealing(args, model.config)
