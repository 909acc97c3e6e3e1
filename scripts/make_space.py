"""
Makes a folder that can be uploaded as a Hugging Face Space, with the demo page, the code and a model.

    python -m scripts.make_space outputs/space [--model FOLDER]
"""

import argparse
import shutil
from pathlib import Path

from modeling_msmaml.inference.base_model import default_model
from modeling_msmaml.model.level_sources import ENCODERS

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("modeling_msmaml", "data_builders", "msmaml")


def make_space(folder: Path, model: Path) -> None:
    """
    Writes the Space into a new or empty folder.

    Args:
        folder: folder for the Space.
        model: folder of a trained model with its processor.

    Raises:
        ValueError: `folder` is not empty.
        FileNotFoundError: `model` has no file `config.json`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder={str(folder)!r} is not empty: name a new folder")
    if not (model / "config.json").is_file():
        raise FileNotFoundError(
            f"--model {model} is no folder of a model: it has no config.json. Name a folder that has one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    unneeded = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "demo", folder, ignore=unneeded, dirs_exist_ok=True)
    shutil.copy(REPOSITORY / "LICENSE", folder)
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=unneeded)
    shipped = folder / "pretrained" / "msmaml-base"
    shipped.mkdir(parents=True)
    for path in sorted(model.iterdir()):
        if path.suffix in (".json", ".safetensors", ".md") or path.name == "NOTICE":
            shutil.copy(path, shipped)
    if (model / ENCODERS).is_dir():
        shutil.copytree(model / ENCODERS, shipped / ENCODERS)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new or empty folder for the Space")
    parser.add_argument("--model", type=Path, help="folder of a model; by default $MSMAML_MODEL, or the shipped model")
    arguments = parser.parse_args()
    try:
        make_space(arguments.folder, arguments.model or Path(default_model()))
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"scripts/make_space.py: {error}\n")


if __name__ == "__main__":
    main()
