"""
Checkpoints that are either whole or recognised as unfinished, whenever the process that writes them is killed, and
whether a run may go on from one: only with the settings that it was made with.

A checkpoint is written into `OUTPUT_DIR/_unfinished/checkpoint-N`. When every file is there, a list of them with their
sizes is added, and the folder is renamed to `OUTPUT_DIR/checkpoint-N`. A checkpoint is complete when it has that list
and every file on it has its size.
"""

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from ..model.saved_files import read_json
from .training_args import MetaTrainingArguments

logger = logging.getLogger(__name__)

# Begins with an underscore: Trainer's uploads to the Hub leave such files out.
UNFINISHED = "_unfinished"
FILE_LIST = "checkpoint_complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")
# Arguments that a resumed run must keep: another value would make it another experiment, or would silently have no
# effect, because the optimizer takes the one of the checkpoint.
KEPT_ARGUMENTS = (
    *("seed", "n_way", "k_shot", "n_query", "train_n_way", "train_k_shot", "train_n_query"),
    *("train_shots", "num_unlabelled", "num_distractors", "augment", "new_classes", "mix_classes", "tasks_per_step"),
    *("multi_step_loss_steps", "first_order_steps"),
    *("optim", "learning_rate", "task_network_learning_rate", "task_encoder_learning_rate", "weight_decay"),
    *("lr_scheduler_type", "warmup_steps", "max_grad_norm", "task_encoder_max_grad_norm", "alternating_steps"),
    *("early_stopping_patience", "early_stopping_threshold"),
)
# What a config holds besides the model.
_NOT_THE_MODEL = {"_name_or_path", "architectures", "auto_map", "dtype", "transformers_version"}


