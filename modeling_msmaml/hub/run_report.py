"""
What a run did and found: result files with the settings that give an accuracy its meaning, the model card, and the
callback that keeps the card in step with the training.
"""

import shutil
from functools import cached_property
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..model.level_sources import ENCODERS, put_link
from ..model.saved_files import read_json
from ..model.task_networks import task_network_kind
from ..training.trainer import MetaTrainer
from .model_card import (
    Accuracy,
    CardContent,
    accuracy_table,
    processed_modalities,
    stated_license,
    write_model_card,
)
from .provenance import commit, without_folders

SPLITS = {"eval": "validation", "test": "test"}
# How training episodes differ from those of the evaluation.
SHAPES_OF_TRAINING = (
    *("train_n_way", "train_k_shot", "train_n_query", "train_shots", "augment", "new_classes", "mix_classes"),
)
UNLABELLED = ("num_unlabelled", "num_distractors")
# What a run that only evaluates takes over from the run that trained its checkpoint.
OF_TRAINING = ("training_steps", "best_step", "tasks_per_step", "seed")


class RunReport:
    """
    Collects the metrics of one run, and writes them to `all_results.json` and `<split>_results.json` as they come.

    Args:
        trainer: the run's trainer.
        data: the data arguments of the run (`datasets`, `protocol`, `source_disjoint`, `eval_seed`).
        data_sets: name of each data set of the run -> its modality.
        command: the run's command line, without secrets.
        started_from: the checkpoint that the run started from.
        warnings: what to say beside every accuracy on these data.
        trained_on: names of the data sets that the run trains on; by default all of them.
    """

    def __init__(
        self,
        trainer: MetaTrainer,
        data,
        data_sets: dict[str, str],
        command: str | None = None,
        started_from: str | None = None,
        warnings: list[str] | None = None,
        trained_on: list[str] | None = None,
    ):
        self.trainer = trainer
        self.data = data
        self.data_sets = data_sets
        self.command = command
        self.started_from = started_from
        self.warnings = warnings or []
        self.trained_on = data_sets if trained_on is None else trained_on
        self.commit = commit()
        self.results: dict[str, float] = {}
        # Metrics of an evaluation in the midst of training, and the step after which it took place.
        self.validation: tuple[dict[str, float], int] = ({}, 0)

    @cached_property
    def _started_license(self) -> str | None:
        """That of the checkpoint that the run started from, whose card may be on the Hub."""
        return stated_license(self.started_from) if self.started_from else None

    def add(self, split: str, metrics: dict[str, float]) -> None:
        """Adds the metrics of `train`, `eval` or `test`, with the settings that they were measured with."""
        self.trainer.log_metrics(split, metrics)
        self.results.update(metrics)
        self.trainer.save_metrics(split, {**metrics, "settings": self.settings()})

    def settings(self) -> dict:
        """Protocol, shapes of the episodes, training steps, seeds, data, transduction and commit."""
        args, config = self.trainer.args, self.trainer.model.config
        return {
            "protocol": self.data.protocol,
            # Protocol `original` draws support and query from the same sources, whatever is asked for.
            "source_disjoint": self.data.source_disjoint and self.data.protocol != "original",
            **self._data_sets(),
            "n_way": args.n_way,
            "k_shot": args.k_shot,
            "n_query": args.n_query,
            **{name: getattr(args, name) for name in UNLABELLED if getattr(args, name)},
            **self._of_training(),
            **{name: getattr(args, name) for name in SHAPES_OF_TRAINING if args.do_train and getattr(args, name)},
            "eval_seed": self.data.eval_seed,
            **{name: getattr(config, name) for name in task_network_kind(config.task_network).reported},
            "transductive": config.norm_statistics == "transductive",
            "commit": self.commit,
            **({"warnings": self.warnings} if self.warnings else {}),
        }

    def _data_sets(self) -> dict:
        """The data sets, by split if these differ, and how often each was drawn if that was asked for."""
        args = self.trainer.args
        read = {"train": args.do_train, "validation": args.do_eval, "test": args.do_predict}
        by_split = {f"{split}_datasets": self.data.names(split) for split, is_read in read.items() if is_read}
        differ = len({tuple(names) for names in by_split.values()}) > 1
        weights = {"dataset_weights": self.data.dataset_weights} if self.data.dataset_weights else {}
        return {"datasets": list(self.data_sets), **(by_split if differ else {}), **weights}

    def _of_training(self) -> dict:
        """How the model was trained: here, or as its checkpoint tells (`None` for what that does not)."""
        args, state = self.trainer.args, self.trainer.state
        if state.global_step == 0 and self.started_from is not None:
            path = Path(self.started_from) / "all_results.json"
            told = read_json(path).get("settings") if path.is_file() else None
            return {name: told.get(name) if isinstance(told, dict) else None for name in OF_TRAINING}
        best = state.best_global_step if args.load_best_model_at_end else None
        return dict(zip(OF_TRAINING, (state.global_step, best, args.tasks_per_step, args.seed), strict=True))

    def accuracies(self) -> list[Accuracy]:
        """What was measured on the model as it is; in the midst of training, what the last evaluation found."""
        step = self.trainer.state.global_step
        metrics, measured = self.validation
        measured_at = {"eval": step if "eval_accuracy" in self.results else measured, "test": step}
        metrics = {**metrics, **self.results}
        # A modality with one data set has no line of its own.
        modalities = list(self.data_sets.values())
        groups = [
            *((name, modality, name) for name, modality in self.data_sets.items()),
            *((name, name, None) for name in dict.fromkeys(modalities) if modalities.count(name) > 1),
            *([(None, "all", None)] if len(modalities) > 1 else []),
        ]
        rows = []
        for prefix, split in SPLITS.items():
            for key, modality, data_set in groups:
                name = f"{prefix}_{key}" if key else prefix
                if f"{name}_accuracy" in metrics:
                    value, ci95 = metrics[f"{name}_accuracy"], metrics[f"{name}_accuracy_ci95"]
                    episodes = int(metrics[f"{name}_episodes"])
                    rows.append(Accuracy(split, modality, value, ci95, episodes, measured_at[prefix], data_set))
        return rows

    def table(self) -> str:
        """The accuracies as a Markdown table, and the warnings that belong to them."""
        table = accuracy_table(self.accuracies(), self.trainer.args.n_way, self.trainer.state.global_step)
        return "\n".join([table, *(f"Warning: {warning}" for warning in self.warnings)])

    def card(self) -> CardContent:
        """What the model card says of this run."""
        args, model = self.trainer.args, self.trainer.model
        shown_elsewhere = ("n_way", "k_shot", "training_steps", "transductive", "commit", "datasets")
        return CardContent(
            model_id=self.trainer.hub_model_id or str(args.output_dir),
            config=model.config,
            k_shot=args.k_shot,
            data_sets={name: m for name, m in self.data_sets.items() if name in self.trained_on},
            training_steps=self._of_training()["training_steps"] or 0,
            settings={name: value for name, value in self.settings().items() if name not in shown_elsewhere},
            accuracies=self.accuracies(),
            command=self.command,
            commit=self.commit,
            started_from=without_folders(self.started_from) if self.started_from else None,
            started_license=self._started_license,
            processed=processed_modalities(self.trainer.processing_class),
        )


