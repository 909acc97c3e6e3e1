"""Training runs in processes of their own, which tests kill, resume and compare."""

import json
import logging
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

from modeling_msmaml.training import checkpoints, trainer_hooks

from .training.test_trainer import make_trainer, parameters

# What differs between two equal runs.
CLOCK = ("runtime", "per_second")


def run_process(folder: Path, **options) -> tuple[int, str]:
    """Trains in a process of its own: (exit code, what it printed). See [`train`] for the options."""
    process = start_process(folder, **options)
    process.join(timeout=120)
    return process.exitcode, (folder / "output.txt").read_text()


def start_process(folder: Path, **options) -> multiprocessing.Process:
    """The same without waiting. The process is forked from a server that has done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    folder.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=train, args=(folder,), kwargs=options)
    process.start()
    return process


def train(folder: Path, kill: tuple[str, int] | None = None, resume: str | None = None, **changes) -> None:
    """
    One run of a tiny model; it leaves `final.safetensors` and `log.json` in `folder`.

    Args:
        kill: (moment, meta-step) at which the process kills itself with SIGKILL; the moments are [`KILLERS`].
        resume: `resume_from_checkpoint`.
        changes: of the training arguments.
    """
    _print_to(folder / "output.txt")
    torch.set_num_threads(1)
    trainer = make_trainer(folder, **changes)
    if kill is not None:
        moment, step = kill
        trainer.add_callback(AtStep(step, KILLERS[moment]))
    trainer.train(resume_from_checkpoint=resume)
    save_file(parameters(trainer), folder / "final.safetensors")
    history = [{k: v for k, v in e.items() if not k.endswith(CLOCK)} for e in trainer.state.log_history]
    (folder / "log.json").write_text(json.dumps(history))


class AtStep(TrainerCallback):
    def __init__(self, step: int, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def kill_self(*args, **kwargs) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_midst_of_a_file() -> None:
    """The next optimizer state reaches the disk by half."""
    save = torch.save

    def save_half(value, path, *args, **kwargs):
        save(value, path, *args, **kwargs)
        if str(path).endswith("optimizer.pt"):
            os.truncate(path, os.path.getsize(path) // 2)
            kill_self()

    torch.save = save_half


def before_the_list() -> None:
    trainer_hooks.complete = kill_self


def before_the_rename() -> None:
    trainer_hooks.publish = kill_self


def between_two_renames() -> None:
    """A checkpoint of the same name has been moved away, the new one is not yet in its place."""
    rename = Path.rename

    def rename_once(path: Path, target: Path) -> Path:
        if path.parent.name == checkpoints.UNFINISHED and path.name.startswith("checkpoint-"):
            kill_self()
        return rename(path, target)

    Path.rename = rename_once


def in_the_midst_of_a_deletion() -> None:
    remove = checkpoints.shutil.rmtree

    def remove_some(path: Path) -> None:
        if path.parent.name == checkpoints.UNFINISHED or path.name == checkpoints.UNFINISHED:
            return remove(path)
        (path / "optimizer.pt").unlink()
        return kill_self()

    checkpoints.shutil.rmtree = remove_some


KILLERS = {
    "between steps": kill_self,
    "in the midst of a file": in_the_midst_of_a_file,
    "before the list": before_the_list,
    "before the rename": before_the_rename,
    "between two renames": between_two_renames,
    "in the midst of a deletion": in_the_midst_of_a_deletion,
}


def _print_to(path: Path) -> None:
    with path.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, force=True)
