"""
Thousands of fits of a classifier and of meta-steps in one process, and by how much its memory has grown.

    python -m tests.campaign.memory --number 2000
"""

import argparse
import sys
import tempfile
from pathlib import Path

import psutil
import torch
from transformers import TrainerCallback

from modeling_msmaml import FewShotClassifier

from ..own_data import save_tiny_model, text
from ..training.test_trainer import make_trainer

# Bytes between the end of the first tenth, when caches and pools are filled, and the end.
BOUND = 16 << 20


def growth_of_fits(folder: Path, number: int) -> int:
    """Fits and predicts `number` times on one small model; returns the growth of the resident memory in bytes."""
    classifier = FewShotClassifier.from_pretrained(save_tiny_model(folder / "model", num_inner_steps=3))
    texts = [text(kind, sample) for kind in (0, 1) for sample in range(3)]
    start = 0
    for fit in range(number):
        classifier.fit(texts, ["crow"] * 3 + ["wren"] * 3).predict(texts)
        if fit == number // 10:
            start = _resident()
    return _resident() - start


def growth_of_meta_steps(folder: Path, number: int) -> int:
    """Trains a tiny model for `number` meta-steps; returns the growth of the resident memory in bytes."""
    watch = _Watch(number // 10)
    trainer = make_trainer(folder, max_steps=number, logging_steps=100)
    trainer.add_callback(watch)
    trainer.train()
    return _resident() - watch.start


class _Watch(TrainerCallback):
    def __init__(self, step: int):
        self.step, self.start = step, 0

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.start = _resident()


def _resident() -> int:
    return psutil.Process().memory_info().rss


KINDS = {"fits of a classifier": growth_of_fits, "meta-steps": growth_of_meta_steps}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=2000, help="of fits, and of meta-steps; at least 10")
    options = parser.parse_args(arguments)
    if options.number < 10:
        parser.error(f"--number {options.number}: it must be at least 10")
    torch.set_num_threads(1)
    failed = False
    for name, growth in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            grown = growth(Path(folder), options.number)
        failed |= grown > BOUND
        print(f"{options.number:,} {name}: {grown / 2**20:+.1f} MiB (at most {BOUND >> 20})", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
