"""How models of other libraries become level encoders: what is read from their files, and where their weights go."""

import json
import pickle
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchaudio
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoTokenizer, ClapAudioModelWithProjection

from .level_encoder import CONFIG_FILE, WEIGHTS_FILE, LevelEncoder, build_level_encoder, sha256_of
from .level_text import longest_input
from .saved_files import read_json

# Weights that some models lack: of a head that is left out, and of what takes the place of masked sound in training.
NOT_NEEDED = ("pooler.", "masked_spec_embed")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
SAFE_WEIGHTS, PICKLED_WEIGHTS = "model*.safetensors", "pytorch_model*.bin"


class Source:
    """
    A pretrained model: its files in a local folder, or a bundle of torchaudio, and the options of its encoder.

    Attributes:
        config: the content of its `config.json`.
    """

    def __init__(self, name: str, folder: Path | None, options: dict[str, Any]):
        self.name, self.folder, self.options = name, folder or Path(), options
        self.config: dict[str, Any] = {"bundle": name}
        if folder is not None:
            self.config = read_json(folder / CONFIG_FILE)

    @cached_property
    def sums(self) -> dict[str, str]:
        """The SHA-256 of each of its files with weights."""
        if "bundle" in self.config:
            return {}
        patterns = (SAFE_WEIGHTS, PICKLED_WEIGHTS, WEIGHTS_FILE)
        files = sorted({path for pattern in patterns for path in self.folder.glob(pattern)})
        return {path.name: sha256_of(path) for path in files}

    @property
    def library(self) -> str:
        """
        The library that the model is of; `"levels"` if it is a level encoder.

        Raises:
            `ValueError`: none that is known.
        """
        for library, key in (("torchaudio", "bundle"), ("levels", "encoder"), ("transformers", "model_type")):
            if key in self.config:
                return library
        if isinstance(self.config.get("architecture"), str):
            return "timm"
        raise ValueError(
            f"{self.name}: {CONFIG_FILE} is that of no model of transformers or timm: it has neither model_type nor "
            "architecture"
        )


class Converted(NamedTuple):
    """A level encoder, and the tokenizer of one of text."""

    encoder: LevelEncoder
    tokenizer: Any = None


Converter = Callable[[Source], Converted]


