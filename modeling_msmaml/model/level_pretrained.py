"""
Level encoders from models of transformers, timm and torchaudio: by their names on the Hub, from local folders, or by
short names. Weights are read from safetensors files, or from pickles by the loader that reads tensors alone.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.constants import HF_HOME
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from .hub_files import ROOM, check_files, limit_silence
from .level_conversion import CONVERTERS, PICKLED_WEIGHTS, SAFE_WEIGHTS, Converted, Source
from .level_encoder import CONFIG_FILE, WEIGHTS_FILE, LevelEncoder, read_level_encoder, save_level_encoder
from .saved_files import read_from, read_json

# Short names: what they stand for on the Hub, and options.
KNOWN: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "text": {
        "minilm": ("sentence-transformers/all-MiniLM-L6-v2", {}),
        "mpnet": ("sentence-transformers/all-mpnet-base-v2", {}),
        "e5": ("intfloat/e5-small-v2", {"prompt": "query: "}),
        "bge": ("BAAI/bge-small-en-v1.5", {}),
        "gte": ("thenlper/gte-small", {}),
    },
    "image": {
        "dinov2": ("timm/vit_small_patch14_dinov2.lvd142m", {}),
        "convnext": ("timm/convnext_tiny.in12k_ft_in1k", {}),
        "resnet": ("timm/resnet50.a1_in1k", {}),
    },
    "audio": {
        "clap": ("laion/clap-htsat-unfused", {}),
        "ast": ("MIT/ast-finetuned-audioset-10-10-0.4593", {}),
        "wav2vec2": ("facebook/wav2vec2-base", {}),
        "hubert": ("facebook/hubert-base-ls960", {}),
        "whisper": ("openai/whisper-base", {}),
    },
}
SMALL_FILES = ["*.json", "*.txt", "*.model"]


def level_encoder_from_pretrained(modality: str, name: str | Path, **options: Any) -> LevelEncoder:
    """
    Makes a level encoder of a pretrained model.

    Args:
        modality: `"text"`, `"image"` or `"audio"`.
        name: a short name (text: minilm, mpnet, e5, bge, gte; image: dinov2, convnext, resnet; audio: clap, ast,
            wav2vec2, hubert, whisper), the name of a model of transformers or timm on the Hub, a local folder with one,
            or a bundle of torchaudio such as `"WAV2VEC2_BASE"`. Also a folder that `save_level_encoder` wrote.
        options: of the encoder, in place of what is read from the model: `levels`, `input_size`, `window`, ... Of text
            also `prompt`, which is put before each text, such as `"query: "`.

    Raises:
        `FileNotFoundError`: there is no such model.
        `ValueError`: a model, weights or options that cannot be used.
    """
    return _convert(modality, _source(modality, name, options)).encoder


def find_level_encoder(modality: str, spec: Any) -> Any:
    """
    Finds the folder of the level encoder that a config names, which is made of a pretrained model if need be: below
    `$HF_HOME/msmaml/level_encoders`, once for all models. The folder of an encoder of text also has its tokenizer.

    Args:
        modality: of the encoder.
        spec: see `name` of `level_encoder_from_pretrained`, or a dict with `"name"` and options.

    Returns:
        A folder; or `spec` as it is where it is that of a level encoder or of a saved model already, or nothing that is
        known here.

    Raises:
        As `level_encoder_from_pretrained`.
    """
    given = spec if isinstance(spec, dict) else {"name": spec}
    if modality not in KNOWN or not isinstance(given.get("name"), (str, Path)):
        return spec
    options = {key: value for key, value in given.items() if key != "name"}
    try:
        source = _source(modality, given["name"], options)
    except FileNotFoundError:
        if isinstance(spec, dict):
            raise
        return spec
    if not options and ("encoder" in source.config or "level_encoders" in source.config):
        return spec
    parts = [modality, source.name, source.config, source.sums, source.options]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    title = source.name.strip(os.sep).replace(os.sep, "--").replace("/", "--")[-60:]
    folder = Path(HF_HOME, "msmaml", "level_encoders", f"{modality}--{title}--{digest[:16]}")
    if not (folder / WEIGHTS_FILE).is_file():
        converted = _convert(modality, source)
        try:
            _store(converted, source, folder)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, f"{source.name} cannot be stored in {folder} ({error}). {ROOM}") from error
    return folder


def _source(modality: str, name: str | Path, options: dict[str, Any]) -> Source:
    if modality not in KNOWN:
        raise ValueError(f"modality={modality!r}: pretrained encoders are there for {', '.join(KNOWN)}")
    known, standard = KNOWN[modality].get(str(name), (str(name), {}))
    options = {**standard, **options}
    if Path(known).is_dir():
        if not Path(known, CONFIG_FILE).is_file():
            raise FileNotFoundError(f"{known} holds no model: it has no {CONFIG_FILE}")
        return Source(known, Path(known), options)
    if modality == "audio" and known.isupper() and "/" not in known:
        return Source(known, None, options)
    return Source(known, _fetched(modality, known), options)


def _fetched(modality: str, name: str) -> Path:
    """The folder in the Hub's cache with the files of a repository that a level encoder is made of."""
    limit_silence()
    try:
        config = read_json(Path(hf_hub_download(name, CONFIG_FILE)))
        patterns = [*SMALL_FILES, WEIGHTS_FILE] if "encoder" in config else [*SMALL_FILES, SAFE_WEIGHTS]
        if "level_encoders" in config:
            return Path(hf_hub_download(name, CONFIG_FILE)).parent
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if "encoder" not in config and not list(folder.glob(SAFE_WEIGHTS)):
            folder = Path(snapshot_download(name, allow_patterns=[*SMALL_FILES, PICKLED_WEIGHTS]))
    except (RepositoryNotFoundError, EntryNotFoundError, LocalEntryNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(
            f"{name!r} is no folder with a {CONFIG_FILE}, no model on the Hub that can be reached "
            f"({type(error).__name__}), and none of the short names {', '.join(KNOWN[modality])}"
        ) from error
    check_files(name, folder)
    return folder


def _convert(modality: str, source: Source) -> Converted:
    library = source.library
    if library == "levels":
        converted = Converted(read_level_encoder(source.folder, **source.options))
    elif (modality, library) in CONVERTERS:
        with read_from(source.name):
            converted = CONVERTERS[modality, library](source)
    else:
        raise ValueError(f"{source.name} is a model of {library}, of which there is no encoder of {modality}")
    if converted.encoder.modality != modality:
        raise ValueError(f"{source.name} is an encoder of {converted.encoder.modality}, not of {modality}")
    if library != "levels":
        # Of a local folder only the last part: descriptions are saved with models.
        name = Path(source.name).resolve().name if Path(source.name).is_dir() else source.name
        converted.encoder.config["source"] = {"name": name, "sha256": source.sums}
    return converted


def _store(converted: Converted, source: Source, folder: Path) -> None:
    """Writes an encoder into a folder, which is there as a whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        new = Path(partial, "encoder")
        save_level_encoder(converted.encoder, new)
        if converted.tokenizer is not None:
            converted.tokenizer.save_pretrained(new)
        elif source.library == "levels":
            for path in source.folder.glob("*token*.json"):
                shutil.copy(path, new)
        if not (folder / WEIGHTS_FILE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
