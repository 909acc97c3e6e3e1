"""
Adds a fourth modality from outside the packages, readings of an accelerometer, and meta-trains a model on it.

Run it with `python examples/add_modality.py`. A modality needs one class, which turns raw inputs into sequences of
features, and a data set can be arrays with labels.
"""

import tempfile

import numpy as np
from torch import Tensor, nn
from transformers import set_seed

from data_builders import EpisodeDataset, FewShotSplit
from modeling_msmaml import (
    MetaTrainer,
    MetaTrainingArguments,
    ModalityEmbedding,
    MSMAMLConfig,
    MSMAMLModel,
    register_modality,
)

SHAPE = {"n_way": 3, "k_shot": 2, "n_query": 5}  # of an episode
META_STEPS, TASKS_PER_STEP = 60, 6


class MotionEmbedding(ModalityEmbedding):
    """Turns readings (batch, time, 3) into sequences (batch, channels, time / 4)."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.linear = nn.Linear(4 * 3, config.num_channels, bias=False)  # four readings make one position

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs.unflatten(1, (-1, 4)).flatten(2)).transpose(1, 2)


def make_split(split: str, num_classes: int, seed: int) -> FewShotSplit:
    """Returns twelve noisy readings (64, 3) per class. A class has a frequency and a direction of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), 12)
    frequencies, directions = rng.uniform(2, 14, num_classes)[labels], rng.normal(size=(num_classes, 3))[labels]
    waves = np.sin(2 * np.pi * frequencies[:, None] * np.linspace(0, 1, 64) + rng.uniform(0, 6, (len(labels), 1)))
    rows = waves[:, :, None] * directions[:, None] + rng.normal(0, 0.3, (len(labels), 64, 3))
    return FewShotSplit.from_arrays(rows.astype(np.float32), labels.tolist(), modality="motion", split=split)


def main() -> dict[str, float]:
    """Prints the accuracy on classes that training has not seen, and returns all results."""
    set_seed(0)
    register_modality("motion", MotionEmbedding)
    train, test = make_split("train", num_classes=20, seed=1), make_split("test", num_classes=8, seed=2)
    model = MSMAMLModel(MSMAMLConfig(modalities=["motion"], n_way=3, num_channels=8, num_layers=2, num_inner_steps=3))
    train_episodes = EpisodeDataset([train], num_episodes=META_STEPS * TASKS_PER_STEP, **SHAPE)
    test_episodes = EpisodeDataset([test], num_episodes=60, **SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        args = MetaTrainingArguments(folder, max_steps=META_STEPS, save_strategy="no", disable_tqdm=True, **SHAPE)
        trainer = MetaTrainer(model, args, train_dataset=train_episodes, eval_dataset=test_episodes)
        trainer.train()
        results = trainer.evaluate()
    print(f"motion: {results['eval_motion_accuracy']:.3f} ± {results['eval_motion_accuracy_ci95']:.3f} (chance: 0.333)")
    return results


if __name__ == "__main__":
    main()
