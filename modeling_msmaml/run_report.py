"""What a run did and found: the result file, the table, the settings that an accuracy is worth nothing without."""

import subprocess
from pathlib import Path

from .trainer import MetaTrainer


class RunReport:
    """
    Collects the metrics of one run, and writes them to `all_results.json` and `<split>_results.json` as they come.

    Args:
        trainer: the run's trainer.
        data: the run's data arguments (`datasets`, `protocol`, `source_disjoint`, `eval_seed`).
    """

    def __init__(self, trainer: MetaTrainer, data):
        self.trainer = trainer
        self.data = data
        self.results: dict[str, float] = {}

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
            "source_disjoint": self.data.source_disjoint,
            "datasets": self.data.datasets,
            "n_way": args.n_way,
            "k_shot": args.k_shot,
            "n_query": args.n_query,
            "training_steps": self.trainer.state.global_step,
            "tasks_per_step": args.train_batch_size * args.world_size * args.gradient_accumulation_steps,
            "seed": args.seed,
            "eval_seed": self.data.eval_seed,
            "conditioning": config.conditioning,
            "num_inner_steps": config.num_inner_steps,
            "inner_lr": config.inner_lr,
            "first_order": config.first_order,
            "transductive": config.norm_statistics == "transductive",
            "commit": commit(),
        }

    def accuracies(self) -> list[tuple[str, str, float, float, int]]:
        """(split, modality, accuracy, half-width of its 95 % interval, episodes), accuracies in [0, 1]."""
        rows = []
        for prefix, split in (("eval", "validation"), ("test", "test")):
            for modality in (*self.trainer.model.config.modalities, None):
                name = f"{prefix}_{modality}" if modality else prefix
                if f"{name}_accuracy" in self.results:
                    rows.append(
                        (
                            split,
                            modality or "all",
                            self.results[f"{name}_accuracy"],
                            self.results[f"{name}_accuracy_ci95"],
                            self.results[f"{name}_episodes"],
                        )
                    )
        return rows

    def table(self) -> str:
        """The accuracies as a Markdown table."""
        chance = f"{100 / self.trainer.args.n_way:.1f}"
        lines = [
            "| split | modality | accuracy, % | 95 % interval | episodes | chance, % |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
        ]
        for split, modality, accuracy, half_width, episodes in self.accuracies():
            lines.append(
                f"| {split} | {modality} | {100 * accuracy:.2f} | ± {100 * half_width:.2f} | {episodes} | {chance} |"
            )
        return "\n".join(lines) if self.accuracies() else ""


def commit() -> str | None:
    """The git commit that this package is at, with `+` when files differ from it; `None` outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
