"""
Few-shot regression of sine curves (Finn et al. 2017, arXiv 1703.03400, section 5.1), from outside the packages.

Run it with `python examples/sine_regression.py`. A task is a curve of a random amplitude in [0.1, 5] and phase in
[0, pi], on [-5, 5]; its support set are ten points. The labels are numbers, and the loss is the squared error.
"""

import math
import tempfile

import torch
from torch import Tensor, nn
from transformers import set_seed

from modeling_msmaml import (
    MetaTrainer,
    MetaTrainingArguments,
    ModalityEmbedding,
    MSMAMLConfig,
    MSMAMLModel,
    register_modality,
)

META_STEPS, TASKS, POINTS = 200, 16, 10


class PointEmbedding(ModalityEmbedding):
    """Turns numbers (batch, 1) into sequences of one position (batch, channels, 1)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.linear = nn.Linear(1, config.num_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs).relu()[..., None]


def make_curve(seed: int) -> dict[str, str | Tensor]:
    """Returns one task: points of a curve and its values there, each (POINTS, 1)."""
    draw = torch.rand(2 + 2 * POINTS, 1, generator=torch.Generator().manual_seed(seed))
    amplitude, phase, points = 0.1 + 4.9 * draw[0], math.pi * draw[1], 10 * draw[2:] - 5
    (support, query), (support_labels, query_labels) = (
        x.chunk(2) for x in (points, amplitude * (points - phase).sin())
    )
    samples = {"support": support, "query": query}
    return {"modality": "point", **samples, "support_labels": support_labels, "query_labels": query_labels}


def main() -> dict[int, float]:
    """Prints and returns the squared error on new curves after 0, 1, 2 and 4 inner steps; training takes 2."""
    set_seed(0)
    register_modality("point", PointEmbedding)
    network = {"num_channels": 40, "num_layers": 2, "kernel_size": 1, "stride": 1, "padding": 0, "norm": "group"}
    options = {"n_way": 1, "task_loss": "squared_error", "conditioning": "none", "num_inner_steps": 2, "inner_lr": 0.01}
    model, errors = MSMAMLModel(MSMAMLConfig(modalities=["point"], task_chunk_size=TASKS, **network, **options)), {}
    with tempfile.TemporaryDirectory() as folder:
        schedule = {"max_steps": META_STEPS, "per_device_train_batch_size": TASKS, "learning_rate": 2e-3}
        args = MetaTrainingArguments(folder, n_way=1, save_strategy="no", disable_tqdm=True, **schedule)
        curves = [make_curve(seed) for seed in range(META_STEPS * TASKS + 200)]
        trainer = MetaTrainer(model, args, train_dataset=curves[200:], eval_dataset=curves[:200])
        trainer.train()
        for steps in (0, 1, 2, 4):
            model.config.num_eval_inner_steps = steps
            result = trainer.evaluate()
            error, interval = result["eval_squared_error"], result["eval_squared_error_ci95"]
            errors[steps] = error
            print(f"{steps:2d} steps: squared error {error:.2f} ± {interval:.2f}")
    return errors


if __name__ == "__main__":
    main()
