"""
Level encoders: frozen encoders that are read at several depths. A *level* is a pooled feature vector at one depth; a
level encoder maps each raw input to all of its levels, one after the other in one flat vector.

Those that come with the model: `"transformers"` for text (level_text.py), `"timm"` and `"timm_features"` for images
(level_image.py, level_timm.py), `"aisfx"`, `"transformers_audio"` and `"torchaudio"` for audio (level_audio.py,
level_sounds.py); `register_level_encoder` adds others. An encoder is described by a dict,
`{"encoder": name, **options}`, and kept in a folder with two files: `config.json`, the description, and
`encoder.safetensors`, the weights in float16.
"""

import hashlib
import importlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Int, Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .execution import autocast
from .modalities import ScaleIntegers
from .options import at_least, checked
from .saved_files import read_from, read_json, refuse_other_sizes

CONFIG_FILE, WEIGHTS_FILE = "config.json", "encoder.safetensors"
_PLANNED = ("transformers", "timm", "timm_features")  # can be built on the device "meta", without memory
LARGEST = torch.finfo(torch.float16).max


class LevelEncoder(nn.Module):
    """
    Base class of level encoders.

    The encoder stays in evaluation mode, and no gradient flows through it. Levels are rounded to float16, the type in
    which they are stored, so that computed and stored levels are the same.

    A subclass sets `modality`, `sample_dims` and, where it matters, how many samples it reads at once. Its `__init__`
    takes its options as keywords of JSON's types, builds the encoder with random weights and calls `set_levels`; it
    implements `encode`.

    Attributes:
        level_sizes: the size of each level by its name, in the order of the flat vector.
        last_level: the name of the encoder's own embedding, which is always among the levels.
        config: the description from which the encoder was built.
    """

    modality: str
    sample_dims: int  # of a raw sample
    chunk_size = 16  # number of samples that `encode` is given at once on the CPU
    accelerator_chunk_size = 128  # the same on an accelerator

    level_sizes: dict[str, int]
    last_level: str
    config: dict[str, Any]

    def set_levels(self, sizes: dict[str, int], last: str, chosen: Sequence[str] | None) -> None:
        """
        Sets which levels the encoder returns, and makes its parameters constants.

        Args:
            sizes: the size of every level that the encoder has, by name, from its input to its output.
            last: the name of its own embedding.
            chosen: names of those to return, in any order; all by default.

        Raises:
            `ValueError`: a level that the encoder does not have, or `last` is not among those chosen.
        """
        chosen = list(sizes) if chosen is None else list(chosen)
        if unknown := [name for name in chosen if name not in sizes]:
            raise ValueError(
                f"levels={chosen}: the encoder of {self.modality} has no {', '.join(map(repr, unknown))}; "
                f"its levels are {', '.join(sizes)}"
            )
        if last not in chosen:
            raise ValueError(f"levels={chosen} must include {last!r}, the encoder's own embedding")
        self.level_sizes = {name: size for name, size in sizes.items() if name in chosen}
        self.last_level = last
        self.requires_grad_(False)
        self.train(False)

    def encode(self, raw: Shaped[Tensor, "batch ..."]) -> dict[str, Float[Tensor, "batch size"]]:
        """
        Computes the levels of a few samples on the encoder's device. `levels` calls it, which chooses, rounds and
        concatenates. A level that is not in `level_sizes` may be left out.
        """
        raise NotImplementedError

    def check(self, raw: Shaped[Tensor, "batch ..."]) -> None:
        """
        Checks raw inputs before they are read.

        Raises:
            `ValueError`: inputs of a shape or type that the encoder does not read.
        """

    @torch.no_grad()
    def levels(self, raw: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch total"]:
        """
        Computes the levels of raw inputs: audio int16 (batch, samples) at 16 kHz; text int32 (batch, tokens), 0 for
        padding; image uint8 (batch, 3, H, W). Audio and images may also be floats, in [-1, 1] and [0, 1].

        Returns:
            All levels of each sample, of type float32 with values of float16, on the device of `raw`. A sample's levels
            do not depend on the others beyond rounding.

        Raises:
            `ValueError`: inputs of a shape or type that the encoder does not read.
        """
        if raw.dim() != 1 + self.sample_dims:
            raise ValueError(
                f"the encoder of {self.modality} reads samples of {self.sample_dims} dimensions and one batch "
                f"dimension, not inputs of shape {tuple(raw.shape)}"
            )
        self.check(raw)
        device = self.device
        result = torch.empty(len(raw), sum(self.level_sizes.values()), device=raw.device)
        if not len(raw):
            return result
        chunk = self.chunk_size if device.type == "cpu" else self.accelerator_chunk_size
        for part, target in zip(raw.split(chunk), result.split(chunk), strict=True):
            with autocast(device.type, enabled=False):
                found = self.encode(part.to(device))
            flat = torch.cat([found[name].float() for name in self.level_sizes], dim=1)
            target.copy_(flat.clamp(-LARGEST, LARGEST).half())
        return result

    forward = levels

    def split(self, flat: Float[Tensor, "... total"]) -> dict[str, Float[Tensor, "... size"]]:
        """Returns views of the levels in flat vectors, by name."""
        return dict(zip(self.level_sizes, flat.split(list(self.level_sizes.values()), dim=-1), strict=True))

    def train(self, mode: bool = True) -> Self:
        """Keeps evaluation mode (no dropout, fixed statistics), whatever the mode of the whole model."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """The device of the encoder's parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the encoder's parameters, in which it computes."""
        return next(self.parameters()).dtype


class WaveformEncoder(LevelEncoder):
    """
    Base class of level encoders of waveforms (batch, samples), int16 or floats in [-1, 1], with zeros at the end as
    padding.

    Args:
        sampling_rate: of the waveforms, in Hz.
    """

    modality = "audio"
    sample_dims = 1

    def __init__(self, sampling_rate: int):
        super().__init__()
        self.sampling_rate = checked("sampling_rate", sampling_rate, at_least(1000))
        self.scale = ScaleIntegers()

    def check(self, raw: Shaped[Tensor, "batch samples"]) -> None:
        if not raw.shape[1]:
            raise ValueError("a waveform must have at least one sample")

    def lengths(self, waves: Float[Tensor, "batch samples"], rate: int) -> Int[Tensor, " batch"]:
        """The samples of each waveform up to its padding, as many as they are at another sampling rate, in Hz."""
        places = torch.arange(1, waves.shape[1] + 1, device=waves.device)
        samples = ((waves != 0) * places).amax(dim=1)
        return (samples * rate + self.sampling_rate - 1) // self.sampling_rate


# The encoders that come with the model: the module and the class of each. A module imports this one, and is imported
# when a description names its encoder.
BUILT_IN = {
    "aisfx": ("level_audio", "SoundEffectLevels"),
    "timm": ("level_image", "TimmLevels"),
    "timm_features": ("level_timm", "TimmFeatures"),
    "torchaudio": ("level_sounds", "TorchaudioSounds"),
    "transformers": ("level_text", "TransformersLevels"),
    "transformers_audio": ("level_sounds", "TransformersSounds"),
}
_REGISTRY: dict[str, type[LevelEncoder]] = {}


def register_level_encoder(name: str, encoder_class: type[LevelEncoder]) -> None:
    """
    Makes `name` an encoder that descriptions may name. Registering a name again, or one of those that come with the
    model, replaces its class.

    Args:
        name: value of `"encoder"` in descriptions.
        encoder_class: class of the encoder, with `modality` and `sample_dims`.

    Raises:
        `TypeError`: `encoder_class` is not a subclass of [`LevelEncoder`].
        `ValueError`: `encoder_class` does not say which modality it reads.
    """
    if not (isinstance(encoder_class, type) and issubclass(encoder_class, LevelEncoder)):
        raise TypeError(f"encoder_class={encoder_class!r} must be a subclass of LevelEncoder")
    if missing := [attribute for attribute in ("modality", "sample_dims") if not hasattr(encoder_class, attribute)]:
        raise ValueError(f"{encoder_class.__name__} must set {' and '.join(missing)}")
    _REGISTRY[name] = encoder_class


def level_encoder_class(description: dict[str, Any]) -> type[LevelEncoder]:
    """
    Returns the class that a description names.

    Raises:
        `ValueError`: it names none that is registered.
    """
    name = description.get("encoder")
    if name in _REGISTRY:
        return _REGISTRY[name]
    if name in BUILT_IN:
        module, encoder_class = BUILT_IN[name]
        return getattr(importlib.import_module(f".{module}", __package__), encoder_class)
    known = ", ".join(sorted({*_REGISTRY, *BUILT_IN}))
    raise ValueError(f"encoder={name!r} is not registered: choose one of {known}")


def build_level_encoder(description: dict[str, Any], device: str = "cpu") -> LevelEncoder:
    """
    Builds an encoder with random weights.

    Args:
        description: `{"encoder": name, **options}`. The options are those of the class that is registered under the
            name; `"sha256"`, the checksum of a file with weights, is for `read_level_encoder`, and `"source"`, where
            they are from, for people.
        device: of its parameters; on "meta", they take no memory.

    Raises:
        `ValueError`: an encoder that is not registered, unknown options, or values that do not fit.
    """
    encoder_class = level_encoder_class(description)
    options = {name: value for name, value in description.items() if name not in ("encoder", "sha256", "source")}
    known = list(inspect.signature(encoder_class).parameters)
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(
            f"the encoder {description['encoder']!r} has no option {', '.join(unknown)}; it has {', '.join(known)}"
        )
    # Also where a model is built without memory: the encoder's weights are none of those that are loaded into it then.
    with torch.device(device):
        encoder = encoder_class(**options)
    encoder.config = json.loads(json.dumps(description))
    return encoder


def read_level_encoder(folder: str | Path, **changes: Any) -> LevelEncoder:
    """
    Reads an encoder with its weights from a folder. Nothing is unpickled.

    Args:
        folder: a folder with `config.json` and `encoder.safetensors`.
        changes: options in place of those of `config.json`, such as `levels` or `input_size`.

    Raises:
        `FileNotFoundError`: a file is missing.
        `ValueError`: a description or weights that do not fit, or weights with another checksum than described.
    """
    folder = Path(folder)
    paths = [folder / CONFIG_FILE, folder / WEIGHTS_FILE]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"{folder} is no folder of a level encoder: it has no {' and no '.join(missing)}")
    description = read_json(paths[0])
    with read_from(paths[0]):
        if description.get("encoder") in _PLANNED and description["encoder"] not in _REGISTRY:
            planned = build_level_encoder({**description, **changes}, "meta")
            refuse_other_sizes(planned.state_dict(), paths[1], CONFIG_FILE)
        encoder = build_level_encoder({**description, **changes})
    if (expected := description.get("sha256")) and (found := sha256_of(paths[1])) != expected:
        raise ValueError(
            f"{paths[1]} has the checksum {found}, but {paths[0]} says {expected}: one of them was changed"
        )
    read_weights_into(encoder, paths[1])
    return encoder


def read_weights_into(encoder: LevelEncoder, path: Path) -> None:
    """
    Reads weights from a safetensors file, in the encoder's types.

    Raises:
        `ValueError`: a file that cannot be read, or tensors that are missing, unknown or of another shape.
    """
    with read_from(path):
        weights = load_file(path)
    expected = encoder.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape]
    if wrong:
        raise ValueError(
            f"{path} does not fit the encoder that {CONFIG_FILE} describes: {len(wrong)} tensors are missing, unknown "
            f"or of another shape, such as {wrong[0]}"
        )
    encoder.load_state_dict(weights)


def save_level_encoder(encoder: LevelEncoder, folder: str | Path) -> None:
    """
    Writes `config.json`, with the checksum of the weights, and `encoder.safetensors`, in float16, into a folder, which
    is made where there is none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
        for name, tensor in encoder.state_dict().items()
    }
    # A new file in place of the old one, which saved models may hold as a hard link.
    partial = folder / f"_{WEIGHTS_FILE}"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(folder / WEIGHTS_FILE)
    description = {**encoder.config, "sha256": sha256_of(folder / WEIGHTS_FILE)}
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def segment_means(values: Float[Tensor, "parts size"], counts: Sequence[int]) -> Float[Tensor, "samples size"]:
    """Returns the mean over the parts of each sample. `counts` says how many parts a sample has, at least one."""
    return torch.stack([part.mean(dim=0) for part in values.split(list(counts))])
