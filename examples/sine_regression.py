"""
Few-shot regression of sine curves (Finn et al. 2017, arXiv 1703.03400, section 5.1), from outside the packages.

Run it with `python examples/sine_regression.py`. A task is a curve of a random amplitude in [0.1, 5] and phase in
[0, pi], on [-5, 5]; its support set are ten points. The labels are numbers, and the loss is the squared error.
"""

import math

import torch
from torch import Tensor, nn
from transformers import set_seed

from modeling_msmaml import ModalityEmbedding, MSMAMLConfig, MSMAMLModel, register_modality

META_STEPS, TASKS, POINTS = 200, 16, 10


class PointEmbedding(ModalityEmbedding):
    """Turns numbers (batch, 1) into sequences of one position (batch, channels, 1)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.linear = nn.Linear(1, config.num_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs).relu()[..., None]


def make_episodes(tasks: int, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
    """Returns as many tasks, with inputs and labels (tasks, POINTS, 1)."""
    draw = torch.rand(2, tasks, 1, 1, generator=generator)
    amplitude, phase = 0.1 + 4.9 * draw[0], math.pi * draw[1]
    support, query = 10 * torch.rand(2, tasks, POINTS, 1, generator=generator) - 5
    labels = {f"{part}_labels": amplitude * (x - phase).sin() for part, x in (("support", support), ("query", query))}
    return {"point": {"support": support, "query": query, **labels}}


def main() -> dict[int, float]:
    """Prints and returns the squared error on new curves after 0, 1, 2 and 4 inner steps; training takes 2."""
    set_seed(0)
    register_modality("point", PointEmbedding)
    network = {"num_channels": 40, "num_layers": 2, "kernel_size": 1, "stride": 1, "padding": 0, "norm": "group"}
    options = {"n_way": 1, "task_loss": "squared_error", "conditioning": "none", "num_inner_steps": 2, "inner_lr": 0.01}
    model = MSMAMLModel(MSMAMLConfig(modalities=["point"], task_chunk_size=TASKS, **network, **options))
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=2e-3), torch.Generator().manual_seed(1)
    for _ in range(META_STEPS):
        optimizer.zero_grad()
        model(make_episodes(TASKS, generator)).loss.backward()
        optimizer.step()
    model.eval()
    curves, errors = make_episodes(200, generator)["point"], {}
    for steps in (0, 1, 2, 4):
        with torch.no_grad():
            adapted = model.adapt("point", curves["support"], curves["support_labels"], num_inner_steps=steps)
            errors[steps] = (model.classify(adapted, curves["query"]) - curves["query_labels"]).square().mean().item()
        print(f"{steps:2d} steps: squared error {errors[steps]:.2f}")
    return errors


if __name__ == "__main__":
    main()
