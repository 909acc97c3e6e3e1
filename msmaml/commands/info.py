"""Show the versions of the libraries, the device and the default model.

msmaml info
"""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version

from .. import __version__

LIBRARIES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "timm", "huggingface-hub", "gradio")


def main(argv: list[str] | None = None) -> None:
    """Prints one fact per line."""
    parser = argparse.ArgumentParser("msmaml info", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.parse_args(sys.argv[1:] if argv is None else argv)
    import torch

    from modeling_msmaml.inference.base_model import default_model

    try:
        model = default_model()
    except FileNotFoundError as error:
        model = f"none: {error}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    facts = {"msmaml": __version__, **{name: _version(name) for name in LIBRARIES}, "device": device, "model": model}
    for name, fact in facts.items():
        print(f"{name:<16} {fact}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
