"""
The descriptions of pretrained encoders in a config: which options they have, how they are checked, and what is recorded
of an encoder, so that a saved model can be built again without access to the source of the encoder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer, PreTrainedConfig

from .options import at_least, checked

SAMPLING_RATE = 16_000  # Hz


def record_encoders(embeddings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """
    Adds `"recorded"` to each description: the architecture and preprocessing of the encoder, read from the Hub or a
    folder unless the description has them already. No weights are read.

    Args:
        embeddings: descriptions by modality, see `embeddings` in [`MSMAMLConfig`].

    Raises:
        `ValueError`: an encoder cannot be used; the message says why.
        `OSError`: an encoder cannot be found.
    """
    read = {"audio": _record_audio, "text": _record_text, "image": _record_image}
    return {
        modality: spec if "recorded" in spec else {**spec, "recorded": read[modality](spec)}
        for modality, spec in embeddings.items()
    }


def _check_layer(modality: str, spec: dict[str, Any], config: PreTrainedConfig) -> None:
    if spec.get("layer", 0) > config.num_hidden_layers:
        raise ValueError(
            f"embeddings[{modality!r}]: layer={spec['layer']}, but {spec['transformers']!r} has "
            f"{config.num_hidden_layers} layers; layer=0 stands for the input of the first layer"
        )


def _as_dict(config: PreTrainedConfig) -> dict[str, Any]:
    return json.loads(config.to_json_string(use_diff=False))


def _record_text(spec: dict[str, Any]) -> dict[str, Any]:
    source = spec["transformers"]
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    _check_layer("text", spec, config)
    if config.pad_token_id != 0:
        raise ValueError(
            f"embeddings['text']: the encoder {source!r} pads with token {config.pad_token_id}, but 0 is padding in "
            "text rows and a word to this encoder: choose one that pads with 0, as those of the BERT and T5 families do"
        )
    # An encoder with relative positions has no longest input, so texts are not split.
    longest = getattr(config, "max_position_embeddings", None)
    window = spec.get("window", longest)
    if longest is not None and window > longest:
        raise ValueError(f"embeddings['text']: window={window}, but {source!r} takes at most {longest} tokens")
    before, after = spec.get("special_tokens") or _special_tokens(source)
    if window is not None and window <= len(before) + len(after):
        raise ValueError(
            f"embeddings['text']: window={window} has no room for text beside the special tokens {before} and {after}"
        )
    return {
        "config": _as_dict(config),
        "num_features": config.hidden_size,
        "window": window,
        "special_tokens": [list(before), list(after)],
    }


def _special_tokens(source: str) -> tuple[list[int], list[int]]:
    """Returns the special tokens that the encoder's tokenizer puts before and after a text."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"embeddings['text']: the encoder {source!r} has no tokenizer ({error}): give special_tokens, "
            "such as [[101], [102]], or [[], []] for none"
        ) from error
    starts = [start for start in range(len(whole) - len(bare) + 1) if whole[start : start + len(bare)] == bare]
    return whole[: starts[0]], whole[starts[0] + len(bare) :]


def _record_audio(spec: dict[str, Any]) -> dict[str, Any]:
    source = spec["transformers"]
    config, extractor = (
        AutoConfig.from_pretrained(source, trust_remote_code=False),
        AutoFeatureExtractor.from_pretrained(source, trust_remote_code=False),
    )
    _check_layer("audio", spec, config)
    if getattr(extractor, "sampling_rate", SAMPLING_RATE) != SAMPLING_RATE:
        raise ValueError(
            f"embeddings['audio']: the encoder {source!r} works at {extractor.sampling_rate} Hz, but audio inputs are "
            f"sampled at {SAMPLING_RATE} Hz"
        )
    preprocessing = json.loads(extractor.to_json_string())
    preprocessing["feature_extractor_type"] = type(extractor).__name__
    return {"config": _as_dict(config), "num_features": config.hidden_size, "feature_extractor": preprocessing}


