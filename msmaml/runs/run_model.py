"""The model of a run is a new one for its data, or a checkpoint that is checked against the options and the data."""

from typing import Any, cast

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from data_builders import EpisodeDataset, FewShotSplit, encode_episodes, plain_rows
from modeling_msmaml.inference.base_model import model_class, saved_processor
from modeling_msmaml.inputs.kinds import KINDS
from modeling_msmaml.inputs.processing_msmaml import MSMAMLProcessor, whole_processor
from modeling_msmaml.model.configuration_msmaml import MSMAMLConfig
from modeling_msmaml.model.level_frontend import record_level_encoders
from modeling_msmaml.model.level_sources import EncoderSource
from modeling_msmaml.model.modeling_msmaml import MSMAMLModel
from modeling_msmaml.training.training_args import MetaTrainingArguments

from .data_arguments import DataArguments
from .run_arguments import ModelArguments

ROWS_TO_FIT_TO = 3_000
# The options that may differ from those of a checkpoint: they concern training alone, or change no result.
CHANGEABLE = (
    *("label_smoothing", "dropout", "level_dropout", "auxiliary_weight", "episode_weight"),
    *("task_chunk_size", "inner_loop_checkpointing", "soft_kmeans_steps", "num_eval_inner_steps"),
)
# Options of a modality, and the front ends with which they have an effect.
READ_BY = {
    "audio_patch_size": ("audio", ("raw",)),
    "num_mels": ("audio", ("fitted",)),
    "text_patch_size": ("text", ("raw", "fitted")),
    "vocab_size": ("text", ("raw", "fitted")),
    "word_vector_size": ("text", ("raw", "fitted")),
    "train_word_vectors": ("text", ("raw", "fitted")),
    "image_patch_size": ("image", ("raw",)),
    "patch_dictionary_size": ("image", ("fitted",)),
    "dictionary_patch_size": ("image", ("fitted",)),
    "image_size": ("image", ("raw", "fitted", "pretrained")),
    "image_channels": ("image", ("raw", "fitted", "pretrained")),
}


def tokenizer_of_levels(arguments: ModelArguments) -> PreTrainedTokenizerBase | None:
    """Returns the tokenizer of the text encoder of a new model on levels; None if there is none.

    Raises:
        ValueError: the encoder has no tokenizer beside it.
    """
    given = cast("dict[str, str] | str", arguments.level_encoders or {})
    if isinstance(given, dict) and "text" not in given:
        return None
    try:
        recorded = record_level_encoders({"text": given["text"]} if isinstance(given, dict) else given, ["text"])
    except ValueError:
        if isinstance(given, dict):
            raise
        return None  # a saved model without texts; if the run has any, its model will say so
    folder = EncoderSource(**recorded["text"]["source"]).folder_of_tokenizer()
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"level_encoders={given}: {folder} holds no tokenizer of the text encoder: {error}") from error


def make_processor(arguments: ModelArguments, splits: list[FewShotSplit], model: MSMAMLModel) -> MSMAMLProcessor | None:
    """Returns the processor that turns a person's own files, texts and pictures into inputs of the model.

    It is that of the checkpoint, if the checkpoint has one, and `None` if no modality has a preprocessor. Of a model on
    levels it takes inputs whole, whatever the length or size of the training data.
    """
    path = arguments.model_name_or_path
    if path is not None and (saved := saved_processor(path)) is not None:
        return saved
    if path is None and model.reads_levels:
        return whole_processor(by_modality(splits), cast(Any, tokenizer_of_levels(arguments)))
    own = {KINDS[s.modality].part: s.preprocessor for s in splits if s.modality in KINDS and s.preprocessor is not None}
    return MSMAMLProcessor(**own) if own else None


def tokenizer_of(path: str | None) -> PreTrainedTokenizerBase | None:
    """Returns the tokenizer of a checkpoint; None if there is no checkpoint, or it has no processor or no texts."""
    processor = None if path is None else saved_processor(path)
    return None if processor is None else processor.tokenizer


