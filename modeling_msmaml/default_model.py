"""Which model is used where none is named."""

import os
from pathlib import Path

VARIABLE = "MSMAML_MODEL"
SHIPPED = Path(__file__).resolve().parents[1] / "pretrained" / "msmaml-base"
HOW_TO_TRAIN = (
    "train one with `accelerate launch run_meta.py configs/quickstart.yaml`, which takes minutes and needs no data, "
    f"and name it: its folder is outputs/quickstart, as an argument or as {VARIABLE}=outputs/quickstart"
)


def default_model() -> str:
    """
    The folder or repository in the environment variable `MSMAML_MODEL`, else the model that comes with the code.

    Raises:
        `FileNotFoundError`: there is neither; the message says what to run.
    """
    if named := os.environ.get(VARIABLE):
        return named
    if (SHIPPED / "config.json").is_file():
        return str(SHIPPED)
    raise FileNotFoundError(f"there is no model at {SHIPPED}, and {VARIABLE} names none: {HOW_TO_TRAIN}")
