"""What the results of a run rest on, in a file beside them, so that it is continued by the same run only."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from modeling_msmaml.inference.base_model import saved_file

from .results_file import parts_of

_FORMAT = 1
_MODEL_FILES = ("config.json", "few_shot_classifier.json", "processor_config.json", "tokenizer.json")
_WORDS = {
    "model": "the model has changed",
    "support": "the support set has changed",
    "modality": "it was for another modality",
    "reject_below": "--reject-below was another",
    "format": "its format is another",
    "classes": "the classes have changed",
    "explain": "--explain was another",
}


class ChangedRun(ValueError):
    """An output is there that another run has written."""


def record_of(output: Path) -> Path:
    """Where the record of an output is."""
    return output.with_name(f"{output.name}.run.json")


def check_place(output: Path) -> None:
    """Raises `ValueError` for an output that is a folder, a device or a pipe, since it is read again and replaced."""
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder: name a file")
    if output.exists() and not output.is_file():
        raise ValueError(f"--output {output} is no regular file: name one, or leave --output out to write to stdout")


def check(output: Path, rests_on: dict[str, Any]) -> None:
    """
    Checks that what there is of an output rests on the same.

    Raises:
        ChangedRun: it does not, or it is not known what it rests on. The message says what has changed.
    """
    if not output.exists() and not parts_of(output):
        return
    remedy = "name another --output, or start anew with --overwrite, which removes these results"
    path = record_of(output)
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except (ValueError, RecursionError):
        found = {}
    if not isinstance(found, dict) or found.get("record") != _FORMAT:
        raise ChangedRun(f"--output {output} is there, but not {path}, which would say what it rests on: {remedy}")
    if changed := [words for key, words in _WORDS.items() if found.get(key) != rests_on.get(key)]:
        raise ChangedRun(f"--output {output} was begun by another run: {', '.join(changed)}; {remedy}")


def write(output: Path, rests_on: dict[str, Any], **facts: Any) -> None:
    """Writes the record, with further facts for people."""
    path = record_of(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.writing")
    unfinished.write_text(json.dumps({"record": _FORMAT, **rests_on, **facts}, indent=2) + "\n")
    os.replace(unfinished, path)


def remove(output: Path) -> None:
    """Removes an output with its parts, and the record."""
    for path in (output, *parts_of(output), record_of(output)):
        path.unlink(missing_ok=True)


def model_hash(model: str) -> str:
    """A hash of the files of a model, or of a saved classifier, that predictions rest on."""
    config = saved_file(model, "config.json")
    if config is None:
        raise ValueError(f"model={model!r} has no config.json")
    folder, whole = Path(config).parent, hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name in _MODEL_FILES or path.suffix == ".safetensors":
            whole.update(f"{path.name}\0{_file_hash(path)}\0".encode())
    return whole.hexdigest()


def support_hash(items: list[Path | str], labels: list[str]) -> str:
    """A hash of the contents of labelled examples, in their order; their names do not count."""
    whole = hashlib.sha256()
    for item, label in zip(items, labels, strict=True):
        content = _file_hash(item) if isinstance(item, Path) else hashlib.sha256(item.encode()).hexdigest()
        whole.update(f"{content}\0{label}\0".encode())
    return whole.hexdigest()


def _file_hash(path: Path) -> str:
    """The hash of the content; that of nothing where there is none, which is said by who reads it."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