def make_model(arguments: ModelArguments, args: MetaTrainingArguments, splits: list[FewShotSplit]) -> MSMAMLModel:
    """Makes a new model for the data, or loads the checkpoint.

    Raises:
        ValueError: an option, or the checkpoint, does not fit the data.
    """
    if arguments.model_name_or_path is not None:
        return load_model(arguments.model_name_or_path, arguments, args, splits)
    text = next((split for split in splits if split.modality == "text"), None)
    given = arguments.given()
    options = {
        "modalities": list(by_modality(splits)),
        "n_way": args.n_way,
        **given,
        **args.model_overrides(),
    }
    if arguments.auxiliary:
        refuse_auxiliary_of_several(splits)
        options["auxiliary_classes"] = {split.modality: len(split.class_names) for split in splits}
    image = next((split for split in splits if split.modality == "image"), None)
    on_levels = given.get("task_network") == "levels" or given.get("level_encoders") is not None
    if image is not None and not on_levels:
        options["image_channels"], options["image_size"] = image.row_shape[0], image.row_shape[-1]
    if sorted(options["modalities"]) != sorted(by_modality(splits)):
        raise ValueError(
            f"modalities={options['modalities']} are not the modalities of the data sets "
            f"{', '.join(f'{split.name} ({split.modality})' for split in splits)}: leave the option out"
        )
    config = MSMAMLConfig(**options)
    check_effect(given, config)
    model = MSMAMLModel(config)
    if on_levels:
        return model
    if text is not None and "text" in (arguments.embeddings or {}):
        check_tokenizer(text, arguments.embeddings["text"])
    elif text is not None:
        if text.word_vectors is None:
            raise ValueError(
                f"data set {text.name!r} uses the vocabulary of a checkpoint: give that checkpoint as "
                "model_name_or_path, or the encoder that the tokenizer belongs to in embeddings"
            )
        model.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.from_numpy(text.word_vectors)))
    for name, value in given.items():
        if name != "embeddings" and getattr(model.config, name) != value:
            raise ValueError(
                f"{name}={value!r} does not fit the data, which have {name}={getattr(model.config, name)!r}: leave the "
                "option out, or prepare the data accordingly"
            )
    return model


def refuse_auxiliary_of_several(splits: list[FewShotSplit]) -> None:
    """Raises `ValueError` if a modality has several data sets, whose classes would be taken for the same ones."""
    for modality, own in by_modality(splits).items():
        if len(own) > 1:
            raise ValueError(
                f"auxiliary classifies among the classes of one data set per modality, but {modality} has "
                f"{', '.join(split.name for split in own)}: leave the option out"
            )


def check_effect(given: dict[str, Any], config: MSMAMLConfig) -> None:
    """Raises `ValueError` for an option with a value of its own that changes nothing in this config."""
    for name in (name for name, value in given.items() if value != getattr(MSMAMLConfig, name)):
        modality, front_ends = READ_BY.get(name, (None, ()))
        if modality is not None and modality not in config.modalities:
            raise ValueError(f"{name}={given[name]!r} has no effect without {modality} data: leave the option out")
        if modality is not None and config.front_ends_of(modality) not in front_ends:
            raise ValueError(
                f"{name}={given[name]!r} has no effect on {modality} with {config.front_ends_of(modality)} front ends, "
                f"but with {' and '.join(front_ends)} ones: leave the option out"
            )
        if name in ("task_encoder_kernel_size", "task_encoder_hidden_size") and config.conditioning == "none":
            raise ValueError(f"{name}={given[name]!r} has no effect with conditioning='none': leave the option out")


def vocabulary(tokenizer: PreTrainedTokenizerBase | None) -> dict[str, int]:
    """The number of each token; without a tokenizer there are none."""
    return {} if tokenizer is None else tokenizer.get_vocab()


def check_tokenizer(split: FewShotSplit, encoder: dict) -> None:
    """Raises `ValueError` unless the rows are token ids of the encoder's own tokenizer, as far as it has one."""
    source = encoder.get("transformers")
    if "special_tokens" not in encoder and vocabulary(
        AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    ) != (vocabulary(split.tokenizer)):
        raise ValueError(
            f"the rows of data set {split.name!r} are in another vocabulary than that of the encoder {source!r}: give "
            f'dataset_options={{"{split.name}": {{"tokenizer": "{source}"}}}}'
        )


