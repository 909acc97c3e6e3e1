#!/usr/bin/env python
"""
Meta-train, evaluate and save an MS-MAML model.

    accelerate launch run_meta.py configs/audio_text_image.yaml --data_dir DATA [--any_option value ...]

The YAML file gives any of the options below, the command line goes on top.
"""

import dataclasses
import difflib
import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
import yaml
from transformers import AutoTokenizer, HfArgumentParser, set_seed
from transformers.utils import cached_file

from data_builders import EpisodeDataset, FewShotSplit, add_new_classes, load_few_shot
from data_builders.episodes.encoded import encode_episodes
from data_builders.episodes.task_augmentation import plain_rows
from modeling_msmaml import (
    MetaTrainer,
    MetaTrainingArguments,
    ModelCardCallback,
    MSMAMLConfig,
    MSMAMLModel,
    MSMAMLProcessor,
    RunReport,
    plot_learning_curves,
    write_model_card,
)
from modeling_msmaml.hub_command import command_line
from modeling_msmaml.model.configuration_msmaml import WHITENINGS

logger = logging.getLogger("run_meta")

ROWS_TO_FIT_TO = 3_000


@dataclass
class ModelArguments:
    """Which model to start from, or how to build one. What is not given is as in the checkpoint or `MSMAMLConfig`."""

    model_name_or_path: str | None = field(default=None, metadata={"help": "Checkpoint to start from or to evaluate."})
    conditioning: str | None = field(
        default=None, metadata={"help": "'affine', 'sigmoid', 'softmax', 'kernel' or 'none' (plain MAML)."}
    )
    num_channels: int | None = field(default=None, metadata={"help": "Channels of every modality's sequence."})
    num_layers: int | None = field(default=None, metadata={"help": "Layers of task network and task encoder."})
    kernel_size: int | None = field(default=None, metadata={"help": "Kernel of the task network's convolutions."})
    stride: int | None = field(default=None, metadata={"help": "Stride of the task network's convolutions."})
    padding: int | None = field(default=None, metadata={"help": "Padding of the task network's convolutions."})
    inner_grad_clip: float | None = field(
        default=None, metadata={"help": "Clamp every element of an inner gradient to this magnitude; 0 clamps nothing."}
    )
    train_word_vectors: bool | None = field(
        default=None, metadata={"help": "Let the outer loop train the word vectors."}
    )

    image_signal_side: int | None = field(
        default=None,
        metadata={
            "help": "Side to resize images to before the audio embedding reads them as signals; 0 for their own."
        },
    )
    front_ends: str | None = field(
        default=None, metadata={"help": "'raw' (as published) or 'fitted' to unlabelled training samples."}
    )
    descriptor_size: int | None = field(
        default=None, metadata={"help": "Size of the fitted descriptor beside the network's features; 0 for none."}
    )
    # A word, or a dict once parsed.
    descriptor_whitening: str | None = field(
        default=None,
        metadata={
            "help": "Of the descriptor: by 'total' variance, or by that within a 'source' or a 'class' (which reads "
            "labels); or JSON, one a modality."
        },
    )
    feature_size: int | None = field(default=None, metadata={"help": "Size of the network's features; 0 as pooled."})
    pooling: str | None = field(default=None, metadata={"help": "'mean' or 'mean_max' over a sequence."})
    # A number or a dict once parsed; text is what HfArgumentParser can take from a command line.
    network_gain: str | None = field(
        default=None,
        metadata={"help": "Length of the network's features beside the descriptor, a number or JSON, one a modality."},
    )
    norm: str | None = field(default=None, metadata={"help": "'batch', 'group' or 'task'."})
    head: str | None = field(default=None, metadata={"help": "'linear' or 'prototype'."})
    cosine_scale: float | None = field(default=None, metadata={"help": "What cosines are multiplied with at first."})
    adapted_parameters: str | None = field(
        default=None, metadata={"help": "What the inner loop adapts: 'all', 'upper' or 'head'."}
    )
    inner_rates: str | None = field(
        default=None, metadata={"help": "'fixed', 'per_layer_per_step' (LSLR) or 'per_element' (Meta-SGD)."}
    )
    modulation_init: str | None = field(default=None, metadata={"help": "'default' or 'identity'."})
    task_encoder_pooling: str | None = field(default=None, metadata={"help": "'mean' or 'class'."})
    share_embeddings: bool | None = field(
        default=None, metadata={"help": "Let the task encoder read the task network's sequences."}
    )
    auxiliary: bool = field(
        default=False,
        metadata={"help": "Also classify the samples of training episodes among all training classes (co-training)."},
    )
    auxiliary_weight: float | None = field(default=None, metadata={"help": "Weight of that loss."})
    label_smoothing: float | None = field(
        default=None, metadata={"help": "How much of a training label is spread over all classes."}
    )
    dropout: float | None = field(
        default=None, metadata={"help": "Probability with which a channel of a training sample's sequence is dropped."}
    )
    episode_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of the query loss; 0 trains a supervised backbone on the classes alone."},
    )
    # A dict once parsed; text is what HfArgumentParser can take from a command line.
    embeddings: str | None = field(
        default=None,
        metadata={"help": 'Pretrained encoders by modality, as JSON: \'{"text": {"transformers": "FOLDER"}}\'.'},
    )

    def __post_init__(self):
        self._parse("network_gain", 'neither a number nor JSON such as {"text": 0.3}')
        self._parse("embeddings", 'not JSON such as {"image": {"timm": "resnet18"}}')
        if self.descriptor_whitening not in WHITENINGS:
            words = ", ".join(WHITENINGS)
            self._parse("descriptor_whitening", f'neither one of {words} nor JSON such as {{"audio": "class"}}')
        if self.auxiliary_weight is not None and not self.auxiliary:
            raise ValueError(f"auxiliary_weight={self.auxiliary_weight} has no effect without auxiliary")

    def _parse(self, name: str, wrong: str) -> None:
        """Text of a field as JSON; `wrong` says what it is if it cannot be."""
        value = getattr(self, name)
        try:
            setattr(self, name, json.loads(value) if isinstance(value, str) else value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}={value!r} is {wrong}") from error

    def given(self) -> dict:
        """The fields of `MSMAMLConfig` that were given."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        for name in ("model_name_or_path", "auxiliary"):
            values.pop(name, None)
        if values.get("inner_grad_clip") == 0:
            values["inner_grad_clip"] = None  # which a command line cannot say
        return values


@dataclass
class DataArguments:
    """Which episodes to train and evaluate on."""

    datasets: list[str] = field(
        default_factory=lambda: ["esc50", "brown", "cifar100"],
        metadata={"help": "One data set a modality: esc50, brown, cifar100, synthetic:audio|text|image."},
    )
    data_dir: str | None = field(
        default=None,
        metadata={"help": "Folder with the data sets' archives; without it the official ones are fetched."},
    )
    # A dict once parsed; text is what HfArgumentParser can take from a command line.
    dataset_options: str | None = field(
        default=None, metadata={"help": 'Options by data set, as JSON: \'{"brown": {"unit": "document"}}\'.'}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where built data go. Default: HF_DATASETS_CACHE."})
    cache_features: bool = field(
        default=False, metadata={"help": "Store the features of pretrained encoders, and never compute them again."}
    )
    protocol: str = field(default="class_disjoint", metadata={"help": "How classes and samples are split."})
    source_disjoint: bool = field(
        default=True, metadata={"help": "Support and query of an episode share no recording or document."}
    )
    num_eval_episodes: int = field(
        default=1000, metadata={"help": "Validation episodes for each modality; at least 2."}
    )
    num_test_episodes: int = field(default=1000, metadata={"help": "Test episodes for each modality; at least 2."})
    eval_seed: int = field(default=0, metadata={"help": "Seed of validation and test episodes, apart from --seed."})

    def __post_init__(self):
        for name in ("num_eval_episodes", "num_test_episodes"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 2, for an interval to exist")
        if isinstance(self.datasets, str):  # a YAML file may give one without brackets
            self.datasets = [self.datasets]
        self.dataset_options = self._parse_dataset_options()

    def _parse_dataset_options(self) -> dict[str, dict]:
        given = self.dataset_options
        try:
            options = json.loads(given) if isinstance(given, str) else given or {}
        except json.JSONDecodeError as error:
            raise ValueError(f'dataset_options={given!r} is not JSON such as {{"brown": {{...}}}}') from error
        if unknown := sorted(options.keys() - set(self.datasets)):
            raise ValueError(f"dataset_options is for {', '.join(unknown)}, but datasets={self.datasets}")
        return options


def parse_arguments(argv: list[str]) -> tuple[ModelArguments, DataArguments, MetaTrainingArguments]:
    """A YAML file, if the first argument names one, then command-line options on top of it."""
    parser = HfArgumentParser((ModelArguments, DataArguments, MetaTrainingArguments), description=__doc__)
    if argv and not argv[0].startswith("-"):
        parser.set_defaults(**read_yaml(Path(argv[0]), {action.dest for action in parser._actions}))
        argv = argv[1:]
    try:
        return parser.parse_args_into_dataclasses(args=argv)
    except ValueError as error:
        raise SystemExit(f"run_meta.py: {error}") from error


def read_yaml(path: Path, known: set[str]) -> dict:
    """The options in a YAML file, all of them known."""
    if not path.is_file():
        raise SystemExit(f"run_meta.py: there is no config file {path}")
    options = yaml.safe_load(path.read_text()) or {}
    if not isinstance(options, dict):
        raise SystemExit(f"run_meta.py: {path} must hold 'option: value' lines")
    for name, value in options.items():
        if value is None:
            raise SystemExit(f"run_meta.py: {path} gives {name!r} no value; leave it out for its default")
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; --help lists all options"
            raise SystemExit(f"run_meta.py: {path} has an unknown option {name!r}{hint}")
    return options


def load_splits(data: DataArguments, split: str) -> list[FewShotSplit]:
    """The named split of every data set, one modality each."""
    splits = [
        load_few_shot(name, split, data.protocol, data.data_dir, data.cache_dir, **data.dataset_options.get(name, {}))
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
    return EpisodeDataset(
        splits, args.n_way, args.k_shot, args.n_query, num_episodes, seed, source_disjoint=data.source_disjoint
    )


def make_training_episodes(
    splits: list[FewShotSplit], data: DataArguments, args: MetaTrainingArguments
) -> EpisodeDataset:
    """Exactly as many episodes as the meta-steps need."""
    shape = (
        getattr(args, name) if getattr(args, f"train_{name}") is None else getattr(args, f"train_{name}")
        for name in ("n_way", "k_shot", "n_query")
    )
    number = args.max_steps * args.tasks_per_step
    return EpisodeDataset(
        add_new_classes(splits, args.new_classes or []),
        *shape,
        number,
        args.seed,
        source_disjoint=data.source_disjoint,
        augment=args.augment,
        mix_classes=args.mix_classes or 0.0,
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


def make_processor(arguments: ModelArguments, splits: list[FewShotSplit]) -> MSMAMLProcessor | None:
    """
    What turns own files, texts and pictures into the inputs that the model was trained on: the checkpoint's, if it has
    one. `None` if no modality has any.
    """
    path = arguments.model_name_or_path
    if path is not None and has_processor(path):
        return MSMAMLProcessor.from_pretrained(path)
    parts = {"audio": "feature_extractor", "text": "tokenizer", "image": "image_processor"}
    own = {parts[s.modality]: s.preprocessor for s in splits if s.modality in parts and s.preprocessor is not None}
    return MSMAMLProcessor(**own) if own else None


def has_processor(path: str) -> bool:
    """Whether a checkpoint was saved with its processor; those of the published layout were not."""
    return cached_file(path, "processor_config.json", _raise_exceptions_for_missing_entries=False) is not None


def make_model(arguments: ModelArguments, args: MetaTrainingArguments, splits: list[FewShotSplit]) -> MSMAMLModel:
    """A new model for these data, or the checkpoint, if it fits them."""
    if arguments.model_name_or_path is not None:
        return load_model(arguments, args, splits)
    text = next((split for split in splits if split.modality == "text"), None)
    options = {**arguments.given(), **args.model_overrides()}
    if arguments.auxiliary:
        options["auxiliary_classes"] = {split.modality: len(split.class_names) for split in splits}
    image = next((split for split in splits if split.modality == "image"), None)
    if image is not None:
        options["image_size"] = image.row_shape[-1]
    config = MSMAMLConfig(modalities=[split.modality for split in splits], n_way=args.n_way, **options)
    model = MSMAMLModel(config)
    if text is not None and "text" in (arguments.embeddings or {}):
        check_tokenizer(text, arguments.embeddings["text"])
    elif text is not None:
        if text.word_vectors is None:
            raise ValueError(
                f"data set {text.name!r} uses a checkpoint's vocabulary: give its model_name_or_path, or embeddings "
                "with the encoder whose tokenizer it is"
            )
        model.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.from_numpy(text.word_vectors)))
    return model


def check_tokenizer(split: FewShotSplit, encoder: dict) -> None:
    """Raises ValueError unless the rows are token ids of the encoder's own tokenizer, as far as it has one."""
    source = encoder.get("transformers")
    if "special_tokens" not in encoder and AutoTokenizer.from_pretrained(source).get_vocab() != (
        split.tokenizer.get_vocab()
    ):
        raise ValueError(
            f"the rows of data set {split.name!r} are in another vocabulary than that of the encoder {source!r}: give "
            f'dataset_options={{"{split.name}": {{"tokenizer": "{source}"}}}}'
        )


