"""A run: the data, the model, training and evaluation that the options ask for."""

from pathlib import Path
from typing import Any, cast

from transformers import set_seed

from data_builders import EpisodeDataset, FewShotSplit, add_new_classes, load_few_shot
from modeling_msmaml import (
    MetaTrainer,
    MetaTrainingArguments,
    ModelCardCallback,
    RunReport,
    plot_learning_curves,
    write_model_card,
)
from modeling_msmaml.hub.provenance import command_line

from .run_arguments import DataArguments, ModelArguments
from .run_model import fit_front_ends, groups_to_whiten_by, make_model, make_processor, store_features


def load_splits(data: DataArguments, split: str) -> list[FewShotSplit]:
    """The named split of every data set, one modality each."""
    options = cast(dict[str, dict[str, Any]], data.dataset_options)  # as parsed
    splits = [
        load_few_shot(name, split, data.protocol, data.data_dir, data.cache_dir, **options.get(name, {}))
        for name in data.datasets
    ]
    modalities = [split.modality for split in splits]
    if len(set(modalities)) != len(modalities):
        raise ValueError(f"datasets={data.datasets} have modalities {modalities}: give one data set for each modality")
    return splits


def make_episodes(
    splits: list[FewShotSplit], data: DataArguments, args: MetaTrainingArguments, num_episodes: int, seed: int
) -> EpisodeDataset:
    """Episodes for evaluation."""
    n_query = cast(Any, args.n_query)  # as parsed
    return EpisodeDataset(
        splits, args.n_way, args.k_shot, n_query, num_episodes, seed, source_disjoint=data.source_disjoint
    )


def make_training_episodes(
    splits: list[FewShotSplit], data: DataArguments, args: MetaTrainingArguments
) -> EpisodeDataset:
    """Exactly as many episodes as the meta-steps need."""
    shape = {
        name: getattr(args, name) if getattr(args, f"train_{name}") is None else getattr(args, f"train_{name}")
        for name in ("n_way", "k_shot", "n_query")
    }
    return EpisodeDataset(
        add_new_classes(splits, args.new_classes or []),
        **shape,
        num_episodes=args.max_steps * args.tasks_per_step,
        seed=args.seed,
        source_disjoint=data.source_disjoint,
        augment=cast(Any, args.augment),
        mix_classes=cast(Any, args.mix_classes) or 0.0,
    )


def make_datasets(data: DataArguments, args: MetaTrainingArguments) -> dict[str, EpisodeDataset]:
    """The episodes of each split that this run needs."""
    datasets = {}
    if args.do_train:
        datasets["train"] = make_training_episodes(load_splits(data, "train"), data, args)
    if args.do_eval or (args.do_train and args.eval_strategy != "no"):
        splits = load_splits(data, "validation")
        datasets["validation"] = make_episodes(splits, data, args, data.num_eval_episodes * len(splits), data.eval_seed)
    if args.do_predict:
        splits = load_splits(data, "test")
        datasets["test"] = make_episodes(splits, data, args, data.num_test_episodes * len(splits), data.eval_seed)
    return datasets


def check_what_to_do(arguments: ModelArguments, args: MetaTrainingArguments) -> None:
    """Refuses combinations of options of which one would be without effect."""
    if not (args.do_train or args.do_eval or args.do_predict):
        raise ValueError("nothing to do: give --do_train, --do_eval or --do_predict")
    if arguments.auxiliary and args.mix_classes:
        raise ValueError(
            f"mix_classes={args.mix_classes} makes classes that are none of the training classes among which auxiliary "
            "classifies: leave one of the two out"
        )
    if not args.do_train and arguments.model_name_or_path is None:
        raise ValueError("there is no model to evaluate: give --model_name_or_path, or --do_train to make one")
    if not args.do_train and args.resume_from_checkpoint is not None:
        raise ValueError(
            f"resume_from_checkpoint={args.resume_from_checkpoint} goes on with a training, which do_train=False "
            "leaves out: evaluate a checkpoint with --model_name_or_path"
        )


def run(
    arguments: ModelArguments, data: DataArguments, args: MetaTrainingArguments, argv: list[str]
) -> dict[str, float]:
    """Everything that the options, which `argv` gave, ask for; returns what `all_results.json` holds."""
    check_what_to_do(arguments, args)
    datasets = make_datasets(data, args)
    set_seed(args.seed)
    splits = next(iter(datasets.values())).splits
    model = make_model(arguments, args, splits)
    if arguments.model_name_or_path is None:
        groups_to_whiten_by(model.config, splits)  # fails, if it does, before features are computed
    if data.cache_features:
        datasets = store_features(datasets, model, data, args.device)
    splits = next(iter(datasets.values())).splits
    if arguments.model_name_or_path is None:
        fit_front_ends(model, splits, args.seed)
    trainer = MetaTrainer(
        model=model,
        args=args,
        train_dataset=datasets.get("train"),
        eval_dataset=datasets.get("validation"),
        processing_class=make_processor(arguments, splits),
    )
    report = RunReport(
        trainer,
        data,
        data_sets={split.modality: split.name for split in splits},
        command=command_line(argv, args.world_size, args.device.type),
        started_from=arguments.model_name_or_path,
        warnings=sorted({split.warning for dataset in datasets.values() for split in dataset.splits} - {""}),
    )
    trainer.add_callback(ModelCardCallback(report))
    if args.do_train:
        result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
        trainer.save_model()
        trainer.save_state()
        report.add("train", {name: value for name, value in result.metrics.items() if name != "total_flos"})
    if args.do_eval:
        report.add("eval", trainer.evaluate())
    if args.do_predict:
        report.add("test", trainer.predict(datasets["test"], metric_key_prefix="test").metrics or {})
    if trainer.is_world_process_zero():
        folder = Path(args.output_dir or "")
        plot_learning_curves(trainer.state.log_history, folder / "plots")
        write_model_card(report.card(), folder)
        print(report.table())
    if args.push_to_hub:
        trainer.push_to_hub()
    return report.results
