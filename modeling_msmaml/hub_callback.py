"""The model card in step with the training: rewritten at every saved checkpoint and before every push to the Hub."""

import shutil
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .model_card import write_model_card
from .run_report import RunReport


class ModelCardCallback(TrainerCallback):
    """
    Writes `README.md` into the output folder and into the checkpoint that has just been saved.

    `Trainer.push_to_hub` writes a draft of its own over README.md; the trainer's `create_model_card` is therefore this
    card's from now on.

    Args:
        report: of the run; its trainer is the one that this callback is added to.
    """

    def __init__(self, report: RunReport):
        self.report = report
        report.trainer.create_model_card = self.create_model_card

    def create_model_card(self, model_name: str | None = None, tags: str | list[str] | None = None) -> None:
        """
        In place of `Trainer.create_model_card`.

        Args:
            model_name: in the model index, in place of the name of the repository or output folder.
            tags: more tags for the Hub.
        """
        if not self.report.trainer.is_world_process_zero():
            return
        content = self.report.card()
        content.model_name = model_name
        content.tags = [tags] if isinstance(tags, str) else list(tags or [])
        write_model_card(content, Path(self.report.trainer.args.output_dir))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **kwargs
    ):
        self.report.validation = (dict(metrics), state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # With pushes, the card in the output folder changes with the weights there, which is when a push begins.
        folders = [_checkpoint(args, state)] if args.push_to_hub else [_checkpoint(args, state), Path(args.output_dir)]
        self._write(state, folders)

    def on_push_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # A push in the midst of training precedes on_save, and takes from a checkpoint its weights and config only. The
        # config names code, without which it could not be loaded.
        checkpoint = _checkpoint(args, state)
        self._write(state, [Path(args.output_dir), checkpoint])
        if state.is_world_process_zero and checkpoint.is_dir():
            for path in checkpoint.glob("*.py"):
                shutil.copy(path, args.output_dir)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # With load_best_model_at_end, the model is no longer the one that the last evaluation saw.
        if args.load_best_model_at_end and state.best_global_step:
            found = [entry for entry in state.log_history if entry["step"] == state.best_global_step]
            metrics = {name: value for entry in found for name, value in entry.items() if name.startswith("eval_")}
            self.report.validation = (metrics, state.best_global_step)

    def _write(self, state: TrainerState, folders: list[Path]) -> None:
        if not state.is_world_process_zero:
            return
        content = self.report.card()
        for folder in folders:
            if folder.is_dir():
                write_model_card(content, folder)


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