def store_features(
    datasets: dict[str, EpisodeDataset], model: MSMAMLModel, data: DataArguments, device: torch.device
) -> dict[str, EpisodeDataset]:
    """The same episodes with what the model's pretrained encoders make of them, computed on `device`."""
    for frontend in model.frontends.values():
        frontend.to(device)
    datasets = {name: encode_episodes(episodes, model.frontends, data.cache_dir) for name, episodes in datasets.items()}
    for frontend in model.frontends.values():
        frontend.to(model.task_network.convolutions[0].weight.device)
    return datasets


def rows_to_fit_to(split: FewShotSplit) -> np.ndarray:
    """Numbers of at most `ROWS_TO_FIT_TO` rows, evenly from all of a training split as it was loaded."""
    loaded = plain_rows(split)
    return np.linspace(0, loaded - 1, min(loaded, ROWS_TO_FIT_TO)).astype(np.int64)


def groups_to_whiten_by(config: MSMAMLConfig, splits: list[FewShotSplit]) -> dict[str, torch.Tensor]:
    """
    A number for the source or the class of each row that is fitted to, as `descriptor_whitening` says.

    Raises:
        ValueError: each row is its own source.
    """
    groups = {}
    for split in splits:
        whitening = config.descriptor_whitenings[split.modality]
        if whitening == "total":
            continue
        names = (split.source_ids if whitening == "source" else split.labels)[rows_to_fit_to(split)]
        found, numbers = np.unique(names, return_inverse=True)
        if len(found) == len(names):
            raise ValueError(
                f"descriptor_whitening={whitening!r} of {split.modality}: no two of {len(names)} training samples of "
                f"{split.name} share their {whitening}; take another whitening for {split.modality}"
            )
        groups[split.modality] = torch.from_numpy(numbers)
    return groups


