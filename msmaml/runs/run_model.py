"""The model of a run: a new one for its data, or a checkpoint that is checked against options and data."""

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.utils import cached_file

from data_builders import EpisodeDataset, FewShotSplit, encode_episodes, plain_rows
from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.inputs.processing_msmaml import MSMAMLProcessor
from modeling_msmaml.model.configuration_msmaml import MSMAMLConfig
from modeling_msmaml.model.modeling_msmaml import MSMAMLModel
from modeling_msmaml.training.training_args import MetaTrainingArguments

from .run_arguments import DataArguments, ModelArguments

ROWS_TO_FIT_TO = 3_000
# Options of a checkpoint's config that may be given anew: those of training alone, and those that change no result.
CHANGEABLE = (
    *("label_smoothing", "dropout", "auxiliary_weight", "episode_weight"),
    *("task_chunk_size", "inner_loop_checkpointing"),
)


def make_processor(arguments: ModelArguments, splits: list[FewShotSplit]) -> MSMAMLProcessor | None:
    """
    What turns own files, texts and pictures into the inputs that the model was trained on: the checkpoint's, if it has
    one. `None` if no modality has any.
    """
    path = arguments.model_name_or_path
    if path is not None and has_processor(path):
        return MSMAMLProcessor.from_pretrained(path)
    own = {KINDS[s.modality].part: s.preprocessor for s in splits if s.modality in KINDS and s.preprocessor is not None}
    return MSMAMLProcessor(**own) if own else None


def has_processor(path: str) -> bool:
    """Whether a checkpoint was saved with its processor; those of the published layout were not."""
    return cached_file(path, "processor_config.json", _raise_exceptions_for_missing_entries=False) is not None


def make_model(arguments: ModelArguments, args: MetaTrainingArguments, splits: list[FewShotSplit]) -> MSMAMLModel:
    """A new model for these data, or the checkpoint, if it fits them."""
    if arguments.model_name_or_path is not None:
        return load_model(arguments, args, splits)
    text = next((split for split in splits if split.modality == "text"), None)
    given = arguments.given()
    options = {
        "modalities": [split.modality for split in splits],
        "n_way": args.n_way,
        **given,
        **args.model_overrides(),
    }
    if arguments.auxiliary:
        options["auxiliary_classes"] = {split.modality: len(split.class_names) for split in splits}
    image = next((split for split in splits if split.modality == "image"), None)
    if image is not None:
        options["image_size"] = image.row_shape[-1]
    if sorted(options["modalities"]) != sorted(split.modality for split in splits):
        raise ValueError(
            f"modalities={options['modalities']} are not those of the data sets "
            f"{', '.join(f'{split.name} ({split.modality})' for split in splits)}: leave the option out"
        )
    model = MSMAMLModel(MSMAMLConfig(**options))
    if text is not None and "text" in (arguments.embeddings or {}):
        check_tokenizer(text, arguments.embeddings["text"])
    elif text is not None:
        if text.word_vectors is None:
            raise ValueError(
                f"data set {text.name!r} uses a checkpoint's vocabulary: give its model_name_or_path, or embeddings "
                "with the encoder whose tokenizer it is"
            )
        model.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.from_numpy(text.word_vectors)))
    for name, value in given.items():
        if name != "embeddings" and getattr(model.config, name) != value:
            raise ValueError(
                f"{name}={value!r} does not fit the data, which have {name}={getattr(model.config, name)!r}: leave the "
                "option out, or prepare the data so"
            )
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
        elif name in CHANGEABLE:
            setattr(model.config, name, value)
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
