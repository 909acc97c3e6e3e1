"""
What of transformers' `Trainer` is overridden although its documentation does not promise it: all that may break with a
new release of transformers stands in this file. It holds for transformers 5.4.0 to 5.23.0, where

- `train` aligns the model's special tokens with those of `processing_class`, and then calls `_inner_training_loop`;
- `_inner_training_loop` clears `should_training_stop`, and calls `_run_epoch` for each pass over the episodes;
- `_get_train_sampler` says in which order they are read;
- `_load_best_model` loads the weights of step `best_global_step` of the state when training ends;
- `init_hf_repo` makes the repository when a trainer is made that pushes; `_push_from_checkpoint` starts uploads in the
  background, whose errors it never looks at, and `_finish_current_push` waits for them;
- `_save_checkpoint` writes model, optimizer, scheduler, random states and `trainer_state.json` into the folder
  `checkpoint-N` of what `_get_output_dir` returns, then calls `_push_from_checkpoint`, and deletes old checkpoints.

Beside these, `logs_this_step` repeats a condition of `DefaultFlowCallback`, `trainer.py` wraps `_save_checkpoint`, and
`evaluation.py` calls `_prepare_inputs`.
"""

import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any

# Of the library that this version of huggingface_hub calls the Hub with: requests, httpx or httpx2.
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import EarlyStoppingCallback, ProcessorMixin, Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from ..model.hub_files import limit_silence
from ..model.modeling_msmaml import MSMAMLModel
from .checkpoints import UNFINISHED, complete, prepare_unfinished, publish, rotate
from .training_args import MetaTrainingArguments

logger = logging.getLogger(__name__)

# What an upload fails with: the network, the answer of the Hub (an `OSError` too), the name of a repository, the disk,
# the upload of a large file (a `RuntimeError` because of one of the first).
UPLOAD_ERRORS = (HTTPError, OSError, ValueError, RuntimeError)


class TrainerHooks(Trainer):
    """`Trainer` whose checkpoints are whole or recognised as unfinished (see `checkpoints`), and read in sequence."""

    # `Trainer` declares more than these.
    args: MetaTrainingArguments
    model: MSMAMLModel
    train_dataset: Dataset
    eval_dataset: Any  # a data set of episodes, several of them by name, or `None`

    # The folder that a checkpoint is being written into; `None` at any other time.
    _unfinished: Path | None = None
    # The number of meta-steps of the checkpoint from which this run goes on.
    _resumed_step: int | None = None
    # The number of meta-steps of the best weights, once `load_best_model_at_end` has loaded them.
    _loaded_step: int | None = None
    # The uploads of checkpoints of this run, without those that have been warned of.
    _pushes: tuple[Future, ...] = ()
    # A processor without a tokenizer, until training has begun.
    _processor: ProcessorMixin | None = None

    def train(self, *args, **kwargs) -> TrainOutput:
        # `Trainer` aligns special tokens with the processor's tokenizer without asking whether there is one.
        if isinstance(self.processing_class, ProcessorMixin) and self.processing_class.tokenizer is None:
            self._processor, self.processing_class = self.processing_class, None
        return super().train(*args, **kwargs)

    def _inner_training_loop(self, *args, **kwargs) -> TrainOutput:
        if self._processor is not None:
            self.processing_class, self._processor = self._processor, None
        return super()._inner_training_loop(*args, **kwargs)

    def save_progress(self, checkpoint: Path) -> None:
        """Adds to a checkpoint what this process needs to resume, besides what `Trainer` saves."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(dataset)  # pyright: ignore[reportArgumentType]  # torch declares no length

    def _get_output_dir(self, trial: Any = None) -> str:
        # Where `_save_checkpoint` writes to.
        return super()._get_output_dir(trial) if self._unfinished is None else str(self._unfinished)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # `_save_checkpoint` calls it before the checkpoint is complete: that call waits until then.
        if self._unfinished is None:
            limit_silence()
            super()._push_from_checkpoint(checkpoint_folder)
            # `Trainer` forgets the uploads that are done when it starts others.
            jobs: list[Future] = getattr(getattr(self, "push_in_progress", None), "jobs", [])
            self._pushes += tuple(job for job in jobs if job not in self._pushes)
            self._warn_of_failed_pushes()

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        self._warn_of_failed_pushes()

    def _warn_of_failed_pushes(self) -> None:
        """Warns of uploads of checkpoints that have ended with an error, once of each. Training goes on."""
        failed = [job for job in self._pushes if job.done() and job.exception()]
        self._pushes = tuple(job for job in self._pushes if job not in failed)
        for job in failed:
            logger.warning(
                "a checkpoint was not pushed to %s, but is in %s: %s",
                *(self.hub_model_id, self.args.output_dir, job.exception()),
            )

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        limit_silence()
        try:
            super().init_hf_repo(token, private)
        except UPLOAD_ERRORS as error:
            raise OSError(
                f"push_to_hub=True, but the repository {self.args.hub_model_id or self.args.output_dir} cannot be "
                f"written to: {error}. Nothing was trained: leave push_to_hub out, and upload the run afterwards with "
                "msmaml push"
            ) from error

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        output_dir = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            prepare_unfinished(output_dir)
        self.accelerator.wait_for_everyone()
        self._unfinished = output_dir / UNFINISHED
        checkpoint = self._unfinished / name
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._unfinished = None
        if self.state.best_model_checkpoint == str(checkpoint):
            self.state.best_model_checkpoint = str(output_dir / name)
            if self.args.should_save:
                self.state.save_to_json(str(checkpoint / TRAINER_STATE_NAME))
        self.save_progress(checkpoint)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            complete(checkpoint)
            checkpoint = publish(checkpoint, output_dir)
            best = self.state.best_model_checkpoint
            rotate(output_dir, self.args.save_total_limit, {checkpoint} | ({Path(best)} if best else set()))
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(output_dir / name))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._loaded_step = self.state.best_global_step

    def _run_epoch(self, *args, **kwargs) -> None:
        # A run that early stopping had ended and that was killed after its last checkpoint has nothing left to do; but
        # `Trainer` clears `should_training_stop` when training begins.
        stoppers = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        stopped = any(c.early_stopping_patience_counter >= c.early_stopping_patience for c in stoppers)
        if stopped and self.state.global_step == self._resumed_step:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)


def logs_this_step(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether a log entry follows the meta-step that is under way, as `DefaultFlowCallback` will decide after it."""
    step = state.global_step + 1
    if step == 1 and args.logging_first_step:
        return True
    return args.logging_strategy == "steps" and step % state.logging_steps == 0


def loader_options(args: TrainingArguments) -> dict:
    """The options of a `DataLoader` that the `dataloader_...` arguments give."""
    names = ("num_workers", "pin_memory", "prefetch_factor", "multiprocessing_context")
    # transformers 5.4 has no dataloader_multiprocessing_context.
    options = {name: getattr(args, f"dataloader_{name}", None) for name in names}
    return {name: value for name, value in options.items() if value is not None}