def fit_front_ends(model: MSMAMLModel, splits: list[FewShotSplit], seed: int) -> None:
    """To training splits."""
    rows = {split.modality: torch.from_numpy(split.rows(rows_to_fit_to(split))) for split in splits}
    model.fit_front_ends(rows, seed, groups_to_whiten_by(model.config, splits))


def load_model(arguments: ModelArguments, args: MetaTrainingArguments, splits: list[FewShotSplit]) -> MSMAMLModel:
    """A checkpoint, checked against the options and the data."""
    path = arguments.model_name_or_path
    model = MSMAMLModel.from_pretrained(path)
    for name, value in arguments.given().items():
        if name == "train_word_vectors":
            model.train_word_vectors(value)
        elif name == "inner_grad_clip":
            model.config.inner_grad_clip = value
        elif name in ("label_smoothing", "dropout", "auxiliary_weight", "episode_weight"):
            setattr(model.config, name, value)  # of training alone
        elif name == "embeddings":
            check_encoders(path, value, model.config.embeddings or {})
        elif value != getattr(model.config, name):
            raise ValueError(
                f"{name}={value} does not fit the checkpoint {path}, which has {name}={getattr(model.config, name)}: "
                "leave the option out, or train a new model"
            )
    if args.do_train:
        check_auxiliary(path, arguments.auxiliary, model.config, splits)
    for split in splits:
        if split.modality not in model.config.modalities:
            raise ValueError(f"the checkpoint {path} has modalities {model.config.modalities}, not {split.modality!r}")
        if split.modality == "text" and has_processor(path):
            trained = MSMAMLProcessor.from_pretrained(path).tokenizer.get_vocab()
            if trained != split.tokenizer.get_vocab():
                raise ValueError(
                    f"the checkpoint {path} was trained with another vocabulary than that of data set {split.name!r} "
                    f"under protocol {split.protocol!r}: evaluate it on the data set and protocol of its training"
                )
    return model