def text_of_transformers(source: Source) -> Converted:
    """
    Makes an encoder of text of a model of transformers. Special tokens and padding are those of its tokenizer, the
    pooling is that of sentence-transformers, where it is told.
    """
    name, options = source.name, dict(source.options)
    model = _transformer(source)
    if not any(list(source.folder.glob(pattern)) for pattern in TOKENIZER_FILES):
        raise ValueError(f"{name} has no tokenizer: none of {', '.join(TOKENIZER_FILES)}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name} has no tokenizer that can be read: {error}") from error
    before, after = special_tokens(tokenizer)
    prompt = options.pop("prompt", None)
    if prompt:
        before = [*before, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    longest = longest_input(model)
    description = {
        "encoder": "transformers",
        "config": json.loads(model.config.to_json_string(use_diff=False)),
        "window": 256 if longest is None else min(256, longest),
        "special_tokens": [before, after],
        "pooling": options.get("pooling") or _pooling(source),
    }
    if tokenizer.pad_token_id is not None:
        description["padding"] = tokenizer.pad_token_id
    encoder: Any = build_level_encoder({**description, **options})
    _copy(name, model, encoder.model)
    return Converted(encoder, tokenizer)


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Returns the ids that a tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = [start for start in range(len(whole) - len(bare) + 1) if whole[start : start + len(bare)] == bare]
    return whole[: starts[0]], whole[starts[0] + len(bare) :]


def image_of_timm(source: Source) -> Converted:
    """Makes an encoder of images of a model of timm, with the mean and deviation of pixels that its files tell."""
    config, options = source.config, source.options
    known = config.get("pretrained_cfg") or {}
    description = {"encoder": "timm_features", "architecture": config["architecture"]}
    if options.get("encoder", "timm_features") == "timm_features":
        arguments = config.get("model_args") or {}
        description["model_args"] = {key: value for key, value in arguments.items() if key != "num_classes"}
    description |= {key: known[key] for key in ("mean", "std") if key in known}
    encoder: Any = build_level_encoder({**description, **options})
    weights = _weights(source)
    classifier = known.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    expected = encoder.model.state_dict()
    kept = {key: value for key, value in weights.items() if key in expected or not key.startswith(heads)}
    _load(source.name, encoder.model, kept)
    return Converted(encoder)


def audio_of_transformers(source: Source) -> Converted:
    """Makes an encoder of audio of a model of transformers and its feature extractor."""
    try:
        extractor = AutoFeatureExtractor.from_pretrained(source.folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{source.name} has no feature extractor that can be read: {error}") from error
    model = _transformer(source)
    told = {**json.loads(extractor.to_json_string()), "feature_extractor_type": type(extractor).__name__}
    config = json.loads(model.config.to_json_string(use_diff=False))
    description = {"encoder": "transformers_audio", "config": config, "extractor": told, **source.options}
    encoder: Any = build_level_encoder(description)
    _copy(source.name, model, encoder.model)
    return Converted(encoder)


def audio_of_torchaudio(source: Source) -> Converted:
    """Makes an encoder of audio of a bundle of torchaudio, which is downloaded by `torch.hub`."""
    bundle: Any = getattr(torchaudio.pipelines, source.name, None)
    if not isinstance(bundle, torchaudio.pipelines.Wav2Vec2Bundle):
        bundles = [
            key
            for key, value in vars(torchaudio.pipelines).items()
            if isinstance(value, torchaudio.pipelines.Wav2Vec2Bundle)
        ]
        raise FileNotFoundError(f"torchaudio has no bundle {source.name} of wav2vec 2.0 or the like, but {bundles}")
    model = bundle.get_model(dl_kwargs={"weights_only": True})
    description = {
        "encoder": "torchaudio",
        "config": {**bundle._params, "aux_num_out": None},
        "model": bundle._model_type.lower(),
        "model_rate": int(bundle.sample_rate),
        "normalize": bundle._normalize_waveform,
    }
    encoder: Any = build_level_encoder({**description, **source.options})
    _copy(source.name, getattr(model, "model", model), encoder.model)
    return Converted(encoder)


def _transformer(source: Source) -> Any:
    """A model of transformers without a head, with its weights; of one with encoder and decoder, the encoder."""
    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
        kind: Any = AutoModel
        if config.model_type == "clap":  # of which the tower for text is not wanted
            config, kind = config.audio_config, ClapAudioModelWithProjection
        model, info = kind.from_pretrained(
            source.folder, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ValueError(f"{source.name} cannot be read as a model of transformers: {error}") from error
    if missing := [key for key in info["missing_keys"] if not key.startswith(NOT_NEEDED)]:
        raise ValueError(f"{source.name} lacks {len(missing)} of the weights of its model, such as {min(missing)}")
    return (model.get_encoder() if model.config.is_encoder_decoder else model).eval()


def _pooling(source: Source) -> str:
    """`"cls"` or `"mean"`, as sentence-transformers writes it beside a model."""
    path = source.folder / "1_Pooling" / CONFIG_FILE
    if not path.is_file():
        return "mean"
    told = read_json(path)
    modes = [
        key.removeprefix("pooling_mode_") for key, value in told.items() if key.startswith("pooling_mode_") and value
    ]
    mode = told.get("pooling_mode", modes)  # as version 6 writes it, or earlier ones
    for name, spellings in (("mean", ("mean", ["mean_tokens"])), ("cls", ("cls", ["cls_token"]))):
        if mode in spellings:
            return name
    raise ValueError(f"{source.name} is pooled by {mode}: give pooling='mean' or 'cls'")


def _weights(source: Source) -> dict[str, torch.Tensor]:
    """The tensors of a model of timm. Nothing but tensors is unpickled."""
    path = source.folder / "model.safetensors"
    if path.is_file():
        return load_file(path)
    path = path.with_name("pytorch_model.bin")
    if path.is_file():
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        return found.get("state_dict", found)
    raise FileNotFoundError(f"{source.name} has neither model.safetensors nor {path.name}")


def _copy(name: str, model: nn.Module, target: nn.Module) -> None:
    """Copies the weights of a model, except for a head that the target does without."""
    expected = target.state_dict()
    _load(name, target, {key: value for key, value in model.state_dict().items() if key in expected})


def _load(name: str, target: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    try:
        target.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights of {name} do not fit its model: {error}") from error


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("text", "transformers"): text_of_transformers,
    ("image", "timm"): image_of_timm,
    ("audio", "transformers"): audio_of_transformers,
    ("audio", "torchaudio"): audio_of_torchaudio,
}
