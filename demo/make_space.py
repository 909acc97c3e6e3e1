"""
A folder that is a Hugging Face Space as it is: the page, the code, and a model.

    python demo/make_space.py outputs/space [--model FOLDER]
"""

import argparse
import shutil
from pathlib import Path

from modeling_msmaml.inference.base_model import default_model

DEMO = Path(__file__).resolve().parent
PACKAGES = ("modeling_msmaml", "data_builders")
PAGE = ("app.py", "page_html.py", "page_limits.py", "example_tasks.py", "README.md", "requirements.txt")


def make_space(folder: Path, model: Path) -> None:
    """
    Writes the Space into an empty or new folder.

    Args:
        model: folder of a trained model with its processor.

    Raises:
        `ValueError`: `folder` holds something.
        `FileNotFoundError`: there is no model in `model`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: name a new folder")
    if not (model / "config.json").is_file():
        raise FileNotFoundError(f"--model {model} is no folder of a model: it has no config.json")
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGE:
        shutil.copy(DEMO / name, folder)
    shutil.copy(DEMO.parent / "LICENSE", folder)
    for package in PACKAGES:
        shutil.copytree(DEMO.parent / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shipped = folder / "pretrained" / "msmaml-base"
    shipped.mkdir(parents=True)
    for path in sorted(model.iterdir()):
        if path.suffix in (".json", ".safetensors", ".md"):
            shutil.copy(path, shipped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="folder; by default $MSMAML_MODEL, or the model shipped")
    arguments = parser.parse_args()
    try:
        make_space(arguments.folder, arguments.model or Path(default_model()))
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"demo/make_space.py: {error}\n")


if __name__ == "__main__":
    main()