def check_auxiliary(path: str, asked: bool, config: MSMAMLConfig, splits: list[FewShotSplit]) -> None:
    """Raises ValueError unless a checkpoint's training classes are those of the data, where they are to be trained."""
    here = {split.modality: len(split.class_names) for split in splits}
    existing = config.auxiliary_classes
    if asked != bool(existing) or (asked and {m: existing.get(m) for m in here} != here):
        raise ValueError(
            f"auxiliary={asked} with training classes {here} does not fit the checkpoint {path}, which has "
            f"auxiliary_classes={existing}: train a new model, or give auxiliary as the checkpoint has it"
        )


def check_encoders(path: str, given: dict[str, dict], existing: dict[str, dict]) -> None:
    """Raises ValueError unless a checkpoint's encoders are those of an option."""
    short = {
        modality: {key: value for key, value in spec.items() if key != "recorded"}
        for modality, spec in existing.items()
    }
    if given != short:
        raise ValueError(
            f"embeddings={given} does not fit the checkpoint {path}, which has {short}: leave the option out, or train "
            "a new model"
        )


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
        report.add("test", trainer.predict(datasets["test"], metric_key_prefix="test").metrics)
    if trainer.is_world_process_zero():
        plot_learning_curves(trainer.state.log_history, Path(args.output_dir) / "plots")
        write_model_card(report.card(), Path(args.output_dir))
        print(report.table())
    if args.push_to_hub:
        trainer.push_to_hub()
    return report.results


def main(argv: list[str] | None = None) -> dict[str, float]:
    argv = sys.argv[1:] if argv is None else argv
    arguments, data, args = parse_arguments(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO if args.should_log else 30)
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    return run(arguments, data, args, argv)


if __name__ == "__main__":
    main()
