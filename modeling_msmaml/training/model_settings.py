"""Whether a model and the arguments of its training fit each other, and what of the arguments it takes over."""

import logging

from ..model.modeling_msmaml import MSMAMLModel
from ..model.task_loss import task_loss_of
from .callbacks import check_annealing
from .hardware_limits import refuse_missing_bf16, refuse_what_cannot_work, warn_of_fp16
from .training_args import MetaTrainingArguments

logger = logging.getLogger(__name__)

# Arguments that only tasks of classes have a use for -> what they are then without.
OPTIONS_OF_CLASSES = {
    "train_n_way": None,
    "train_shots": "equal",
    "num_unlabelled": 0,
    "num_distractors": 0,
    "mix_classes": None,
    "new_classes": None,
}


def fit_to_arguments(model: MSMAMLModel, args: MetaTrainingArguments) -> None:
    """
    Gives the model's config the inner-loop settings that `args` replace.

    Raises:
        `ValueError`: they do not fit each other, or ask for what cannot work with an inner loop.
    """
    of_numbers = not task_loss_of(model.config).classifies
    if model.fixed_n_way not in (None, args.n_way):
        has = "whose network has n_way={} outputs" if of_numbers else "whose classifier has n_way={}"
        raise ValueError(
            f"n_way={args.n_way} does not fit the model, {has.format(model.config.n_way)}: evaluate with that, or "
            "train a model of the n_way you want"
        )
    if of_numbers:
        refuse_options_of_classes(args, model.config.task_loss)
    elif args.n_way < 2:
        raise ValueError(f"n_way={args.n_way} must be an integer of at least 2")
    args.take_metric("squared_error" if of_numbers else "accuracy")
    if model.task_encoder is None:
        for name in ("alternating_steps", "task_encoder_max_grad_norm", "task_encoder_learning_rate"):
            if getattr(args, name):
                raise ValueError(
                    f"{name}={getattr(args, name)} needs a task encoder, which a model of task_network="
                    f"{model.config.task_network!r} with conditioning={model.config.conditioning!r} has not"
                )
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
    if not model.trains_inner_steps:
        for name in ("multi_step_loss_steps", "first_order_steps"):
            if getattr(args, name):
                raise ValueError(
                    f"{name}={getattr(args, name)} has no effect with task_network={model.config.task_network!r}, "
                    "whose training takes no inner steps: leave it out"
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


def refuse_options_of_classes(args: MetaTrainingArguments, task_loss: str) -> None:
    """
    Raises:
        `ValueError`: an argument is about classes, which a `task_loss` of numbers has none of.
    """
    for name, unused in OPTIONS_OF_CLASSES.items():
        if (getattr(args, name) or unused) != unused:
            raise ValueError(
                f"{name}={getattr(args, name)!r} is about classes, but task_loss={task_loss!r} has numbers for "
                "targets: leave it out"
            )
    metric = str(args.metric_for_best_model or "")
    if "accuracy" in metric and not args.has_default_metric:
        raise ValueError(
            f"metric_for_best_model={metric!r} does not exist, because task_loss={task_loss!r} has numbers for "
            f"targets: take {metric.replace('accuracy', 'squared_error')!r}"
        )