def store_features(
    datasets: dict[str, EpisodeDataset], model: MSMAMLModel, data: DataArguments, device: torch.device
) -> dict[str, EpisodeDataset]:
    """The same episodes with what the model's pretrained encoders make of them, computed on `device`."""
    before, frontends = model.device, dict(model.frontends.items())
    model.frontends.to(device)
    datasets = {name: encode_episodes(episodes, frontends, data.cache_dir) for name, episodes in datasets.items()}
    model.frontends.to(before)
    return datasets


def rows_to_fit_to(split: FewShotSplit, most: int = ROWS_TO_FIT_TO) -> np.ndarray:
    """Returns the numbers of at most `most` rows, evenly spaced in a training split as it was loaded."""
    loaded = plain_rows(split)
    return np.linspace(0, loaded - 1, min(loaded, most)).astype(np.int64)


def by_modality(splits: list[FewShotSplit]) -> dict[str, list[FewShotSplit]]:
    """Returns the splits of each modality."""
    found: dict[str, list[FewShotSplit]] = {}
    for split in splits:
        found.setdefault(split.modality, []).append(split)
    return found


def groups_to_whiten_by(config: MSMAMLConfig, splits: list[FewShotSplit]) -> dict[str, torch.Tensor]:
    """Returns the number of the source or class of each row that front ends are fitted to, by modality.

    Modalities are left out whose `descriptor_whitening` is "total".

    Raises:
        ValueError: no two rows share their source or class.
    """
    groups = {}
    for modality, own in by_modality(splits).items():
        if config.task_network == "levels" or config.level_encoders is not None:
            groups[modality] = groups_of(own)
            continue
        whitening = config.descriptor_whitenings[modality]
        if whitening == "total":
            continue
        names = []
        for split in own:
            of_rows = (split.source_ids if whitening == "source" else split.labels)[_rows_of(split, own)]
            names += of_rows.tolist() if len(own) == 1 else [f"{split.name}/{name}" for name in of_rows]
        found, numbers = np.unique(names, return_inverse=True)
        if len(found) == len(names):
            raise ValueError(
                f"descriptor_whitening={whitening!r} of {modality}: no two of {len(names)} training samples of "
                f"{', '.join(split.name for split in own)} share their {whitening}; take another whitening for "
                f"{modality}"
            )
        groups[modality] = torch.from_numpy(numbers)
    return groups


def groups_of(splits: list[FewShotSplit]) -> torch.Tensor:
    """Returns a number for the group (`groups_of_levels`) of each of the rows that `rows_of_splits` returns."""
    names = [f"{split.name}/{name}" for split in splits for name in groups_of_levels(split)[_rows_of(split, splits)]]
    return torch.from_numpy(np.unique(names, return_inverse=True)[1])


def rows_of_splits(splits: list[FewShotSplit]) -> np.ndarray:
    """Returns equally many rows of each split of one modality, to which front ends are fitted."""
    return np.concatenate([split.rows(_rows_of(split, splits)) for split in splits])


def groups_of_levels(split: FewShotSplit) -> np.ndarray:
    """Returns the class of each row or, where sources are divided into several rows, such as documents, its source.

    The rows of a source are alike for other reasons than their class. Sources that are fewer than the classes, such as
    speakers, are none of these.
    """
    number = len(set(split.source_ids))
    is_divided = len(split) >= 3 * number and number > 2 * len(split.class_names)
    return split.source_ids if is_divided else split.labels


def fit_front_ends(model: MSMAMLModel, splits: list[FewShotSplit], seed: int) -> None:
    """Fits the front ends of a model to training splits, to equally many rows of each split of a modality."""
    rows = {modality: torch.from_numpy(rows_of_splits(own)) for modality, own in by_modality(splits).items()}
    for modality in model.config.modalities:
        if modality not in rows and (modality in model.descriptors or hasattr(model.frontends[modality], "fit")):
            raise ValueError(
                f"the front ends of {modality} are fitted to training rows, but no data set of that modality has any: "
                "train on one that has, or choose front_ends='raw'"
            )
    model.fit_front_ends(rows, seed, groups_to_whiten_by(model.config, splits))


