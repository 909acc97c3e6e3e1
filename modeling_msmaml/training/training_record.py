"""Means over tasks and processes since the last log entry, which survive a resume."""

import json
import math
from collections import defaultdict
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch import Tensor

from ..model.saved_files import read_from, read_json


class TrainingRecord:
    """
    The sums and counts of named quantities since the last log entry, and those of the loss since the first step.

    Trainer forgets at a checkpoint what it has summed up since its last log entry; a resumed run would log other losses
    than one that was never interrupted. Sums stay on the device until they are asked for.
    """

    def __init__(self):
        self._window: dict[str, tuple[Tensor | float, int]] = {}
        self._run_loss, self._run_count = 0.0, 0

    def add(self, name: str, total: Tensor | float, count: int) -> None:
        """Adds `count` values that sum to `total` (a scalar)."""
        before, counted = self._window.get(name, (0.0, 0))
        self._window[name] = (before + total, counted + count)

    def own_mean(self, name: str) -> float | None:
        """The mean of what this process has added since the last log entry; `None` without any."""
        total, count = self._window.get(name, (0.0, 0))
        return float(total) / count if count else None

    def drain(self) -> dict[str, float]:
        """The means since the last call. Every process has to call it."""
        parts = defaultdict(list)
        for window in gather_object([self._floats()]):
            for name, part in window.items():
                parts[name].append(part)
        self._window.clear()
        sums = {name: (math.fsum(t for t, _ in pairs), sum(c for _, c in pairs)) for name, pairs in parts.items()}
        total, count = sums.get("loss", (0.0, 0))
        self._run_loss, self._run_count = self._run_loss + total, self._run_count + count
        return {name: total / count for name, (total, count) in sums.items()}

    def mean_loss(self) -> float | None:
        """The mean loss since the first step of the run, resumes included. Every process has to call it."""
        self.drain()
        return self._run_loss / self._run_count if self._run_count else None

    def save(self, folder: Path, rank: int, **more) -> None:
        """Writes this process's sums, and `more`, to `folder/training_record_<rank>.json`."""
        run = [self._run_loss, self._run_count]
        state = {"window": self._floats(), "run": run, **more}
        (folder / f"training_record_{rank}.json").write_text(json.dumps(state, indent=2))

    def load(self, folder: Path, rank: int, world_size: int) -> None:
        """
        Takes up the sums of a checkpoint; those of processes that no longer exist go to those that do.

        Raises:
            `ValueError`: a file of them is damaged.
        """
        for path in sorted(folder.glob("training_record_*.json")):
            state = read_json(path)
            with read_from(path):
                loss, count = state["run"]
                self._run_loss, self._run_count = float(loss), int(count)
                if int(path.stem.rpartition("_")[2]) % world_size == rank:
                    for name, (total, count) in state["window"].items():
                        # float32, as it was before it was written: what is added to it rounds in the same way.
                        self.add(name, torch.tensor(float(total)), int(count))

    def _floats(self) -> dict[str, tuple[float, int]]:
        return {name: (float(total), count) for name, (total, count) in self._window.items()}