class ModelCardCallback(TrainerCallback):
    """
    Rewrites the model card at every saved checkpoint and before every push to the Hub: `README.md` in the output folder
    and in the checkpoint.

    `Trainer.push_to_hub` writes a draft of its own over README.md; the trainer's `create_model_card` is therefore this
    card's from now on.

    Args:
        report: the report of the run, whose trainer this callback is added to.
    """

    def __init__(self, report: RunReport):
        self.report = report
        report.trainer.create_model_card = self.create_model_card  # pyright: ignore[reportAttributeAccessIssue]

    def create_model_card(self, model_name: str | None = None, tags: str | list[str] | None = None) -> None:
        """
        In place of `Trainer.create_model_card`.

        Args:
            model_name: the name in the model index, in place of the name of the repository or output folder.
            tags: more tags for the Hub.
        """
        if not self.report.trainer.is_world_process_zero():
            return
        content = self.report.card()
        content.model_name = model_name
        content.tags = [tags] if isinstance(tags, str) else list(tags or [])
        write_model_card(content, _output_dir(self.report.trainer.args))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **kwargs
    ):
        self.report.validation = (dict(metrics), state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # With pushes, the card in the output folder changes with the weights there, which is when a push begins.
        folders = [_checkpoint(args, state)] if args.push_to_hub else [_checkpoint(args, state), _output_dir(args)]
        self._write(state, folders)

    def on_push_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # A push in the midst of training precedes on_save, and takes from a checkpoint its weights and config only. The
        # config names code, without which it could not be loaded.
        checkpoint = _checkpoint(args, state)
        self._write(state, [_output_dir(args), checkpoint])
        if state.is_world_process_zero and checkpoint.is_dir():
            for path in checkpoint.glob("*.py"):
                shutil.copy(path, _output_dir(args))
            if (checkpoint / ENCODERS).is_dir():
                shutil.copytree(
                    checkpoint / ENCODERS, _output_dir(args) / ENCODERS, copy_function=put_link, dirs_exist_ok=True
                )

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
    return _output_dir(args) / f"checkpoint-{state.global_step}"


def _output_dir(args: TrainingArguments) -> Path:
    return Path(str(args.output_dir))  # never `None`: `TrainingArguments` fills in a folder
