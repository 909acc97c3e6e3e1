"""
Show the model with its encoders and their licences, the versions of the libraries, and the device.
"""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import __version__

LIBRARIES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "timm", "huggingface-hub", "gradio")
EPILOG = """
examples:
  msmaml info
  msmaml info --model outputs/base
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "msmaml info", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", help="folder or Hub repository of a model; by default $MSMAML_MODEL, or the one that comes along"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Prints one fact per line."""
    arguments = parser().parse_args(sys.argv[1:] if argv is None else argv)
    import torch

    from modeling_msmaml.inference.base_model import default_model

    try:
        model = arguments.model or default_model()
        about = facts_of_model(model)
    except (FileNotFoundError, ValueError) as error:
        if arguments.model:
            sys.exit(f"info: {error}")
        model, about = f"none: {error}", {}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    facts = {"msmaml": __version__, **{name: _version(name) for name in LIBRARIES}, "device": device, "model": model}
    for name, fact in (facts | about).items():
        print(f"{name:<16} {fact}")


def facts_of_model(model: str) -> dict[str, str]:
    """
    What the files of a model on this machine say: its licence, its modalities, and the licence of each encoder. Nothing
    of a repository that has not been downloaded yet.

    Raises:
        FileNotFoundError: a folder holds no model.
    """
    from huggingface_hub import ModelCard, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    from modeling_msmaml.hub.encoder_facts import encoders_of
    from modeling_msmaml.model.configuration_msmaml import MSMAMLConfig

    if Path(model).is_dir():
        files = {name: Path(model) / name for name in ("config.json", "README.md")}
        if not files["config.json"].is_file():
            raise FileNotFoundError(f"model={model!r} holds no config.json: name the folder of a model")
    else:
        try:
            cached = {name: try_to_load_from_cache(model, name) for name in ("config.json", "README.md")}
        except HFValidationError as error:
            raise FileNotFoundError(f"model={model!r} is neither a folder nor the name of a repository") from error
        files = {name: Path(path) for name, path in cached.items() if isinstance(path, str)}
    if "config.json" not in files:
        return {"licence": "unknown until the model is downloaded, which its first use does"}
    config = MSMAMLConfig.from_pretrained(files["config.json"].parent)
    card = files.get("README.md")
    licence = ModelCard.load(card).data.to_dict().get("license") if card is not None and card.is_file() else None
    facts = {"licence": str(licence or "not stated"), "modalities": ", ".join(config.modalities)}
    for modality, encoder in encoders_of(config).items():
        facts[f"{modality} encoder"] = f"{encoder.title}, {encoder.licence}{f', {encoder.url}' if encoder.url else ''}"
    return facts


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
