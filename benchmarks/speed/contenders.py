"""What is compared: settings of a meta-step, their model and episodes, and the ways to compute its outer gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from modeling_msmaml import MSMAMLConfig, MSMAMLModel

from .plain import LOSSES, PlainNetwork, Task, plain_loss
from .published import PublishedLearner

N_QUERY = 15
# Modality -> shape, range and type of its raw integers.
RAW = {
    "audio": ((80_000,), -32767, 32768, torch.int16),
    "text": ((600,), 1, 400, torch.int32),
    "image": ((3, 32, 32), 0, 256, torch.uint8),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass
class Setting:
    """What is run: shapes of the meta-batch, steps, device and dtype."""

    modalities: list[str]
    n_way: int
    k_shot: int
    meta_batch: int
    num_inner_steps: int
    device: str
    dtype: str

    def title(self) -> str:
        return (
            f"{', '.join(self.modalities)}; {self.n_way}-way {self.k_shot}-shot, {N_QUERY} queries per class, "
            f"{self.meta_batch} tasks, {self.num_inner_steps} inner steps, {self.dtype} on {self.device}"
        )

    def model(self, dtype: torch.dtype) -> MSMAMLModel:
        torch.manual_seed(0)
        shape = {"modalities": self.modalities, "n_way": self.n_way, "num_inner_steps": self.num_inner_steps}
        # The other libraries cannot clip the inner gradient.
        return MSMAMLModel(MSMAMLConfig(**shape, inner_grad_clip=None)).to(self.device, dtype)

    def episodes(self, seed: int = 0) -> dict[str, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        share, rest = divmod(self.meta_batch, len(self.modalities))
        numbers = {name: share + (index < rest) for index, name in enumerate(self.modalities)}
        return {name: self._tasks(name, number, generator) for name, number in numbers.items() if number}

    def _tasks(self, modality: str, tasks: int, generator: torch.Generator) -> dict[str, Tensor]:
        batch = {}
        for part, shots in (("support", self.k_shot), ("query", N_QUERY)):
            shape, low, high, dtype = RAW[modality]
            samples = torch.randint(low, high, (tasks, self.n_way * shots, *shape), generator=generator)
            batch[part] = samples.to(dtype)
            batch[f"{part}_labels"] = torch.arange(self.n_way).repeat_interleave(shots).repeat(tasks, 1)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


class Contender:
    """One way to compute the outer gradient."""

    def __init__(self, name: str, setting: Setting, dtype: torch.dtype):
        self.name = name
        self.model = setting.model(dtype)
        self.episodes = setting.episodes()
        self.published = PublishedLearner(self.model) if name == "published" else None

    def step(self) -> None:
        """Leaves the outer gradient in the model's parameters."""
        self.model.zero_grad()
        if self.published is not None:
            self.published.step(self.episodes)
            return
        self.loss().backward()

    def loss(self) -> Tensor:
        if self.name == "ours":
            return self.model(self.episodes).loss
        return torch.stack(self._losses(LOSSES[self.name])).mean()

    def _losses(self, loss: Callable[[PlainNetwork, Task], Tensor]) -> list[Tensor]:
        return [
            loss(network, Task(self.model, modality, batch, index))
            for modality, batch in self.episodes.items()
            for network in [PlainNetwork(self.model, modality)]
            for index in range(len(batch["support"]))
        ]

    @torch.no_grad()
    def evaluate(self) -> None:
        """One evaluation of the same episodes, ours or the plain loop's."""
        if self.name != "ours":
            self._losses(partial(plain_loss, evaluation=True))
            return
        self.model.eval()
        self.model(self.episodes)
        self.model.train()

    def infer(self, modality: str, tasks: int) -> None:
        """Adapts to `tasks` support sets and predicts their queries, ours only."""
        one = {name: tensor[:1] for name, tensor in self.episodes[modality].items() if name != "query_labels"}
        batch = {name: tensor.repeat(tasks, *[1] * (tensor.dim() - 1)) for name, tensor in one.items()}
        self.model.eval()
        with torch.inference_mode():
            self.model({modality: batch}).logits[modality].argmax(dim=-1)
        self.model.train()

    def gradient(self) -> dict[str, Tensor]:
        self.step()
        return {name: p.grad.double().cpu() for name, p in self.model.named_parameters() if p.grad is not None}