def _record_image(spec: dict[str, Any]) -> dict[str, Any]:
    # Imported here because only models with an image encoder need timm.
    import timm
    from timm.data.config import resolve_model_data_config

    name = timm_name(spec["timm"])
    try:
        with torch.device("meta"):
            model: Any = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, AssertionError, OSError) as error:
        raise ValueError(f"embeddings['image']: timm cannot build {spec['timm']!r}: {error}") from error
    data = resolve_model_data_config(model)
    size = spec.get("input_size", data["input_size"][-1])
    if size != data["input_size"][-1] and model.pretrained_cfg.get("fixed_input_size"):
        raise ValueError(
            f"embeddings['image']: input_size={size}, but {spec['timm']!r} takes only {data['input_size'][-1]}"
        )
    arguments = {}
    if name.startswith("local-dir:"):
        arguments = json.loads(Path(spec["timm"], "config.json").read_text()).get("model_args", {})
    elif name.startswith(("hf-hub:", "hf_hub:")):
        from timm.models import load_model_config_from_hf

        arguments = load_model_config_from_hf(name.split(":", 1)[1])[2]
    return {
        "architecture": model.pretrained_cfg["architecture"],
        "model_args": {key: value for key, value in (arguments or {}).items() if key != "num_classes"},
        "num_features": model.num_features,
        "input_size": size,
        "interpolation": "bilinear" if data["interpolation"] == "bilinear" else "bicubic",
        "mean": list(data["mean"]),
        "std": list(data["std"]),
    }


def timm_name(source: str) -> str:
    """Returns the name of a source for `timm.create_model`; a source may be a folder with a `config.json` of timm."""
    return f"local-dir:{source}" if Path(source, "config.json").is_file() else source


def feature_extractor(recorded: dict[str, Any]) -> Any:
    """Builds the feature extractor of transformers that `record_encoders` recorded."""
    return getattr(transformers, recorded["feature_extractor_type"]).from_dict(dict(recorded))


# The library that the encoders of a modality come from, and the options of their descriptions.
LIBRARIES = {"audio": "transformers", "text": "transformers", "image": "timm"}
OPTIONS = {
    "audio": ("pretrained", "adapter_size", "layer", "pool", "recorded"),
    "text": ("pretrained", "adapter_size", "layer", "pool", "window", "special_tokens", "recorded"),
    "image": ("pretrained", "adapter_size", "input_size", "recorded"),
}


def check_embeddings(embeddings: dict[str, dict[str, Any]], modalities: Sequence[str]) -> None:
    """
    Checks the descriptions of encoders, see `embeddings` in [`MSMAMLConfig`].

    Args:
        embeddings: descriptions by modality.
        modalities: the modalities of the config.

    Raises:
        `ValueError`: a modality that the config does not have or that no encoder reads, a wrong library, an unknown
            option or a value outside its range.
    """
    if not isinstance(embeddings, dict):
        raise ValueError(f"embeddings={embeddings!r} must be a dict, modality -> description of its encoder")
    for modality, spec in embeddings.items():
        where = f"embeddings[{modality!r}]"
        if modality not in LIBRARIES:
            raise ValueError(f"{where}: pretrained encoders read {', '.join(LIBRARIES)}, not {modality}")
        if modality not in modalities:
            raise ValueError(f"{where} has no effect, since modalities={modalities}")
        library = LIBRARIES[modality]
        if not isinstance(spec, dict) or not isinstance(spec.get(library), str) or not spec[library]:
            raise ValueError(f"{where}={spec!r} must name its encoder: {{{library!r}: name or folder}}")
        if unknown := sorted(spec.keys() - {library, *OPTIONS[modality]}):
            works = ", ".join((library, *OPTIONS[modality][:-1]))
            raise ValueError(f"{where} has unknown options {', '.join(unknown)}; those for {modality} are {works}")
        if not isinstance(spec.get("pretrained", True), bool):
            raise ValueError(f"{where}: pretrained={spec['pretrained']!r} must be true or false")
        for name, least in (("adapter_size", 1), ("layer", 0), ("pool", 1), ("window", 3), ("input_size", 8)):
            checked(f"{where}: {name}", spec.get(name, least), at_least(least))
        _check_special_tokens(where, spec.get("special_tokens", [[], []]))


def _check_special_tokens(where: str, value: Any) -> None:
    fits = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(ids, (list, tuple)) for ids in value)
    if not fits or not all(isinstance(token, int) and token > 0 for ids in value for token in ids):
        raise ValueError(
            f"{where}: special_tokens={value!r} must be two lists of positive token ids: those before a text, such as "
            "[CLS], and those after it, such as [SEP]"
        )