def _rows_of(split: FewShotSplit, of_modality: list[FewShotSplit]) -> np.ndarray:
    return rows_to_fit_to(split, max(1, ROWS_TO_FIT_TO // len(of_modality)))


def load_model(
    path: str, arguments: ModelArguments, args: MetaTrainingArguments, splits: list[FewShotSplit]
) -> MSMAMLModel:
    """Loads the checkpoint `path`.

    Raises:
        ValueError: the checkpoint does not fit the options or the data.
    """
    model = model_class(path).from_pretrained(path)
    for name, value in arguments.given().items():
        if name == "train_word_vectors":
            model.train_word_vectors(value)
        elif name == "inner_grad_clip":
            model.config.inner_grad_clip = value
        elif name in CHANGEABLE:
            setattr(model.config, name, value)
        elif name == "embeddings":
            check_encoders(path, value, model.config.embeddings or {})
        elif name == "level_encoders":
            check_level_encoders(path, value, model)
        elif value != getattr(model.config, name):
            raise ValueError(
                f"{name}={value} does not fit the checkpoint {path}, which has {name}={getattr(model.config, name)}: "
                "leave the option out, or train a new model"
            )
    if args.do_train:
        check_auxiliary(path, arguments.auxiliary, model.config, splits)
    processor = saved_processor(path) if any(split.modality == "text" for split in splits) else None
    for split in splits:
        if split.modality not in model.config.modalities:
            raise ValueError(f"the checkpoint {path} has modalities {model.config.modalities}, not {split.modality!r}")
        if split.modality != "text" or processor is None:
            continue
        if vocabulary(processor.tokenizer) != vocabulary(split.tokenizer):
            raise ValueError(
                f"the checkpoint {path} was trained with another vocabulary than that of data set {split.name!r} "
                f"under protocol {split.protocol!r}: evaluate it on the data set and protocol of its training or, on "
                f'other data, with its own vocabulary: dataset_options={{"{split.name}": {{"tokenizer": "{path}"}}}}'
            )
    return model


def check_auxiliary(path: str, asked: bool, config: MSMAMLConfig, splits: list[FewShotSplit]) -> None:
    """Raises `ValueError` unless a checkpoint classifies among the training classes of the data if asked, else none."""
    here = {split.modality: len(split.class_names) for split in splits}
    existing = config.auxiliary_classes
    if asked != bool(existing) or (existing and {m: existing.get(m) for m in here} != here):
        raise ValueError(
            f"auxiliary={asked} with training classes {here} does not fit the checkpoint {path}, which has "
            f"auxiliary_classes={existing}: train a new model, or give auxiliary as the checkpoint has it"
        )


def check_level_encoders(path: str, given: dict[str, str] | str, model: MSMAMLModel) -> None:
    """Raises `ValueError` unless the given level encoders are those of a checkpoint, wherever they are."""
    existing = cast("dict[str, dict]", model.config.level_encoders or {})
    modalities = list(given) if isinstance(given, dict) else model.config.modalities
    for modality, recorded in record_level_encoders(given, modalities).items():
        own = existing.get(modality, {}).get("encoder")
        if recorded["encoder"] != own:
            raise ValueError(
                f"level_encoders={given}: the encoder of {modality} is {recorded['encoder']}, but the checkpoint "
                f"{path} has {own}: leave the option out, or train a new model"
            )


def check_encoders(path: str, given: dict[str, dict], existing: dict[str, dict]) -> None:
    """Raises `ValueError` unless a checkpoint's encoders are the given ones."""
    short = {
        modality: {key: value for key, value in spec.items() if key != "recorded"}
        for modality, spec in existing.items()
    }
    if given != short:
        raise ValueError(
            f"embeddings={given} does not fit the checkpoint {path}, which has {short}: leave the option out, or train "
            "a new model"
        )
