"""A run makes the data and the model that its options ask for, then trains and evaluates the model."""

from pathlib import Path
from typing import cast

from transformers import IntervalStrategy, set_seed

from modeling_msmaml import (
    MetaTrainer,
    MetaTrainingArguments,
    ModelCardCallback,
    MSMAMLConfig,
    RunReport,
    plot_learning_curves,
    write_model_card,
)
from modeling_msmaml.hub.provenance import command_line
from modeling_msmaml.model.task_loss import task_loss_of

from .data_arguments import DataArguments
from .held_out import fit_for_training, halves
from .pushing import push
from .run_arguments import ModelArguments
from .run_data import make_datasets, make_training_episodes, parts_of, shared_text, splits_of, splits_to_fit_to
from .run_model import (
    fit_front_ends,
    groups_to_whiten_by,
    make_model,
    make_processor,
    store_features,
    tokenizer_of,
    tokenizer_of_levels,
)


def check_what_to_do(arguments: ModelArguments, args: MetaTrainingArguments) -> None:
    """Raises `ValueError` for options that ask for nothing, or of which one would have no effect."""
    if arguments.task_loss is not None:
        refuse_numbers(MSMAMLConfig(task_loss=arguments.task_loss))
    if not (args.do_train or args.do_eval or args.do_predict):
        raise ValueError("nothing to do: give --do_train, --do_eval or --do_predict")
    if arguments.auxiliary and args.mix_classes:
        raise ValueError(
            f"mix_classes={args.mix_classes} makes classes that are none of the training classes, among which "
            "auxiliary classifies: leave out one of the two options"
        )
    if bool(args.num_unlabelled) != bool(arguments.soft_kmeans_steps) and arguments.model_name_or_path is None:
        raise ValueError(
            f"num_unlabelled={args.num_unlabelled} and soft_kmeans_steps={arguments.soft_kmeans_steps or 0}: "
            "unlabelled samples refine prototypes in these steps, so that one has no effect without the other"
        )
    if args.log_tasks == "evaluation" and not (args.do_eval or args.do_predict):
        raise ValueError(
            "log_tasks='evaluation' has no effect in a run that evaluates nothing: give --do_eval or --do_predict, or "
            "log_tasks='all' for the tasks of training"
        )
    if not args.do_train and arguments.model_name_or_path is None:
        raise ValueError("there is no model to evaluate: give --model_name_or_path, or --do_train to make one")
    if not args.do_train and args.resume_from_checkpoint is not None:
        raise ValueError(
            f"resume_from_checkpoint={args.resume_from_checkpoint} continues a training run, but do_train=False: give "
            "--do_train true, or --model_name_or_path to evaluate a checkpoint"
        )


def refuse_numbers(config: MSMAMLConfig) -> None:
    """Raises `ValueError` if the targets of tasks are numbers, which no data set has."""
    if not task_loss_of(config).classifies:
        raise ValueError(
            f"task_loss={config.task_loss!r} has numbers for targets, but the data sets of a run have classes: train "
            "the model with MetaTrainer on tasks of your own, as examples/sine_regression.py does"
        )


def run(
    arguments: ModelArguments, data: DataArguments, args: MetaTrainingArguments, argv: list[str]
) -> dict[str, float]:
    """Does what the options ask for.

    Args:
        arguments: options of the model.
        data: options of the data.
        args: options of training and evaluation.
        argv: the command line that gave these options; the model card shows it.

    Returns:
        The content of `all_results.json`.

    Raises:
        ValueError: the options do not fit each other, the data or the checkpoint.
        NotPushed: everything was done and written, but could not be uploaded.
    """
    check_what_to_do(arguments, args)
    parts = parts_of(args)
    text = shared_text(data, parts, tokenizer_of(arguments.model_name_or_path), tokenizer_of_levels(arguments))
    datasets = make_datasets(data, args, text)
    set_seed(args.seed)
    model = make_model(arguments, args, splits_of(datasets))
    refuse_numbers(model.config)
    if arguments.model_name_or_path is None:  # if this fails, it fails before features are computed
        groups_to_whiten_by(model.config, splits_to_fit_to(datasets, data, text))
    if data.cache_features:
        datasets = store_features(datasets, model, data, args.device)
    if arguments.model_name_or_path is None:
        fit_front_ends(model, splits_to_fit_to(datasets, data, text), args.seed)
        if "train" in datasets and model.has_statistics_for_training:
            divided = halves(datasets["train"].splits, args.seed)
            fit_for_training(model, divided.fitted)
            datasets["train"] = make_training_episodes(divided.trained, data, args)
    splits = splits_of(datasets)
    if "validation" not in datasets:  # of a run that only tests, `Trainer` would ask what it could evaluate on
        args.eval_strategy = IntervalStrategy.NO
    trainer = MetaTrainer(
        model=model,
        args=args,
        train_dataset=datasets.get("train"),
        eval_dataset=datasets.get("validation"),
        processing_class=make_processor(arguments, splits, model),
    )
    modalities = {split.name: split.modality for split in splits}
    report = RunReport(
        trainer,
        data,
        data_sets={name: modalities[name] for name in data.names(*parts) if name in modalities},
        command=command_line(argv, args.world_size, args.device.type),
        started_from=arguments.model_name_or_path,
        trained_on=[split.name for split in datasets["train"].splits] if "train" in datasets else None,
        warnings=sorted({split.warning for dataset in datasets.values() for split in dataset.splits} - {""}),
    )
    trainer.add_callback(ModelCardCallback(report))
    if args.do_train:
        result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
        trainer.save_model(_internal_call=True)  # a save that is no internal call is pushed at once
        trainer.save_state()
        report.add("train", {name: value for name, value in result.metrics.items() if name != "total_flos"})
    if args.do_eval:
        report.add("eval", trainer.evaluate())
    if args.do_predict:
        report.add("test", trainer.predict(datasets["test"], metric_key_prefix="test").metrics or {})
    if trainer.is_world_process_zero():
        folder = Path(cast(str, args.output_dir))  # None has been replaced by the default
        plot_learning_curves(trainer.state.log_history, folder / "plots")
        write_model_card(report.card(), folder)
        print(report.table())
    if args.push_to_hub:
        push(trainer)
    return report.results