def checkpoint_step(path: Path) -> int:
    """N of a folder named `checkpoint-N`; -1 for any other name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def checkpoints(folder: Path) -> list[Path]:
    """The folders named `checkpoint-N`, complete or not, in order of N."""
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and checkpoint_step(path) >= 0]
    return sorted(found, key=checkpoint_step)


def prepare_unfinished(output_dir: Path) -> Path:
    """An empty `output_dir/_unfinished`."""
    folder = output_dir / UNFINISHED
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def complete(checkpoint: Path) -> None:
    """
    Adds the list of files that makes a checkpoint complete, once they have reached the disk. Model cards are not on it:
    they are rewritten when results come in.
    """
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.suffix != ".md")
    for path in files:
        _sync(path)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
    partial = checkpoint / f"{FILE_LIST}.partial"
    partial.write_text(json.dumps({"files": sizes}, indent=2))
    _sync(partial)
    partial.rename(checkpoint / FILE_LIST)


def publish(checkpoint: Path, output_dir: Path) -> Path:
    """Moves a complete checkpoint out of `_unfinished`, and returns its path. One of the same name gives way."""
    final = output_dir / checkpoint.name
    if final.exists():
        # Killed between the two renames, a run finds the new checkpoint again: see `recover`.
        final.rename(checkpoint.with_name(f"replaced-{checkpoint.name}"))
    checkpoint.rename(final)
    shutil.rmtree(checkpoint.parent)
    return final


def recover(output_dir: Path) -> None:
    """Publishes a checkpoint that was complete when its process was killed, just before the rename."""
    for checkpoint in checkpoints(output_dir / UNFINISHED):
        if why_incomplete(checkpoint) is None and not (output_dir / checkpoint.name).exists():
            publish(checkpoint, output_dir)


def why_incomplete(checkpoint: Path) -> str | None:
    """What a folder lacks to be a complete checkpoint; `None` if nothing."""
    if not checkpoint.is_dir():
        return "there is no such folder"
    try:
        sizes = read_json(checkpoint / FILE_LIST).get("files")
    except FileNotFoundError:
        return f"it has no {FILE_LIST}, which is written last"
    except ValueError:
        sizes = None
    if not isinstance(sizes, dict):
        return f"its {FILE_LIST} is damaged"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"it lacks {name}"
        if path.stat().st_size != size:
            return f"its {name} has {path.stat().st_size} bytes instead of {size}"
    return None


def last_complete(output_dir: Path) -> Path | None:
    """The complete checkpoint with the most steps; a warning names each one that was not written to its end."""
    recover(output_dir)
    found, torn = None, []
    for checkpoint in (*checkpoints(output_dir), *checkpoints(output_dir / UNFINISHED)):
        reason = why_incomplete(checkpoint)
        if reason is not None:
            torn.append(f"{checkpoint} was not written to its end ({reason})")
        elif checkpoint.parent == output_dir:
            found = checkpoint
    use = f"the last complete checkpoint is {found}" if found else "no checkpoint is complete"
    for message in torn:
        logger.warning("%s: %s", message, use)
    return found


def resolve(request: str | Path | bool | None, output_dir: Path) -> Path | None:
    """
    The checkpoint that `resume_from_checkpoint` asks for.

    Args:
        request: `True`, `"true"` or `"last"`: the last complete checkpoint of `output_dir`, or none if the run was
            killed before the first (a warning says so); a path: that one; `None`, `False`, `"false"`: none.
        output_dir: the run's folder.

    Raises:
        `ValueError`: the path is no complete checkpoint, or one without what it takes to go on training.
    """
    if request is None or str(request).lower() == "false":
        return None
    if str(request).lower() in ("true", "last"):
        checkpoint = last_complete(output_dir)
        if checkpoint is None:
            logger.warning("resume_from_checkpoint=%s: %s has no checkpoint; starting anew", request, output_dir)
            return None
    else:
        checkpoint = Path(str(request))
        reason = why_incomplete(checkpoint)
        if reason is not None:
            others = [str(path) for path in checkpoints(checkpoint.parent) if why_incomplete(path) is None]
            others += [str(path) for path in checkpoints(checkpoint) if why_incomplete(path) is None]
            there_are = f"complete ones are {', '.join(others)}" if others else "there is no complete one beside it"
            raise ValueError(f"resume_from_checkpoint={request} is no complete checkpoint: {reason}; {there_are}")
    if not (checkpoint / "optimizer.pt").is_file():
        raise ValueError(
            f"resume_from_checkpoint={request}: {checkpoint} holds no optimizer.pt, as with save_only_model=True; "
            f"start a new run from its weights with model_name_or_path={checkpoint}"
        )
    logger.info("resuming from %s", checkpoint)
    return checkpoint


def rotate(output_dir: Path, limit: int | None, keep: set[Path]) -> None:
    """
    Deletes the oldest complete checkpoints until `limit` are left. Those in `keep` (the newest and the best) stay, so
    the last complete one is never deleted; incomplete ones do not count and are left alone.
    """
    if not limit:
        return
    whole = [path for path in checkpoints(output_dir) if why_incomplete(path) is None]
    whole.sort(key=lambda path: (path / FILE_LIST).stat().st_mtime_ns)
    keep = {path.resolve() for path in keep}
    disposable = [path for path in whole if path.resolve() not in keep]
    for path in disposable[: max(0, len(whole) - max(limit, len(keep)))]:
        # The list goes first, so that a half-deleted checkpoint is recognised as one.
        (path / FILE_LIST).unlink()
        shutil.rmtree(path)


def run_settings(args: MetaTrainingArguments, config: PreTrainedConfig, data: Any = None) -> dict:
    """
    What must stay as it is when a run is resumed, as JSON would hold it.

    Args:
        args, config: arguments of the run and configuration of its model.
        data: the training data; those with a method `description`, as `data_builders.EpisodeDataset` has one, are
            described.
    """
    arguments = {name: getattr(args, name) for name in KEPT_ARGUMENTS}
    model = {name: value for name, value in config.to_dict().items() if name not in _NOT_THE_MODEL}
    settings: dict[str, Any] = {"arguments": arguments, "model": model}
    describe = getattr(data, "description", None)
    if callable(describe):  # `datasets.Dataset` has a text of this name
        settings["data"] = describe()
    return json.loads(json.dumps(settings))


def check_continuation(
    checkpoint: Path, args: MetaTrainingArguments, config: PreTrainedConfig, data: Any = None
) -> None:
    """
    Compares the settings of a run with those stored in a checkpoint. What a checkpoint of an earlier version does not
    say is not compared.

    Raises:
        `ValueError`: `args`, `config` or `data` are not those of the run that wrote `checkpoint`.
    """
    path = checkpoint / f"training_record_{args.process_index}.json"
    if not path.is_file():
        # More processes than wrote the checkpoint.
        path = checkpoint / "training_record_0.json"
    before, now = read_json(path).get("settings"), run_settings(args, config, data)
    if not isinstance(before, dict) or not all(isinstance(before.get(name), dict) for name in ("arguments", "model")):
        raise ValueError(f"{path} is damaged: it does not hold the settings of a run")
    changes = _changes(before["arguments"], now["arguments"])
    changes += _changes({**dict.fromkeys(now["model"]), **before["model"]}, now["model"])
    if "data" in before and "data" in now:
        changes += _changes_of_data(before["data"], now["data"])
    if changes:
        raise ValueError(
            f"{checkpoint} is of a run with other settings: {'; '.join(changes)}. Resume with the same ones, or start "
            f"a new run from its weights with model_name_or_path={checkpoint}"
        )


def _changes(old: dict, new: dict, of: str = "") -> list[str]:
    """Says which of the old values are others now; `of` says what they are of."""
    return [
        f"{name}{of} was {value!r} and is {new.get(name)!r}"
        for name, value in sorted(old.items())
        if new.get(name) != value
    ]


def _changes_of_data(old: dict, new: dict) -> list[str]:
    """Says what differs between two descriptions of training data, for each data set if these are the same ones."""
    (sets, rest), (sets_now, rest_now) = _parts(old), _parts(new)
    if list(sets) != list(sets_now):
        return [f"the data sets of training were {', '.join(sets)} and are {', '.join(sets_now)}"]
    changes = [change for name, own in sets.items() for change in _changes(own, sets_now[name], f" of {name}")]
    return changes + _changes(rest, rest_now, " of the training data")


def _parts(description: dict) -> tuple[dict[str, dict], dict]:
    """Divides a description into those of the data sets, by name and modality, and the rest."""
    rest = dict(description)
    sets = rest.pop("data_sets", ())
    return {f"{own.get('name')} ({own.get('modality')})": own for own in sets}, rest


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
